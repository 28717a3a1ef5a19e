"""Rater profiles: consistency, pace, side bias, and raters who err more often than others.

Consistency is measured by repeats with swapped sides; side bias is tested over all raters (Holm). Where
the truth isn't known, the model of Dawid and Skene (1979) estimates who is right less often than others.
It assumes that raters err independently, and no accuracies are reported, as they are biased toward the
middle. No rater is excluded here. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from engine.evaluation.statistics import clustered
from engine.evaluation.statistics.clustered import RatingClusters
from engine.evaluation.statistics.intervals import Interval, wilson_interval
from engine.evaluation.statistics.proportions import holm
from engine.rating.analysis import reasons_text
from engine.rating.analysis.comparisons import KINDS, Comparisons, PairOutcome, Tally, select_votes
from engine.rating.analysis.krippendorff_alpha import compute_outcome_alpha

# Consistency is the share of pairs answered alike when shown again with swapped sides; it is low for raters
# who always press one key. Side bias is tested (binomial test, as sides are random; Holm over all raters),
# constant answers are counted, and being too fast means a median below a limit or far below that of the
# others. Where models were mostly shown on one side each, as in imported files, side bias isn't attributed to
# raters: it is an effect of the model shown there. Nobody is excluded here; callers decide that.

MIN_RATED = 10  # minimum number of ratings for constant answers or pace to count
CONSTANT_SHARE = 0.95  # share of ratings with the same answer
FAST_SECONDS = 2.0
FAR_FASTER = 1 / 3  # fraction of the median of the other raters' medians
LEVEL = 0.05

ConstantAnswer = Literal["", "left", "right", "tie", "both bad"]
CONSTANT_ANSWERS: tuple[ConstantAnswer, ...] = ("left", "right", "tie", "both bad")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RaterProfile:
    """Profile of a rater.

    consistency: share of swapped repeats answered alike. seconds: median, NaN where not measured. left:
    share of decided ratings for the left side. agreement: share of the others' votes on the same items and
    pairs that match this rater's. leans: significant side bias. always: the answer that nearly every
    rating gives. fast: too fast to read two answers.
    """

    rater: str
    n: int
    consistency: Interval
    seconds: float
    left: Interval
    agreement: Interval
    leans: bool
    always: ConstantAnswer
    fast: bool

    @property
    def inconsistent(self) -> bool:
        """Whether most pairs are answered otherwise when their sides are swapped."""
        return self.consistency.high is not None and self.consistency.high < 0.5

    @property
    def suspect(self) -> bool:
        """Whether there is a reason to review this rater's work."""
        return bool(self.always) or self.leans or self.fast or self.inconsistent


def profile_raters(comparisons: Comparisons, *, fast_seconds: float = FAST_SECONDS) -> list[RaterProfile]:
    """Return the profile of each rater with a rating, in the order of `raters`."""
    own, fresh = _list_places_by_rater(comparisons), comparisons.fresh
    present = [rater for rater, places in enumerate(own) if len(places)]
    sides_tell = not comparisons.take(comparisons.fresh).stood_on_one_side
    p_values = holm([_compute_side_p_value(comparisons.outcome[own[rater]]) for rater in present])
    medians = {rater: _median(comparisons, own[rater]) for rater in present}
    agreements, consistencies = _estimate_agreements(comparisons), _estimate_consistencies(comparisons)
    rows = []
    for rater, p in zip(present, p_values, strict=True):
        mine = comparisons.take(own[rater][fresh[own[rater]]])
        decided = mine.take(mine.outcome < PairOutcome.TIE)
        left = clustered.estimate_share(
            decided.outcome == PairOutcome.LEFT, RatingClusters(decided.item, decided.rater)
        )
        others = [median for other, median in medians.items() if other != rater and not math.isnan(median)]
        fast = is_too_fast(len(mine), medians[rater], others, fast_seconds)
        always = _find_constant_answer(mine.outcome)
        if always in ("left", "right") and not sides_tell:
            always = ""
        rows.append(
            RaterProfile(
                comparisons.raters[rater], len(mine), consistencies[rater], medians[rater], left,
                agreements[rater], sides_tell and p < LEVEL, always, fast,
            )
        )  # fmt: skip
    return rows


def _compute_side_p_value(outcome: Ints) -> float:
    """Return the two-sided exact p-value of equal shares of left and right among decided ratings.

    Repeats count, as they are decisions too.
    """
    left, right = int((outcome == PairOutcome.LEFT).sum()), int((outcome == PairOutcome.RIGHT).sum())
    return min(1.0, 2 * float(special.bdtr(min(left, right), left + right, 0.5))) if left + right else 1.0


def _list_places_by_rater(comparisons: Comparisons) -> list[Ints]:
    """Return the indices of each rater's comparisons, in order."""
    order = np.argsort(comparisons.rater, kind="stable")
    ends = np.cumsum(np.bincount(comparisons.rater, minlength=len(comparisons.raters)))
    return np.split(order, ends[:-1]) if len(ends) else []


