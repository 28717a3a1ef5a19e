"""Figures with their uncertainty."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Estimate(TypedDict):
    """A value with its 95% interval over `n` rows; low and high are null where the rows can't give them, and
    `why` says for what reason."""

    value: float
    low: float | None
    high: float | None
    n: int
    why: NotRequired[str]
