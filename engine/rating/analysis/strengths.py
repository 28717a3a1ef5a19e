"""Strengths of systems as log odds, which pairs differ, and which can be compared at all.

Ratings of "both bad" are not ties and are left out. Uncertainty is that of a new round, with other items
and, from MIN_RATERS on, other raters; differences are corrected for multiple pairs. A difference is
bounded only if a chain of wins and ties connects the systems (Ford 1957). Pure and seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.sparse import csgraph

from engine.evaluation.statistics.clustered import RatingClusters, VarianceUnits, describe_too_few
from engine.evaluation.statistics.intervals import Interval
from engine.rating.analysis import davidson, reasons_text
from engine.rating.analysis.comparisons import Comparisons, PairOutcome
from engine.rating.analysis.resampled_strengths import DesignRows, StrengthResamples, resample_strengths

# A system's strength is bounded below by those that it beat or tied with, through chains of any length. The
# difference first minus second has an upper limit if a chain of wins and ties leads from the second system to
# the first, and a lower one if a chain leads back (Ford 1957): a system that always wins has no upper limit.
# Without any chain, two systems can't be compared.

Ints = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Connections:
    """Which systems comparisons connect.

    group: index of each system's connected group. reaches [a, b]: whether a chain of wins and ties leads
    from a to b.
    """

    group: Ints
    reaches: BoolArray

    @classmethod
    def of(cls, comparisons: Comparisons) -> Connections:
        """Find connections in comparisons without "both bad"."""
        count = len(comparisons.systems)
        holds = np.eye(count, dtype=bool)
        lower, upper, outcome = comparisons.lower, comparisons.upper, comparisons.outcome_in_order
        won, lost = outcome != PairOutcome.RIGHT, outcome != PairOutcome.LEFT
        holds[lower[won], upper[won]] = True
        holds[upper[lost], lower[lost]] = True
        group = csgraph.connected_components(holds, directed=False)[1].astype(np.int64)
        while (further := (holds.astype(np.int64) @ holds) > 0).sum() > holds.sum():
            holds = further
        return cls(group, holds)

    def bounded(self, first: int, second: int) -> tuple[bool, bool]:
        """Return whether the difference first minus second has a lower and an upper limit."""
        return bool(self.reaches[first, second]), bool(self.reaches[second, first])

    def bounded_in_group(self, system: int) -> tuple[bool, bool]:
        """Return whether a system's difference to the mean of its group has a lower and an upper limit."""
        mates = self.group == self.group[system]
        return bool(self.reaches[system, mates].all()), bool(self.reaches[mates, system].all())

    def groups(self, systems: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Return the names of the systems in each group."""
        return tuple(
            tuple(systems[int(k)] for k in np.flatnonzero(self.group == place))
            for place in np.unique(self.group)
        )


# Strengths are log odds relative to the mean of the connected systems (`davidson.py`). Uncertainty over items
# and, from MIN_RATERS raters on, raters is estimated in `resampled_strengths.py`. Differences of all pairs
# are corrected with the largest studentized difference in each resample.

MIN_DECIDED = 5  # minimum number of decided comparisons for an interval
RESAMPLES = 1_000
POSITION = "left side"
Verdict = Literal["better", "worse", "unclear", "none"]
Unbounded = Literal["", "above", "below"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Coefficient:
    """Coefficient of a covariate: change in the log odds of a win per unit."""

    name: str
    interval: Interval


@dataclass(frozen=True)
class StrengthDifference:
    """First minus second in log strength, corrected for multiple pairs.

    verdict: verdict on the first. unbounded: the side without a limit. chance: share of resamples in which
    the first is stronger. direct: number of comparisons of just these two.
    """

    first: str
    second: str
    interval: Interval
    verdict: Verdict
    unbounded: Unbounded
    chance: float
    direct: int

    @property
    def share(self) -> Interval:
        """The difference as the share of decided ratings that the first would win."""
        at = self.interval
        low, high = (None if end is None else float(special.expit(end)) for end in (at.low, at.high))
        if self.verdict != "none" and not at.why:
            low, high = 0.0 if low is None else low, 1.0 if high is None else high
        return Interval(float(special.expit(at.value)), low, high, at.n, why=at.why)

    def turned(self) -> StrengthDifference:
        """Return the difference second minus first."""
        at = self.interval
        low, high = (None if end is None else -end for end in (at.high, at.low))
        verdicts: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
        sides: dict[Unbounded, Unbounded] = {"above": "below", "below": "above"}
        return StrengthDifference(
            self.second, self.first, replace(at, value=-at.value, low=low, high=high),
            verdicts.get(self.verdict, self.verdict), sides.get(self.unbounded, self.unbounded),
            1 - self.chance, self.direct,
        )  # fmt: skip


@dataclass(frozen=True)
class Strengths:
    """Strengths of all systems.

    strengths: relative to the mean of each system's group, not corrected for multiple systems. order: best
    first. groups: systems connected by comparisons. ties: Davidson's nu. left_out: number of "both bad"
    ratings. soft: number of fractional votes. over: what the intervals generalize to, "items" only if
    there are too few raters.
    """

    systems: tuple[str, ...]
    strengths: tuple[Interval, ...]
    order: tuple[int, ...]
    differences: tuple[StrengthDifference, ...]
    groups: tuple[tuple[str, ...], ...]
    ties: Interval
    coefficients: tuple[Coefficient, ...]
    n: int
    items: int
    raters: int
    left_out: int
    soft: int
    over: VarianceUnits

    @cached_property
    def _by_names(self) -> dict[tuple[str, str], StrengthDifference]:
        return {(pair.first, pair.second): pair for pair in self.differences}

    def difference(self, first: str, second: str) -> StrengthDifference:
        """Return the difference between two systems, in either order. Raises ValueError for an
        unknown pair.
        """
        if pair := self._by_names.get((first, second)):
            return pair
        if pair := self._by_names.get((second, first)):
            return pair.turned()
        raise ValueError(f"{first!r} and {second!r} are not a pair of {', '.join(self.systems)}.")


def estimate_strengths(
    comparisons: Comparisons,
    *,
    covariates: Sequence[str] = (),
    position: bool = False,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Strengths:
    """Estimate the strengths of all systems.

    `covariates` are the names of covariates to adjust for; with `position`, the side is one too. Raises
    ValueError for a covariate that the comparisons don't have.
    """
    kept = comparisons.take(comparisons.counted)
    used = kept.take(kept.outcome != PairOutcome.BOTH_BAD)
    names = (*covariates, *((POSITION,) if position else ()))
    counted = DesignRows.of(used, _build_covariate_differences(used, covariates, position))
    fitted = davidson.fit(counted.design, counted.whole[None])
    connections, clusters = Connections.of(used), counted.clusters
    contrasts = _build_contrasts(connections, counted.scale)
    values = contrasts @ np.append(fitted.coefficients[0], fitted.log_nu[0])
    why = _describe_small_sample(used, clusters)
    drawn: StrengthResamples | None = None
    if not why:
        met = np.unique(used.lower * len(used.systems) + used.upper)
        pairs = np.column_stack(np.divmod(met, len(used.systems)))
        drawn = resample_strengths(counted, fitted, contrasts, pairs, resamples)
    reading = _ContrastConclusions(used, connections, values, drawn, why, confidence)
    count, after = len(used.systems), len(used.systems) + len(reading.pairs)
    return Strengths(
        systems=used.systems,
        strengths=tuple(reading.alone(k) for k in range(count)),
        order=tuple(int(k) for k in np.argsort(-values[:count], kind="stable")),
        differences=tuple(reading.difference(k) for k in range(len(reading.pairs))),
        groups=connections.groups(used.systems),
        ties=reading.ties(),
        coefficients=tuple(Coefficient(name, reading.interval(after + k)) for k, name in enumerate(names)),
        n=len(used), items=clusters.items, raters=clusters.raters, left_out=len(kept) - len(used),
        soft=int(used.soft.sum()), over=clusters.over,
    )  # fmt: skip


def _build_covariate_differences(used: Comparisons, covariates: Sequence[str], position: bool) -> Floats:
    """Return covariates as left minus right [n, k]; the side is 1."""
    columns = []
    for name in covariates:
        if name not in used.covariates or used.differences is None:
            raise ValueError(f"covariates: {name!r} is none of {', '.join(used.covariates) or 'none'}.")
        columns.append(used.differences[:, used.covariates.index(name)])
    if position:
        columns.append(np.ones(len(used)))
    return np.column_stack(columns) if columns else np.zeros((len(used), 0))


def _build_contrasts(connections: Connections, scale: Floats) -> Floats:
    """Return contrasts of the coefficients: strengths relative to the mean of their group, differences of all
    pairs, covariates, and log nu.
    """
    count = len(connections.group)
    mates = connections.group[:, None] == connections.group
    against = np.eye(count) - mates / mates.sum(axis=1, keepdims=True)
    pairs = [np.eye(count)[i] - np.eye(count)[j] for i, j in combinations(range(count), 2)]
    rows = np.vstack([against, *pairs])
    more = np.diag(np.append(1 / scale, 1.0))
    return np.block([[rows, np.zeros((len(rows), len(more)))], [np.zeros((len(more), count)), more]])


def _describe_small_sample(used: Comparisons, clusters: RatingClusters) -> str:
    if why := describe_too_few(clusters, len(used)):
        return why
    decided = int((used.outcome < PairOutcome.TIE).sum())
    if not decided:
        return reasons_text.ONLY_TIES if len(used) else reasons_text.NO_COMPARISONS
    return reasons_text.explain_few_decided(decided, len(used)) if decided < MIN_DECIDED else ""


class _ContrastConclusions:
    """Intervals and verdicts for all contrasts."""

    def __init__(
        self, used: Comparisons, connections: Connections, values: Floats, drawn: StrengthResamples | None,
            why: str,
        confidence: float,
    ) -> None:  # fmt: skip
        self.used, self.connections, self.values, self.why = used, connections, values, why
        count = len(used.systems)
        self.pairs = list(combinations(range(count), 2))
        self.direct = np.bincount(used.lower * count + used.upper, minlength=count * count)
        self.limits = self.limits_together = None
        self.drawn = drawn
        if drawn is not None:
            bounded = [any(connections.bounded(*pair)) for pair in self.pairs]
            self.limits = drawn.limits(confidence)
            self.limits_together = drawn.limits(confidence, count + np.flatnonzero(bounded))

    def interval(
        self, place: int, bounded: tuple[bool, bool] = (True, True), together: bool = False
    ) -> Interval:
        """Return the interval of one contrast.

        An unbounded side has no limit, and the value is then the median of the resamples, as the
        maximum-likelihood estimate is infinite.
        """
        value, n = float(self.values[place]), len(self.used)
        limits = self.limits_together if together else self.limits
        if self.drawn is None or limits is None or not any(bounded):
            return Interval(value, None, None, n, why=self.why or reasons_text.NOT_CONNECTED)
        low, high = float(limits[0][place]), float(limits[1][place])
        if not all(bounded):
            value = float(self.drawn.middle[place])
        error = float(self.drawn.errors[place])
        return Interval(
            value, min(low, value) if bounded[0] else None, max(high, value) if bounded[1] else None, n, error
        )

    def alone(self, system: int) -> Interval:
        """Return a system's strength relative to the mean of its group."""
        if (self.connections.group == self.connections.group[system]).sum() == 1:
            return Interval(0.0, None, None, 0, why=reasons_text.COMPARED_WITH_NONE)
        return self.interval(system, self.connections.bounded_in_group(system))

    def difference(self, pair: int) -> StrengthDifference:
        """Return the difference of the pair with this index."""
        i, j = self.pairs[pair]
        place, bounded = len(self.used.systems) + pair, self.connections.bounded(i, j)
        at = self.interval(place, bounded, together=True)
        verdict: Verdict = "better" if at.above else "worse" if at.below else "unclear"
        if not any(bounded):
            verdict = "none"
        side: Unbounded = "" if all(bounded) or not any(bounded) else "above" if bounded[0] else "below"
        chance = 0.5 if self.drawn is None or verdict == "none" else float(self.drawn.chance_above[place])
        names = self.used.systems[i], self.used.systems[j]
        return StrengthDifference(
            *names, at, verdict, side, chance, int(self.direct[i * len(self.used.systems) + j])
        )

    def ties(self) -> Interval:
        """Return Davidson's nu, the last contrast."""
        if not (self.used.outcome == PairOutcome.TIE).any():
            return Interval(0.0, None, None, len(self.used), why=self.why or reasons_text.NO_TIES)
        log_nu = self.interval(len(self.values) - 1)
        low, high = (None if end is None else math.exp(end) for end in (log_nu.low, log_nu.high))
        return Interval(math.exp(log_nu.value), low, high, log_nu.n, why=log_nu.why)
