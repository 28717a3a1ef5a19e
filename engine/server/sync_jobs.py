"""Queries that need a worker and are answered while the client waits: `inspect`, `split`, `preview`, ….

A query is a job without a row in the store: a folder under home/asks, a specification, a worker, a result.
The folder is always removed; a worker still running at the timeout is killed.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.server.local_launcher import Launcher, Worker
from store.core.errors import NotFoundError, TunebenchError, from_dict
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_json
from store.core.job_kinds import ASKS
from store.core.rights import OWNER
from store.core.schemas import ErrorDocument, Person
from store.jobs.job_queue import create_id
from store.jobs.schemas import JobSpec, Outcome, WorkerRecord

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 150.0  # the first preview of a large data set counts its tokens
POLL = 0.02
Body = Mapping[str, object]  # body of a query, validated by its worker


class QueryRunner:
    """Run queries: `await asks(name, body, person)` returns the result, or raises the worker's error.

    complete: adds what a worker needs from the store to a body. check: raises if the person may not name what
    the body names.
    """

    def __init__(
        self,
        launcher: Launcher,
        home: Home,
        device: str,
        check: Callable[[str, Body, Person], None],
        seconds: float = TIMEOUT_SECONDS,
        complete: Callable[[str, Body], Body] = lambda name, body: body,
    ) -> None:
        self.launcher = launcher
        self.home = home
        self.device = device
        self.seconds = seconds
        self.complete = complete
        self.check = check

    async def __call__(self, name: str, body: Body, person: Person) -> Any:
        """Run a query with a worker.

        Raises: NotFoundError for an unknown name, TunebenchError on timeout.
        """
        if name not in ASKS:
            raise NotFoundError(f"There is no ask {name!r}.", fix=f"There are: {', '.join(ASKS)}.")
        await asyncio.to_thread(self.check, name, body, person)
        complete = await asyncio.to_thread(self.complete, name, body)
        folder = create_spec_folder(self.home, name, self.device, complete)
        try:
            self.launcher.start(folder.path, name)
            outcome = await self._outcome(name, folder)
        finally:
            await asyncio.to_thread(self._end, folder)
        if outcome["status"] == "finished":
            return outcome["result"]
        stopped: ErrorDocument = {"error": "TunebenchError", "message": f"The {name} was stopped."}
        raise from_dict(outcome.get("error") or stopped)

    def run(self, name: str, body: Body) -> Any:
        """Run a query of the engine itself, blocking the thread."""
        return asyncio.run(self(name, body, OWNER))

    def remove_stale(self) -> None:
        """Remove, at the start, query folders that an earlier engine left behind."""
        for path in self.home.asks.iterdir():
            if path.is_dir():
                self._end(JobDir(path))

    async def _outcome(self, name: str, folder: JobDir) -> Outcome:
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            ended = self.launcher.last_exit(folder.path)  # read first, as the result precedes the exit
            outcome: Outcome | None = read_json(folder.result)
            if outcome is not None:
                return outcome
            if ended is not None:
                self.home.check_space()  # the most likely reason for a missing result
                raise TunebenchError(
                    f"The worker of the {name} ended (exit code {ended.code}) without an answer.",
                    fix="Try again; see logs/engine.log for details.",
                )
            await asyncio.sleep(POLL)
        raise TunebenchError(
            f"The {name} was not answered within {self.seconds:.0f} s.",
            fix="The machine may be busy with a run; try again.",
        )

    def _end(self, folder: JobDir) -> None:
        """Kill a worker that is still running, and remove the folder."""
        worker: WorkerRecord | None = read_json(folder.worker)
        if worker and not folder.result.exists():
            self.launcher.stop(Worker(folder.path, worker["pid"], worker["started"]), force=True)
        remove_tree(folder.path)


def create_spec_folder(home: Home, kind: str, device: str, config: Body) -> JobDir:
    """Create a folder with the specification for a worker without a row; the caller removes it."""
    job_id = create_id("ask", time.time())
    folder = JobDir(home.asks / job_id)
    folder.path.mkdir()
    spec: JobSpec = {
        "job_id": job_id,
        "kind": kind,
        "home": str(home.path),
        "device": device,
        "attempt": 1,
        "resume": False,
        "config": dict(config),
    }
    write_json(folder.config, spec)
    return folder


def remove_tree(path: Path) -> None:
    """Remove a folder; failures are only logged, as nothing more can be done here."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log.warning("%s could not be removed", path)
