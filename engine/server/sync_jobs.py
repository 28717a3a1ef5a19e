"""Questions that need a worker and are answered while someone waits: `inspect`, `split`, `preview`, ….

An ask is a job without a row in the store: a folder under home/asks, an order, a worker, a result. The
folder is always removed; a worker that is still at it when the time is up is killed.
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
Body = Mapping[str, object]  # of an ask; its worker checks it


class QueryRunner:
    """`await asks(name, body, person)` gives the answer, or raises the error that the worker met. `complete`
    adds to a body what a worker needs of the store, whoever asks; `check` raises where a person may not ask
    for what a body names."""

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
        """Ask a worker; NotFoundError for an unknown name, TunebenchError where no answer comes in time."""
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
        """The same for a thread that may wait, of the engine itself."""
        return asyncio.run(self(name, body, OWNER))

    def remove_stale(self) -> None:
        """At the start: folders of asks that an engine before this one did not live to remove."""
        for path in self.home.asks.iterdir():
            if path.is_dir():
                self._end(JobDir(path))

    async def _outcome(self, name: str, folder: JobDir) -> Outcome:
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            ended = self.launcher.last_exit(folder.path)  # looked at before the result, which comes first
            outcome: Outcome | None = read_json(folder.result)
            if outcome is not None:
                return outcome
            if ended is not None:
                self.home.check_space()  # the likeliest reason why there is no answer
                raise TunebenchError(
                    f"The worker of the {name} ended (exit code {ended.code}) without an answer.",
                    fix="Try again; logs/engine.log may say more.",
                )
            await asyncio.sleep(POLL)
        raise TunebenchError(
            f"The {name} was not answered within {self.seconds:.0f} s.",
            fix="The machine may be busy with a run; try again.",
        )

    def _end(self, folder: JobDir) -> None:
        """Kill a worker that is still at it, and remove the folder."""
        worker: WorkerRecord | None = read_json(folder.worker)
        if worker and not folder.result.exists():
            self.launcher.stop(Worker(folder.path, worker["pid"], worker["started"]), force=True)
        remove_tree(folder.path)


def create_spec_folder(home: Home, kind: str, device: str, config: Body) -> JobDir:
    """A folder with the order for a worker that has no row in the store; whoever makes it removes it."""
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
    """Remove a folder; what could not be removed is logged, as nobody can do more about it here."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log.warning("%s could not be removed", path)
