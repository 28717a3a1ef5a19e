"""An improvement over a real store whose workers the test plays: what each job of the chain would leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.made.monitored import add_endpoint
from engine.commands import Commands
from engine.registry import version_keeping
from engine.retraining.feature import build_loop
from engine.retraining.job_handlers import store_feedback_rows
from engine.retraining.loop import ImprovementLoop
from engine.server import job_results
from store.core.job_folder import JobDir, write_json
from store.core.row_schemas import Fates
from store.core.schemas import Job, Person
from store.jobs import job_queue
from store.people import accounts
from store.people.accounts import Account
from store.registry import model_versions
from store.retraining import improvements
from store.retraining.schemas import GatheredRows, Improvement
from store.serving import endpoints
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register, staged

COUNTED = GatheredRows(
    asked=50, train=30, held_out=10, left_out={"people disagree about it": 10}, held_out_random=False,
    only_train=4, corrects=2,
)  # fmt: skip
FATES = Fates(kept=9, dropped=0, changed=0, added=3, steps=[])
STATS: dict[str, Any] = {
    "labels": {},
    "label_count": 0,
    "notices": [],
    "parts": {"train": 8, "validation": 2, "test": 2},
}


class Chained:
    """Model sums, whose version 1 is production; an endpoint Desk; and the chain."""

    def __init__(self, path: Path) -> None:
        self.desk = Desk(path)
        self.database, self.home = self.desk.database, self.desk.home
        self.desk.add_dataset()
        finished_run(self.desk)
        register(self.desk, text="one")
        self.desk("promote", version="sums@1", reason="The first.")
        with self.database.transaction() as tx:
            add_endpoint(tx, "endpoint-1", "Desk")
            served = {"models": [{"name": "intents", "routes": [{"subject": "sums@production"}]}]}
            endpoints.set_settings(tx, "endpoint-1", served)
        self.commands = Commands(self.database, self.home, self.desk.ask, clock=self.desk.clock)
        self.improving = self.next_engine()

    def next_engine(self) -> ImprovementLoop:
        """As after a restart."""
        self.improving = build_loop(self.commands.context)
        return self.improving

    def begin(self, **fields: Any) -> str:
        rows = [{"source": "feedback", "endpoint": "Desk"}]
        return str(self.desk("begin_improvement", model="sums", **{"rows": rows, **fields})["improvement_id"])

    def add_person(self, person: Person, *, active: bool = True) -> None:
        """Somebody who can sign in."""
        account = Account(
            person_id=person.person_id,
            name=person.name,
            role=person.role,
            email=f"{person.name}@example.org",
            password=None,
            active=active,
            verified=True,
        )
        with self.database.transaction() as tx:
            accounts.add_account(tx, account, job_queue.to_utc(self.desk.clock()))

    def get(self, improvement_id: str) -> Improvement:
        return improvements.get(self.database, improvement_id)

    def alive(self) -> list[Job]:
        """Jobs of the chain; those that measure data are not."""
        return [job for job in job_queue.queue(self.database) if job.kind not in ("profile", "watch")]

    def find_too_few(self) -> None:
        """End the gathering that is under way as one that could use seven rows."""
        (job,) = self.alive()
        few: Any = {
            "rows": replace(COUNTED, train=5, held_out=2),
            "too_few": "7 of 9 can be used.",
            "fix": "",
        }
        with self.database.transaction() as tx:
            store_feedback_rows(tx, self.home, job, few, self.desk.clock())
            job_queue.claim(tx, job.job_id, "cpu", self.desk.now)
            job_queue.finish(tx, job.job_id, "finished", self.desk.now, result=few)

    def end_jobs(self, status: str = "finished") -> list[str]:
        """End those that are under way, well or not; their kinds."""
        alive = self.alive()
        for job in alive:
            if status == "finished":
                self._finish(job)
            else:
                self.desk.end(job.job_id, status)
        return [job.kind for job in alive]

    def _finish(self, job: Job) -> None:
        result: Any = {}
        if job.kind in ("gather_rows", "clean"):
            result = self._rows(job)
            keep: Any = store_feedback_rows if job.kind == "gather_rows" else job_results.store_version
            with self.database.transaction() as tx:
                keep(tx, self.home, job, result, self.desk.clock())
        elif job.kind == "train":
            self._model(job.job_id)
        elif job.kind == "register":
            result = self._version(job)
        with self.database.transaction() as tx:
            job_queue.claim(tx, job.job_id, "cpu", self.desk.now)
            job_queue.finish(tx, job.job_id, "finished", self.desk.now, result=result)

    def _rows(self, job: Job) -> dict[str, Any]:
        fingerprint = f"rows-{job.job_id}"
        self.home.rows(fingerprint).parent.mkdir()
        pq.write_table(pa.table({"row_id": [0]}), self.home.rows(fingerprint))
        about = {"kind": "chat", "format": "messages", "columns": {}, "row_count": 12, "skipped_count": 0}
        return {
            **about,
            **{"fingerprint": fingerprint, "duplicate_count": 0, "source_bytes": 1, "stats": STATS},
            **{"parts": STATS["parts"], "fates": FATES},
            "rows": COUNTED,
        }

    def _model(self, run_id: str) -> None:
        folder = JobDir(self.home.jobs / run_id)
        folder.model.mkdir(parents=True)
        write_json(folder.config, {"config": {}, "dataset": {"fingerprint": "f"}, "split": None})

    def _version(self, job: Job) -> Any:
        training = (next(self.home.jobs.glob("*.json"))).read_text()  # as `register` has written it
        files = {"adapter_model.safetensors": f"weights {job.job_id}", "training.json": training}
        result = staged(JobDir(self.home.jobs / job.job_id).version, files)
        with self.database.transaction() as tx:
            version_keeping.store_version(tx, self.home, job, result, self.desk.clock())
        return result

    def run_through(self, improvement: str, until: str = "deciding", most: int = 40) -> list[str]:
        """Step, with a new engine each time, and end what was queued; the kinds of jobs."""
        kinds: list[str] = []
        for _ in range(most):
            if self.get(improvement).state == until:
                return kinds
            self.next_engine().step(self.desk.clock())
            self.next_engine().step(self.desk.clock())  # done again, it does nothing twice
            kinds += self.end_jobs()
        raise AssertionError(self.get(improvement))

    def standing(self) -> int | None:
        """The number of the version in production."""
        model = model_versions.get_model(self.database, "sums").model_id
        return model_versions.alias_standing(self.database, model, "production")
