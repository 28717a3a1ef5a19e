"""Real engine and worker processes, killed with -9: no metric is lost or doubled, whatever dies when."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.server.local_launcher import LocalLauncher, Worker
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.data import datasets
from store.db.database import Database
from store.jobs import job_queue, metric_points
from store.runs import runs
from store.runs.schemas import Run
from store.training.train_config import TrainConfig
from tests.engine.counting_job import STEPS, value
from tests.unit.store_samples import new_dataset

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60


class Engine:
    """An engine process over a home folder, as the test sees it: its words and its end."""

    def __init__(self, home: Home, action: str = "follow") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.counting_engine", str(home.path), action],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    def until(self, *statuses: str) -> str:
        """Read what it says until the run has one of the statuses."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + SECONDS
        for line in self.process.stdout:
            if line.strip() in statuses:
                return line.strip()
            assert time.monotonic() < deadline, f"still {line}"
        raise AssertionError("the engine ended")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Scene:
    """A home folder with one run, and the processes that the test starts over it."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path).create()
        self.folder = JobDir(self.home.jobs / "run-1")
        self.engines: list[Engine] = []

    def queue(self) -> Scene:
        with_store(self.home, _add_run)
        return self

    def engine(self, action: str = "follow") -> Engine:
        self.engines.append(Engine(self.home, action))
        return self.engines[-1]

    def worker(self) -> psutil.Process:
        return psutil.Process(read_json(self.folder.worker)["pid"])

    def wait_for_bytes(self, count: int) -> None:
        """Until the worker has written this much of its events."""
        deadline = time.monotonic() + SECONDS
        while not self.folder.events.exists() or self.folder.events.stat().st_size < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def finished(self) -> dict[str, Any]:
        """Kill the engine and check the store: every step once, with its value; the run's row."""
        self.engines[-1].kill()
        return with_store(self.home, _check_whole)

    def clean_up(self) -> None:
        for engine in self.engines:
            engine.kill()
        if self.folder.worker.exists() and psutil.pid_exists(read_json(self.folder.worker)["pid"]):
            os.kill(read_json(self.folder.worker)["pid"], signal.SIGKILL)


def with_store(home: Home, act: Any) -> Any:
    """Open the store, which no engine has open now, and act on it."""
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        return act(database)
    finally:
        database.close()


def _add_run(database: Database) -> None:
    config = TrainConfig(dataset="D", name="R", split_seed=0, validation_size=0.1, test_size=0.1)
    with database.transaction() as tx:
        datasets.insert_dataset(tx, new_dataset("data-1", "D"))
        job = {"kind": "train", "lane": "device", "title": "R", "config": config.model_dump()}
        job_queue.insert(tx, job_queue.NewJob(job_id="run-1", at=time.time(), **job))
        names = {"dataset_id": "data-1", "dataset_name": "D", "fingerprint": "f"}
        runs.insert(tx, runs.NewRun(run_id="run-1", config=config, at=time.time(), **names))


def _check_whole(database: Database) -> Run:
    points = database.query("SELECT step, value FROM metric ORDER BY step, value").to_pylist()
    assert points == [{"step": step, "value": value(step)} for step in range(1, STEPS + 1)]
    (summary,) = metric_points.summaries(database, ["run-1"])
    assert (summary.count, summary.last_step) == (STEPS, STEPS)
    assert runs.alerts(database, "run-1") == []
    run = runs.get_run(database, "run-1")
    assert run.status == "finished"
    assert run.verdict.state == "learned"
    return run


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "home").queue()
    yield scene
    scene.clean_up()


@pytest.mark.parametrize("taken", [1, 3_000, 9_000])
def test_an_engine_killed_at_any_moment_is_replaced_and_adopts_the_worker(scene: Scene, taken: int) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(taken)
    engine.kill()
    worker = scene.worker().pid
    scene.engine().until("finished")
    assert read_json(scene.folder.worker)["pid"] == worker
    assert scene.finished().attempt == 1


