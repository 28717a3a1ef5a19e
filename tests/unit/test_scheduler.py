"""`Scheduler.step(now)` with a launcher that starts nothing and a time that the test sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.launchers import Exit
from engine.scheduler import ANNOUNCE_SECONDS, CANCEL_SECONDS, Scheduler
from store import datasets, jobs, runs
from store.config import TrainConfig
from store.database import Database
from store.home import Home
from store.jobdir import JobDir, read_json, write_json

START = 1_800_000_000.0


class FakeLauncher:
    """Remembers what it was asked; the test plays the workers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[tuple[int, bool]] = []
        self.living: set[tuple[int, float]] = set()
        self.exits: dict[str, Exit] = {}

    def start(self, job_dir: Path, kind: str) -> None:
        self.started.append(job_dir.name)

    def alive(self, pid: int, started: float) -> bool:
        return (pid, started) in self.living

    def stop(self, pid: int, started: float, force: bool = False) -> None:
        self.stopped.append((pid, force))

    def last_exit(self, job_dir: Path) -> Exit | None:
        return self.exits.get(job_dir.name)


class World:
    """A store, a scheduler over it, and workers played by the test."""

    def __init__(self, path: Path, devices: tuple[str, ...] = ("cpu",)) -> None:
        self.home = Home(path).create()
        self.database = Database(self.home.database, [self.home.datasets, self.home.jobs])
        self.launcher = FakeLauncher()
        self.devices = devices
        self.now = START
        self.count = 0
        self.scheduler = self.next_engine()

    def next_engine(self) -> Scheduler:
        self.scheduler = Scheduler(self.database, self.launcher, self.home, self.devices, lambda: self.now)
        return self.scheduler

    def step(self, seconds: float = 0.5) -> None:
        self.now += seconds
        while self.scheduler.step() == 0:
            pass

    def queue(self, kind: str = "convert", lane: str = "light", after: tuple[str, ...] = ()) -> str:
        self.count += 1
        job_id = f"job-{self.count}"
        config = {"model": "m"}
        with self.database.transaction() as tx:
            jobs.insert(
                tx,
                job_id=job_id,
                kind=kind,
                lane=lane,
                title=f"Job {self.count}",
                config=config,
                at=START + self.count,
                after_jobs=after,
            )
        return job_id

    def folder(self, job_id: str) -> JobDir:
        return JobDir(self.home.jobs / job_id)

    def announce(self, job_id: str, pid: int) -> None:
        write_json(self.folder(job_id).worker, {"pid": pid, "started": float(pid)})
        self.launcher.living.add((pid, float(pid)))

    def die(self, pid: int) -> None:
        self.launcher.living.discard((pid, float(pid)))

    def emit(self, job_id: str, **event: Any) -> None:
        with open(self.folder(job_id).events, "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": self.now, **event}) + "\n")

    def result(self, job_id: str, **outcome: Any) -> None:
        write_json(self.folder(job_id).result, outcome)

    def job(self, job_id: str) -> dict[str, Any]:
        return jobs.get_job(self.database, job_id)

    def status(self, job_id: str) -> str:
        return str(self.job(job_id)["status"])

    def cancel(self, job_id: str) -> None:
        with self.database.transaction() as tx:
            jobs.update(tx, job_id, cancel_requested_at=jobs.utc(self.now))

    def add_dataset(self) -> None:
        row = {
            **{"dataset_id": "data-1", "name": "D", "kind": "chat", "format": "messages", "columns": {}},
            **{"source": {}, "fingerprint": "f", "row_count": 9, "skipped_count": 0, "duplicate_count": 0},
            **{"source_bytes": 1, "stats": {}, "split_seed": 0, "validation_size": 0.1, "test_size": 0.1},
            "created_at": jobs.utc(START),
        }
        with self.database.transaction() as tx:
            datasets.insert_dataset(tx, row)

    def queue_run(self) -> str:
        """A queued run on the data set `data-1`."""
        self.count += 1
        run_id = f"run-{self.count}"
        config = TrainConfig(dataset="D", name="R", split_seed=7, validation_size=0.2, test_size=0.1)
        job = {"kind": "train", "lane": "device", "title": "R", "config": config.model_dump()}
        with self.database.transaction() as tx:
            jobs.insert(tx, job_id=run_id, at=START, **job)
            names = {"dataset_id": "data-1", "dataset_name": "D", "fingerprint": "f"}
            runs.insert(tx, run_id=run_id, config=config, at=START, **names)
        return run_id


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.database.close()


def test_a_lane_takes_one_job_at_a_time_oldest_first(world: World) -> None:
    first, second, device = world.queue(), world.queue(), world.queue(lane="device")
    world.step()
    assert world.launcher.started == [first, device]
    assert [job["job_id"] for job in jobs.queue(world.database)] == [first, device, second]
    world.announce(first, 11)
    world.step()
    world.result(first, status="finished", result={"model": "m"})
    world.step()
    assert world.status(first) == "finished"
    assert world.status(second) == "preparing"
    assert world.launcher.started == [first, device, second]


