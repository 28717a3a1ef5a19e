"""A home folder copied while its processes run: nothing done in the copy signals any of them.

The first process is a training run, with an engine over the copy. Each other process holds the lock of its
folder, as workers, gateways, engine and screens do; all code that checks and signals processes is the
product's own.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.hostility import Attempt
from engine.job_handlers import HANDLERS
from engine.server.local_launcher import LocalLauncher
from engine.server.scheduler import Scheduler
from engine.server.sync_jobs import QueryRunner
from store.core.home import Home
from store.core.job_folder import JobDir, write_json
from store.core.processes import get_process_start, write_record
from store.db.database import Database
from store.jobs import job_queue
from tests.engine.processes.test_copied_home import CopiedRun
from tests.unit.played import World
from tunebench.terminal import processes
from tunebench.terminal.processes import list_running_endpoints

ROUNDS = 3
HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX);"
    " print(flush=True); time.sleep(600)"
)


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Try everything that can be done in a copy, in a different order each round; the original's own actions
    come last.
    """
    scene = CopiedRun(folder)
    try:
        yield Attempt("a run that trains", scene.problem())
    finally:
        scene.end()
    draw = random.Random(seed)
    for number in range(ROUNDS):
        original = _Original(folder / f"home-{number}")
        try:
            copy = Home(shutil.copytree(original.home.path, folder / f"copy-{number}"))
            steps = list(STEPS.items())
            draw.shuffle(steps)
            for name, step in steps:
                problem = step(copy)
                gone = [who for who, process in original.living.items() if process.poll() is not None]
                yield Attempt(f"{number}: {name}", problem or (f"ended {', '.join(gone)}" if gone else ""))
            problem = "" if processes.stop_engine(original.home) else "it was not found"
            yield Attempt(f"{number}: the original's own engine is ended", problem)
        finally:
            original.end()


class _Original:
    """A home folder with two running jobs, an ask, an endpoint, the engine and the screens."""

    def __init__(self, path: Path) -> None:
        self.living: dict[str, subprocess.Popen[bytes]] = {}
        world = World(path)
        self.home = world.home
        queued = {lane: world.queue(lane=lane) for lane in ("light", "device")}
        world.step()
        for lane, job_id in queued.items():
            pid = self._work(f"the worker of a {lane} job", world.folder(job_id))
            with world.database.transaction() as tx:
                job_queue.announce(tx, job_id, pid, get_process_start(pid))
        world.database.close()
        ask = JobDir(self.home.asks / "ask-1")
        ask.path.mkdir()
        self._work("the worker of an ask", ask)
        gateway = self.home.endpoints / "endpoint-1"
        gateway.mkdir()
        write_json(gateway / "config.json", {"name": "e"})
        for who, file in {
            "the gateway": gateway / "gateway.json",
            "the engine": self.home.engine_file,
            "the screens": self.home.screens_file,
        }.items():
            write_record(file, "http://127.0.0.1:1", self._holder(who, file.with_suffix(".lock")))

    def _work(self, who: str, folder: JobDir) -> int:
        pid = self._holder(who, folder.lock)
        write_json(folder.worker, {"pid": pid, "started": get_process_start(pid)})
        return pid

    def _holder(self, who: str, lock: Path) -> int:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        self.living[who] = process
        return process.pid

    def end(self) -> None:
        for process in self.living.values():
            process.kill()
            process.wait()


def _jobs(copy: Home) -> str:
    """Cancel one of the jobs. Both end in the copy, since no worker runs them there."""
    database = Database(copy.database, [copy.datasets, copy.jobs])
    try:
        with database.transaction() as tx:
            job_queue.stop(tx, job_queue.get_job(tx, "job-1"), time.time())
        Scheduler(database, LocalLauncher(preload=False), copy, ["cpu"], HANDLERS).step()
        statuses = [job_queue.get_job(database, job).status for job in ("job-1", "job-2")]
    finally:
        database.close()
    return "" if statuses == ["cancelled", "lost"] else f"the jobs are {statuses}"


def _asks(copy: Home) -> str:
    QueryRunner(LocalLauncher(preload=False), copy, "cpu", lambda *_: None).remove_stale()
    return "the folder of the ask is still there" if list(copy.asks.iterdir()) else ""


STEPS: dict[str, Callable[[Home], str]] = {
    "the scheduler, with a cancel": _jobs,
    "asks that are left": _asks,
    "stop the engine": lambda copy: "it says that it did" if processes.stop_engine(copy) else "",
    "stop the screens": lambda copy: "it says that it did" if processes.stop_screens(copy) else "",
    "which endpoints answer": lambda copy: f"{names} do" if (names := list_running_endpoints(copy)) else "",
}