def test_engines_killed_over_and_over_lose_nothing(scene: Scene) -> None:
    for count in (1, 1_000, 4_000, 7_000):
        engine = scene.engine()
        scene.wait_for_bytes(count)
        time.sleep(0.05)
        engine.kill()
    scene.engine().until("finished")
    scene.finished()


def test_what_ended_while_no_engine_ran_is_taken_by_the_next(scene: Scene) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(1)
    engine.kill()
    worker = scene.worker()
    psutil.wait_procs([worker], timeout=SECONDS)
    assert scene.folder.result.exists()
    scene.engine().until("finished")
    scene.finished()


def test_a_killed_worker_is_lost_and_its_run_resumes_without_doubling(scene: Scene) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(5_000)  # past a checkpoint, and some steps more
    scene.worker().kill()
    engine.until("lost")
    engine.kill()
    error = with_store(scene.home, lambda database: job_queue.get_job(database, "run-1")).error
    assert "SIGKILL" in error["message"]
    scene.engine("resume").until("finished")
    assert scene.finished().attempt == 2


def test_engine_and_worker_killed_together(scene: Scene) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(5_000)
    scene.worker().kill()
    engine.kill()
    with open(scene.folder.events, "ab") as file:  # as a kill in the middle of a write leaves it
        file.write(b'{"type": "metrics", "st')
    engine = scene.engine()
    engine.until("lost")
    engine.kill()
    scene.engine("resume").until("finished")
    assert scene.finished().attempt == 2


def test_a_copied_home_folder_neither_follows_nor_stops_the_originals_worker(scene: Scene) -> None:
    scene.engine()
    scene.wait_for_bytes(1)
    worker = scene.worker()
    worker.suspend()  # it would else end while the copy is looked at
    scene.engines[-1].kill()
    copy = Scene(shutil.copytree(scene.home.path, scene.home.path.with_name("copy")))
    try:
        with_store(copy.home, _cancel)
        copy.engine().until("cancelled")
        copy.engines[-1].kill()
        copy.engine("resume").until("finished")
        assert copy.finished().attempt == 2
    finally:
        copy.engines[-1].kill()
    assert worker.status() == psutil.STATUS_STOPPED
    worker.resume()
    scene.engine().until("finished")
    assert scene.finished().attempt == 1


def _cancel(database: Database) -> None:
    with database.transaction() as tx:
        job_queue.stop(tx, job_queue.get_job(tx, "run-1"), time.time())


def test_a_worker_stopped_by_its_group_leaves_a_checkpoint(scene: Scene) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(5_000)
    assert os.getpgid(scene.worker().pid) == scene.worker().pid  # a signal to the group hits nobody else
    os.killpg(scene.worker().pid, signal.SIGTERM)
    engine.until("cancelled")
    engine.kill()
    scene.engine("resume").until("finished")
    scene.finished()


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGKILL, "lost", "was killed by SIGKILL"),
        (signal.SIGSEGV, "lost", "crashed in native code (SIGSEGV)"),
        (signal.SIGTERM, "cancelled", "asked to stop by SIGTERM, and not by Tunebench"),
    ],
)
def test_a_worker_ended_by_a_signal_is_told_with_what_is_known(
    scene: Scene, number: signal.Signals, status: str, words: str
) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(2000)
    os.kill(scene.worker().pid, number)
    assert engine.until("lost", "cancelled", "finished") == status
    engine.kill()
    error = with_store(scene.home, lambda database: job_queue.get_job(database, "run-1")).error
    assert words in error["message"]
    assert ("Fatal Python error: Segmentation fault" in error.get("traceback", "")) == (
        number == signal.SIGSEGV
    )


def test_a_halted_worker_goes_on_where_it_was(scene: Scene) -> None:
    engine = scene.engine()
    scene.wait_for_bytes(2000)
    scene.worker().suspend()
    deadline = time.monotonic() + SECONDS
    launcher = LocalLauncher(preload=False)
    record = read_json(scene.folder.worker)
    while not launcher.halted(Worker(scene.folder.path, record["pid"], record["started"])):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    scene.worker().resume()
    assert engine.until("lost", "finished") == "finished"
    scene.finished()
