"""Where a model is better or worse than on its other rows, or two models differ, over many slices at once.

A slice is a group of rows with something in common. Each is held against all other rows (one model), or has
the paired difference of two models within it; by ranks, as scores of rows have tails (a perplexity's mean is
that of its worst rows). With many slices some look odd by chance: the p-values are
adjusted by Benjamini and Hochberg (1995), so that of the slices that are called different at most a twentieth
are expected to be none. A slice of fewer than five rows is shown and not tested. Rows count as independent.
Pure: arrays in, documents out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.statistics.flips import mcnemar, paired_change
from engine.diagnostics.statistics.statistics import Interval, ratio_interval, wilson_interval
from store.documents.figures.estimate import Estimate

LEAST = 5  # rows of a slice that is tested
LEVEL = 0.05
QUARTERS = 4
Slices = Mapping[tuple[str, str], NDArray[np.bool_]]  # (what rows have in common, its value) -> which rows


class TestedSlice(TypedDict):
    """A slice, what its value is of, and whether it differs. p and q (p after Benjamini and Hochberg) are
    None where it is too small, or nothing is left beside it."""

    by: str
    value: str
    n: int
    p: float | None
    q: float | None
    different: bool


class ScoreSlice(TestedSlice):
    """The scores of one model in a slice, against all other rows."""

    mean: Estimate
    rest: float | None  # mean of all other rows
    gap: float | None  # between the two means


class DifferenceSlice(TestedSlice):
    """One model minus another in pairs, within a slice."""

    gap: Estimate


Tested = TypeVar("Tested", bound=TestedSlice)


def by_value(name: str, values: Sequence[object], most: int = 50) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """A slice for each of the `most` most frequent values; none where all rows have one value."""
    texts = np.array(["" if value is None else str(value) for value in values], dtype=object)
    distinct, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    if len(distinct) < 2:
        return {}
    order = np.argsort(-counts, kind="stable")[:most]
    return {(name, str(distinct[place])): texts == distinct[place] for place in order}


def by_size(name: str, sizes: ArrayLike, unit: str) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Four slices of about as many rows each, from the smallest to the largest; fewer where sizes repeat."""
    values = np.asarray(sizes, np.float64)
    finite = np.isfinite(values)
    if finite.sum() < 2 * LEAST or np.ptp(values[finite]) == 0:
        return {}
    edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, QUARTERS + 1)[1:-1]))
    part = np.searchsorted(edges, values)
    slices = {}
    for place in range(len(edges) + 1):
        rows = finite & (part == place)
        if rows.any():
            low, high = (f"{end:,.0f}" for end in (values[rows].min(), values[rows].max()))
            slices[(name, f"{low if low == high else f'{low} to {high}'} {unit}")] = rows
    return slices if len(slices) > 1 else {}


def of_scores(scores: ArrayLike, slices: Slices) -> list[ScoreSlice]:
    """Each slice that has a score, the surest first."""
    values = np.asarray(scores, np.float64)
    usable = np.isfinite(values)
    tested: list[ScoreSlice] = []
    for (by, name), rows in slices.items():
        own, rest = values[rows & usable], values[~rows & usable]
        if not len(own):
            continue
        other = float(rest.mean()) if len(rest) else None
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(own),
                "mean": _mean(own).to_dict(),
                "rest": other,
                "gap": None if other is None else float(own.mean()) - other,
                "p": apart(own, rest),
                "q": None,
                "different": False,
            }
        )
    return adjusted(tested)


def of_differences(first: ArrayLike, second: ArrayLike, slices: Slices) -> list[DifferenceSlice]:
    """`first` minus `second` in pairs, in each slice that has a pair, the surest first."""
    scores, against = np.asarray(first, np.float64), np.asarray(second, np.float64)
    usable = np.isfinite(scores) & np.isfinite(against)
    tested: list[DifferenceSlice] = []
    for (by, name), rows in slices.items():
        kept = rows & usable
        if not kept.any():
            continue
        gap = scores[kept] - against[kept]
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(gap),
                "gap": _gap(gap).to_dict(),
                "p": _paired(gap),
                "q": None,
                "different": False,
            }
        )
    return adjusted(tested)


def _mean(values: NDArray[np.float64]) -> Interval:
    if np.isin(values, (0.0, 1.0)).all():
        return wilson_interval(int(values.sum()), len(values))
    return _honest(ratio_interval(values, np.ones(len(values))))


def _gap(gap: NDArray[np.float64]) -> Interval:
    """The mean of paired differences; of rows that are right or wrong with Tango's interval."""
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        return paired_change(int((gap < 0).sum()), int((gap > 0).sum()), len(gap))
    return _honest(ratio_interval(gap, np.ones(len(gap))))


def _honest(interval: Interval) -> Interval:
    """Without limits where all rows agree: of rows that happen to be equal no bootstrap learns anything."""
    return replace(interval, low=None, high=None) if interval.low == interval.high else interval


def apart(own: NDArray[np.float64], rest: NDArray[np.float64]) -> float | None:
    """Two-sided p-value that the two are alike: Fisher's exact test of shares, else the rank sum (Mann and
    Whitney 1947). 1 where the means differ the other way than the ranks: such a slice is neither better nor
    worse. None where one of the two has fewer than LEAST rows."""
    from scipy import stats  # in the functions that test: half a second, which the page need not wait for

    if len(own) < LEAST or len(rest) < LEAST:
        return None
    if np.isin(own, (0.0, 1.0)).all() and np.isin(rest, (0.0, 1.0)).all():
        table = [[own.sum(), len(own) - own.sum()], [rest.sum(), len(rest) - rest.sum()]]
        return float(stats.fisher_exact(np.array(table, np.int64)).pvalue)
    if np.ptp(np.concatenate([own, rest])) == 0:
        return 1.0
    ranked = stats.mannwhitneyu(own, rest)
    above = float(ranked.statistic) - len(own) * len(rest) / 2
    return 1.0 if above * (own.mean() - rest.mean()) < 0 else float(ranked.pvalue)


def _paired(gap: NDArray[np.float64]) -> float | None:
    """McNemar's test where rows are right or wrong, else Wilcoxon's signed ranks of the rows that differ; 1
    where their mean has the other sign than the ranks."""
    from scipy import stats

    if len(gap) < LEAST:
        return None
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        return mcnemar(int((gap < 0).sum()), int((gap > 0).sum()))
    differing = gap[gap != 0]
    signed = float(np.sign(differing) @ stats.rankdata(np.abs(differing)))
    return 1.0 if signed * gap.mean() <= 0 else float(stats.wilcoxon(gap).pvalue)


def adjusted(slices: list[Tested]) -> list[Tested]:
    """With q by Benjamini and Hochberg and whether it is below LEVEL; the surest first."""
    from scipy import stats

    tested = [part for part in slices if part["p"] is not None]
    values = stats.false_discovery_control([part["p"] for part in tested]) if tested else []
    for part in slices:
        part["q"], part["different"] = None, False
    for part, q in zip(tested, values, strict=True):
        part["q"], part["different"] = float(q), bool(q < LEVEL)
    return sorted(slices, key=lambda part: (part["q"] is None, part["q"] or 0.0, -part["n"]))
