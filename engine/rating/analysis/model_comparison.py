"""What a round that compares models comes to: strengths, ranks, whether enough is known, and how many
ratings lack.

Whether enough is known may be asked as often as one likes: the interval holds at every moment (bets on
bounded means, Waudby-Smith and Ramdas 2024), and raters are counted as looks of their own. How many more
ratings it takes is simulated from the fitted model, to one digit. Pure and seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.evaluation.statistics.clustered import MIN_RATERS
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis.comparisons import Comparisons, PairOutcome
from engine.rating.analysis.davidson import compute_probabilities
from engine.rating.analysis.strengths import StrengthDifference, Strengths, Verdict, estimate_strengths
from store.core.formatting import round_significant

# How many more ratings it takes until two systems can be told apart, by simulation of the fitted model.
#
# Rounds are drawn in which the two differ by as much as was fitted, with as many ties, and with ratings
# that say as little each as those of this round did (its interval against that of independent ones).
# Counted is how many ratings it takes until the interval of the difference leaves out zero in 80 of 100
# rounds. The answer is no surer than the difference: it is rounded to one digit. That it would take more
# than `most` says nothing of whether the two are equal: that is said where the whole interval lies within
# EQUAL_WITHIN of one half. Pure and seeded.

DRAWS = 2_000
EQUAL_WITHIN = 0.1  # of decided ratings: two are equal of which each wins 40 to 60%
GROWTH = 1.1  # from one size that is tried to the next

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RatingsNeeded:
    """count: so many more of all systems, rounded; 0: the two are told apart. at_least: more than `count`.
    None where nothing can be said, and `why` says for what reason. equal: by the interval they are as good as
    equal."""

    count: int | None
    at_least: bool = False
    equal: bool = False
    why: str = ""


def estimate_ratings_needed(
    strengths: Strengths, first: str, second: str, *, most: int = 5_000, power: float = 0.8
) -> RatingsNeeded:
    """Until first and second are told apart with that power. Raises ValueError for what was not compared."""
    difference = strengths.difference(first, second)
    if difference.verdict in ("better", "worse"):
        return RatingsNeeded(0)
    at, error = difference.interval, difference.interval.se
    if at.low is None or at.high is None or not error:
        return RatingsNeeded(None, why=at.why or "so far all ratings say the same")
    share = difference.share
    assert share.low is not None
    assert share.high is not None
    equal = share.low >= 0.5 - EQUAL_WITHIN and share.high <= 0.5 + EQUAL_WITHIN
    log_nu = math.log(max(strengths.ties.value, 1e-6))
    shares = compute_probabilities(np.array(at.value), np.array(log_nu))
    beyond = _compute_required_errors(difference, error)
    said_each = (
        _compute_information(shares) * error**2 * strengths.n
    )  # ratings of this round that say as much as one
    size = strengths.n * GROWTH
    while size <= strengths.n + most:
        if _power(shares, size / said_each, beyond) >= power:
            return RatingsNeeded(int(round_significant(size - strengths.n, 1)), equal=equal)
        size *= GROWTH
    return RatingsNeeded(most, at_least=True, equal=equal)


def _compute_information(shares: Floats) -> float:
    """Of one rating of the two, about the difference of their log strengths (nu known, which costs
    little)."""
    lead, decided = float(shares[0] - shares[1]), float(shares[0] + shares[1])
    return (decided - lead * lead) / 4


def _compute_required_errors(difference: StrengthDifference, error: float) -> float:
    """How many standard errors the nearer limit of the interval lies away: what must be exceeded."""
    at = difference.interval
    assert at.low is not None
    assert at.high is not None
    z = float(special.ndtri(0.975))
    return max(z, (at.high - at.low) / 2 / error)


def _power(shares: Floats, votes: float, beyond: float) -> float:
    """How often so many independent votes tell the two apart."""
    random = np.random.default_rng(0)
    counts = random.multinomial(max(1, round(votes)), shares, DRAWS) + 0.5
    apart = np.log(counts[:, 0] / counts[:, 1])
    error = np.sqrt(1 / counts[:, 0] + 1 / counts[:, 1])
    return float((np.abs(apart) > beyond * error).mean())


# Whether enough is known, asked as often as one likes.
#
# An interval that is looked at until it excludes zero always does in the end. This one holds at every
# moment (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"): for each
# mean that might be true a gambler bets against it, item by item, with stakes set by the items before; were
# it true, the capital would rise to 1 / alpha with a chance of alpha at most, in all eternity, so that what
# it rises to is ruled out for ever. The unit is an item: the mean of its ratings of two systems, 1 for a
# win of the first, -1 for one of the second, 0 for a tie, once it has as many as every item is to have.
# Items must come in an order that does not depend on their answers. Many pairs share alpha.
#
# That bet knows of no raters, who come one after another and lean each their own way, and of no change: on
# the first rater's items alone it would say what the others then deny. So raters are counted too, one vote
# each: the mean of their means must leave out zero by Student's t, at a level that each further rater has a
# part of, as each is another look. The interval is what both leave open. With under MIN_RATERS of them,
# before half of the round, where the preference moves with time or the later half of the items does not
# bear it out, or where the round's own verdict does not say the same, there is none and no end. Pure.

GRIDS = (41, 401)  # means that are bet against at first, the more where all of the fewer are ruled out
HALVINGS = 8
MAX_STAKE = 0.5  # of the capital, at worst
STEPS = 1_000_000  # item times mean held at a time
TREND_ERRORS = (
    1.645  # standard errors of the correlation with time, from which on the preference is said to move
)
CONFIRMED_ERRORS = 2.33  # standard errors that the mean of the later half lies on the same side of zero

PREFERENCE_CHANGED = "the preference has changed in the course of the round"

PeekState = Literal["first", "second", "go_on", "none"]


@dataclass(frozen=True)
class Peek:
    """How two systems stand by now. interval: mean preference for the first, -1 to 1, over `items` items;
    state: which one is known to be preferred, which is where the interval leaves out 0. waiting: items that
    still lack ratings. pairs: how many are watched."""

    first: str
    second: str
    interval: Interval
    state: PeekState
    items: int
    waiting: int
    pairs: int


def peek(
    comparisons: Comparisons,
    first: str,
    second: str,
    *,
    overlap: int = 1,
    pairs: int = 1,
    planned: int | None = None,
    verdict: Verdict | None = None,
    confidence: float = 0.95,
) -> Peek:
    """At two systems, of which each item is to have `overlap` ratings. planned: items of the round, where
    known; verdict: of the first in the round's strengths, which an end must not contradict. Raises ValueError
    for none of the systems."""
    place = comparisons.place_of(first)
    chosen = comparisons.of_pair(place, comparisons.place_of(second)) & comparisons.counted
    rated = comparisons.take(chosen)
    scores, waiting = compute_item_scores(rated, place, overlap)
    at = _combine_intervals(rated, place, scores, 1 - (1 - confidence) / pairs)
    at = _withhold_limits(at, scores, planned, verdict)
    state: PeekState = "first" if at.above else "second" if at.below else "go_on" if len(scores) else "none"
    return Peek(first, second, at, state, len(scores), waiting, pairs)


def peek_all(
    comparisons: Comparisons,
    fitted: Strengths,
    *,
    overlap: int = 1,
    planned: int | None = None,
    confidence: float = 0.95,
) -> list[Peek]:
    """At all pairs that were compared at all, which share alpha with those that may yet be. fitted: of the
    same comparisons."""
    names, counted = comparisons.systems, comparisons.take(comparisons.counted)
    if not len(counted):
        return []
    pair = counted.lower * len(names) + counted.upper
    order = np.argsort(pair, kind="stable")
    met, starts = np.unique(pair[order], return_index=True)
    peeks = []
    for place, rows in zip(met.tolist(), np.split(order, starts[1:]), strict=True):
        first, second = names[place // len(names)], names[place % len(names)]
        peeks.append(
            peek(
                counted.take(rows), first, second, overlap=overlap, pairs=len(fitted.differences),
                planned=planned, verdict=fitted.difference(first, second).verdict, confidence=confidence,
            )
        )  # fmt: skip
    return [seen for seen in peeks if seen.items or seen.waiting]


def _combine_intervals(rated: Comparisons, first: int, scores: Floats, confidence: float) -> Interval:
    """What the items and what the raters leave open, together; none where an end could not be told."""
    count, mean = len(scores), float(scores.mean()) if len(scores) else math.nan
    if count and (why := _explain_undecided(rated, scores)):
        return Interval(mean, None, None, count, why=why)
    at = compute_always_valid_interval(scores, confidence=confidence)
    if at.low is None or at.high is None:
        return at
    low, high = _compute_rater_limits(rated, first, 1 - confidence)
    return replace(at, low=min(at.low, low), high=max(at.high, high))


def _explain_undecided(rated: Comparisons, scores: Floats) -> str:
    """Why these raters, or this course, can't end a round; empty where they can."""
    raters = len(np.unique(rated.rater))
    if raters < MIN_RATERS:
        few = "1 rater is" if raters == 1 else f"{raters} raters are"
        others = f"as others may prefer otherwise (from {MIN_RATERS} on)"
        return f"{few} too few to say that enough is known, {others}"
    return PREFERENCE_CHANGED if _has_trend(scores) else ""


