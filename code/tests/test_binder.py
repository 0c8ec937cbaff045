"""Binder: the steps of the image that it makes of this repository, and the link that opens it.

The workflow binder.yml builds the image itself, and runs every notebook in it.
"""

import re
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("repo2docker is not for Windows", allow_module_level=True)

from repo2docker.app import Repo2Docker
from repo2docker.utils import is_local_pip_requirement

ROOT = Path(__file__).parents[2]
BINDER = ROOT / ".binder"


@pytest.fixture
def pack(monkeypatch):
    """What repo2docker makes the Dockerfile with: the first of its build packs that is for us."""
    monkeypatch.chdir(ROOT)
    app = Repo2Docker()
    packs = (kind(base_image=app.base_image) for kind in app.buildpacks)
    chosen = next(candidate for candidate in packs if candidate.detect())
    chosen.platform = "linux/amd64"
    return chosen


def test_image_has_the_python_of_runtime_txt(pack):
    assert type(pack).__name__ == "PythonBuildPack"
    assert f"python-{pack.python_version}\n" == (BINDER / "runtime.txt").read_text()
    assert pack.python_version == "3.12"


def test_image_sees_the_package_as_local():
    lines = (BINDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    # A constraint is local too, but only by chance: the package must be so by itself.
    (package,) = (line for line in lines if line.startswith(("-e", "--editable")))
    assert is_local_pip_requirement(package), f"{package!r}: the path must start with a full stop"


def test_image_is_made_in_three_steps_of_the_copied_tree(pack):
    dockerfile = pack.render({"NB_USER": "jovyan", "NB_UID": "1000"})
    # Before the tree is copied there is nothing to install from.
    _, copied = re.split(r"^COPY .* src/ \$\{REPO_DIR\}/$", dockerfile, flags=re.MULTILINE)
    assert re.findall(r"^RUN (.+)$", copied, re.MULTILINE) == [
        '${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r ".binder/requirements.txt"',
        "chmod +x .binder/postBuild",
        "./.binder/postBuild",
    ]
    assert "R2D_ENTRYPOINT" not in dockerfile


def test_nothing_hides_the_folder_of_the_image():
    assert not (ROOT / "binder").exists()
    names = {path.name for path in BINDER.iterdir()}
    assert names == {"requirements.txt", "runtime.txt", "postBuild"}


def test_launch_link_of_the_readme_opens_the_first_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    opened = re.findall(r"https://mybinder\.org/v2/gh/\w+/\w+/HEAD\?labpath=(\S+)", readme)
    assert opened == ["chapters/home.ipynb"]
