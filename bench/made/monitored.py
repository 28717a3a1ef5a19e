"""A store with an endpoint whose log is ingested, measured and tested as by the engine, without an engine.

Its steps and its workers run here, one after another.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.commands import Commands
from engine.job_handlers import store_result, write_spec
from engine.monitoring import watch_job
from engine.monitoring.checks import MonitorSchedules
from engine.monitoring.loop import MEASURE_SECONDS, MonitoringLoop
from engine.worker.job import WorkerJob
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import Monitor
from store.db.database import Database, Transaction, utc_now
from store.jobs import job_queue
from store.monitoring import monitors
from store.monitoring.log_ingest import get_log_folder


def add_endpoint(tx: Transaction, endpoint_id: str, name: str) -> None:
    """Insert an endpoint with the minimum that a monitor requires."""
    now = utc_now()
    settings = {"models": [{"name": "intents", "routes": [{"subject": "intents@3"}]}]}
    tx.execute(
        "INSERT INTO endpoint VALUES (?, ?, 'running', ?, ?, 'owner', 'Olga', ?)",
        [endpoint_id, name, now, json.dumps(settings), now],
    )


def _no_ask(name: str, body: object) -> object:
    raise AssertionError(f"Nothing here asks {name}.")


class Monitored:
    """The store, and the engine's actions on it."""

    def __init__(self, path: Path, endpoint_id: str, name: str) -> None:
        self.home = Home(path).create()
        self.database = Database(self.home.database, [self.home.datasets, self.home.jobs])
        self.endpoint_id, self.log = endpoint_id, get_log_folder(self.home, endpoint_id)
        self.log.mkdir(parents=True)
        self.now = 1_800_000_000.0
        with self.database.transaction() as tx:
            add_endpoint(tx, endpoint_id, name)
        self.commands = Commands(self.database, self.home, _no_ask, clock=lambda: self.now)
        self.monitoring = self.next_engine()

    def next_engine(self) -> MonitoringLoop:
        """Start a new monitoring loop, as after a restart."""
        self.monitoring = MonitoringLoop(
            self.database, self.home, MonitorSchedules(self.commands.context), lambda: self.now
        )
        return self.monitoring

    def step(self, seconds: float = MEASURE_SECONDS) -> int:
        """Ingest new log lines, queue a monitoring job and run it, once; return the number of jobs."""
        self.now += seconds
        while self.monitoring.step() == 0:
            pass
        waiting = [job for job in job_queue.list_of_kind(self.database, monitors.KIND) if job.status in ALIVE]
        for job in waiting:
            self.look(job.job_id)
        return len(waiting)

    def look(self, job_id: str) -> None:
        """Run the worker of a monitoring job and store its result, as the engine does."""
        job = job_queue.get_job(self.database, job_id)
        folder = write_spec(self.database, self.home, job)
        result = watch_job.run(WorkerJob(folder.path))
        with self.database.transaction() as tx:
            job_queue.claim(tx, job_id, "cpu", self.now)
            job_queue.finish(tx, job_id, "finished", self.now, result=result)
            store_result(tx, self.home, job, result, self.now)

    def catch_up(self) -> None:
        """Run steps until nothing is waiting."""
        while self.step():
            pass

    def monitor(self) -> Monitor:
        """Return the monitor's current state."""
        monitor = monitors.find(self.database, self.endpoint_id)
        assert monitor is not None
        return monitor

    def close(self) -> None:
        """Close the store."""
        self.database.close()
