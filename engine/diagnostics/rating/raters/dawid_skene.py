"""Who is reliable, where the truth is not known: Dawid and Skene's (1979) model of raters.

Each unit has a true label, each rater a chance to give each label to each true one; both are estimated in
turn (EM), with a little of each label added to every rater's counts (Dirichlet smoothing, more of it where
the label is right), so that few ratings decide nothing. Its limits: raters are taken to err independently, so
that errors which all share look like the truth; a side that a rater prefers is not part of it; and with two
raters nobody can say which of them is right. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.rows.votes import KINDS, Tally, votes

LEAST_RATERS = 3  # of common items: of two that part, either may be right
LEAST_UNITS = 10  # items with two votes or more
SMOOTHING, RIGHT = 0.1, 0.5  # votes that each rater is given of every label, and more of the right one
STEPS, CONVERGED = 500, 1e-6
LIMITS = (
    "Errors that raters share look like the truth to this model, and it knows of no sides: a rater is called"
    " reliable who answers as most others do."
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Reliabilities:
    """confusion [raters, true label, label given]; reliability [raters]: chance to give the true label, in
    the mix of labels; posterior [units, labels] of each true label; unit: of each rating its place there.
    n: ratings of each rater. why: nothing can be said, and the arrays are empty."""

    raters: tuple[str, ...]
    labels: tuple[str, ...]
    confusion: Floats
    reliability: Floats
    posterior: Floats
    n: Ints
    why: str = ""


def reliabilities(comparisons: Comparisons) -> Reliabilities:
    """Of raters of comparisons; units as in `Tally`. A label is the pair's first system, its second one, a
    tie, or both bad."""
    rated, outcome = votes(comparisons)
    labels = ("first", "second", "tie", "both bad")
    tally = Tally.of(rated, outcome)
    n = np.bincount(rated.rater, minlength=len(rated.raters))
    if why := _too_few(tally, rated):
        empty = np.zeros((0, KINDS))
        return Reliabilities(rated.raters, labels, empty[:, :, None], np.zeros(0), empty, n, why)
    confusion, posterior = dawid_skene(outcome, tally.unit, rated.rater, KINDS)
    mix = posterior.mean(axis=0)
    reliability = np.einsum("k,rkk->r", mix, confusion)
    return Reliabilities(rated.raters, labels, confusion, reliability, posterior, n)


def _too_few(tally: Tally, rated: Comparisons) -> str:
    shared = tally.counts.sum(axis=1)[tally.unit] >= 2 if len(rated) else np.zeros(0, bool)
    raters, units = len(np.unique(rated.rater[shared])), len(np.unique(tally.unit[shared]))
    if units < LEAST_UNITS:
        items = "1 item with two votes is" if units == 1 else f"{units} items with two votes or more are"
        return f"{items} too few to tell who is reliable"
    if raters < LEAST_RATERS:
        return "where two raters part, either of them may be right: it takes three"
    return ""


def dawid_skene(
    label: Ints, unit: Ints, rater: Ints, labels: int, *, smoothing: float = SMOOTHING, right: float = RIGHT
) -> tuple[Floats, Floats]:
    """(confusion [raters, true label, label given], posterior [units, labels]) of ratings, all places from 0
    on. It starts from shares of votes."""
    units, raters = int(unit.max()) + 1, int(rater.max()) + 1
    posterior = np.zeros((units, labels))
    np.add.at(posterior, (unit, label), 1)
    posterior /= posterior.sum(axis=1, keepdims=True)
    given = np.eye(labels)[label]
    prior = np.full((labels, labels), smoothing) + right * np.eye(labels)
    for _ in range(STEPS):
        counts = np.zeros((raters, labels, labels))
        np.add.at(counts, rater, posterior[unit][:, :, None] * given[:, None, :])
        confusion = counts + prior
        confusion /= np.maximum(confusion.sum(axis=2, keepdims=True), 1e-300)
        mix = posterior.sum(axis=0) + smoothing
        logs = np.tile(np.log(mix / mix.sum()), (units, 1))
        np.add.at(logs, unit, np.log(np.maximum(confusion[rater, :, label], 1e-300)))
        logs -= logs.max(axis=1, keepdims=True)
        before, posterior = posterior, np.exp(logs)
        posterior /= posterior.sum(axis=1, keepdims=True)
        if np.abs(posterior - before).max() < CONVERGED:
            break
    return confusion, posterior
