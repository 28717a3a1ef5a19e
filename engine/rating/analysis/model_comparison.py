"""Model comparison of a round: strengths, ranks, early stopping, and the number of ratings still needed.

The early-stopping interval can be checked any number of times: it is valid at every moment (betting on
bounded means, Waudby-Smith and Ramdas 2024), and each new rater counts as another look. The number of
ratings needed is simulated from the fitted model, to one significant digit. Pure and seeded.
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
from engine.rating.analysis import reasons_text
from engine.rating.analysis.comparisons import Comparisons, PairOutcome
from engine.rating.analysis.davidson import compute_probabilities
from engine.rating.analysis.strengths import StrengthDifference, Strengths, Verdict, estimate_strengths
from store.core.formatting import round_significant

# Ratings needed are simulated from the fitted model: rounds are drawn with the fitted difference and share of
# ties, and with the information per rating of this round (its interval compared with that of independent
# ratings). The result is the number of ratings until the interval of the difference excludes zero in 80 of
# 100 rounds. It is no more certain than the difference and is rounded to one digit. Needing more than `most`
# doesn't imply that the two are equal: they are called equal if the whole interval lies within EQUAL_WITHIN
# of one half.

DRAWS = 2_000
EQUAL_WITHIN = 0.1  # two systems are equal if each wins 40 to 60% of decided ratings
GROWTH = 1.1  # factor between the sizes tried

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RatingsNeeded:
    """Number of further ratings needed to separate two systems.

    count: further ratings of all systems, rounded; 0 if the two are already separated, None if it can't be
    estimated (see `why`). at_least: more than `count` are needed. equal: by the interval, the two are
    practically equal.
    """

    count: int | None
    at_least: bool = False
    equal: bool = False
    why: str = ""


def estimate_ratings_needed(
    strengths: Strengths, first: str, second: str, *, most: int = 5_000, power: float = 0.8
) -> RatingsNeeded:
    """Estimate the number of ratings until `first` and `second` are separated with the given power.

    Raises ValueError for systems that were not compared.
    """
    difference = strengths.difference(first, second)
    if difference.verdict in ("better", "worse"):
        return RatingsNeeded(0)
    at, error = difference.interval, difference.interval.se
    if at.low is None or at.high is None or not error:
        return RatingsNeeded(None, why=at.why or reasons_text.ALL_EQUAL)
    share = difference.share
    assert share.low is not None
    assert share.high is not None
    equal = share.low >= 0.5 - EQUAL_WITHIN and share.high <= 0.5 + EQUAL_WITHIN
    log_nu = math.log(max(strengths.ties.value, 1e-6))
    shares = compute_probabilities(np.array(at.value), np.array(log_nu))
    beyond = _compute_required_errors(difference, error)
    said_each = (
        _compute_information(shares) * error**2 * strengths.n
    )  # ratings of this round per independent rating
    size = strengths.n * GROWTH
    while size <= strengths.n + most:
        if _power(shares, size / said_each, beyond) >= power:
            return RatingsNeeded(int(round_significant(size - strengths.n, 1)), equal=equal)
        size *= GROWTH
    return RatingsNeeded(most, at_least=True, equal=equal)


def _compute_information(shares: Floats) -> float:
    """Return the information of one rating about the difference of the two log strengths (nu is treated as
    known, which costs little).
    """
    lead, decided = float(shares[0] - shares[1]), float(shares[0] + shares[1])
    return (decided - lead * lead) / 4


def _compute_required_errors(difference: StrengthDifference, error: float) -> float:
    """Return how many standard errors a difference must exceed: the interval's half-width in standard errors,
    at least the normal quantile.
    """
    at = difference.interval
    assert at.low is not None
    assert at.high is not None
    z = float(special.ndtri(0.975))
    return max(z, (at.high - at.low) / 2 / error)


def _power(shares: Floats, votes: float, beyond: float) -> float:
    """Return how often this many independent votes separate the two."""
    random = np.random.default_rng(0)
    counts = random.multinomial(max(1, round(votes)), shares, DRAWS) + 0.5
    apart = np.log(counts[:, 0] / counts[:, 1])
    error = np.sqrt(1 / counts[:, 0] + 1 / counts[:, 1])
    return float((np.abs(apart) > beyond * error).mean())


# Early stopping. A fixed-size interval that is checked repeatedly always excludes zero in the end. This one
# is valid at every moment (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
# betting"): for each candidate mean, a bettor bets against it, item by item, with stakes set by the items
# before. If the mean were true, the capital would ever reach 1 / alpha with probability alpha at most, so a
# mean against which it does is ruled out for good. The unit is an item with all of its ratings of two
# systems: the mean of 1 for a win of the first, -1 for a win of the second, 0 for a tie. Items must come in
# an order that does not depend on their answers. Pairs share alpha.
#
# The bet doesn't model raters, who arrive one after another with different preferences, or change over time:
# it could stop on the first rater's items alone, and later raters would contradict it. So raters are tested
# too, with one vote each: the mean of their means must exclude zero by Student's t, at a level that is split
# over further raters, as each is another look. The interval covers both uncertainties. There is no interval
# and no stop with fewer than MIN_RATERS raters, before half of the round, where the preference changes with
# time, where the later half of the items doesn't confirm it, or where the round's verdict differs.

GRIDS = (41, 401)  # candidate means; the finer grid is used if the coarse one is ruled out
HALVINGS = 8
MAX_STAKE = 0.5  # largest fraction of the capital that can be lost on an item
STEPS = 1_000_000  # item-mean pairs held in memory at once
TREND_ERRORS = 1.645  # standard errors of the correlation with time above which the preference has a trend
CONFIRMED_ERRORS = 2.33  # standard errors by which the later half's mean must be on the same side


PeekState = Literal["first", "second", "go_on", "none"]


@dataclass(frozen=True)
class Peek:
    """Interim result of two systems.

    interval: mean preference for the first, -1 to 1, over `items` items. state: the system known to be
    preferred, if the interval excludes 0. waiting: items that still need ratings. pairs: number of pairs
    watched.
    """

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
    """Return the interim result of two systems, where each item is to have `overlap` ratings.

    planned: number of items of the round, if known. verdict: verdict on the first system by the round's
    strengths, which a stop must not contradict. Raises ValueError for an unknown system.
    """
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
    """Return the interim results of all pairs that were compared.

    Alpha is shared among all pairs, including those not yet compared. `fitted` are the strengths of the
    same comparisons.
    """
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
    """Combine the uncertainty over items and over raters into one interval, without limits if the round can't
    be stopped.
    """
    count, mean = len(scores), float(scores.mean()) if len(scores) else math.nan
    if count and (why := _explain_undecided(rated, scores)):
        return Interval(mean, None, None, count, why=why)
    at = compute_always_valid_interval(scores, confidence=confidence)
    if at.low is None or at.high is None:
        return at
    low, high = _compute_rater_limits(rated, first, 1 - confidence)
    return replace(at, low=min(at.low, low), high=max(at.high, high))


def _explain_undecided(rated: Comparisons, scores: Floats) -> str:
    """Return why these raters or the trend of scores don't allow stopping; an empty string if they do."""
    raters = len(np.unique(rated.rater))
    if raters < MIN_RATERS:
        return reasons_text.explain_few_raters(raters, MIN_RATERS)
    return reasons_text.PREFERENCE_CHANGED if _has_trend(scores) else ""


