"""Rows that two data sets share, and held-out rows that training repeats."""

from __future__ import annotations

from typing import TypedDict


class Overlap(TypedDict):
    """The ask `overlap`: which rows of a data set another one has too. Each row is counted once."""

    exact: int  # rows, by their folded text
    near: int  # not exactly, but with a Jaccard similarity of at least the threshold
    same_prompt: int  # neither, but with a prompt of the other
    rows: int  # of the first data set
    other_rows: int
    row_ids: list[int]  # all of the shared rows of the first, 10,000 at most
    examples: list[tuple[int, int, float]]  # (row, the other's row, similarity from 0 to 1), 50 at most


class Leaks(TypedDict):
    """Held-out rows that training repeats. Each row is counted once."""

    exact: int  # rows, by their folded text
    near: int  # not exactly, but near duplicates; 0 where these are not known
    same_prompt: int | None  # another answer to a prompt that is trained on; null where it was not looked at
    checked_near: bool  # near duplicates are known
