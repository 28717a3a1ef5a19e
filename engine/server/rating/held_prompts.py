"""The files that a rating round is started with, of prompts and of known answers: held in the folder of the
round's job, so that they are there for every job that reads them, whatever becomes of upload or path
meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.data.readers.source import locate
from engine.server.scheduling.endings import clear_asked
from engine.server.scheduling.waiting import remove_tree
from store.config.judging.round_config import MOST_MIB, FileOfRows, RoundConfig
from store.contract.errors import ConfigError, DataError
from store.contract.home import Home
from store.contract.jobdir import JobDir, written_aside
from store.contract.states import ALIVE
from store.db.database import Queryable
from store.queries import jobs

FIELD, GOLD_FILE = "prompts_file", "gold_file"
LONGEST_NAME = 50  # characters at its end: with its ending, and short of what a file system takes


@contextmanager
def held_files(home: Home, config: RoundConfig, round_id: str) -> Iterator[None]:
    """Hold the files that the round names, of prompts and of known answers, while the block queues it. An
    upload is given up once it has; where it raises, the uploads are still there and nothing is held.

    The scheduler removes what is held when the round is in the store, and it goes with a round that is
    deleted. Raises DataError and ConfigError, which name the field, for a file that can't be held.
    """
    named = [("", FIELD, config.prompts_file), (GOLD_FILE, GOLD_FILE, config.gold_file)]
    files = [(folder, field, file, _located(home, file, field)) for folder, field, file in named if file]
    if not files:
        yield
        return
    held = JobDir(home.jobs / round_id)
    try:
        for folder, _, _, path in files:
            (held.held / folder).mkdir(parents=True, exist_ok=True)
            with written_aside(held.held / folder / _held_name(path.name)) as unfinished:
                shutil.copyfile(path, unfinished)
        yield
    except BaseException:
        shutil.rmtree(held.path, ignore_errors=True)
        raise
    for _, _, file, path in files:
        if file.upload:
            path.unlink(missing_ok=True)


def _located(home: Home, file: FileOfRows, field: str) -> Path:
    try:
        path = locate(home, file.source())
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=field) from error
    if (size := os.path.getsize(path)) > MOST_MIB * 2**20:
        raise ConfigError(
            f"{path.name} has {size / 2**20:,.0f} MiB; files of a round may have {MOST_MIB} MiB.",
            fix="Give a part of it: people rate hundreds of prompts, not millions.",
            field=field,
        )
    return path


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
