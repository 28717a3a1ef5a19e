"""What became of rows, in counts: how many there were, how many are left, what was done to them."""

from __future__ import annotations

from typing import Literal

from store.documents.data.fates import FateCounts, StepCounts

CHANGES: tuple[Literal["dropped", "changed", "added"], ...] = ("dropped", "changed", "added")


def rows_before(fates: FateCounts) -> int:
    """Rows of the version that the recipe was run on."""
    return fates["kept"] + fates["changed"] + fates["dropped"]


def rows_left(fates: FateCounts) -> int:
    """Rows of the version that the recipe makes."""
    return fates["kept"] + fates["changed"] + fates["added"]


def changes(counts: FateCounts | StepCounts) -> list[str]:
    """ "523 dropped", "10 changed", each that is not 0."""
    return [f"{counts[change]:,} {change}" for change in CHANGES if counts[change]]
