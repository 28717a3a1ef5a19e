"""Who is reliable, where the truth is not known: Dawid and Skene's (1979) model of raters.

Each unit has a true label, each rater a chance to give each label to each true one; both are estimated in
turn (EM), with a little of each label added to every rater's counts (Dirichlet smoothing, more of it where
the label is right), so that few ratings decide nothing. Its limits: raters are taken to err independently, so
that errors which all share look like the truth; a side that a rater prefers is not part of it; and with two
raters nobody can say which of them is right.

How often a rater is right is not given as a figure: the estimates lean to the middle where items have few
votes, and intervals around them hold the truth in 85 to 95 of 100 rounds only. Whether somebody is right less
often than the others can be told: over resamples of items, at a level that holds for all raters together
(Holm). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from engine.diagnostics.rating.raters.alpha import outcome_alpha
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.rows.votes import KINDS, Tally, votes
from engine.diagnostics.statistics.flips import holm

LEAST_RATERS = 3  # of common items: of two that part, either may be right
LEAST_UNITS = 80  # items with two votes or more: of 50 one of five equal raters is called unlike too often
SMOOTHING, RIGHT = 0.1, 0.5  # votes that each rater is given of every label, and more of the right one
STEPS, CONVERGED = 500, 1e-6
RESAMPLED_STEPS, RESAMPLED_CONVERGED = 100, 1e-3  # from the fit to all items on
LEAST_AGREEMENT = (
    0.0  # that the interval of alpha is above: who agree by chance alone have no truth in common
)
LEVEL = 0.05
ROUNDING = 1e-9  # by which raters of the same answers may differ
CHUNK = 4_000_000  # chances of labels that are held at a time
LIMITS = (
    "Errors that raters share look like the truth to this model, and it knows of no sides: a rater is called"
    " reliable who answers as most others do."
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Standing = Literal["more", "less", "unclear"]


@dataclass(frozen=True)
class RaterReliability:
    """Whether a rater gives the likely true label more or less often than the mean of the others; n: ratings
    of theirs."""

    rater: str
    n: int
    standing: Standing


@dataclass(frozen=True)
class Reliabilities:
    """Of raters with a rating. why: nothing can be said, and there are none."""

    raters: tuple[RaterReliability, ...]
    why: str = ""


def reliabilities(comparisons: Comparisons, *, resamples: int = 399, seed: int = 0) -> Reliabilities:
    """Of raters of comparisons; units as in `Tally`, resampled by item. A label is the pair's first system,
    its second one, a tie, or both bad."""
    rated, label = votes(comparisons)
    tally = Tally.of(rated, label)
    present, rater = np.unique(rated.rater, return_inverse=True)
    why = _too_few(tally, rated) or _too_many(len(present), resamples) or _agree_too_little(comparisons)
    if why:
        return Reliabilities((), why)
    _, item = np.unique(tally.item, return_inverse=True)
    drawn = _resampled(int(item.max()) + 1, resamples, seed)
    first, alike = _alike(label, tally.unit, rater)
    of_items = sparse.csr_array((np.ones(len(item)), (alike, item)), (len(first), len(drawn)))
    kept = np.isin(tally.unit, first)
    given = _Given(label[kept], alike[tally.unit[kept]], rater[kept].astype(np.int64), KINDS)
    right = given.reliability(of_items @ drawn)
    apart = right - (right.sum(axis=0) - right) / (len(present) - 1)
    apart[np.abs(apart) < ROUNDING] = 0.0
    observed, others = apart[:, 0], apart[:, 1:]
    tail = np.minimum((others <= 0).sum(axis=1), (others >= 0).sum(axis=1))
    p_values = holm(np.minimum(1.0, 2 * (1 + tail) / (1 + resamples)).tolist())
    n = np.bincount(rater)
    rows = []
    for place, p in enumerate(p_values):
        standing: Standing = "unclear" if p >= LEVEL else "more" if observed[place] > 0 else "less"
        rows.append(RaterReliability(rated.raters[present[place]], int(n[place]), standing))
    return Reliabilities(tuple(rows))


def _alike(label: Ints, unit: Ints, rater: Ints) -> tuple[Ints, Ints]:
    """The first unit of each kind, and of each unit its kind: those of one kind have the same votes by the
    same raters, so that the model says the same of them."""
    given = np.zeros((int(unit.max()) + 1, int(rater.max()) + 1), np.int8)
    given[unit, rater] = label + 1
    _, first, kind = np.unique(given, axis=0, return_index=True, return_inverse=True)
    return first.astype(np.int64), kind.astype(np.int64)


def _resampled(items: int, resamples: int, seed: int) -> Floats:
    """How often each item counts [items, 1 + resamples]: once, and as it is drawn."""
    drawn = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples).T
    return np.concatenate([np.ones((items, 1)), drawn], axis=1)


def _too_few(tally: Tally, rated: Comparisons) -> str:
    shared = tally.counts.sum(axis=1)[tally.unit] >= 2 if len(rated) else np.zeros(0, bool)
    raters, units = len(np.unique(rated.rater[shared])), len(np.unique(tally.unit[shared]))
    if units < LEAST_UNITS:
        items = "1 item with two votes is" if units == 1 else f"{units} items with two votes or more are"
        return f"{items} too few to tell who is reliable"
    if raters < LEAST_RATERS:
        return "where two raters part, either of them may be right: it takes three"
    return ""


def _too_many(raters: int, resamples: int) -> str:
    """At a level for all of them together no resamples could tell one apart."""
    if raters * 2 / (1 + resamples) < LEVEL:
        return ""
    return f"of {raters} raters at once, {resamples} resamples could tell none from the others"


def _agree_too_little(comparisons: Comparisons) -> str:
    agreement = outcome_alpha(comparisons).interval
    # undefined where all votes are the same
    if agreement.value == agreement.value and (agreement.low is None or agreement.low <= LEAST_AGREEMENT):
        return "people agree too little for one of them to be right"
    return ""


def dawid_skene(
    label: Ints, unit: Ints, rater: Ints, labels: int, *, smoothing: float = SMOOTHING, right: float = RIGHT
) -> tuple[Floats, Floats]:
    """(confusion [raters, true label, label given], posterior [units, labels]) of ratings, all places from 0
    on. It starts from shares of votes."""
    given = _Given(label, unit, rater, labels, smoothing, right)
    confusion, posterior = given.fit(np.ones((given.units, 1)), given.shares(), STEPS, CONVERGED)
    return confusion[:, :, 0].transpose(0, 2, 1), posterior[:, 0]


class _Given:
    """Labels that raters gave, and the model's fits to them. Confusions are [raters, label given, resamples,
    true label] and posteriors [units, resamples, labels], so that both steps are products of matrices."""

    def __init__(
        self,
        label: Ints,
        unit: Ints,
        rater: Ints,
        labels: int,
        smoothing: float = SMOOTHING,
        right: float = RIGHT,
    ) -> None:
        self.label, self.unit, self.labels = label, unit, labels
        self.units, self.raters = int(unit.max()) + 1, int(rater.max()) + 1
        self.smoothing = smoothing
        self.prior = (np.full((labels, labels), smoothing) + right * np.eye(labels))[None, :, None, :]
        entries = np.ones(len(label)), (rater * labels + label, unit)
        self.counted = sparse.csr_array(entries, shape=(self.raters * labels, self.units))

    def shares(self) -> Floats:
        """Of the votes on each unit [units, 1, labels]."""
        shares = np.zeros((self.units, self.labels))
        np.add.at(shares, (self.unit, self.label), 1)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares[:, None]

    def reliability(self, weights: Floats) -> Floats:
        """Chance of each rater to give the true label, in the mix of labels [raters, resamples], where the
        units count as `weights` [units, resamples] says; the first of these are all there is."""
        _, start = self.fit(weights[:, :1], self.shares(), STEPS, CONVERGED)
        size = max(1, CHUNK // (self.units * self.labels))
        return np.concatenate(
            [
                self._reliability(weights[:, first : first + size], start)
                for first in range(0, weights.shape[1], size)
            ],
            axis=1,
        )

    def _reliability(self, weights: Floats, start: Floats) -> Floats:
        confusion, posterior = self.fit(weights, start, RESAMPLED_STEPS, RESAMPLED_CONVERGED)
        mix = (posterior * weights[:, :, None]).sum(axis=0) / weights.sum(axis=0)[:, None]
        chance: Floats = np.einsum("bk,rkbk->rb", mix, confusion)
        return chance

    def fit(self, weights: Floats, start: Floats, steps: int, converged: float) -> tuple[Floats, Floats]:
        """(confusion, posterior), from the posterior `start` on."""
        resamples = weights.shape[1]
        wide = self.raters, self.labels, resamples, self.labels
        posterior = np.broadcast_to(start, (self.units, resamples, self.labels))
        for _ in range(steps):
            weighted = posterior * weights[:, :, None]
            counts = (self.counted @ weighted.reshape(self.units, -1)).reshape(wide) + self.prior
            confusion = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)
            mix = weighted.sum(axis=0) + self.smoothing
            likely = np.log(np.maximum(confusion, 1e-300)).reshape(self.raters * self.labels, -1)
            logs = (self.counted.T @ likely).reshape(self.units, resamples, self.labels)
            logs += np.log(np.maximum(mix / mix.sum(axis=1, keepdims=True), 1e-300))
            logs -= logs.max(axis=2, keepdims=True)
            before, posterior = posterior, np.exp(logs)
            posterior /= posterior.sum(axis=2, keepdims=True)
            if np.abs(posterior - before).max() < converged:
                break
        return confusion, posterior
