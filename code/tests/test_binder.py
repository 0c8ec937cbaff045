"""Binder: the image that it makes of this repository, and what a reader meets there.

The tests of the Dockerfile run always. With BINDER_TEST=1 in the environment (`make binder-test`)
the image is built as far as that is possible without Docker: its own packages (from PyPI, in the
versions that repo2docker takes from conda-forge), then the steps of the Dockerfile, in a clean copy
of the tree. A server is started in it with the arguments that Binder gives, and every notebook is
opened from its launch link and run, through the interface that JupyterLab uses.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import nbformat
import pytest
import requests
import websocket
from nbval.plugin import IPyNbCell, IPyNbFile, coalesce_streams
from packaging.requirements import InvalidRequirement, Requirement
from repo2docker import buildpacks
from repo2docker.app import Repo2Docker
from repo2docker.utils import is_local_pip_requirement
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob("chapters/**/*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
]
PROXIES = {"http": "", "https": ""}

pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="Binder's images are made on Linux: repo2docker is not for Windows",
)
in_the_image = pytest.mark.skipif(
    not os.environ.get("BINDER_TEST"), reason="takes minutes: `make binder-test` runs it"
)


# The Dockerfile


@pytest.fixture(scope="module")
def pack():
    """What repo2docker makes the Dockerfile with: the first of its build packs that is for us."""
    app = Repo2Docker()
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        packs = (kind(base_image=app.base_image) for kind in app.buildpacks)
        chosen = next(candidate for candidate in packs if candidate.detect())
        chosen.platform = "linux/amd64"
        yield chosen
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def dockerfile(pack):
    return pack.render({"NB_USER": "jovyan", "NB_UID": "1000"})


def steps(dockerfile):
    """The commands that run once the tree of the repository has been copied."""
    _, copied = re.split(r"^COPY .* src/ \$\{REPO_DIR\}/$", dockerfile, flags=re.MULTILINE)
    return re.findall(r"^RUN (.+)$", copied, re.MULTILINE)


def test_image_has_the_python_of_runtime_txt(pack):
    assert type(pack).__name__ == "PythonBuildPack"
    assert f"python-{pack.python_version}\n" == (ROOT / "runtime.txt").read_text(encoding="utf-8")
    assert pack.python_version == "3.12"


def test_image_sees_the_package_as_local():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    # A constraint is local too, but only by chance: the package must be so by itself.
    (package,) = (line for line in lines if line.startswith(("-e", "--editable")))
    assert is_local_pip_requirement(package), f"{package!r}: the path must start with a full stop"


def test_image_is_made_in_three_steps_of_the_copied_tree(dockerfile):
    # Before the tree is copied there is nothing to install from.
    assert steps(dockerfile) == [
        '${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir -r "requirements.txt"',
        "chmod +x postBuild",
        "./postBuild",
    ]
    assert "R2D_ENTRYPOINT" not in dockerfile


def test_image_hides_nothing_of_the_root():
    for name in ("binder", ".binder", "environment.yml", "Pipfile", "setup.py", "pyproject.toml"):
        assert not (ROOT / name).exists(), f"{name} would change what Binder reads"


# The launch link

LINK = re.compile(r"https://mybinder\.org/v2/gh/[^/\s]+/[^/\s]+/[^?\s]+\?[^\"\s<]+")


def server_path(link):
    """Where Binder sends the reader, inside the server: its loading page does the same."""
    query = parse_qs(urlsplit(link.replace("&amp;", "&")).query, strict_parsing=True)
    if "labpath" in query:
        return "doc/tree/" + query["labpath"][0].rstrip("/")
    return query["urlpath"][0].lstrip("/")


def notebook_of(path):
    """The file that JupyterLab opens at this place of the server."""
    assert re.match(r"(doc|lab(/workspaces/[^/]+)?)/tree/", path), f"not a place of a file: {path}"
    return unquote(path.partition("tree/")[2])


@cache
def readme_link():
    (link,) = LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return link


@cache
def site_links():
    """The launch links of each page of the built website, if it knows its repository."""
    site = ROOT / "_build" / "html"
    pages = {name: (site / name).with_suffix(".html") for name in NOTEBOOKS}
    links = {
        name: LINK.findall(page.read_text(encoding="utf-8"))
        for name, page in pages.items()
        if page.is_file()
    }
    return links if any(links.values()) else {}


def link_to(notebook):
    """The link of the website, or that of the README for another notebook."""
    other = re.sub(r"(labpath|urlpath)=.*", rf"labpath={quote(notebook)}", readme_link())
    return next(iter(site_links().get(notebook, ())), other)


def test_launch_link_of_the_readme_opens_the_first_notebook():
    assert notebook_of(server_path(readme_link())) == "chapters/home.ipynb"


@pytest.mark.skipif(not site_links(), reason="no website was built that knows its repository")
@pytest.mark.parametrize("notebook", site_links())
def test_launch_links_of_the_site_open_the_notebook_of_their_page(notebook):
    assert {notebook_of(server_path(link)) for link in site_links()[notebook]} == {notebook}


# The image


def python_of(version):
    """The interpreter of this version, or None."""
    found = [sys.executable, shutil.which(f"python{version}")]
    for candidate in filter(None, found):
        done = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYENV_VERSION": version},
            check=False,
        )
        if done.stdout.startswith(f"{version} "):
            return done.stdout.split(maxsplit=1)[1].strip()
    return None


def conda_packages(pack):
    """The image's own packages: what to install, and the versions of everything."""
    copied = pack.get_build_script_files().items()
    (lock,) = (path for path, place in copied if place.endswith("environment.lock"))
    lock = Path(buildpacks.__file__).parent / lock
    names = r"/([^/]+)-([^-/]+)-[^-/]+\.(?:conda|tar\.bz2)"
    versions = []
    for name, version in re.findall(names, lock.read_text(encoding="utf-8")):
        try:
            # conda-forge splits JupyterHub, and counts the versions of tzdata in letters.
            pin = Requirement(f"{name.replace('jupyterhub-base', 'jupyterhub')}=={version}")
        except InvalidRequirement:
            continue
        if pin.name != "tzdata":
            versions.append(str(pin))
    listed = YAML().load(lock.parent / "environment.yml")["dependencies"]
    wanted = [Requirement(re.sub(r"(?<!=)=(?!=)", "==", line)).name for line in listed]
    others = {"python", "nodejs", "jupyterhub-singleuser"}
    return [name for name in wanted if name not in others] + ["jupyterhub"], versions


