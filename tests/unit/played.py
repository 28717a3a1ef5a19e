"""A store with the engine's scheduler over it, whose workers and clock the test plays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.job_handlers import HANDLERS
from engine.server.local_launcher import Worker, WorkerExit
from engine.server.scheduler import Scheduler
from store.core.job_folder import JobDir, write_json
from store.core.schemas import Job
from store.data import datasets
from store.jobs import job_queue
from store.runs import runs
from store.training.train_config import TrainConfig
from tests.unit.store_samples import new_dataset, new_store

START = 1_800_000_000.0


class FakeLauncher:
    """Remembers what it was asked; the test plays the workers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[tuple[int, bool]] = []
        self.living: set[tuple[int, float]] = set()
        self.halts: set[int] = set()  # pids
        self.exits: dict[str, WorkerExit] = {}

    def start(self, job_dir: Path, kind: str) -> None:
        self.started.append(job_dir.name)

    def alive(self, worker: Worker) -> bool:
        return (worker.pid, worker.started) in self.living

    def halted(self, worker: Worker) -> bool:
        return worker.pid in self.halts

    def stop(self, worker: Worker, force: bool = False) -> None:
        self.stopped.append((worker.pid, force))

    def last_exit(self, job_dir: Path) -> WorkerExit | None:
        return self.exits.get(job_dir.name)


class World:
    """A store, a scheduler over it, and workers played by the test."""

    def __init__(self, path: Path, devices: tuple[str, ...] = ("cpu",)) -> None:
        self.home, self.database = new_store(path)
        self.launcher = FakeLauncher()
        self.devices = devices
        self.now = START
        self.count = 0
        self.scheduler = self.next_engine()

    def next_engine(self) -> Scheduler:
        self.scheduler = Scheduler(
            self.database, self.launcher, self.home, self.devices, HANDLERS, lambda: self.now
        )
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
            job_queue.insert(
                tx,
                job_queue.NewJob(
                    job_id=job_id,
                    kind=kind,
                    lane=lane,
                    title=f"Job {self.count}",
                    config=config,
                    at=START + self.count,
                    after_jobs=after,
                ),
            )
        return job_id

    def folder(self, job_id: str) -> JobDir:
        return JobDir(self.home.jobs / job_id)

    def announce(self, job_id: str, pid: int, /, **noted: Any) -> None:
        write_json(self.folder(job_id).worker, {"pid": pid, "started": float(pid), **noted})
        self.launcher.living.add((pid, float(pid)))

    def die(self, pid: int) -> None:
        self.launcher.living.discard((pid, float(pid)))

    def emit(self, job_id: str, **event: Any) -> None:
        with open(self.folder(job_id).events, "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": self.now, **event}) + "\n")

    def emit_before(self, job_id: str, **event: Any) -> None:
        """Into the folder of a job that has not begun, as an earlier attempt has left it."""
        self.folder(job_id).path.mkdir(parents=True, exist_ok=True)
        self.emit(job_id, **event)

    def result(self, job_id: str, **outcome: Any) -> None:
        write_json(self.folder(job_id).result, outcome)

    def job(self, job_id: str) -> Job:
        return job_queue.get_job(self.database, job_id)

    def status(self, job_id: str) -> str:
        return self.job(job_id).status

    def cancel(self, job_id: str) -> None:
        with self.database.transaction() as tx:
            job_queue.update(tx, job_id, cancel_requested_at=job_queue.to_utc(self.now))

    def add_dataset(self) -> None:
        with self.database.transaction() as tx:
            datasets.insert_dataset(tx, new_dataset("data-1", "D", created_at=job_queue.to_utc(START)))

    def queue_run(self) -> str:
        """A queued run on the data set `data-1`."""
        self.count += 1
        run_id = f"run-{self.count}"
        config = TrainConfig(dataset="D", name="R", split_seed=7, validation_size=0.2, test_size=0.1)
        job = {"kind": "train", "lane": "device", "title": "R", "config": config.model_dump()}
        with self.database.transaction() as tx:
            job_queue.insert(tx, job_queue.NewJob(job_id=run_id, at=START, **job))
            names = {"dataset_id": "data-1", "dataset_name": "D", "fingerprint": "f"}
            runs.insert(tx, runs.NewRun(run_id=run_id, config=config, at=START, **names))
        return run_id
