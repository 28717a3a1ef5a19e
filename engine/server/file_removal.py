"""Removal of deleted files, and of files kept for jobs that were never queued.

Removals are recorded with the deletion, and repeated at the next start if the engine was killed in between
(`store.jobs.job_queue`).
"""

from __future__ import annotations

from engine.server.features import is_path_named
from engine.server.job_outcomes import clear_logged_requests
from engine.server.sync_jobs import remove_tree
from store.core.home import Home
from store.core.job_folder import JobDir, read_json
from store.core.job_kinds import ALIVE
from store.data import datasets
from store.db.database import Database, Queryable
from store.jobs import job_queue


def remove_noted(database: Database, home: Home) -> None:
    """Remove all recorded paths, except those created again under the same name since."""
    noted = job_queue.list_noted_removals(database)
    if not noted:
        return
    claimed = _list_claimed(database, home)
    for path in noted:
        if path not in claimed and not _is_named(database, home, path):
            if (home.path / path).is_dir():
                remove_tree(home.path / path)
            else:
                (home.path / path).unlink(missing_ok=True)
    gone = [
        path
        for path in noted
        if path in claimed or not (home.path / path).exists() or _is_named(database, home, path)
    ]
    with database.transaction() as tx:
        job_queue.forget_removals(tx, gone)


def _is_named(database: Database, home: Home, path: str) -> bool:
    """Whether a row refers to the path: equal rows share a folder, and features take free names."""
    folder, _, name = path.partition("/")
    if folder == home.datasets.name:
        return datasets.is_named(database, name)
    return is_path_named(database, path)


def _list_claimed(database: Database, home: Home) -> set[str]:
    """Return paths that unfinished jobs have published or are about to: their end decides on these."""
    claimed = set()
    for job in job_queue.with_status(database, ALIVE):
        published = read_json(JobDir(home.jobs / job.job_id).published) or {}
        if fingerprint := published.get("fingerprint"):
            claimed.add(f"{home.datasets.name}/{fingerprint}")
        claimed |= {f"{home.exports.name}/{name}" for name in published.get("exports", ())}
    return claimed


def remove_stale_held(db: Queryable, home: Home) -> None:
    """Remove files, at the start, that a killed engine left behind.

    These are inputs kept for a job that was never queued, or whose result was just stored, and logged
    requests of a round that ended without finishing.
    """
    for held in home.jobs.glob("*/held"):
        folder = JobDir(held.parent)
        job = job_queue.statuses(db, [folder.path.name]).get(folder.path.name)
        if job is None:
            remove_tree(folder.path)
        elif job.status == "finished":
            remove_tree(held)
        elif job.status not in ALIVE:
            clear_logged_requests(home, job_queue.get_job(db, folder.path.name))
