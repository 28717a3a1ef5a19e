"""Comparisons of two groups of requests: versions (permutation tests that share alpha over all looks),
callers of one group and all others, and a selected window and the reference (PSI, which raises no alert).

Each caller counts once, with the share of its responses that were good: callers are randomized and
independent. Pure and seeded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.intervals import Interval, subtract_estimates, wilson_interval
from store.core.monitoring_schemas import ArmComparison

# Is one of two versions better or worse than the other, however often they are compared?
#
# Callers are randomized and independent; requests of one caller are correlated, and some callers send a
# hundred times as many as others. So each caller counts once, with the share of its responses that were good.
# A look takes place whenever the number of responses has grown by half (which does not depend on which
# version is better), and spends a part of alpha. The test is exact: if both versions are alike for every
# caller, any other assignment of callers would have been equally likely, so the difference is ranked among
# those of random assignments (permutation test; Fisher 1935). For copies of the same requests, each caller
# has a difference whose sign would be equally likely to flip. A look at which even the clearest difference
# could not be significant spends nothing.
#
# The interval combines Wilson's intervals of both versions, with effective numbers of callers, by Newcombe's
# method at the alpha of the look. If test and interval disagree, the test decides. In simulations
# (`bench/truths/monitoring/arms.py`) it holds for all looks together. Pure and seeded.

GRID = 4096  # resolution of a caller's share, so that one failure in a thousand counts
DRAW_BATCH = 10_000  # draws in memory
FIRST_LOOK = 20  # answers
GROWTH = 1.5
FIRST_DRAWS, MIN_DRAWS, MAX_DRAWS = 1_000, 20_000, 100_000
DRAWS_OF_ALPHA = 10  # expected draws beyond a p-value of alpha
CLEAR_P = 0.04  # above this p-value, the first draws suffice

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Callers = Mapping[int, int]  # share of good responses in parts of GRID -> callers


@dataclass(frozen=True)
class InterimLook:
    """One look. difference: second minus first; p: two-sided p-value; alpha: what this look spends;
    attainable: whether a significant result is possible with so few callers."""

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
        """The second version is significantly better."""
        return self.p <= self.alpha and self.difference.value > 0

    @property
    def worse(self) -> bool:
        return self.p <= self.alpha and self.difference.value < 0


def compute_next_look(answers: int) -> int:
    """The number of responses at which the next look takes place."""
    return max(FIRST_LOOK, math.ceil(GROWTH * answers))


def compute_look_alpha(look: int, alpha: float) -> float:
    """The alpha that look number `look`, from 1 on, may spend; all looks together spend alpha."""
    return 3 * alpha / ((look + 2) * (look + 3))


def compare_callers(first: Callers, second: Callers, look: int, alpha: float) -> InterimLook:
    """Compare callers of two versions, each assigned to one of them at random. look: number of this look."""
    spent, n, m = compute_look_alpha(look, alpha), sum(first.values()), sum(second.values())
    if not n or not m:
        nothing = Interval(math.nan, None, None, n + m, why="no usable responses of one of the versions")
        return InterimLook(_mean(first), _mean(second), n, m, nothing, 1.0, spent, attainable=False)
    places = sorted({*first, *second})
    values = np.array(places, float) / GRID
    counts = np.array([[side.get(place, 0) for place in places] for side in (first, second)], np.int64)
    p = _p_value(lambda random, draws: _permute_callers(values, counts, random, draws), spent, int(n + m))
    of_first, of_second = (estimate_caller_mean(values, side, 1 - spent) for side in counts)
    change = _align_interval(intervals.subtract_estimates(of_second, of_first), p <= spent)
    attainable = 2 * math.exp(-_compute_log_assignments(n, m)) <= spent
    return InterimLook(of_first.value, of_second.value, n, m, change, p, spent, attainable)


def compare_paired_callers(differences: Callers, look: int, alpha: float) -> InterimLook:
    """Compare responses of both versions to the same requests. differences: mean difference of a caller
    (parts of GRID, second minus first) -> number of callers."""
    spent, n = compute_look_alpha(look, alpha), sum(differences.values())
    if not n:
        nothing = Interval(
            math.nan, None, None, 0, why="no request has a label and responses of both versions"
        )
        return InterimLook(math.nan, math.nan, 0, 0, nothing, 1.0, spent, attainable=False)
    values, counts = np.array([*differences], float) / GRID, np.array([*differences.values()], np.int64)
    p = _p_value(lambda random, draws: _flip_signs(values, counts, random, draws), spent, n)
    half = estimate_caller_mean((values + 1) / 2, counts, 1 - spent)  # from 0 to 1
    assert half.low is not None
    assert half.high is not None
    change = Interval(2 * half.value - 1, 2 * half.low - 1, 2 * half.high - 1, n)
    moved = n - differences.get(0, 0)
    return InterimLook(
        math.nan,
        math.nan,
        n,
        n,
        _align_interval(change, p <= spent),
        p,
        spent,
        attainable=2 * 0.5**moved <= spent,
    )


OutcomeStatus = Literal["better", "worse", "lapsed", "no_data", "few_callers", "inconclusive"]


def is_conclusive(look: ArmComparison) -> bool:
    """Whether the last look is significant."""
    return look.p <= look.alpha


def classify_outcome(look: ArmComparison) -> OutcomeStatus:
    """The result so far. lapsed: an earlier look was significant, the last one is not."""
    if look.sure:
        return look.sure.verdict if is_conclusive(look) else "lapsed"
    if look.difference.low is None:
        return "no_data"
    return "few_callers" if look.few or not look.look else "inconclusive"


def _align_interval(change: Interval, sure: bool) -> Interval:
    """Exclude 0 if the test is significant, and include it otherwise."""
    assert change.low is not None
    assert change.high is not None
    if not sure:
        return replace(change, low=min(change.low, 0.0), high=max(change.high, 0.0))
    if change.value > 0:
        return replace(change, low=max(change.low, 0.0))
    return replace(change, high=min(change.high, 0.0))


Draw = Callable[[np.random.Generator, int], tuple[Floats, float]]  # random draws, and the observed value


def _p_value(draw: Draw, alpha: float, n: int) -> float:
    """Two-sided. The observed value counts as one of the draws, so that p is never 0 (Phipson and Smyth
    2010)."""
    random, p = np.random.default_rng(n), 1.0
    most = int(min(MAX_DRAWS, max(MIN_DRAWS, DRAWS_OF_ALPHA / alpha)))
    for draws in (FIRST_DRAWS, most):
        drawn, seen = draw(random, draws)
        slack = 1e-9 * max(1.0, abs(seen))
        extreme = min((drawn >= seen - slack).sum(), (drawn <= seen + slack).sum())
        p = float(min(1.0, 2 * (1 + extreme) / (1 + draws)))
        if p > CLEAR_P:
            break
    return p


def _permute_callers(
    values: Floats, counts: Counts, random: np.random.Generator, draws: int
) -> tuple[Floats, float]:
    """Sums of the second version's callers under random reassignment of all callers."""
    m, both = int(counts[1].sum()), counts.sum(axis=0)
    drawn = [
        random.multivariate_hypergeometric(both, m, size=size, method="marginals") @ values
        for size in _split_draws(draws)
    ]
    return np.concatenate(drawn), float(counts[1] @ values)


