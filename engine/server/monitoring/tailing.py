"""From the logs of all endpoints to the store, as far as they were written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import get_args

from engine.server.endpoints.endpoint_folders import EndpointFolder
from store.contract.events import MAX_READ, read_events
from store.contract.home import Home
from store.contract.request_log import Series, log_files, next_file
from store.db.database import Database
from store.queries import jobs
from store.queries.monitoring.log_ingest import LogBatch, is_there, offsets, take

log = logging.getLogger(__name__)


def endpoint_folders(home: Home) -> list[str]:
    """The endpoints that have a folder."""
    try:
        return sorted(path.name for path in (home.path / "endpoints").iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def take_logs(database: Database, home: Home, endpoint_id: str, at: float) -> bool:
    """Read on in each file of an endpoint, once; True where one had more than that. Requests come first, so
    that feedback finds them."""
    if not is_there(database, endpoint_id):
        return False
    past, more = offsets(database, endpoint_id), False
    for series, path in _files(home, endpoint_id):
        offset = past.get(path.name, 0)
        if path.stat().st_size <= offset:
            continue
        lines, end = read_events(path, offset)
        if end > offset:
            take(database, LogBatch(endpoint_id, series, path.name, lines, offset, end), jobs.utc(at))
            more = more or end - offset > MAX_READ // 2
    return more


def forget_files(database: Database, home: Home, endpoint_id: str, days: int, at: float) -> int:
    """Delete files that are wholly in the store and were last written so many days ago; how many. Of a
    stopped endpoint its own days count too, which nobody else holds it to. The newest of a series is written
    to: it goes from a stopped endpoint alone, and leaves an empty one with the next number, so that no number
    comes twice."""
    past, count = offsets(database, endpoint_id), 0
    folder = EndpointFolder(home, endpoint_id)
    stopped = _is_stopped(database, folder)
    if stopped and (config := folder.config()):
        days = min(days, config["log"]["days"])
    before = jobs.utc(at) - timedelta(days=days, hours=1)
    for series in get_args(Series):
        files = log_files(home, endpoint_id, series)
        for path in files if stopped else files[:-1]:
            about, newest = path.stat(), path == files[-1]
            if newest and not about.st_size:
                continue
            written = jobs.utc(about.st_mtime)
            if written < before and past.get(path.name, 0) >= about.st_size:
                if newest:
                    next_file(path).touch(mode=0o600)
                path.unlink(missing_ok=True)
                count += 1
    return count


def _is_stopped(database: Database, folder: EndpointFolder) -> bool:
    """Whether it is not to run, and doesn't: nothing begins to write meanwhile."""
    rows = database.query("SELECT wanted FROM endpoint WHERE endpoint_id = ?", [folder.path.name]).to_pylist()
    return all(row["wanted"] == "stopped" for row in rows) and folder.process() is None


def _files(home: Home, endpoint_id: str) -> Iterator[tuple[Series, Path]]:
    for series in get_args(Series):
        for path in log_files(home, endpoint_id, series):
            yield series, path