def files_of_the_tree():
    """What a clone would have: the files that git knows, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def image(pack, dockerfile, tmp_path_factory):
    """The folder of the repository in the image, and the environment of its commands."""
    python = python_of(pack.python_version)
    if python is None:
        pytest.skip(f"no Python {pack.python_version} here, and the image is of that version")
    base = tmp_path_factory.mktemp("image")
    home, prefix = base / "home", base / "notebook"
    for name in files_of_the_tree():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, home / name)

    ours = ("PYTEST", "PYTHON", "VIRTUAL_ENV", "JUPYTER", "JPY_", "COVERAGE", "MPL", "IPYTHON")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env |= {"KERNEL_PYTHON_PREFIX": str(prefix), "REPO_DIR": str(home)}
    env["PATH"] = f"{prefix / 'bin'}{os.pathsep}{env['PATH']}"
    # The settings of whoever runs this are not those of the image.
    for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        env[key] = str(base / key.lower())
    env |= {"IPYTHONDIR": str(base / "ipython"), "MPLCONFIGDIR": str(base / "matplotlib")}

    def run(*command):
        start = time.monotonic()
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout, time.monotonic() - start

    wanted, versions = conda_packages(pack)
    (base / "conda.txt").write_text("\n".join(versions), encoding="utf-8")
    run(python, "-m", "venv", str(prefix))
    run(str(prefix / "bin" / "pip"), "install", "-q", "-c", str(base / "conda.txt"), *wanted)
    seconds = sum(run("bash", "-c", step)[1] for step in steps(dockerfile))
    installed = json.loads(run(str(prefix / "bin" / "pip"), "list", "--format=json")[0])
    size = sum(file.stat().st_size for file in prefix.rglob("*") if file.is_file())
    print(
        f"the image: {len(installed)} packages, {size / 2**20:.0f} MB; its steps: {seconds:.0f} s"
    )
    return home, env


@pytest.fixture(scope="module", params=["jupyter-lab"])
def server(request, image):
    """The address of a server that was started as Binder starts it, and its token."""
    home, env = image
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, base = uuid.uuid4().hex, f"/user/reader-{uuid.uuid4().hex[:8]}/"
    settings = [f"base_url={base}", f"token={token}", "trust_xheaders=True"]
    command = [request.param, "--ip=127.0.0.1", f"--port={port}"]
    command += [
        f"--{app}.{setting}" for app in ("NotebookApp", "ServerApp") for setting in settings
    ]
    if os.geteuid() == 0:
        command.append("--allow-root")  # in the image it is a user without rights
    log = home.parent / f"{request.param}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}{base}"
    try:
        for _ in range(120):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                if ask("get", url, token, "api/status").ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server does not answer: {log.read_text()[-3000:]}")
        yield url, token
    finally:
        process.terminate()
        process.wait(30)


def ask(method, url, token, path, **options):
    headers = {"Authorization": f"token {token}"}
    return requests.request(
        method, url + path, headers=headers, timeout=60, proxies=PROXIES, **options
    )


def execute(socket_, session, source):
    """Run a cell; its execution count and outputs."""
    header = {"msg_id": uuid.uuid4().hex, "session": session, "username": "", "version": "5.3"}
    message = {
        "channel": "shell",
        "header": header | {"msg_type": "execute_request"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": source, "silent": False, "allow_stdin": False, "stop_on_error": True},
    }
    socket_.send(json.dumps(message))
    outputs, count, idle = [], None, False
    while count is None or not idle:
        answer = json.loads(socket_.recv())
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        kind, content = answer["msg_type"], answer["content"]
        if kind == "execute_reply":
            count = content["execution_count"]
        elif kind == "status":
            idle = content["execution_state"] == "idle"
        elif kind in ("stream", "display_data", "execute_result", "error"):
            outputs.append(nbformat.v4.output_from_msg(answer))
    return count, outputs


@in_the_image
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_opens_from_its_launch_link_and_gives_its_outputs(notebook, server, request):
    url, token = server
    place = server_path(link_to(notebook))
    page = ask("get", url, token, place)
    assert page.ok and "jupyter-config-data" in page.text, f"{place}: no JupyterLab"
    opened = ask("get", url, token, f"api/contents/{quote(notebook_of(place))}?type=notebook")
    assert opened.ok, f"{place}: {opened.text}"
    model = opened.json()
    stored = nbformat.from_dict(model["content"])
    assert model["path"] == notebook

    name = stored.metadata.kernelspec.name
    body = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": name}}
    started = ask("post", url, token, "api/sessions", json=body)
    assert started.ok, started.text
    kernel = started.json()["kernel"]["id"]
    session = uuid.uuid4().hex
    channels = f"{url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?session_id={session}"
    headers = [f"Authorization: token {token}"]
    socket_ = websocket.create_connection(
        channels, header=headers, timeout=120, http_no_proxy=["*"]
    )
    # nbval's own comparison, so that nothing is equal here that is not so in `make test`.
    file = IPyNbFile.from_parent(request.session, path=ROOT / notebook)
    try:
        for number, cell in enumerate(c for c in stored.cells if c.cell_type == "code"):
            assert cell.metadata.trusted, f"cell {number}: figures stay hidden without trust"
            count, outputs = execute(socket_, session, cell.source)
            assert count == cell.execution_count
            assert not [o for o in outputs if o.output_type == "error"], f"{cell.source}\n{outputs}"
            judge = IPyNbCell.from_parent(
                file, name=f"cell {number}", cell_num=number, cell=cell, options={}
            )
            same = judge.compare_outputs(coalesce_streams(outputs), coalesce_streams(cell.outputs))
            assert same, f"{cell.source}\n" + "\n".join(map(str, judge.comparison_traceback))
        assert number > 0
    finally:
        socket_.close()
        ask("delete", url, token, f"api/sessions/{started.json()['id']}")


@in_the_image
@pytest.mark.parametrize("server", ["jupyter-notebook"], indirect=True)
def test_the_other_server_of_the_image_opens_the_launch_link_too(server):
    # The command of the Dockerfile. Its release wants an older JupyterLab than ours.
    url, token = server
    assert "jupyter-config-data" in ask("get", url, token, server_path(readme_link())).text
