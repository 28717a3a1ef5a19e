"""Whose a saved recipe or slice is, as it stands beside its name."""

from __future__ import annotations

from pages.people.activity_reads import maker
from store.documents.tables.dataset import Saved


def owner_words(row: Saved) -> list[str]:
    """Whose it is, where that is not plain, and whether others see it."""
    if name := maker(row["created_by"]):
        return [f"by {name}"]
    return [] if row["shared"] else ["yours alone"]
