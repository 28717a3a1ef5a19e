"""What a round that compares comes to: strengths, with and without length and formatting held equal, how many
more ratings tell the best apart, whether enough is known, and which rank each system may have. Pure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, NamedTuple

from scipy import special

from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.systems.planning import MoreRatings, more_ratings
from engine.diagnostics.rating.systems.sequential import Peek, peek, peek_all
from engine.diagnostics.rating.systems.strengths import StrengthDifference, Strengths, strengths
from engine.diagnostics.statistics.statistics import Interval

MAX_PAIRS = 12  # of systems, or raters, that are told one by one; the others are counted

Looks = Literal["all", "best", "none"]


class Comparing(NamedTuple):
    """plain: strengths; equal: with length and formatting held equal; more: ratings until the best two are
    told apart; peeks: what may be looked at any time."""

    plain: Strengths
    equal: Strengths | None
    more: MoreRatings | None
    peeks: list[Peek]


class RankedSystem(NamedTuple):
    """best, worst: the ranks that it may have, 1 being the best, as so many others are surely better, and so
    many surely worse; all hold at once, as differences do. share: of decided ratings that it would win
    against the mean of the systems that it was compared with. n: its comparisons."""

    name: str
    best: int
    worst: int
    share: Interval
    n: int


def compare(
    comparisons: Comparisons, *, looks: Looks = "none", overlap: int = 1, planned: int | None = None
) -> Comparing | None:
    """None where nothing was said. looks: at which pairs to look for an end of the round, all or the best
    two; `overlap` ratings of each of `planned` items end it."""
    if not len(comparisons):
        return None
    names = comparisons.covariates
    with ThreadPoolExecutor(1) as beside:  # of tens of thousands of ratings either takes most of a second
        held_equal = beside.submit(strengths, comparisons, covariates=names) if names else None
        fitted = strengths(comparisons)
        equal = held_equal.result() if held_equal else None
    best = best_two(fitted)
    more, peeks = None, []
    if best is not None and best.verdict == "unclear":
        more = more_ratings(fitted, best.first, best.second)
    if looks == "all":
        peeks = peek_all(comparisons, fitted, overlap=overlap, planned=planned)
    elif looks == "best" and best is not None:
        seen = peek(
            comparisons, best.first, best.second, overlap=overlap, pairs=len(fitted.differences),
            planned=planned, verdict=best.verdict,
        )  # fmt: skip
        peeks = [seen] if seen.items or seen.waiting else []
    return Comparing(fitted, equal, more, peeks)


def best_two(fitted: Strengths) -> StrengthDifference | None:
    """The difference of the two that come first; None of one alone."""
    if len(fitted.order) < 2:
        return None
    return fitted.difference(*(fitted.systems[place] for place in fitted.order[:2]))


def ranking(fitted: Strengths) -> list[RankedSystem]:
    """The strongest first. Among systems that can't be compared each may have any rank."""
    better, worse, met = (dict.fromkeys(fitted.systems, 0) for _ in range(3))
    for pair in fitted.differences:
        met[pair.first] += pair.direct
        met[pair.second] += pair.direct
        if pair.verdict in ("better", "worse"):
            above, below = (pair.first, pair.second)[:: 1 if pair.verdict == "better" else -1]
            better[below] += 1
            worse[above] += 1
    count = len(fitted.systems)
    return [
        RankedSystem(
            name, 1 + better[name], count - worse[name], _as_share(fitted.strengths[place]), met[name]
        )
        for place in fitted.order
        for name in [fitted.systems[place]]
    ]


def _as_share(at: Interval) -> Interval:
    """Of decided ratings, from log odds; a side without a limit ends at 0 or 1."""
    low, high = (None if end is None else float(special.expit(end)) for end in (at.low, at.high))
    if not at.why:
        low, high = 0.0 if low is None else low, 1.0 if high is None else high
    return replace(at, value=float(special.expit(at.value)), low=low, high=high, se=None)