def _compute_rater_limits(rated: Comparisons, first: int, alpha: float) -> tuple[float, float]:
    """Return the limits of the mean of raters' mean preferences.

    Each further rater is another look: the first look spends half of alpha, the next a sixth, then a
    twelfth.
    """
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
    """Return whether the preference changes with time."""
    if len(scores) < 3 or np.ptp(scores) == 0:
        return False
    correlation = float(np.corrcoef(scores, np.arange(len(scores)))[0, 1])
    return abs(correlation) * math.sqrt(len(scores)) > TREND_ERRORS


def _withhold_limits(at: Interval, scores: Floats, planned: int | None, verdict: Verdict | None) -> Interval:
    """Remove the limits if they would stop a round too early, if the later half of the items doesn't confirm
    them, or if the verdict by strengths differs.
    """
    if not (at.above or at.below):
        return at
    why, later = "", scores[len(scores) // 2 :]
    error = float(later.std()) / math.sqrt(len(later))
    if planned is not None and 2 * len(scores) < planned:
        why = reasons_text.explain_early_round(planned)
    elif float(later.mean()) * (1 if at.above else -1) <= CONFIRMED_ERRORS * error:
        why = reasons_text.NOT_CONFIRMED
    elif verdict is not None and verdict != ("better" if at.above else "worse"):
        why = reasons_text.NOT_BY_STRENGTHS
    return replace(at, low=None, high=None, why=why) if why else at


def compute_item_scores(comparisons: Comparisons, first: int, overlap: int) -> tuple[Floats, int]:
    """Return the preference for `first` of each complete item, in order of completion, and the number of
    incomplete items.

    An item is complete once it has `overlap` ratings; later ratings are ignored. Complete items whose
    ratings all say "both bad" are left out.
    """
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
    """Return the mean of values from -1 to 1 with an interval that is valid at every moment at that
    confidence.

    Raises ValueError for values out of range.
    """
    values = np.asarray(scores, np.float64)
    n = len(values)
    if n and not (np.abs(values) <= 1).all():
        raise ValueError("scores: each must be between -1 and 1.")
    if not n:
        return Interval(math.nan, None, None, 0, why=reasons_text.NOT_RATED_YET)
    unit = (values + 1) / 2
    stakes = _compute_stakes(unit, 1 - confidence)
    ruled_out = math.log(2 / (1 - confidence))

    def alive(means: Floats) -> NDArray[np.bool_]:
        return _compute_capital(unit, stakes, means) < ruled_out

    value, ends = float(values.mean()), _find_limits(alive)
    if ends is None:
        return Interval(value, None, None, n, why=reasons_text.PREFERENCE_CHANGED)
    low, high = (2 * end - 1 for end in ends)
    if not low <= value <= high:  # the current mean was ruled out earlier
        return Interval(value, None, None, n, why=reasons_text.PREFERENCE_CHANGED)
    return Interval(value, low, high, n)


def _find_limits(alive: Callable[[Floats], NDArray[np.bool_]]) -> tuple[float, float] | None:
    """Return the outermost means that aren't ruled out, by grid search and bisection; None if all are ruled
    out.

    Each limit is rounded outward to a mean that is ruled out.
    """
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
    """Return the stake on each item, from the items before it: the predictable plug-in of the empirical
    Bernstein bound.
    """
    n = len(unit)
    every = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(unit)) / (every + 1)
    spread = (0.25 + np.cumsum((unit - means) ** 2)) / (every + 1)
    before = np.append(0.25, spread[:-1])
    stakes: Floats = np.sqrt(2 * math.log(2 / alpha) / (before * every * np.log(1 + every)))
    return stakes


