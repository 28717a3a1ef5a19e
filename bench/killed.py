"""A home folder whose engine and workers are killed with -9, and what they must not leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil

from bench.served import PROJECT, wait_until
from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.db.database import Database
from store.http.client import Client
from store.jobs import job_queue

VICTIMS = ("engine", "worker", "both")
GONE_SECONDS = 5.0  # time for child processes of a killed worker to end


class KilledHome:
    """Home folder with a succession of engines. The client is used across them."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path).create()
        self.client = Client(self.home)
        self.groups: set[int] = set()  # process groups of killed workers
        self.start()

    def start(self) -> None:
        """Start the next engine and wait until it responds."""
        environment = {**os.environ, "TUNEBENCH_NO_SAMPLE": "1", "OMP_NUM_THREADS": "1"}
        self.engine = subprocess.Popen(
            [sys.executable, "-m", "engine", "--home", str(self.home.path)],
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            env=environment,
        )
        wait_until(self._answers, "an engine")

    def _answers(self) -> bool:
        assert self.engine.poll() is None, "the engine ended at its start"
        try:
            return int(self.client.health()["pid"]) == self.engine.pid
        except EngineUnavailable:
            return False

    def worker(self, job_id: str) -> int | None:
        """Return the pid of the job's worker, if there is one."""
        record = read_json(JobDir(self.home.jobs / job_id).worker)
        return record["pid"] if record and psutil.pid_exists(record["pid"]) else None

    def kill(self, victim: str, job_ids: list[str]) -> None:
        """Kill, with SIGKILL, the engine, the workers of the jobs, or first the engine and then the workers.
        If the engine was killed, start another one.
        """
        if victim != "worker":
            self.engine.kill()
            self.engine.wait()
        for pid in filter(None, map(self.worker, job_ids)) if victim != "engine" else ():
            self.groups.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim != "worker":
            self.start()

    def ended(self, job_id: str) -> Job:
        """Return the job once it has ended."""
        wait_until(lambda: job_queue.get_job(self.client, job_id).status not in ALIVE, f"the end of {job_id}")
        return job_queue.get_job(self.client, job_id)

    def finished(self, job_id: str) -> Job:
        """Return the job, which must finish successfully."""
        job = self.ended(job_id)
        assert job.status == "finished", job.error
        return job

    def resumed(self, job_id: str) -> str:
        """Wait for a job whose engine or worker was killed, resuming it if it was lost; return the failure,
        or an empty string.
        """
        job = self.ended(job_id)
        if job.status == "lost":
            self.client.command("resume", {"job": job_id})
            job = self.ended(job_id)
        return "" if job.status == "finished" else f"{job.title} is {job.status}: {job.error}"

    def stop(self) -> Database:
        """Stop the engine properly and open its store."""
        self.end()
        return Database(self.home.database, [self.home.datasets, self.home.jobs])

    def end(self) -> None:
        """Stop the engine and all workers."""
        self.engine.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.engine.wait(20)
        self.engine.kill()
        self.engine.wait()
        for folder in self.home.jobs.iterdir():
            if pid := self.worker(folder.name):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def left(self, database: Database) -> list[str]:
        """Return leftovers in the home folder that nothing refers to. Call it once the engine has ended."""
        job_ids = {row["job_id"] for row in database.query("SELECT job_id FROM job").to_pylist()}
        home = self.home
        paths = [*home.asks.iterdir(), *home.uploads.iterdir(), *home.path.glob(".*.*")]
        paths += [*home.jobs.glob("*/aside"), *home.jobs.glob("*/.*.*"), *home.jobs.glob("*/version")]
        paths += [folder for folder in home.jobs.iterdir() if folder.name not in job_ids]
        named = {row["fingerprint"] for row in database.query("SELECT fingerprint FROM dataset").to_pylist()}
        paths += [folder for folder in home.datasets.iterdir() if folder.name not in named]
        deadline = time.monotonic() + GONE_SECONDS
        while (alive := self._alive()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [str(path.relative_to(home.path)) for path in paths] + alive

    def _alive(self) -> list[str]:
        """Return the processes that killed workers had started."""
        there = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getpgid(process.pid) in self.groups and process.status() != psutil.STATUS_ZOMBIE:
                    there.append(f"the process {' '.join(process.cmdline()[1:4])}")
        return there


def moment(draw: Random, seconds: float) -> float:
    """Wait for a random time and return it."""
    drawn = draw.random() * seconds
    time.sleep(drawn)
    return drawn


def seen(there: Callable[[], object], seconds: float = 60.0) -> bool:
    """Return whether the condition becomes true in time; it is polled a thousand times per second so that a
    kill can follow at that very moment.
    """
    deadline = time.monotonic() + seconds
    while not there():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
