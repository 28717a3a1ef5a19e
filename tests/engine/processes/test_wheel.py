"""What `pip install` puts on a machine: every file of the checkout, one version, screens with their theme."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from store.core.home import Home
from store.core.processes import read_record

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("engine", "pages", "store", "tunebench")
SECONDS = 60.0
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
ORIGINS = """
import json, sys
from importlib.util import find_spec
print(json.dumps({name: find_spec(name).origin for name in sys.argv[1:]}))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `python -m build` makes it, from the source archive; of a copy that has no old `build`."""
    folder = tmp_path_factory.mktemp("build")
    source, archives = folder / "source", folder / "dist"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("app.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    run(sys.executable, "-c", BUILD_SDIST, archives, cwd=source)
    (archive,) = archives.glob("*.tar.gz")
    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    run(*PIP, "wheel", *offline, "--wheel-dir", archives, archive, cwd=folder)
    (built,) = archives.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that has Tunebench alone."""
    target = tmp_path_factory.mktemp("installed")
    run(*PIP, "install", "--no-index", "--no-deps", "--target", target, wheel, cwd=target)
    return target


def test_the_wheel_has_every_file_of_the_checkout(wheel: Path) -> None:
    checkout = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == checkout | {"app.py"}
    assert len([name for name in packed if not name.endswith(".py")]) > 20


def test_all_say_the_same_version(wheel: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] in (version, version.removesuffix(".dev0") + " (unreleased)")
    assert wheel.name.startswith(f"tunebench-{version}-")


@contextmanager
def up(installed: Path, folder: Path, home: Home) -> Iterator[str]:
    """`tunebench up` of the installed packages, in an empty folder; the address that it prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1", "PYTHONPATH": str(installed)}
    process = subprocess.Popen(
        [sys.executable, installed / "bin/tunebench", "up", "--no-browser", "--port", str(port)],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, f"no address: {line!r} {process.stderr.read()}"
        yield address.group()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def first_answers(entrance: str) -> list[ForwardMsg]:
    """What the screens send to a browser that has opened the overview, until it is drawn."""
    cookie = httpx.get(entrance, trust_env=False).headers["set-cookie"].partition(";")[0]
    live = re.sub(r"^http(://[^/]+)/.*$", r"ws\1/_stcore/stream", entrance)
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    answers: list[ForwardMsg] = []
    deadline = time.monotonic() + SECONDS
    with connect(live, additional_headers={"Cookie": cookie}, max_size=None, proxy=None) as stream:
        stream.send(ask.SerializeToString())
        while not answers or answers[-1].WhichOneof("type") != "script_finished":
            message = stream.recv(timeout=deadline - time.monotonic())
            assert isinstance(message, bytes)
            answers.append(ForwardMsg.FromString(message))
    return answers


def of_kind(answers: list[ForwardMsg], kind: str) -> list[ForwardMsg]:
    return [answer for answer in answers if answer.WhichOneof("type") == kind]


def test_it_starts_in_an_empty_folder_and_looks_as_the_checkout_does(installed: Path, tmp_path: Path) -> None:
    folder, home = tmp_path / "empty", Home(tmp_path / "home")
    folder.mkdir()
    names = ("app", *PACKAGES)
    origins = json.loads(run(sys.executable, "-c", ORIGINS, *names, cwd=folder, PYTHONPATH=str(installed)))
    assert all(Path(origin).is_relative_to(installed) for origin in origins.values()), origins
    with up(installed, folder, home) as entrance:
        records = [read_record(home.engine_file), read_record(home.screens_file)]
        processes = [record.process() for record in records if record]
        # Python looks for the modules of `-m` where the process was started
        assert [process.cwd() for process in processes if process] == [str(installed)] * 2
        answers = first_answers(entrance)
        environment = {"TUNEBENCH_HOME": str(home.path), "PYTHONPATH": str(installed)}
        run(sys.executable, installed / "bin/tunebench", "down", cwd=folder, **environment)
        time.sleep(2)  # `up` looks every second whether its engine runs, and would start another
        assert not home.screens_file.exists()
        after = read_record(home.engine_file)
        assert after is None or after.process() is None
    theme = tomllib.loads((ROOT / "pages/streamlit.toml").read_text())["theme"]
    served = of_kind(answers, "new_session")[0].new_session.custom_theme
    colours = (served.light.primary_color, served.dark.primary_color)
    assert colours == (theme["light"]["primaryColor"], theme["dark"]["primaryColor"])
    assert served.light.sidebar.background_color == theme["light"]["sidebar"]["backgroundColor"]
    pages = {page.url_pathname for page in of_kind(answers, "navigation")[-1].navigation.app_pages}
    assert {"data", "launch", "run", "compare", "evaluations"} < pages
    drawn = [answer.delta.new_element.WhichOneof("type") for answer in of_kind(answers, "delta")]
    assert drawn
    assert "exception" not in drawn
    assert answers[-1].script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
    assert list(folder.iterdir()) == []
    assert not psutil.pid_exists(records[0].pid if records[0] else 0)
