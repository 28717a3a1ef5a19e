"""What the judge job leaves: which of two evaluations' answers a language model prefers."""

from __future__ import annotations

from typing import TypedDict

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
