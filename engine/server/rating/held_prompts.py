"""The file of prompts that a rating round is started with: held in the folder of the round's job, so that it
is there for every job that reads it, whatever becomes of the upload or the path meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from engine.data.readers.source import locate
from engine.server.scheduling.endings import clear_asked
from engine.server.scheduling.waiting import remove_tree
from store.config.judging.round_config import MOST_MIB, FileOfRows
from store.contract.errors import ConfigError, DataError
from store.contract.home import Home
from store.contract.jobdir import JobDir, written_aside
from store.contract.states import ALIVE
from store.db.database import Queryable
from store.queries import jobs

FIELD = "prompts_file"
LONGEST_NAME = 50  # characters at its end: with its ending, and short of what a file system takes


@contextmanager
def held_prompts(home: Home, file: FileOfRows, round_id: str) -> Iterator[None]:
    """Hold the file while the block queues the round. An upload is given up once it has; where it raises,
    the upload is still there and nothing is held.

    The scheduler removes what is held when the round is in the store, and it goes with a round that is
    deleted. Raises DataError and ConfigError (prompts_file) for a file that can't be held.
    """
    folder = JobDir(home.jobs / round_id)
    try:
        path = locate(home, file.source())
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=FIELD) from error
    if (size := os.path.getsize(path)) > MOST_MIB * 2**20:
        raise ConfigError(
            f"{path.name} has {size / 2**20:,.0f} MiB; prompts may have {MOST_MIB} MiB.",
            fix="Give a part of it: people rate hundreds of prompts, not millions.",
            field=FIELD,
        )
    try:
        folder.held.mkdir(parents=True)
        with written_aside(folder.held / _held_name(path.name)) as unfinished:
            shutil.copyfile(path, unfinished)
        yield
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    if file.upload:
        path.unlink(missing_ok=True)


def _held_name(name: str) -> str:
    """The name under which a file is held: no point at its beginning, as half-written ones have."""
    return name[-LONGEST_NAME:].lstrip(".") or "prompts"


def remove_stale(db: Queryable, home: Home) -> None:
    """At the start: what an engine that was killed held for a round that it did not live to queue, or whose
    result it had just stored; and logged requests of a round that is not made."""
    for held in home.jobs.glob("*/held"):
        folder = JobDir(held.parent)
        job = jobs.statuses(db, [folder.path.name]).get(folder.path.name)
        if job is None:
            remove_tree(folder.path)
        elif job["status"] == "finished":
            remove_tree(held)
        elif job["status"] not in ALIVE:
            clear_asked(home, jobs.get_job(db, folder.path.name))
