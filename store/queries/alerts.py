"""Verdicts as alerts: what became sure of a run, at which step, found across all runs for the overview.

A worker raises each kind once in a run, as soon as it is sure; what else a job tells its user has no kind
and is read with the job (`store.queries.runs.runs.alerts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.db.named_query import named_query
from store.db.records import records, scalar
from store.documents.tables.alert import RunAlerts

if TYPE_CHECKING:
    from store.db.database import Queryable

KINDS = {  # in the order of what weighs most
    "diverged": "Diverged",
    "memorising": "Memorises its rows",
    "forgetting_red": "Forgot much",
    "overfitting": "Overfits",
    "forgetting_amber": "Forgot some",
    "parting": "Loss and metric part",
    "stopped": "Stopped for what it forgot",
}


@named_query
def by_run(db: Queryable, *, limit: int = 4) -> list[RunAlerts]:
    """The runs with a verdict as alert, those first that raised one last."""
    return records(db.query(_BY_RUN, [limit]), RunAlerts)


@named_query
def count_runs(db: Queryable) -> int:
    """How many runs `by_run` would give without a limit."""
    return int(scalar(db.query(f"SELECT count(DISTINCT run_id) FROM ({_ALL})")))


_ALL = """
    SELECT r.run_id, r.number, r.name, j.status, a.kind, a.step, a.message, a.raised_at
    FROM alert a JOIN run r ON r.run_id = a.job_id JOIN job j ON j.job_id = a.job_id
    WHERE a.kind IS NOT NULL
"""
_BY_RUN = f"""
    SELECT run_id, number, name, status, max(raised_at) AS raised_at,
           list({{'kind': kind, 'step': step, 'message': message}} ORDER BY raised_at, kind) AS alerts
    FROM ({_ALL}) GROUP BY ALL ORDER BY max(raised_at) DESC, run_id DESC LIMIT ?
"""
