"""The engine's commands over a real store; the preview is answered here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.commands import Commands
from store.core.rights import OWNER
from store.core.schemas import Job, Person
from store.core.training_schemas import MemoryEstimate, Preview, TimeEstimate
from store.data import datasets
from store.db.records import to_json
from store.jobs import job_queue
from store.training.train_config import TrainConfig
from tests.unit.store_samples import new_dataset, new_store, row_of

START = 1_800_000_000.0


class Desk:
    """Commands by name, and what the preview was asked."""

    def __init__(self, path: Path) -> None:
        self.home, self.database = new_store(path)
        self.problems: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.now = START
        self.commands = Commands(self.database, self.home, self.ask, clock=self.clock).table()

    def clock(self) -> float:
        self.now += 1
        return self.now

    def ask(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        assert name == "preview"
        self.asked.append(body)
        config = TrainConfig.parse(body["config"]).resolved(600)
        memory = row_of(
            MemoryEstimate, peak_gib=1.5, low_gib=1.2, high_gib=1.9, counted_gib=1.4, process_gib=0.6
        )
        time = row_of(
            TimeEstimate, seconds=90.0, low_seconds=60.0, high_seconds=140.0, counted_seconds=80.0,
            course_seconds=50.0, timing="timed", steps_timed=True,
        )  # fmt: skip
        answer = row_of(
            Preview, config=config.model_dump(), problems=self.problems, memory=memory, time=time, steps=30
        )
        return json.loads(to_json(answer))

    def __call__(self, name: str, /, by: Person = OWNER, **body: Any) -> dict[str, Any]:
        return self.commands[name](body, by)

    def add_dataset(self, name: str = "D", fingerprint: str = "f") -> str:
        dataset_id = f"data-{name}"
        row = new_dataset(
            dataset_id,
            name,
            fingerprint=fingerprint,
            split_seed=3,
            validation_size=0.2,
            test_size=0.05,
            created_at=job_queue.to_utc(START),
        )
        with self.database.transaction() as tx:
            datasets.insert_dataset(tx, row)
        self.home.rows(fingerprint).parent.mkdir(exist_ok=True)
        self.home.rows(fingerprint).write_bytes(b"rows")
        return dataset_id

    def end(self, job_id: str, status: str, result: dict[str, Any] | None = None) -> None:
        with self.database.transaction() as tx:
            if job_queue.get_job(tx, job_id).status == "queued":
                job_queue.claim(tx, job_id, "cpu", self.now)
            job_queue.finish(tx, job_id, status, self.now, result=result)

    def job(self, job_id: str) -> Job:
        return job_queue.get_job(self.database, job_id)
