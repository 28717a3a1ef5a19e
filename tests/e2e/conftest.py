"""A real engine and real screens over a new home folder, and a real browser that looks at them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Generator, Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from tests.e2e.rating_server import RatingServer
from tests.e2e.started_app import BROWSER_ARGS, App

expect.set_options(timeout=30_000)  # what is asserted is that it comes, on whatever machine this is

_names = itertools.count()
_console: dict[Page, list[str]] = {}  # what each page's scripts failed with


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells what the page showed and what the processes wrote; it may not fail so again."""
    report = yield
    if report.when == "call" and report.failed:
        arguments = getattr(item, "funcargs", {})
        if page := arguments.get("page"):
            with contextlib.suppress(Error):  # a page may be beyond telling
                report.sections.append((f"What {page.url} showed", page.inner_text("body")))
            report.sections.append(("What its scripts failed with", "\n".join(_console.get(page, []))))
        if app := arguments.get("app") or arguments.get("empty_app"):
            report.sections.append(("What engine and jobs wrote", app.logs_and_jobs()))
    return report


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """As a newcomer has it: model and sample data are made ready while it is looked at."""
    started = App(tmp_path_factory.mktemp("home"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def empty_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Without the sample, for what needs neither its model nor its data set and would wait for both."""
    started = App(tmp_path_factory.mktemp("home"), sample=False)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[RatingServer]:
    """The rating desk over a store of the file's own."""
    started = RatingServer()
    yield started
    started.stop()


@pytest.fixture
def round_id(server: RatingServer) -> Iterator[str]:
    """A pairwise round of the test's own; the store behaves."""
    server.set()
    yield f"pairwise-20-t{next(_names)}"
    server.set()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    assert executable, "chromium is not installed; `make test` installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=BROWSER_ARGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    failures = _console[opened] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on("crash", lambda _: failures.append("the page crashed"))
    opened.on("console", lambda line: failures.append(line.text) if line.type == "error" else None)
    yield opened
    del _console[opened]
    context.close()
