"""Two versions side by side: is the one better or worse than the other, however often one looks?

Callers are what is dealt by chance and what is independent: requests of one are like each other, and some
send a hundred times as many as others. So a caller counts once, with the share of its answers that were good.
The question is asked again whenever there are half as many answers more as at the last look (a number that
has nothing to do with which version is better), and each look spends a part of alpha. What is asked is exact:
were both versions alike to every caller, any other dealing of callers would have been as likely, so that the
difference is ranked among those of random dealings (a permutation test; Fisher 1935). Of answers to copies of
the same requests each caller has a difference, whose sign would be as likely the other way. A look at
which not even the clearest difference could be told spends nothing.

The interval is Wilson's of each version, at as many callers as would be as sure had each but one answer, put
together as Newcombe's and at the alpha of the look; where the test and the interval part, the test decides.
In simulations (`bench/truths/monitoring/arms.py`) it holds at all looks together. Pure and seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.statistics import Interval

GRID = 4096  # parts of 1 to which a caller's share is rounded, so that a failure in a thousand is one
AT_ONCE = 10_000  # draws that are held in memory
FIRST_LOOK = 20  # answers
GROWTH = 1.5
FIRST_DRAWS, LEAST_DRAWS, MOST_DRAWS = 1_000, 20_000, 100_000
DRAWS_OF_ALPHA = 10  # that a p-value of alpha rests on
COMMON = 0.04  # a p-value of the first draws that needs no more of them

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Callers = Mapping[int, int]  # a caller's share of good answers in parts of GRID -> how many callers have it


@dataclass(frozen=True)
class Look:
    """One look. difference: the second less the first; p: of its being luck; alpha: that this look spends;
    attainable: with so few callers something can be told at all."""

    first: float
    second: float
    first_callers: int
    second_callers: int
    difference: Interval
    p: float
    alpha: float
    attainable: bool

    @property
    def better(self) -> bool:
        """The second is surely better."""
        return self.p <= self.alpha and self.difference.value > 0

    @property
    def worse(self) -> bool:
        return self.p <= self.alpha and self.difference.value < 0


def next_look(answers: int) -> int:
    """The number of answers at which is looked again, after a look at so many."""
    return max(FIRST_LOOK, math.ceil(GROWTH * answers))


def alpha_of(look: int, alpha: float) -> float:
    """What the look of that number, from 1 on, may spend; all looks together spend alpha."""
    return 3 * alpha / ((look + 2) * (look + 3))


def compare(first: Callers, second: Callers, look: int, alpha: float) -> Look:
    """Callers of two versions, each dealt to one of them by chance. `look`: the number of this one."""
    spent, n, m = alpha_of(look, alpha), sum(first.values()), sum(second.values())
    if not n or not m:
        nothing = Interval(math.nan, None, None, n + m, why="nothing is known of answers of one of them")
        return Look(_mean(first), _mean(second), n, m, nothing, 1.0, spent, attainable=False)
    places = sorted({*first, *second})
    values = np.array(places, float) / GRID
    counts = np.array([[side.get(place, 0) for place in places] for side in (first, second)], np.int64)
    p = _p_value(lambda random, draws: _dealt(values, counts, random, draws), spent, int(n + m))
    of_first, of_second = (of_callers(values, side, 1 - spent) for side in counts)
    change = _as_told(combined.difference(of_second, of_first), p <= spent)
    attainable = 2 * math.exp(-_log_dealings(n, m)) <= spent
    return Look(of_first.value, of_second.value, n, m, change, p, spent, attainable)


def compare_pairs(differences: Callers, look: int, alpha: float) -> Look:
    """Callers who have answers of both versions to the same requests: how many have which mean difference (in
    parts of GRID, the second less the first)."""
    spent, n = alpha_of(look, alpha), sum(differences.values())
    if not n:
        nothing = Interval(math.nan, None, None, 0, why="no request has answers of both and a label")
        return Look(math.nan, math.nan, 0, 0, nothing, 1.0, spent, attainable=False)
    values, counts = np.array([*differences], float) / GRID, np.array([*differences.values()], np.int64)
    p = _p_value(lambda random, draws: _turned(values, counts, random, draws), spent, n)
    half = of_callers((values + 1) / 2, counts, 1 - spent)  # from 0 to 1
    assert half.low is not None
    assert half.high is not None
    change = Interval(2 * half.value - 1, 2 * half.low - 1, 2 * half.high - 1, n)
    moved = n - differences.get(0, 0)
    return Look(
        math.nan, math.nan, n, n, _as_told(change, p <= spent), p, spent, attainable=2 * 0.5**moved <= spent
    )


def _as_told(change: Interval, sure: bool) -> Interval:
    """Without 0 where the test rules it out, and with it where it doesn't."""
    assert change.low is not None
    assert change.high is not None
    if not sure:
        return replace(change, low=min(change.low, 0.0), high=max(change.high, 0.0))
    if change.value > 0:
        return replace(change, low=max(change.low, 0.0))
    return replace(change, high=min(change.high, 0.0))


