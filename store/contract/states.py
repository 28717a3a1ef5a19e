"""The states of a job and the moves between them, in one table."""

from __future__ import annotations

from store.contract.errors import StateError

MOVES: dict[str, frozenset[str]] = {
    "queued": frozenset({"preparing", "cancelled", "failed"}),
    "preparing": frozenset({"training", "evaluating", "finished", "failed", "cancelled", "lost"}),
    "training": frozenset({"evaluating", "preparing", "finished", "failed", "cancelled", "lost"}),
    "evaluating": frozenset({"training", "finished", "failed", "cancelled", "lost"}),
    "finished": frozenset(),
    "failed": frozenset({"queued"}),  # a resume
    "cancelled": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
}
ACTIVE = frozenset({"preparing", "training", "evaluating"})  # a worker has it
ALIVE = ACTIVE | {"queued"}
RESUMABLE = frozenset({"failed", "cancelled", "lost"})


def check_move(title: str, old: str, new: str) -> None:
    """Raise StateError unless a job in state `old` may go to `new`."""
    if new not in MOVES[old]:
        raise StateError(f"{title} is {old} and can't become {new}.")