def test_each_device_has_one_job(tmp_path: Path) -> None:
    world = World(tmp_path / "home", ("cuda:0", "cuda:1"))
    ids = [world.queue(lane="device") for _ in range(3)]
    world.step()
    assert [world.job(one)["device"] for one in ids] == ["cuda:0", "cuda:1", None]
    order = read_json(world.folder(ids[1]).config)
    assert order["device"] == "cuda:1"
    assert order["attempt"] == 1
    assert order["resume"] is False
    world.database.close()


def test_the_order_of_a_run_names_rows_and_split(world: World) -> None:
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    order = read_json(world.folder(run_id).config)
    assert order["run_id"] == run_id
    assert order["dataset"] == {"dataset_id": "data-1", "name": "D", "kind": "chat", "fingerprint": "f"}
    sizes = {"split_seed": 7, "validation_size": 0.2, "test_size": 0.1}
    assert order["split"] == {**sizes, "split_by": "random", "split_column": None}


def test_a_job_waits_for_others_and_does_not_hold_up_the_queue(world: World) -> None:
    model = world.queue()
    waiting, free = world.queue(lane="device", after=(model,)), world.queue(lane="device")
    world.step()
    assert world.launcher.started == [model, free]
    world.announce(model, 11)
    world.announce(free, 12)
    world.step()
    for one in (model, free):
        world.result(one, status="finished", result={})
    world.step()
    assert world.status(waiting) == "preparing"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_fails_with_the_cause_of_the_one_it_waited_for(world: World, status: str) -> None:
    model = world.queue()
    waiting = world.queue(lane="device", after=(model,))
    world.step()
    world.announce(model, 11)
    world.result(model, status=status, error={"message": "No such package."})
    world.step()
    assert world.status(model) == status
    assert world.status(waiting) == "failed"
    message = world.job(waiting)["error"]["message"]
    assert "Job 1" in message
    assert "No such package." in message


def test_events_are_taken_to_their_end_before_a_job_ends(world: World) -> None:
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 11)
    filler = "x" * 3000
    for step in range(400):  # more than one reading takes
        world.emit(run_id, type="metrics", step=step, values={"train/loss": 1.0}, filler=filler)
    world.result(run_id, status="finished", result={"verdict": {"gain": {"split": "test"}}})
    world.scheduler.step(world.now)
    assert world.status(run_id) == "finished"
    count = world.database.query("SELECT count(*), count(DISTINCT step) FROM metric").to_pylist()[0]
    assert list(count.values()) == [400, 400]
    assert runs.get_run(world.database, run_id)["verdict"] == {"gain": {"split": "test"}}


def test_a_verdict_without_a_gain_is_kept_with_its_samples(world: World) -> None:
    """The tuned loss is not a number: the run has finished all the same, and says what came of it."""
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    world.announce(run_id, 11)
    row = {"row_id": 3, "split": "test", "prompt": "p", "reference": "r", "base": "b", "tuned": "t"}
    pq.write_table(pa.Table.from_pylist([row]), world.folder(run_id).predictions)
    world.folder(run_id).checkpoints.mkdir()
    world.result(run_id, status="finished", result={"verdict": {"state": "worse", "gain": None}})
    world.step()
    assert world.status(run_id) == "finished"
    assert runs.predictions(world.database, run_id) == [{"run_id": run_id, **row}]
    assert not world.folder(run_id).checkpoints.exists()  # a finished run is never resumed


def test_a_folder_that_cannot_be_read_holds_up_no_other_job(world: World) -> None:
    broken = world.queue()
    world.step()
    world.announce(broken, 11)
    world.folder(broken).events.mkdir()  # reading it raises IsADirectoryError
    world.add_dataset()
    run_id = world.queue_run()
    world.step()
    assert world.status(run_id) == "preparing"


