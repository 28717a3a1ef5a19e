"""The states of a job and the moves between them, in one table."""

from __future__ import annotations

from store.contract.errors import StateError
from store.documents.tables.job import JobStatus

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"preparing", "cancelled", "failed"}),
    "preparing": frozenset({"training", "evaluating", "finished", "failed", "cancelled", "lost"}),
    "training": frozenset({"evaluating", "preparing", "finished", "failed", "cancelled", "lost"}),
    "evaluating": frozenset({"training", "finished", "failed", "cancelled", "lost"}),
    "finished": frozenset(),
    "failed": frozenset({"queued"}),  # a resume
    "cancelled": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
}
ACTIVE: frozenset[JobStatus] = frozenset({"preparing", "training", "evaluating"})  # a worker has it
ALIVE: frozenset[JobStatus] = ACTIVE | {"queued"}
RESUMABLE: frozenset[JobStatus] = frozenset({"failed", "cancelled", "lost"})


def check_move(title: str, old: JobStatus, new: JobStatus) -> None:
    """Raise StateError unless a job in state `old` may go to `new`."""
    if new not in MOVES[old]:
        raise StateError(f"{title} is {old} and can't become {new}.")
