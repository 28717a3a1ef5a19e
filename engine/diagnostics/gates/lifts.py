"""By how much repeats that slipped into training may have lifted a difference that judges.

Nobody knows which rows were learned, but of a number of them at most: so the difference is taken without as
many rows, those without which it is least. Whatever was learned, it is no less than that over the rows that
were not, however long they are. Of scores without bounds that is not enough, as the rows that were learned
may be just those on which the new version is far worse. Simulated in `bench/truths/monitoring/slipped.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.diagnostics.gates.decide import as_scored
from engine.diagnostics.statistics.scored import Scored, counted
from store.documents.shipping.gate import GateRow

Floats = NDArray[np.float64]
STEP = 1e-6  # of a row's sums, by which the slope of a figure is measured
MAX_PASSES = 10  # each takes the rows that speak most for the first where the ones before are gone


def lift(first: GateRow, second: GateRow, rows: int) -> float | None:
    """By how much so many of the rows may have lifted `decide.advantage`, in the metric's unit: its value
    less that without them. Of the rows that count there: of both, with a score in both. None where nobody
    knows."""
    if not rows:
        return 0.0
    if _unbounded(first):
        return None
    sums, advantage = _paired(as_scored(first), as_scored(second))
    if rows >= len(sums):
        return None
    whole = sums.sum(axis=0)
    value = float(advantage(whole[None])[0])
    speaks = value - advantage(whole - sums)  # for the first: how far the difference falls without each row
    least = value
    for _ in range(MAX_PASSES):
        left = whole - sums[np.argsort(-speaks, kind="stable")[:rows]].sum(axis=0)
        without = float(advantage(left[None])[0])
        if without >= least:
            break
        least = without
        speaks = (advantage(left + STEP * sums) - without) / STEP  # of one sum over another this is exact
    return value - least


def why_unknown(first: GateRow) -> str:
    """Why `lift` has no answer, half a sentence."""
    return "as the score of a row has no bounds" if _unbounded(first) else "as it may be all of them"


def _unbounded(row: GateRow) -> bool:
    return row["figure"]["estimator"] == "mean" and None in row["figure"]["bounds"]


def _paired(own: Scored, other: Scored) -> tuple[Floats, Callable[[Floats], Floats]]:
    """What each row adds to the sums of both [rows, counts], and the advantage by such sums."""
    _, mine, theirs = np.intersect1d(own.row_ids, other.row_ids, return_indices=True)
    both = np.flatnonzero(own.take(mine).usable & other.take(theirs).usable)
    (first, figure), (second, other_figure) = (
        counted(scored.sums[places[both]], scored) for scored, places in ((own, mine), (other, theirs))
    )
    width = first.shape[1]
    sign = 1.0 if own.better == "higher" else -1.0

    def advantage(sums: Floats) -> Floats:
        return sign * (figure(sums[:, :width]) - other_figure(sums[:, width:]))

    return np.hstack([_dense(first), _dense(second)]), advantage


def _dense(counts: Any) -> Floats:
    """Of figures over classes they are sparse."""
    return np.asarray(counts.toarray() if sparse.issparse(counts) else counts, np.float64)
