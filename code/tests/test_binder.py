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

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pack(monkeypatch):
    """What repo2docker makes the Dockerfile with: the first of its build packs that is for us.

    It refuses a second folder for Binder; what hides a file of this one changes the pack or its steps.
    """
    monkeypatch.chdir(ROOT)
    app = Repo2Docker()
    packs = (kind(base_image=app.base_image) for kind in app.buildpacks)
    chosen = next(candidate for candidate in packs if candidate.detect())
    chosen.platform = "linux/amd64"
    return chosen


def test_image_has_the_python_of_runtime_txt(pack):
    assert type(pack).__name__ == "PythonBuildPack"
    assert f"python-{pack.python_version}\n" == (ROOT / ".binder" / "runtime.txt").read_text()
    assert pack.python_version == "3.12"


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


def test_launch_link_of_the_readme_opens_a_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [opened] = re.findall(r"https://mybinder\.org/v2/gh/\w+/\w+/HEAD\?labpath=(\S+)", readme)
    assert (ROOT / opened).is_file()
