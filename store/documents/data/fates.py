"""What a recipe did to the rows of a version, in counts."""

from __future__ import annotations

from typing import Literal, TypedDict

Fate = Literal["kept", "changed", "dropped", "added"]  # what became of a row


class FateCounts(TypedDict):
    """Rows of each fate: what became of the old version's, and those that were mixed in and stayed."""

    kept: int
    changed: int
    dropped: int
    added: int


class StepCounts(TypedDict):
    """What one step of a recipe did to the rows that it met."""

    title: str
    rows_in: int
    changed: int
    dropped: int
    added: int  # mixed in by this step
    rows_out: int


class Fates(FateCounts):
    """What became of the rows, and what each step did. A row that one step mixed in and a later one dropped
    is in the counts of both and in no fate."""

    steps: list[StepCounts]
