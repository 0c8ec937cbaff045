"""The requirements, their lock, its hashes, the package and what is installed say the same."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "code" / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lines(name):
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


LINES = lines(".binder/requirements.txt") + lines("requirements.txt")
WANTED = [Requirement(line) for line in LINES if not line.startswith("-")]
LOCK = [Requirement(line) for line in lines("requirements.lock")]


def locked():
    """Versions in the lock that apply to this Python and this system."""
    here = [entry for entry in LOCK if entry.marker is None or entry.marker.evaluate()]
    return {canonicalize_name(entry.name): str(entry.specifier)[2:] for entry in here}


def needed():
    """Versions installed here of everything that is required, directly or not."""
    found, queue = {}, [(wanted.name, "") for wanted in WANTED] + [("kl2dpo", "")]
    for name, extra in queue:
        key = canonicalize_name(name), extra
        if key not in found:
            # As the lock writes it: 4.004 is 4.4.
            found[key] = str(Version(distribution(name).version))
            for wanted in map(Requirement, distribution(name).requires or []):
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    queue += [(wanted.name, e) for e in {"", *wanted.extras}]
    return {name: version for (name, _), version in found.items()}


def test_versions_stand_in_the_lock_only():
    names = [canonicalize_name(wanted.name) for wanted in WANTED]
    assert len(names) == len(set(names)) > 0
    assert not [wanted for wanted in WANTED if "=" in str(wanted.specifier)]
    assert all(re.fullmatch(r"==[\w.+!]+", str(entry.specifier)) for entry in LOCK)
    # A path without the full stop is not a local one to Binder.
    options = ["-c ../requirements.lock", "-e ./code"]
    options += ["-c requirements.lock", "-r .binder/requirements.txt"]
    assert [line for line in LINES if line.startswith("-")] == options


def test_lock_is_what_is_needed_and_installed():
    installed = needed()
    del installed["kl2dpo"]
    assert installed == locked()


def test_lock_with_hashes_is_the_lock():
    entries = [re.split(r"\s+--hash=", line) for line in lines(".ci/requirements.txt")]
    assert [Requirement(entry) for entry, *_ in entries] == LOCK
    for entry, *hashes in entries:
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes), entry


def test_version_is_the_same_everywhere():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\d\S+) - (\S+)$", changes, re.MULTILINE).groups()
    assert f'\nversion: {version}\ndate-released: "{date}"\n' in cited
    assert PROJECT["version"] == version


def test_package_accepts_the_locked_versions():
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)])
