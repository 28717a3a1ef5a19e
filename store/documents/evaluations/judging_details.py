"""What a judging says of order and length, in the details of its figure."""

from __future__ import annotations

from typing import TypedDict

from store.documents.figures.estimate import Estimate


class JudgedOrder(TypedDict):
    """What the order did in which the two answers were shown."""

    agree: Estimate  # share of pairs in which both orders say the same
    first_shown: Estimate | None  # share of the others that the answer shown first won; null without one


class JudgedLength(TypedDict):
    """What the length of answers did, of pairs that were decided in both orders."""

    longer: Estimate | None  # share of pairs of unequal length that the longer answer won
    first_longer: int  # pairs in which the first one's answer was the longer
    equal: Estimate | None  # share that the first would win of pairs of equal length
    problem: str  # why that can't be told, else empty
