"""Times and failures of an endpoint's requests, tested as they come. In the engine itself and not in a
worker: a model that is being trained must not hold back the word that answers have become slow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.diagnostics.drift.pace import PACES, PacedRequest, advance, begin, threshold
from engine.server.scheduling.monitor_alerting import raise_pace
from engine.server.scheduling.watch_orders import reference_rows
from store.db.database import Database, Queryable
from store.documents.serving.drift import PaceTest, PaceWatch
from store.documents.serving.monitor import Monitor
from store.queries import jobs
from store.queries.monitoring import monitors

log = logging.getLogger(__name__)

BATCH = 20_000  # requests at a time: some tenths of a second


def follow_pace(database: Database, endpoint_id: str, at: float) -> bool:
    """Move the tests on by the requests that came since, and raise what they say; whether there were any. A
    request counts exactly once: tests and place are kept together, and only where nobody has set the tests
    back meanwhile."""
    monitor = monitors.find(database, endpoint_id)
    if monitor is None:
        return False
    settings = monitors.settings(monitor)
    before = _begun(database, monitor)
    if before is None:
        return False
    rows = monitors.timed_requests(database, endpoint_id, before["place"], BATCH)
    if not len(rows):
        return False
    columns = [rows[name].to_pylist() for name in PacedRequest._fields]
    requests = [PacedRequest(*row) for row in zip(*columns, strict=True)]
    limit = threshold(settings.alpha)
    tests = [_advance_alone(test, requests, limit) for test in before["tests"]]
    after: PaceWatch = {"place": requests[-1].place + 1, "tests": tests}
    with database.transaction() as tx:
        present = monitors.find(tx, endpoint_id)
        if present is None or (present["pace"], present["revision"]) != (
            monitor["pace"],
            monitor["revision"],
        ):
            return False
        monitors.keep_pace(tx, endpoint_id, after)
        raise_pace(tx, endpoint_id, tests, settings, at)
    return True


def _advance_alone(test: PaceTest, requests: Sequence[PacedRequest], limit: float) -> PaceTest:
    """One that can't take these requests stays as it is, goes on with the next, and stops no other."""
    try:
        return advance(test, requests, limit)
    except Exception:
        log.exception(
            "The test %r can't take requests %d to %d", test["name"], requests[0].place, requests[-1].place
        )
        return test


def _begun(db: Queryable, monitor: Monitor) -> PaceWatch | None:
    """As the tests are, or before their first request; None while a window that is the reference has none."""
    watch: PaceWatch = monitor["pace"] or {"place": 0, "tests": []}
    if watch["tests"]:
        return watch
    settings = monitors.settings(monitor)
    place, ends_at = watch["place"], None
    if settings.reference == "window":
        which = reference_rows(settings)
        first = monitors.window_place(db, monitor["endpoint_id"], which)
        if first is None or which.end is None:
            return None
        place, ends_at = first, jobs.epoch(which.end)
    tests = [begin(name, settings.reference_rows, ends_at=ends_at) for name in PACES]
    return {"place": place, "tests": tests}