def _compute_rater_limits(rated: Comparisons, first: int, alpha: float) -> tuple[float, float]:
    """Limits of the mean of raters' mean preferences. With each further rater it is looked at anew: of alpha
    the first look takes a half, the next a sixth, then a twelfth."""
    signs = np.where(rated.left == first, rated.signs, -rated.signs)
    sound = rated.outcome != PairOutcome.BOTH_BAD
    _, place = np.unique(rated.rater[sound], return_inverse=True)
    means = np.bincount(place, signs[sound]) / np.bincount(place)
    count = len(means)
    if count < MIN_RATERS:
        return -1.0, 1.0
    look = count - MIN_RATERS + 1
    quantile = float(special.stdtrit(count - 1, 1 - alpha / (look * (look + 1)) / 2))
    half = quantile * float(means.std(ddof=1)) / math.sqrt(count)
    return max(-1.0, float(means.mean()) - half), min(1.0, float(means.mean()) + half)


def _has_trend(scores: Floats) -> bool:
    """Whether the preference goes with time, up or down."""
    if len(scores) < 3 or np.ptp(scores) == 0:
        return False
    correlation = float(np.corrcoef(scores, np.arange(len(scores)))[0, 1])
    return abs(correlation) * math.sqrt(len(scores)) > TREND_ERRORS