def _median(comparisons: Comparisons, places: Ints) -> float:
    if comparisons.seconds is None:
        return math.nan
    seconds = comparisons.seconds[places]
    seconds = seconds[np.isfinite(seconds)]
    return float(np.median(seconds)) if len(seconds) else math.nan


def is_too_fast(ratings: int, median: float, others: Sequence[float], limit: float = FAST_SECONDS) -> bool:
    """Return whether a rater's median time is below the limit or far below the other raters' medians.

    False for raters with too few ratings.
    """
    if ratings < MIN_RATED:
        return False
    usual = float(np.median(others)) if len(others) >= 2 else math.nan
    return median < limit or median < FAR_FASTER * usual  # both are false for NaN


def _find_constant_answer(outcome: Ints) -> ConstantAnswer:
    if len(outcome) < MIN_RATED:
        return ""
    shares = np.bincount(outcome, minlength=len(CONSTANT_ANSWERS)) / len(outcome)
    return CONSTANT_ANSWERS[int(shares.argmax())] if shares.max() >= CONSTANT_SHARE else ""


def _estimate_consistencies(comparisons: Comparisons) -> list[Interval]:
    """Return, for each rater, the share of repeats that name the same system as the first presentation."""
    named, unit, fresh = comparisons.outcome_in_order, comparisons.unit, comparisons.fresh
    first: dict[tuple[int, int], int] = {}
    alike: list[list[bool]] = [[] for _ in comparisons.raters]
    asked = np.isin(unit, unit[~fresh])
    for again in (False, True):
        for place in np.flatnonzero(asked & (fresh != again)).tolist():
            key = int(comparisons.rater[place]), int(unit[place])
            if not again:
                first.setdefault(key, int(named[place]))
            elif key in first:
                alike[key[0]].append(first[key] == int(named[place]))
    unknown = Interval(math.nan, None, None, 0, why=reasons_text.NO_REPEATS)
    return [wilson_interval(sum(same), len(same)) if same else unknown for same in alike]


def _estimate_agreements(comparisons: Comparisons) -> list[Interval]:
    """Return, for each rater, the mean over items of the share of the others' votes that match theirs."""
    rated, outcome = select_votes(comparisons)
    tally = Tally.of(rated, outcome)
    counts = tally.counts[tally.unit] if len(rated) else np.zeros((0, KINDS))
    others = counts.sum(axis=1) - 1
    like = counts[np.arange(len(rated)), outcome] - 1
    agreements = []
    for places in _list_places_by_rater(rated):
        shared = places[others[places] > 0]
        if not len(shared):
            agreements.append(Interval(math.nan, None, None, 0, why=reasons_text.NO_OTHER_RATERS))
            continue
        shares = like[shared] / others[shared]
        weights = None if rated.weights is None else rated.weights[shared]
        clusters = RatingClusters(rated.item[shared], np.zeros(len(shared), np.int64), weights)
        if np.isin(shares, (0, 1)).all():
            agreements.append(clustered.estimate_share(shares, clusters))
        else:
            agreements.append(clustered.estimate_mean(shares, clusters, bounds=(0.0, 1.0)))
    return agreements


# Dawid-Skene model (1979). Each unit has a true label, and each rater a probability of giving each label for
# each true one; both are estimated in turn (EM), with Dirichlet smoothing of each rater's counts (more for
# the right label), so that few ratings don't decide. Limitations: raters are assumed to err independently, so
# shared errors look like the truth; side bias is not modeled; and with two raters, it can't be determined
# which of them is right.
#
# Accuracies are not reported: the estimates are biased toward the middle where items have few votes, and
# their intervals cover the true value in only 85 to 95 of 100 rounds. Whether a rater is right less often
# than the others can be tested, with resamples of items, at a level for all raters together (Holm).

MIN_RATERS = 3  # with common items: if two disagree, either may be right
MIN_UNITS = 80  # items with at least two votes: with 50, one of five equal raters is flagged too often
SMOOTHING, RIGHT = 0.1, 0.5  # pseudo-counts per label, and extra for the right label
STEPS, CONVERGED = 500, 1e-6
RESAMPLED_STEPS, RESAMPLED_CONVERGED = 100, 1e-3  # starting from the fit to all items
MIN_AGREEMENT = 0.0  # lower limit of alpha: raters who agree only by chance share no truth
RELIABILITY_LEVEL = 0.05
ROUNDING = 1e-9  # rounding difference between raters with the same answers
CHUNK = 4_000_000  # label probabilities held in memory at once

Floats = NDArray[np.float64]
ReliabilityVerdict = Literal["more", "less", "unclear"]


@dataclass(frozen=True)
class RaterReliability:
    """Whether a rater gives the likely true label more or less often than the mean of the others; n is their
    number of ratings.
    """

    rater: str
    n: int
    standing: ReliabilityVerdict


@dataclass(frozen=True)
class Reliabilities:
    """Reliability of each rater with a rating.

    `why` says why it can't be estimated; `raters` is then empty.
    """

    raters: tuple[RaterReliability, ...]
    why: str = ""


