"""What an improvement under way needs can't be deleted."""

from __future__ import annotations

from store.contract.errors import StateError
from store.db.database import Queryable
from store.queries.shipping import improvements


def check_not_improving(db: Queryable, needed_id: str, name: str) -> None:
    """Raise StateError where an improvement under way needs a job, a run, a data set, a round or a version.
    needed_id: its id, of a version NAME@3."""
    if improvement := improvements.needing(db, needed_id):
        raise StateError(
            f"{name} is needed by the improvement {improvement['name']}, which is under way.",
            fix="Wait until it has ended, or stop it first.",
        )