def _withhold_limits(at: Interval, scores: Floats, planned: int | None, verdict: Verdict | None) -> Interval:
    """Without limits where they would end a round that has hardly begun, of which the later half of the items
    does not bear it out, or whose own verdict does not say so."""
    if not (at.above or at.below):
        return at
    why, later = "", scores[len(scores) // 2 :]
    error = float(later.std()) / math.sqrt(len(later))
    if planned is not None and 2 * len(scores) < planned:
        why = f"half of the {planned:,} items are to be rated first, as tastes may change"
    elif float(later.mean()) * (1 if at.above else -1) <= CONFIRMED_ERRORS * error:
        why = "the later half of the items does not bear out the earlier one"
    elif verdict is not None and verdict != ("better" if at.above else "worse"):
        why = "by strengths, over items and raters, the two show no clear difference yet"
    return replace(at, low=None, high=None, why=why) if why else at


def compute_item_scores(comparisons: Comparisons, first: int, overlap: int) -> tuple[Floats, int]:
    """The preference for `first` of each item that has its ratings, in the order in which they were complete,
    and how many items are not yet. Later ratings of a complete item are not counted, nor are items of which
    all ratings say that both are bad."""
    signs = np.where(comparisons.left == first, comparisons.signs, -comparisons.signs)
    ratings: dict[int, list[float]] = {}
    complete: list[float] = []
    bad = comparisons.outcome == PairOutcome.BOTH_BAD
    for item, sign, neither in zip(comparisons.item.tolist(), signs.tolist(), bad.tolist(), strict=True):
        of_item = ratings.setdefault(item, [])
        if len(of_item) >= overlap:
            continue
        of_item.append(math.nan if neither else sign)
        if len(of_item) == overlap and not np.isnan(of_item).all():
            complete.append(float(np.nanmean(of_item)))
    return np.array(complete), sum(len(of_item) < overlap for of_item in ratings.values())


def compute_always_valid_interval(scores: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The mean of values from -1 to 1, with an interval that holds at every moment with that confidence.

    Raises ValueError for a value outside."""
    values = np.asarray(scores, np.float64)
    n = len(values)
    if n and not (np.abs(values) <= 1).all():
        raise ValueError("scores: each must lie within -1 and 1.")
    if not n:
        return Interval(math.nan, None, None, 0, why="no item has its ratings yet")
    unit = (values + 1) / 2
    stakes = _compute_stakes(unit, 1 - confidence)
    ruled_out = math.log(2 / (1 - confidence))

    def alive(means: Floats) -> NDArray[np.bool_]:
        return _compute_capital(unit, stakes, means) < ruled_out

    value, ends = float(values.mean()), _find_limits(alive)
    if ends is None:
        return Interval(value, None, None, n, why=PREFERENCE_CHANGED)
    low, high = (2 * end - 1 for end in ends)
    if not low <= value <= high:  # what was ruled out early is what it looks like now
        return Interval(value, None, None, n, why=PREFERENCE_CHANGED)
    return Interval(value, low, high, n)


def _find_limits(alive: Callable[[Floats], NDArray[np.bool_]]) -> tuple[float, float] | None:
    """The outermost means that are not ruled out, looked for on a grid and then by halving; None where all
    are. Each end is one that is ruled out."""
    for points in GRIDS:
        means = np.linspace(0, 1, points)
        places = np.flatnonzero(alive(means))
        if len(places):
            break
    else:
        return None
    inside = means[[places[0], places[-1]]]
    outside = means[[max(places[0] - 1, 0), min(places[-1] + 1, points - 1)]]
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        lives = alive(middle)
        inside, outside = np.where(lives, middle, inside), np.where(lives, outside, middle)
    return float(outside[0]), float(outside[1])


def _compute_stakes(unit: Floats, alpha: float) -> Floats:
    """What is bet on each item, from the items before it: the predictable plug-in of the empirical Bernstein
    bound."""
    n = len(unit)
    every = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(unit)) / (every + 1)
    spread = (0.25 + np.cumsum((unit - means) ** 2)) / (every + 1)
    before = np.append(0.25, spread[:-1])
    stakes: Floats = np.sqrt(2 * math.log(2 / alpha) / (before * every * np.log(1 + every)))
    return stakes


def _compute_capital(unit: Floats, stakes: Floats, means: Floats) -> Floats:
    """The largest logarithm that the capital of either gambler reached against each mean."""
    largest = np.empty(len(means))
    at_once = max(1, STEPS // len(unit))
    for start in range(0, len(means), at_once):
        some = means[start : start + at_once]
        off = unit[:, None] - some
        with np.errstate(divide="ignore"):
            up = np.minimum(stakes[:, None], MAX_STAKE / some)
            down = np.minimum(stakes[:, None], MAX_STAKE / (1 - some))
        rising = np.cumsum(np.log1p(up * off), axis=0)
        falling = np.cumsum(np.log1p(-down * off), axis=0)
        largest[start : start + at_once] = np.logaddexp(rising, falling).max(axis=0)
    return largest


MAX_PAIRS = 12  # of systems, or raters, that are told one by one; the others are counted

PeekPolicy = Literal["all", "best", "none"]


class ModelComparison(NamedTuple):
    """plain: strengths; equal: with length and formatting held equal; more: ratings until the best two are
    told apart; peeks: what may be looked at any time."""

    plain: Strengths
    equal: Strengths | None
    more: RatingsNeeded | None
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
    comparisons: Comparisons, *, looks: PeekPolicy = "none", overlap: int = 1, planned: int | None = None
) -> ModelComparison | None:
    """None where nothing was said. looks: at which pairs to look for an end of the round, all or the best
    two; `overlap` ratings of each of `planned` items end it."""
    if not len(comparisons):
        return None
    names = comparisons.covariates
    with ThreadPoolExecutor(1) as beside:  # of tens of thousands of ratings either takes most of a second
        held_equal = beside.submit(estimate_strengths, comparisons, covariates=names) if names else None
        fitted = estimate_strengths(comparisons)
        equal = held_equal.result() if held_equal else None
    best = find_best_two(fitted)
    more, peeks = None, []
    if best is not None and best.verdict == "unclear":
        more = estimate_ratings_needed(fitted, best.first, best.second)
    if looks == "all":
        peeks = peek_all(comparisons, fitted, overlap=overlap, planned=planned)
    elif looks == "best" and best is not None:
        seen = peek(
            comparisons, best.first, best.second, overlap=overlap, pairs=len(fitted.differences),
            planned=planned, verdict=best.verdict,
        )  # fmt: skip
        peeks = [seen] if seen.items or seen.waiting else []
    return ModelComparison(fitted, equal, more, peeks)


def find_best_two(fitted: Strengths) -> StrengthDifference | None:
    """The difference of the two that come first; None of one alone."""
    if len(fitted.order) < 2:
        return None
    return fitted.difference(*(fitted.systems[place] for place in fitted.order[:2]))


def rank_systems(fitted: Strengths) -> list[RankedSystem]:
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
            name, 1 + better[name], count - worse[name], _convert_to_share(fitted.strengths[place]), met[name]
        )
        for place in fitted.order
        for name in [fitted.systems[place]]
    ]


def _convert_to_share(at: Interval) -> Interval:
    """Of decided ratings, from log odds; a side without a limit ends at 0 or 1."""
    low, high = (None if end is None else float(special.expit(end)) for end in (at.low, at.high))
    if not at.why:
        low, high = 0.0 if low is None else low, 1.0 if high is None else high
    return replace(at, value=float(special.expit(at.value)), low=low, high=high, se=None)