def test_a_worker_without_a_result_is_lost_with_the_reason(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.folder(job_id).log.write_text("loading\nlast words\n")
    world.launcher.exits[job_id] = Exit(11, -9)
    world.die(11)
    world.step()
    job = world.job(job_id)
    assert job["status"] == "lost"
    assert "SIGKILL" in job["error"]["message"]
    assert "out of memory" in job["error"]["message"]
    assert job["error"]["traceback"].endswith("last words")


def test_the_next_engine_adopts_a_living_worker_and_marks_a_dead_one(world: World) -> None:
    living, dead = world.queue(), world.queue(lane="device")
    world.step()
    world.announce(living, 11)
    world.announce(dead, 12)
    world.step()
    world.die(12)
    world.next_engine()
    world.step(60)
    assert world.status(living) == "preparing"
    assert jobs.epoch(world.job(living)["heartbeat_at"]) == world.now
    assert world.status(dead) == "lost"
    assert "process 12" in world.job(dead)["error"]["message"]
    assert len(world.launcher.started) == 2


def test_another_process_with_the_same_pid_is_not_the_worker(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.die(11)
    world.launcher.living.add((11, 99.0))
    world.step()
    assert world.status(job_id) == "lost"


def test_a_claimed_job_whose_worker_never_came_is_started_by_the_next_engine(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.next_engine()
    world.step()
    assert world.launcher.started == [job_id, job_id]


def test_a_worker_that_never_comes_is_given_up(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.step(ANNOUNCE_SECONDS - 1)
    assert world.status(job_id) == "preparing"
    world.step(2)
    assert world.status(job_id) == "lost"


def test_cancelling_asks_first_and_kills_after_the_grace(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.cancel(job_id)
    world.step()
    world.step(CANCEL_SECONDS - 2)
    assert world.launcher.stopped == [(11, False)]
    world.step(5)
    assert world.launcher.stopped[-1] == (11, True)
    world.die(11)
    world.step()
    assert world.status(job_id) == "cancelled"  # and not lost: the user wanted it to stop


def test_a_result_that_came_while_it_was_being_cancelled_counts(world: World) -> None:
    job_id = world.queue()
    world.step()
    world.announce(job_id, 11)
    world.step()
    world.cancel(job_id)
    world.result(job_id, status="finished", result={"model": "m"})
    world.die(11)
    world.step()
    assert world.status(job_id) == "finished"


def test_a_result_that_cannot_be_stored_fails_its_job_alone(world: World) -> None:
    bad, good = world.queue(kind="import"), world.queue(lane="device")
    world.step()
    world.announce(bad, 11)
    world.announce(good, 12)
    world.result(bad, status="finished", result={"nonsense": 1})
    world.result(good, status="finished", result={})
    world.step()
    assert world.status(bad) == "failed"
    assert world.status(good) == "finished"
    assert not datasets.list_datasets(world.database)


def test_a_run_whose_data_set_is_gone_fails_before_it_starts(world: World) -> None:
    run_id = world.queue_run()
    world.step()
    assert world.status(run_id) == "failed"
    assert "data-1" in world.job(run_id)["error"]["message"]
    assert world.launcher.started == []


ENDS = [
    ("lost", {}),
    ("failed", {"error": {"message": "no"}}),
    ("cancelled", {}),
    ("finished", {"result": {}}),
]


def leave(world: World, job_id: str, pid: int, fingerprint: str) -> list[Path]:
    """What a worker leaves that is killed after it published a data set, half-made things beside it."""
    folder = world.folder(job_id)
    left = [
        folder.aside / "passing" / "pass-1.parquet",
        folder.path / f".text.parquet.{pid}",
        world.home.cache / "embeddings" / f".f-v1.npy.{pid}",
        world.home.datasets / fingerprint / "rows.parquet",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    write_json(folder.published, {"fingerprint": fingerprint})
    return left


@pytest.mark.parametrize(("status", "more"), ENDS)
@pytest.mark.parametrize("kind", ["import", "clean"])
def test_what_a_job_leaves_half_made_is_removed_however_it_ends(
    world: World, kind: str, status: str, more: dict[str, Any]
) -> None:
    job_id = world.queue(kind=kind)
    world.step()
    world.announce(job_id, 11)
    world.step()
    left = leave(world, job_id, 11, "made")
    if status != "lost":
        world.result(job_id, status=status, **more)
    world.die(11)
    world.next_engine()
    world.step()
    assert world.status(job_id) == ("failed" if status == "finished" else status)  # its result is nonsense
    assert not [path for path in left if path.exists()]
    assert not (world.home.datasets / "made").exists()
    assert not world.folder(job_id).aside.exists()


def test_rows_that_a_data_set_has_are_not_removed_with_a_lost_job(world: World) -> None:
    world.add_dataset()
    job_id = world.queue(kind="import")
    world.step()
    world.announce(job_id, 11)
    world.step()
    *half, whole = leave(world, job_id, 11, "f")
    world.die(11)
    world.step()
    assert world.status(job_id) == "lost"
    assert whole.exists()
    assert not any(path.exists() for path in half)


@pytest.mark.parametrize("status", ["lost", "finished"])
def test_a_sidecar_that_nobody_takes_does_not_stay_in_the_folder_of_its_job(
    world: World, status: str
) -> None:
    """Its worker was killed when it was written; or its data set was deleted while it was measured."""
    world.add_dataset()
    job_id = world.queue(kind="profile")
    with world.database.transaction() as tx:
        jobs.update(tx, job_id, config={"dataset": "data-1", "group": "text"})
    world.step()
    with world.database.transaction() as tx:
        datasets.delete_dataset(tx, "data-1")
    world.announce(job_id, 11)
    sidecar = world.folder(job_id).path / "text.parquet"
    sidecar.write_bytes(b"rows")
    if status == "finished":
        world.result(job_id, status="finished", result={})
    world.die(11)
    world.step()
    assert world.status(job_id) == status
    assert not sidecar.exists()
