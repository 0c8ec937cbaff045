import warnings

import pytest
from hypothesis import settings

# The same examples on every run, and no time limit: a slow machine is not a failure.
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A home that cannot be written is the machine's affair.
        warnings.filterwarnings("ignore", "IPython parent .* is not a writable location")
        yield
