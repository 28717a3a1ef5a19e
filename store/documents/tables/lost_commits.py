"""What a store lacked when it was opened."""

from __future__ import annotations

from typing import TypedDict


class LostCommits(TypedDict):
    """Commits that were made, by the journal beside the store, and are not in it. Times are seconds since the
    epoch."""

    found_at: float
    commits: int
    understood: int  # of how many it is known what they changed; what was checkpointed before is not
    first_at: float | None  # of those
    last_at: float | None
    rows: dict[str, int]  # table -> rows that they added, changed or removed
