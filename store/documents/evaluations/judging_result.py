"""What the judge job leaves: which of two evaluations' answers a language model prefers, and what their order
and length did."""

from __future__ import annotations

from typing import TypedDict

from store.documents.figures.estimate import Estimate
from store.documents.figures.figure import Figure


class PairCounts(TypedDict):
    """Pairs of answers by how they were judged, each pair being asked in both orders."""

    first: int  # better in both orders
    second: int  # better in both orders
    ties: int
    split: int  # the order decided
    unjudged: int


class JudgingResult(TypedDict):
    """One judging of two evaluations."""

    first: str  # evaluation id
    second: str  # evaluation id
    n: int  # pairs that were to be judged
    figure: Figure  # the share of pairs that the first wins, ties as half
    pairs: PairCounts
    reasons: dict[str, int]  # why pairs could not be judged, and how many
    notices: list[str]
    seconds: float


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
