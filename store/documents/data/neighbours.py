"""The ask `neighbours`: the rows that mean most nearly what one of them means."""

from __future__ import annotations

from typing import TypedDict


class Neighbours(TypedDict):
    """Other rows of the data set, nearest first."""

    neighbours: list[tuple[int, float]]  # (row, cosine from -1 to 1)
