"""By how much repeats that slipped into training may have lifted a figure that judges.

A row that was learned may have been unknown before. Of a figure that is one sum over another a row moves as
much as it weighs: so the rows are taken that weigh most, each at the size that a row's score may differ by.
BLEU and chrF follow from counts of n-grams: there the rows lose their hits that move the figure most. Of
anything else there is no known bound. Simulated in `bench/truths/monitoring/slipped.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.gates.decide import BYTES_A_TOKEN, as_scored
from engine.diagnostics.statistics.estimators import BLEU_ORDERS, ESTIMATORS
from engine.diagnostics.statistics.scored import Scored
from engine.diagnostics.statistics.statistics import BROKEN_ROW
from engine.diagnostics.statistics.weighed import FIGURES
from store.documents.shipping.gate import GateRow

OF_ROWS = ("accuracy", "recall_micro")  # over classes, and shares of all rows nevertheless
HITS = {"bleu": slice(2, 2 + BLEU_ORDERS), "chrf": slice(2, None, 3)}  # of the sums: n-grams that are right


def lift(first: GateRow, second: GateRow, rows: int) -> float | None:
    """By how much so many of the rows may have lifted `decide.advantage`, in the metric's unit, however
    little the first knew of them otherwise. Of the rows that count there: of both, with a score in both.
    None where it has no known bound."""
    if not rows:
        return 0.0
    own, other = as_scored(first), as_scored(second)
    _, mine, theirs = np.intersect1d(own.row_ids, other.row_ids, return_indices=True)
    own = own.take(mine)
    own = own.take(np.flatnonzero(own.usable & other.take(theirs).usable))
    if not len(own.row_ids):
        return None
    if own.estimator in HITS:
        return _by_hits(own, rows)
    weights = _weights(own)
    return None if weights is None else _by_weight(own, _heaviest(weights, rows))


def why_unknown(first: GateRow) -> str:
    """Why `lift` has no bound, half a sentence."""
    if first["figure"]["estimator"] == "mean":
        return "as the score of a row has no bounds"
    return "as the metric is not one sum over another"


def _weights(own: Scored) -> NDArray[np.float64] | None:
    """What each row weighs in the figure [rows]; None where it is not one sum over another."""
    if own.estimator in OF_ROWS:
        return np.ones(len(own.row_ids))
    return own.sums[:, 1] if own.estimator in FIGURES else None


def _heaviest(weights: NDArray[np.float64], rows: int) -> float:
    """Which share of the whole weight so many rows have at most."""
    return float(np.sort(weights)[::-1][:rows].sum() / weights.sum())


def _by_weight(own: Scored, share: float) -> float | None:
    """What rows of this share of the weight may add: by all that lies between the bounds of a score, or by
    what a broken row takes, of a perplexity as it follows the mean loss."""
    if own.estimator == "perplexity":
        perplexity = float(ESTIMATORS["perplexity"](own.sums.sum(axis=0)[None])[0])
        return perplexity * math.expm1(BROKEN_ROW * share)
    if own.estimator == "bits_per_byte":
        return share * BROKEN_ROW / math.log(2) / BYTES_A_TOKEN
    low, high = own.bounds
    return None if low is None or high is None else share * (high - low)


def _by_hits(own: Scored, rows: int) -> float | None:
    """How far the figure falls where so many answers, as long as they are, have no right n-gram: of those
    that have most of one order, or of all orders together, whichever moves it further."""
    if own.statistics is None:
        return None
    figure, right = ESTIMATORS[own.estimator], HITS[own.estimator]
    sums, hits = own.statistics, own.statistics[:, right]
    shares = hits / np.maximum(hits.sum(axis=0), 1)
    whole = sums.sum(axis=0)
    lowered = []
    for ranked in (*shares.T, shares.sum(axis=1)):
        without = whole.copy()
        without[right] -= hits[np.argsort(-ranked, kind="stable")[:rows]].sum(axis=0)
        lowered.append(without)
    values = figure(np.array([whole, *lowered]))
    return max(0.0, float(values[0] - values[1:].min()))