def estimate_reliabilities(comparisons: Comparisons, *, resamples: int = 399, seed: int = 0) -> Reliabilities:
    """Estimate the reliability of raters of comparisons.

    Units are those of `Tally`, resampled by item. The labels are the pair's first system, its second
    system, a tie, and both bad.
    """
    rated, label = select_votes(comparisons)
    tally = Tally.of(rated, label)
    present, rater = np.unique(rated.rater, return_inverse=True)
    why = (
        _describe_small_sample(tally, rated)
        or _describe_too_many_raters(len(present), resamples)
        or _describe_low_agreement(comparisons)
    )
    if why:
        return Reliabilities((), why)
    _, item = np.unique(tally.item, return_inverse=True)
    # the count of each item [items, 1 + resamples]: 1 in the first column, then bootstrap counts
    items = int(item.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples).T
    drawn = np.concatenate([np.ones((items, 1)), drawn], axis=1)
    first, alike = _group_identical_units(label, tally.unit, rater)
    of_items = sparse.csr_array((np.ones(len(item)), (alike, item)), (len(first), len(drawn)))
    kept = np.isin(tally.unit, first)
    given = _GivenLabels(label[kept], alike[tally.unit[kept]], rater[kept].astype(np.int64), KINDS)
    right = given.reliability(of_items @ drawn)
    apart = right - (right.sum(axis=0) - right) / (len(present) - 1)
    apart[np.abs(apart) < ROUNDING] = 0.0
    observed, others = apart[:, 0], apart[:, 1:]
    tail = np.minimum((others <= 0).sum(axis=1), (others >= 0).sum(axis=1))
    p_values = holm(np.minimum(1.0, 2 * (1 + tail) / (1 + resamples)).tolist())
    n = np.bincount(rater)
    rows = []
    for place, p in enumerate(p_values):
        standing: ReliabilityVerdict = (
            "unclear" if p >= RELIABILITY_LEVEL else "more" if observed[place] > 0 else "less"
        )
        rows.append(RaterReliability(rated.raters[present[place]], int(n[place]), standing))
    return Reliabilities(tuple(rows))


def _group_identical_units(label: Ints, unit: Ints, rater: Ints) -> tuple[Ints, Ints]:
    """Return the first unit of each kind, and the kind of each unit.

    Units of one kind have the same votes by the same raters, so the model gives them the same posterior.
    """
    given = np.zeros((int(unit.max()) + 1, int(rater.max()) + 1), np.int8)
    given[unit, rater] = label + 1
    _, first, kind = np.unique(given, axis=0, return_index=True, return_inverse=True)
    return first.astype(np.int64), kind.astype(np.int64)


def _describe_small_sample(tally: Tally, rated: Comparisons) -> str:
    shared = tally.counts.sum(axis=1)[tally.unit] >= 2 if len(rated) else np.zeros(0, bool)
    raters, units = len(np.unique(rated.rater[shared])), len(np.unique(tally.unit[shared]))
    if units < MIN_UNITS:
        return reasons_text.explain_few_units(units)
    return reasons_text.TWO_RATERS if raters < MIN_RATERS else ""


def _describe_too_many_raters(raters: int, resamples: int) -> str:
    """Return why no rater can be told apart with this many raters and resamples; an empty string if they can.

    With Holm's correction for too many raters, the smallest p-value of the resamples is not significant.
    """
    if raters * 2 / (1 + resamples) < RELIABILITY_LEVEL:
        return ""
    return reasons_text.explain_many_raters(raters, resamples)


def _describe_low_agreement(comparisons: Comparisons) -> str:
    agreement = compute_outcome_alpha(comparisons).interval
    # NaN (undefined) where all votes are equal
    if agreement.value == agreement.value and (agreement.low is None or agreement.low <= MIN_AGREEMENT):
        return reasons_text.LOW_AGREEMENT
    return ""


def fit_dawid_skene(
    label: Ints, unit: Ints, rater: Ints, labels: int, *, smoothing: float = SMOOTHING, right: float = RIGHT
) -> tuple[Floats, Floats]:
    """Fit the Dawid-Skene model, starting from vote shares; all indices are from 0.

    Returns the confusion [raters, true label, given label] and the posterior [units, labels].
    """
    given = _GivenLabels(label, unit, rater, labels, smoothing, right)
    confusion, posterior = given.fit(np.ones((given.units, 1)), given.shares(), STEPS, CONVERGED)
    return confusion[:, :, 0].transpose(0, 2, 1), posterior[:, 0]


class _GivenLabels:
    """Labels given by raters, and the fit of the model to them.

    Confusions are [raters, given label, resamples, true label] and posteriors [units, resamples, labels],
    so both steps are matrix products.
    """

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
        """Return the vote shares of each unit [units, 1, labels]."""
        shares = np.zeros((self.units, self.labels))
        np.add.at(shares, (self.unit, self.label), 1)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares[:, None]

    def reliability(self, weights: Floats) -> Floats:
        """Return each rater's probability of giving the true label, averaged over labels [raters, resamples].

        `weights` [units, resamples] are the unit counts; the first column is the full sample.
        """
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
        """Return confusion and posterior, starting from the posterior `start`."""
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
