"""A home folder that is copied while a run trains in it: an engine over the copy leaves its process alone."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.job_kinds import ALIVE
from store.http.client import Client
from store.jobs import job_queue
from store.runs import runs
from tests.engine.processes.test_engine_process import start, wait_until_ready
from tests.tiny import write_model

SECONDS = 120.0
ROWS = 400
STEPS = 1000  # seconds of training: with a few steps a slow look finds the run finished


class CopiedRun:
    """A run that trains, and an engine over a copy of its home folder; `end()` kills what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.copy = Home(folder / "home"), Home(folder / "copy")
        self.engines = [start(self.home.path)]
        self.worker: psutil.Process | None = None

    def begin(self) -> None:
        """Launch the run and stop its process while it trains."""
        self.client = wait_until_ready(self.home.path, self.engines[0])
        rows = self.folder / "rows.csv"
        rows.write_text("question,answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(ROWS)))
        write_model(self.folder / "tiny")
        taken = self.client.command("import_dataset", {"name": "Rows", "source": {"path": str(rows)}})
        until(lambda: job_queue.get_job(self.client, taken["job_id"]).status == "finished")
        body = {"name": "Long", "dataset": "Rows", "model": str(self.folder / "tiny"), "max_steps": STEPS}
        self.run_id = str(self.client.command("launch", body | {"probes": False})["run_id"])
        until(lambda: self.status() not in ("queued", "preparing"))
        assert self.status() == "training"
        pid = read_json(JobDir(self.home.jobs / self.run_id).worker)["pid"]
        self.worker = psutil.Process(pid)
        self.worker.suspend()  # else it may end while the copy is looked at

    def status(self) -> str:
        """The state of the original run."""
        return str(runs.get_run(self.client, self.run_id).status)

    def start_copy(self) -> Client:
        """Copy the folder as it is and start an engine over it."""
        shutil.copytree(self.home.path, self.copy.path, ignore=_sockets)
        self.engines.append(start(self.copy.path))
        return wait_until_ready(self.copy.path, self.engines[1])

    def problem(self) -> str:
        """What an engine over the copy did that it may not; empty where all went well."""
        copied = self.start_copy()
        until(lambda: runs.get_run(copied, self.run_id).status not in ALIVE)
        run = runs.get_run(copied, self.run_id)
        if run.status != "lost":
            return f"the copied run is {run.status}"
        if "is a copy" not in str(job_queue.get_job(copied, self.run_id).error):
            return "nothing says why the copied run is lost"
        self.engines[1].terminate()
        self.engines[1].wait(30)
        assert self.worker is not None
        if not self.worker.is_running() or self.worker.status() != psutil.STATUS_STOPPED:
            return "the original's worker was signalled"
        self.worker.resume()
        until(lambda: self.status() not in ALIVE)
        return "" if self.status() == "finished" else f"the original run is {self.status()}"

    def end(self) -> None:
        if self.worker is not None and self.worker.is_running():
            self.worker.kill()
        for engine in self.engines:
            engine.terminate()
            try:
                engine.wait(30)
            except subprocess.TimeoutExpired:
                engine.kill()


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[CopiedRun]:
    scene = CopiedRun(tmp_path)
    try:
        scene.begin()
        yield scene
    finally:
        scene.end()


def test_a_real_run_goes_on_beside_an_engine_over_a_copy_of_its_home(copied: CopiedRun) -> None:
    assert copied.problem() == ""
