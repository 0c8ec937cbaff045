"""The two requirements.txt, their lock, the package and what is installed say the same."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NOTEBOOKS, EVERYTHING = ROOT / "requirements.txt", ROOT / "code" / "requirements.txt"
LINES = [
    line
    for path in (NOTEBOOKS, EVERYTHING)
    for line in path.read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = [Requirement(line) for line in LINES if not line.startswith("-")]
PROJECT = tomllib.loads((ROOT / "code" / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked():
    """Versions in the lock that apply to this Python and this system."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    entries = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[\w.+!]+", str(entry.specifier)) for entry in entries)
    return {
        canonicalize_name(entry.name): str(entry.specifier)[2:]
        for entry in entries
        if entry.marker is None or entry.marker.evaluate()
    }


def needed():
    """Versions installed here of everything that is required, directly or not."""
    found, queue = {}, [(pin.name, "") for pin in PINS] + [("kl2dpo", "")]
    done = set()
    while queue:
        name, extra = queue.pop()
        name = canonicalize_name(name)
        if (name, extra) in done:
            continue
        done.add((name, extra))
        found[name] = distribution(name).version
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                queue += [(requirement.name, e) for e in {"", *requirement.extras}]
    return found


def test_direct_dependencies_are_pinned_as_locked():
    lock = locked()
    assert PINS
    for pin in PINS:
        assert str(pin.specifier) == f"=={lock[canonicalize_name(pin.name)]}", pin


def test_lock_is_what_is_needed_and_installed():
    installed = needed()
    del installed["kl2dpo"]
    assert installed == locked()


def test_nothing_is_required_twice():
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert len(names) == len(set(names))
    assert [line for line in LINES if line.startswith("-")] == [
        "-c requirements.lock",
        "-e ./code",
        "-r ../requirements.txt",
    ]


def test_version_is_the_same_everywhere():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## (\d\S+) - (\S+)$", changes, re.MULTILINE).groups()
    assert f'\nversion: {version}\ndate-released: "{date}"\n' in cited
    assert PROJECT["version"] == version


def test_package_accepts_the_pinned_versions():
    pins = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in PINS}
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
