"""What an improvement under way needs can't be deleted, and its rows keep the parts that they were dealt."""

from __future__ import annotations

from store.contract.errors import StateError
from store.db.database import Queryable
from store.documents.tables.improvement import AT_WORK
from store.queries.shipping import improvements


def check_not_improving(db: Queryable, needed_id: str, name: str) -> None:
    """Raise StateError where an improvement under way needs a job, a run, a data set, a round or a version.
    needed_id: its id, of a version NAME@3."""
    if improvement := improvements.needing(db, needed_id):
        raise StateError(
            f"{name} is needed by the improvement {improvement['name']}, which is under way.",
            fix="Wait until it has ended, or stop it first.",
        )


def check_deal_kept(db: Queryable, dataset_id: str, name: str) -> None:
    """Raise StateError where an improvement trains and measures by the parts of a data set: dealt anew, its
    evaluations would take rows that were trained on. One that has failed may still go on."""
    if improvement := improvements.needing(db, dataset_id, (*AT_WORK, "failed")):
        raise StateError(
            f"{improvement['name']} trains and measures by the parts of {name}, which have to stay as they"
            " are until it has ended.",
            fix="Decide on the improvement or stop it first.",
            field="dataset",
        )