Draw = Callable[[np.random.Generator, int], tuple[Floats, float]]  # by luck alone, and what was seen


def _p_value(draw: Draw, alpha: float, n: int) -> float:
    """Two-sided. What was seen is one of the draws, so that it is never 0 (Phipson and Smyth 2010)."""
    random, p = np.random.default_rng(n), 1.0
    most = int(min(MOST_DRAWS, max(LEAST_DRAWS, DRAWS_OF_ALPHA / alpha)))
    for draws in (FIRST_DRAWS, most):
        drawn, seen = draw(random, draws)
        slack = 1e-9 * max(1.0, abs(seen))
        extreme = min((drawn >= seen - slack).sum(), (drawn <= seen + slack).sum())
        p = float(min(1.0, 2 * (1 + extreme) / (1 + draws)))
        if p > COMMON:
            break
    return p


def _dealt(values: Floats, counts: Counts, random: np.random.Generator, draws: int) -> tuple[Floats, float]:
    """Sums of the second version's callers, with all callers dealt anew."""
    m, both = int(counts[1].sum()), counts.sum(axis=0)
    drawn = [
        random.multivariate_hypergeometric(both, m, size=size, method="marginals") @ values
        for size in _parts(draws)
    ]
    return np.concatenate(drawn), float(counts[1] @ values)


def _turned(values: Floats, counts: Counts, random: np.random.Generator, draws: int) -> tuple[Floats, float]:
    """Sums of differences, with every caller's two versions taken for each other or not."""
    sizes = np.abs(values)
    drawn = [
        (2 * random.binomial(counts, 0.5, size=(size, len(counts))) - counts) @ sizes
        for size in _parts(draws)
    ]
    return np.concatenate(drawn), float(counts @ values)


def _parts(draws: int) -> list[int]:
    return [min(AT_ONCE, draws - done) for done in range(0, draws, AT_ONCE)]


def of_callers(values: Floats, counts: Counts, confidence: float) -> Interval:
    """The mean of values from 0 to 1, with Wilson's interval at as many callers as would be as sure had each
    but one answer: values that lie close together say more than right and wrong. The spread is taken with
    one more caller at either end, as few callers hardly show it."""
    n = int(counts.sum())
    mean = float(values @ counts / n)
    with_two = (mean * n + 1) / (n + 2)
    spread = float(counts @ np.square(values - with_two) + (1 - with_two) ** 2 + with_two**2) / (n + 1)
    effective = n * max(1.0, with_two * (1 - with_two) / spread)
    z = float(special.ndtri((1 + confidence) / 2))
    scale = 1 + z * z / effective
    centre = (mean + z * z / (2 * effective)) / scale
    half = z / scale * math.sqrt(mean * (1 - mean) / effective + z * z / (4 * effective * effective))
    return Interval(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), n)


def _mean(callers: Callers) -> float:
    n = sum(callers.values())
    return sum(place * count for place, count in callers.items()) / GRID / n if n else math.nan


def _log_dealings(n: int, m: int) -> float:
    """Logarithm of the ways to deal n + m callers."""
    return float(special.gammaln(n + m + 1) - special.gammaln(n + 1) - special.gammaln(m + 1))