def _compute_capital(unit: Floats, stakes: Floats, means: Floats) -> Floats:
    """Return the largest log capital that the two bettors together reached against each mean."""
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


MAX_PAIRS = 12  # pairs of systems or raters listed individually; the others are counted

PeekPolicy = Literal["all", "best", "none"]


class ModelComparison(NamedTuple):
    """Comparison of a round's models.

    plain: strengths. equal: strengths adjusted for length and formatting. more: ratings until the best two
    are separated. peeks: interim results, valid at any time.
    """

    plain: Strengths
    equal: Strengths | None
    more: RatingsNeeded | None
    peeks: list[Peek]


class RankedSystem(NamedTuple):
    """Rank of a system.

    best, worst: the range of ranks it may have, 1 being the best, by the number of systems that are
    significantly better and significantly worse; simultaneous for all systems, as the differences are.
    share: share of decided ratings it would win against the mean of the systems it was compared with. n:
    its number of comparisons.
    """

    name: str
    best: int
    worst: int
    share: Interval
    n: int


def compare(
    comparisons: Comparisons, *, looks: PeekPolicy = "none", overlap: int = 1, planned: int | None = None
) -> ModelComparison | None:
    """Compare the models of a round; return None without comparisons.

    `looks` selects the pairs checked for early stopping: all or the best two. `overlap` ratings of each of
    the `planned` items complete the round.
    """
    if not len(comparisons):
        return None
    names = comparisons.covariates
    with ThreadPoolExecutor(1) as beside:  # with tens of thousands of ratings, each fit takes almost a second
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
    """Return the difference between the top two systems, or None for a single system."""
    if len(fitted.order) < 2:
        return None
    return fitted.difference(*(fitted.systems[place] for place in fitted.order[:2]))


def rank_systems(fitted: Strengths) -> list[RankedSystem]:
    """Rank the systems, strongest first. Systems that can't be compared may each have any rank."""
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
    """Convert log odds to the share of decided ratings; an unbounded side ends at 0 or 1."""
    low, high = (None if end is None else float(special.expit(end)) for end in (at.low, at.high))
    if not at.why:
        low, high = 0.0 if low is None else low, 1.0 if high is None else high
    return replace(at, value=float(special.expit(at.value)), low=low, high=high, se=None)
