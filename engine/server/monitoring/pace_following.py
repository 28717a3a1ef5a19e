"""Times and failures of an endpoint's requests, tested as they come. In the engine itself and not in a
worker: a model that is being trained must not hold back the word that answers have become slow.
"""

from __future__ import annotations

from engine.diagnostics.drift.pace import PACES, PacedRequest, advance, begin, threshold
from engine.server.scheduling.monitor_alerting import raise_pace
from store.db.database import Database, Queryable
from store.documents.serving.drift import PaceWatch
from store.documents.serving.monitor import Monitor
from store.queries.monitoring import monitors

BATCH = 20_000  # requests at a time: some tenths of a second


def follow_pace(database: Database, endpoint_id: str, at: float) -> bool:
    """Move the tests on by the requests that came since, and raise what they say; whether there were any. A
    request counts exactly once: tests and place are kept together, and only where nobody has set the tests
    back meanwhile."""
    monitor = monitors.find(database, endpoint_id)
    if monitor is None:
        return False
    settings = monitors.settings(monitor)
    before = monitor["pace"] or _begun(database, monitor)
    rows = monitors.timed_requests(database, endpoint_id, before["place"], BATCH)
    if not len(rows):
        return False
    columns = [rows[name].to_pylist() for name in PacedRequest._fields]
    requests = [PacedRequest(*row) for row in zip(*columns, strict=True)]
    limit = threshold(settings.alpha)
    tests = [advance(test, requests, limit) for test in before["tests"]]
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


def _begun(db: Queryable, monitor: Monitor) -> PaceWatch:
    """Before the first request; of a window that is the reference, before its first."""
    settings = monitors.settings(monitor)
    start = settings.window_start if settings.reference == "window" else None
    place = monitors.pace_start(db, monitor["endpoint_id"], start)
    return {"place": place, "tests": [begin(name, settings.reference_rows) for name in PACES]}