def _flip_signs(
    values: Floats, counts: Counts, random: np.random.Generator, draws: int
) -> tuple[Floats, float]:
    """Sums of differences with random signs, one for each caller."""
    sizes = np.abs(values)
    drawn = [
        (2 * random.binomial(counts, 0.5, size=(size, len(counts))) - counts) @ sizes
        for size in _split_draws(draws)
    ]
    return np.concatenate(drawn), float(counts @ values)


def _split_draws(draws: int) -> list[int]:
    return [min(DRAW_BATCH, draws - done) for done in range(0, draws, DRAW_BATCH)]


def estimate_caller_mean(values: Floats, counts: Counts, confidence: float) -> Interval:
    """The mean of values from 0 to 1 with Wilson's interval, using an effective number of callers: values
    with a small spread are more informative than binary ones. The spread includes one more caller at either
    end, because few callers underestimate it."""
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


def _compute_log_assignments(n: int, m: int) -> float:
    """Logarithm of the number of ways to assign n + m callers."""
    return float(special.gammaln(n + m + 1) - special.gammaln(n + 1) - special.gammaln(m + 1))


# Is the endpoint worse for one group of callers than for the others? For a single look.
#
# Each caller counts once, as in the comparison of versions, with the share of its responses that were good. A
# group is compared with the callers of all others. Intervals are corrected for the number of groups
# (Bonferroni), so that equal groups are rarely reported as better or worse. Pure.

SHARE_GRID = 64  # resolution of shares
MIN_CALLERS = 10  # in a group, and in all others


@dataclass(frozen=True)
class GroupGap:
    """share: mean share of good responses of the group's callers; gap: that minus the share of all others."""

    group: str
    callers: int
    share: Interval
    gap: Interval


