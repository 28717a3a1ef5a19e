"""Where a model is better or worse than on its other rows, or two models differ, over many slices at once.

A slice is a group of rows with something in common. Each is held against all other rows (one model), or has
the paired difference of two models within it. What is shown is what is tested: the mean. Shares of rows that
are right have exact tests. Other scores have tails, and slices differ in shape as well as in mean, so that
ranks call slices of equal means different, and so does Welch's test: the p-value is the level at which the
interval of the difference leaves out 0, whose limits `statistics.py` moves out for skewness, put together as
`combined.py` does. That keeps its level from MIN_ROWS rows on, of which MIN_OTHERS have another score than
the commonest (`bench/truths/models/slices.py`); under that nothing is tested, and `why` says so. With many
slices some look odd by chance: the p-values are adjusted by Benjamini and Hochberg (1995), so that of the
slices that are called different at most a twentieth are expected to be none. Rows count as independent. Pure:
arrays in, documents out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics.phrasing import plural
from engine.diagnostics.statistics import combined
from engine.diagnostics.statistics.flips import mcnemar, paired_change
from engine.diagnostics.statistics.statistics import Interval, ratio_interval, wilson_interval
from store.documents.figures.estimate import Estimate

LEAST = 5  # rows of a slice whose share is tested
MIN_ROWS = 30  # of a slice whose mean is, and beside it
MIN_OTHERS = 8  # of either with another score than the commonest
LEVEL = 0.05
SMALLEST_P = 1e-9
HALVINGS = 12  # between that and 1: to a hundredth of the p-value
QUARTERS = 4
Slices = Mapping[tuple[str, str], NDArray[np.bool_]]  # (what rows have in common, its value) -> which rows


class TestedSlice(TypedDict):
    """A slice, what its value is of, and whether it differs. p and q (p after Benjamini and Hochberg) are
    None where nothing can be tested, for the reason that `why` has."""

    by: str
    value: str
    n: int
    p: float | None
    q: float | None
    why: str
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


class Test(NamedTuple):
    """The p-value, or why there is none."""

    p: float | None
    why: str = ""


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
        test = apart(own, rest)
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(own),
                "mean": _mean(own).to_dict(),
                "rest": other,
                "gap": None if other is None else float(own.mean()) - other,
                "p": test.p,
                "q": None,
                "why": test.why,
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
        test = _paired(gap)
        tested.append(
            {
                "by": by,
                "value": name,
                "n": len(gap),
                "gap": _gap(gap).to_dict(),
                "p": test.p,
                "q": None,
                "why": test.why,
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


def apart(own: NDArray[np.float64], rest: NDArray[np.float64]) -> Test:
    """Whether the means of the two are alike, two-sided: Fisher's exact test of shares, else by the interval
    of their difference."""
    from scipy import stats  # in the functions that test: half a second, which the page need not wait for

    if not len(rest):
        return Test(None, "there is no other row")
    if np.isin(own, (0.0, 1.0)).all() and np.isin(rest, (0.0, 1.0)).all():
        if why := _too_few(own, LEAST) or _too_few(rest, LEAST, "beside it"):
            return Test(None, why)
        table = [[own.sum(), len(own) - own.sum()], [rest.sum(), len(rest) - rest.sum()]]
        return Test(float(stats.fisher_exact(np.array(table, np.int64)).pvalue))
    if why := _too_few(own, MIN_ROWS) or _too_few(rest, MIN_ROWS, "beside it"):
        return Test(None, why)
    if why := _too_alike(own) or _too_alike(rest, "beside it"):
        return Test(None, why)
    return Test(
        _p_value(
            lambda confidence: combined.difference(
                ratio_interval(own, np.ones(len(own)), confidence=confidence),
                ratio_interval(rest, np.ones(len(rest)), confidence=confidence),
            )
        )
    )


def _paired(gap: NDArray[np.float64]) -> Test:
    """Whether the mean of paired differences is 0: McNemar's test where rows are right or wrong, else by its
    interval."""
    if np.isin(gap, (-1.0, 0.0, 1.0)).all():
        if why := _too_few(gap, LEAST):
            return Test(None, why)
        return Test(mcnemar(int((gap < 0).sum()), int((gap > 0).sum())))
    if why := _too_few(gap, MIN_ROWS) or _too_alike(gap):
        return Test(None, why)
    weights = np.ones(len(gap))
    return Test(_p_value(lambda confidence: ratio_interval(gap, weights, confidence=confidence)))


def _too_few(values: NDArray[np.float64], least: int, where: str = "") -> str:
    n = len(values)
    return f"{plural(n, 'row')}{where and ' '}{where} (from {least} on)" if n < least else ""


def _too_alike(values: NDArray[np.float64], where: str = "") -> str:
    """Where nearly all rows score the same the mean is that of the few others: too little is seen of it."""
    others = len(values) - int(np.unique(values, return_counts=True)[1].max())
    if others >= MIN_OTHERS:
        return ""
    return f"only {plural(others, 'row')}{where and ' '}{where} with another score than the commonest"


def _p_value(interval: Callable[[float], Interval]) -> float:
    """The smallest level at which the interval of that confidence leaves out 0, never taken too small."""
    low, high = np.log(SMALLEST_P), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        at = interval(1 - float(np.exp(middle)))
        low, high = (low, middle) if at.above or at.below else (middle, high)
    return float(np.exp(high))


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
