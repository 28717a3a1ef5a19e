"""A real engine and real screens over a new home folder, and a real browser that looks at them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from store.contract.home import Home
from store.contract.process_record import process_start
from store.http.client import Client
from store.queries.runs import runs
from tunebench.terminal.processes import screens_entrance

BROWSER_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]

expect.set_options(timeout=30_000)  # what is asserted is that it comes, on whatever machine this is


class App:
    """`tunebench up` as a user starts it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.client = Client(Home(home))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunebench.cli", "up", "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TUNEBENCH_HOME": str(home)},
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        match = re.search(r"http://\S+", line)
        assert match, f"no address: {line!r} {self.process.stderr and self.process.stderr.read()}"
        self.entrance = match.group()
        self.address = self.entrance.partition("/?")[0]

    def open(self, page: Page, path: str = "/") -> None:
        """Open a screen by its whole address, as it is printed, and wait until the secret is out of it."""
        page.goto(screens_entrance(Home(self.home), path))
        page.wait_for_url(lambda url: "secret=" not in url)

    def cli(self, *arguments: str, code: int = 0) -> dict:
        """A command's JSON document; the exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "tunebench.cli", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "TUNEBENCH_HOME": str(self.home)},
            timeout=240,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout) if "--json" in arguments else {}

    def status(self, run_id: str) -> str:
        """How the run stands, as its engine has it."""
        return str(runs.get_run(self.client, run_id)["status"])

    def engine_pid(self) -> int | None:
        """The process id that the last engine left on record; None where it left none."""
        path = self.home / "engine.json"
        return json.loads(path.read_text())["pid"] if path.exists() else None

    def engine(self) -> psutil.Process:
        """The process of the engine that answers now."""
        pid = self.engine_pid()
        assert pid is not None
        return psutil.Process(pid)

    def workers(self) -> list[psutil.Process]:
        """The processes of the jobs that run now."""
        alive = []
        for path in self.home.glob("jobs/*/worker.json"):
            record = json.loads(path.read_text())
            if psutil.pid_exists(record["pid"]):
                process = psutil.Process(record["pid"])
                same = process_start(process.pid) == record["started"]
                if same and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
        return alive

    def logs_and_jobs(self) -> str:
        """The end of every log, and how each job stands."""
        logs = [*sorted(self.home.glob("logs/*.log")), *sorted(self.home.glob("jobs/*/*.log"))]
        sections = [
            f"{path.relative_to(self.home)}\n{path.read_text(errors='replace')[-2000:]}" for path in logs
        ]
        for path in sorted(self.home.glob("jobs/*/*.json")):
            sections.append(f"{path.relative_to(self.home)}: {path.read_text(errors='replace')[:500]}")
        return "\n\n".join(sections)

    def stop(self) -> None:
        """Ctrl-C, then whatever training is left."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        for worker in self.workers():
            worker.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells what the page showed and what the processes wrote; it may not fail so again."""
    report = yield
    if report.when == "call" and report.failed:
        arguments = getattr(item, "funcargs", {})
        if page := arguments.get("page"):
            with contextlib.suppress(Error):  # a page may be beyond telling
                report.sections.append((f"What {page.url} showed", page.inner_text("body")))
        if app := arguments.get("app"):
            report.sections.append(("What engine and jobs wrote", app.logs_and_jobs()))
    return report


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    started = App(tmp_path_factory.mktemp("home"))
    yield started
    started.stop()


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
    yield opened
    context.close()