def compute_group_gaps(
    groups: Mapping[str, Callers], *, confidence: float = 0.95
) -> tuple[list[GroupGap], list[str]]:
    """Gaps of groups with enough callers, the largest first, and the names of all other groups."""
    sizes = {name: sum(callers.values()) for name, callers in groups.items()}
    whole = sum(sizes.values())
    enough = [name for name, n in sizes.items() if n >= MIN_CALLERS and whole - n >= MIN_CALLERS]
    few = [name for name in groups if name not in enough]
    level = 1 - (1 - confidence) / max(1, len(enough))
    gaps = []
    for name in sorted(enough, key=lambda name: -sizes[name]):
        others: Counter[int] = Counter()
        for other, callers in groups.items():
            others.update(callers if other != name else {})
        share, rest = _compute_interval(groups[name], level), _compute_interval(others, level)
        gaps.append(GroupGap(name, sizes[name], share, intervals.subtract_estimates(share, rest)))
    return gaps, few


def _compute_interval(callers: Callers, confidence: float) -> Interval:
    values = np.array([*callers], float) / SHARE_GRID
    return estimate_caller_mean(values, np.array([*callers.values()], np.int64), confidence)


# How a window of values differs from the reference: descriptive, in addition to the tests that raise alerts.
#
# The figures are for one selected window, so their levels hold for a single look and not for monitoring.
# Values are counts by bin, as stored for any number of requests. PSI (population stability index, over
# deciles of the reference) has no significance level; chance alone reaches (1/n + 1/m) times the 95% quantile
# of chi-squared (Yurdakul 2018). Pure.

TENTHS = 10
MIN_VALUES = 20  # values per side
KS_LEVEL = 1.358  # sqrt(-ln(0.05 / 2) / 2)

CountsByBin = Mapping[int, int] | Mapping[str, int]  # by bin, or by name


@dataclass(frozen=True)
class DriftComparison:
    """reference, window: number of values. psi, ks: with the values that chance alone reaches in 95 of 100
    windows. moved: change in share by bin or name, the largest first."""

    reference: int
    window: int
    psi: float
    psi_by_luck: float
    ks: float | None  # null for a category
    ks_by_luck: float | None
    reference_median: float | None  # in bins
    window_median: float | None
    moved: tuple[tuple[str, Interval], ...]


def compare_window(reference: CountsByBin, window: CountsByBin) -> DriftComparison | None:
    """Compare counts by bin (numbers) or by name. None if a side has fewer than MIN_VALUES values."""
    n, m = sum(reference.values()), sum(window.values())
    if min(n, m) < MIN_VALUES:
        return None
    keys: list[int | str] = sorted({*reference, *window}, key=lambda key: (isinstance(key, str), key))
    here: dict[int | str, int] = dict(reference.items())
    there: dict[int | str, int] = dict(window.items())
    first = np.array([here.get(key, 0) for key in keys], np.float64)
    second = np.array([there.get(key, 0) for key in keys], np.float64)
    categories = isinstance(keys[0], str)
    cells = np.vstack([first, second]) if categories else _bin_by_tenths(first, second)
    degrees = max(1, cells.shape[1] - 1)
    luck = (1 / n + 1 / m) * float(special.chdtri(degrees, 0.05))
    ks = None if categories else float(np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max())
    return DriftComparison(
        reference=n,
        window=m,
        psi=_psi(cells),
        psi_by_luck=luck,
        ks=ks,
        ks_by_luck=None if categories else KS_LEVEL * math.sqrt(1 / n + 1 / m),
        reference_median=None if categories else _median(keys, first),
        window_median=None if categories else _median(keys, second),
        moved=_compute_share_changes([str(key) for key in keys], first, second) if categories else (),
    )


def _bin_by_tenths(first: Floats, second: Floats) -> Floats:
    """Both sides by deciles of the reference [2, cells]. A bin is never split."""
    before = (np.cumsum(first) - first / 2) / first.sum()
    cell = np.minimum((before * TENTHS).astype(int), TENTHS - 1)
    cells = np.array([np.bincount(cell, side, TENTHS) for side in (first, second)], np.float64)
    used: Floats = cells[:, cells.sum(axis=0) > 0]
    return used


def _psi(cells: Floats) -> float:
    """Half a value is added to each cell, so that empty cells stay finite."""
    shares = (cells + 0.5) / (cells + 0.5).sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _median(keys: list[int | str], counts: Floats) -> float:
    return float(keys[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))])


def _compute_share_changes(
    names: list[str], first: Floats, second: Floats
) -> tuple[tuple[str, Interval], ...]:
    """The change in share of each name, with its interval, the largest first."""
    n, m = int(first.sum()), int(second.sum())
    changes = [
        (name, subtract_estimates(wilson_interval(int(there), m), wilson_interval(int(here), n)))
        for name, here, there in zip(names, first, second, strict=True)
    ]
    return tuple(sorted(changes, key=lambda change: -abs(change[1].value)))
