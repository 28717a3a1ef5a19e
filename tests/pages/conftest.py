"""Screens against an engine: home folders seeded with nothing, little or much; a real one where it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.components.v2.manifest_scanner import scan_component_manifests
from streamlit.runtime.context import ContextProxy
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from pages.shared import cached_queries
from store.core.errors import EngineUnavailable, TunebenchError
from store.core.home import Home
from store.core.training_schemas import Preview
from store.http.client import Client
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_runs import seed_runs
from tests.pages.still_engine import StillEngine, still_engine
from tests.tiny import write_model

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app.py"
SECONDS = 60.0  # an AppTest run may take, on a machine that is busy with other tests
Open = Callable[..., AppTest]


@contextmanager
def running_engine(home: Home) -> Iterator[Home]:
    """A real engine process over `home` while the block runs."""
    environment = {**os.environ, "TUNEBENCH_HOME": str(home.path), "TUNEBENCH_NO_SAMPLE": "1"}
    log = open(home.logs / "test-engine.log", "wb")  # noqa: SIM115 (open as long as the process)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    try:
        _wait_until_it_answers(home, process)
        yield home
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        log.close()


def _wait_until_it_answers(home: Home, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, (home.logs / "test-engine.log").read_text()
        try:
            Client(home).health()
            return
        except EngineUnavailable:
            time.sleep(0.1)
    pytest.fail("the engine did not answer within 60 s")


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A store without a single data set or run."""
    with still_engine(seed(tmp_path_factory.mktemp("empty"), runs=0, sets=0)) as engine:
        yield engine.home


@pytest.fixture(scope="session")
def little_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Five ended runs, two data sets, and a model of two layers that previews can load."""
    home = seed(tmp_path_factory.mktemp("little"), runs=5, sets=2, rows=200, measured=True)
    write_model(home.models / "tiny-llama")
    with running_engine(home):
        yield home


@pytest.fixture(scope="session")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A thousand runs over sixty data sets."""
    with still_engine(seed(tmp_path_factory.mktemp("full"), runs=1000, sets=60, probed=True)) as engine:
        yield engine.home


@pytest.fixture
def offline_home(tmp_path: Path) -> Home:
    """A home folder in which no engine runs."""
    return seed(tmp_path / "offline", runs=1, sets=1)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    """Runs in every state, and an engine that works on none; a file may have a store of its own in place."""
    with still_engine(seed_runs(tmp_path_factory.mktemp("runs"))) as engine:
        yield engine


@pytest.fixture
def engine(seeded: StillEngine) -> StillEngine:
    """The engine of `seeded`, of which this test has asked nothing yet."""
    seeded.sent.clear()
    return seeded


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Previews come without timed steps, for which a worker trains some seconds for each new config."""
    real = cached_queries.read_preview

    def ask(body: str) -> Preview:
        if json.loads(body).get("time_steps"):
            raise TunebenchError("The worker is lost.")
        return real(body)

    monkeypatch.setattr(cached_queries, "read_preview", ask)


@pytest.fixture(scope="session", autouse=True)
def scanned_once() -> Iterator[None]:
    """Every AppTest looks through all installed packages for components; a server does so once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(scan_component_manifests))
        yield


@pytest.fixture(autouse=True)
def as_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m pages` serves them: app.py runs around every page, from the first visit on."""
    begin = PagesManager.__init__

    def begin_with_navigation(self: PagesManager, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", begin_with_navigation)


@pytest.fixture(autouse=True)
def cookies(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the browser brings: nothing, as where one person works alone. AppTest has a mock in this place."""
    brought: dict[str, str] = {}
    monkeypatch.setattr(ContextProxy, "cookies", property(lambda self: brought))
    return brought


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """`open_page(home, "pages/training/launch.py", dataset="d00000")`: the page of that link, run once."""

    def open_it(home: Home, page: str = "pages/overview/overview.py", **query: str) -> AppTest:
        monkeypatch.setenv("TUNEBENCH_HOME", str(home.path))
        st.cache_data.clear()
        st.cache_resource.clear()
        at = AppTest.from_file(str(APP), default_timeout=SECONDS)
        at.switch_page(page)
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        assert not at.exception, [error.value for error in at.exception]
        return at

    return open_it


def everything_said(at: AppTest) -> str:
    """All text that a person could read on the page, without the escapes of Markdown."""
    kinds = (
        "title",
        "header",
        "subheader",
        "markdown",
        "caption",
        "error",
        "warning",
        "info",
        "success",
        "text",
    )
    texts = [str(element.value) for kind in kinds for element in at.get(kind)]
    texts += [element.proto.body for element in at.get("html")]
    return "\n".join(texts).replace("\\", "")
