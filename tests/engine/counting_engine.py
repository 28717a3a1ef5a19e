"""`python -m tests.engine.counting_engine HOME`: store, scheduler and launcher of the real engine, with
workers that count; without HTTP. It steps until it is killed. The test starts and kills it.
"""

from __future__ import annotations

import sys
import time

from engine.commands import Commands
from engine.job_handlers import HANDLERS
from engine.server.local_launcher import LocalLauncher
from engine.server.scheduler import Scheduler
from store.core.home import Home
from store.core.rights import OWNER
from store.db.database import Database
from store.jobs import job_queue

WORKER = (sys.executable, "-m", "tests.engine.counting_worker")


def main(home: Home, action: str) -> None:
    """Do `action` ("follow" or "resume"), then step and say on stdout what the run's status is."""
    database = Database(home.database, [home.datasets, home.jobs])
    launcher = LocalLauncher(preload=False, command=WORKER)
    scheduler = Scheduler(database, launcher, home, ["cpu"], HANDLERS)
    if action == "resume":
        commands = Commands(database, home, lambda name, body: {})
        commands.table()["resume"]({"job": "run-1"}, OWNER)
    while True:
        scheduler.step()
        print(job_queue.get_job(database, "run-1").status, flush=True)
        time.sleep(0.03)


if __name__ == "__main__":
    main(Home(sys.argv[1]), sys.argv[2])
