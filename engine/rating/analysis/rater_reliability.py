"""What each rater is like: consistency, pace, a side they lean to, and who errs more often than the
others.

Repeats with swapped sides tell consistency; leaning is tested over all raters (Holm). Where the truth is
not known, Dawid and Skene's model (1979) tells who is right less often than others: it takes raters to
err independently, and gives no shares, as those lean to the middle. Nobody is left out here. Pure.
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
from engine.rating.analysis.comparisons import KINDS, Comparisons, PairOutcome, Tally, select_votes
from engine.rating.analysis.krippendorff_alpha import compute_outcome_alpha

# What each rater is like: how consistent, how fast, whether they lean to a side, how far others agree.
#
# A pair that comes again with its sides swapped should be answered alike: that share is a rater's
# consistency, and of those who always press one key it is low. Leaning to a side is tested (binomial, as
# sides are drawn by chance; Holm over all raters), pressing one key always is counted, being too fast is a
# median below a limit or far below that of the others. Where models stood mostly on one side each, as in
# files from elsewhere, a side is held against nobody: it is the model that stood there. Nothing is left out
# here: whoever leaves out a rater says so. Pure.

MIN_RATED = 10  # ratings, under which nothing is held against a rater
CONSTANT_SHARE = 0.95  # of ratings that are one key
FAST_SECONDS = 2.0
FAR_FASTER = 1 / 3  # of the median of the other raters' medians
LEVEL = 0.05

ConstantAnswer = Literal["", "left", "right", "tie", "both bad"]
CONSTANT_ANSWERS: tuple[ConstantAnswer, ...] = ("left", "right", "tie", "both bad")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RaterProfile:
    """consistency: share of swapped repeats answered alike. seconds: median, NaN where not measured. left:
    share of decided ratings for the left side. agreement: share of the others' votes on the same items and
    pairs that are like this rater's. leans: to a side, beyond chance. always: the key that nearly every
    rating is. reasons: why the ratings may be worth little, in words."""

    rater: str
    n: int
    consistency: Interval
    seconds: float
    left: Interval
    agreement: Interval
    leans: bool
    always: ConstantAnswer
    reasons: tuple[str, ...]

    @property
    def suspect(self) -> bool:
        """There is a reason to look at what this rater did."""
        return bool(self.reasons)


def profile_raters(comparisons: Comparisons, *, fast_seconds: float = FAST_SECONDS) -> list[RaterProfile]:
    """Of each rater with a rating, in the order of their names' list."""
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
        always, consistency = _find_constant_answer(mine.outcome), consistencies[rater]
        leans = sides_tell and p < LEVEL
        if always in ("left", "right") and not sides_tell:
            always = ""
        reasons = _list_reasons(always, left, leans, fast, medians[rater], consistency)
        rows.append(
            RaterProfile(
                comparisons.raters[rater], len(mine), consistency, medians[rater], left, agreements[rater],
                leans, always, reasons,
            )
        )  # fmt: skip
    return rows


def _compute_side_p_value(outcome: Ints) -> float:
    """Two-sided exact p-value of as many decided ratings for either side; repeats count, as they are pressed
    too."""
    left, right = int((outcome == PairOutcome.LEFT).sum()), int((outcome == PairOutcome.RIGHT).sum())
    return min(1.0, 2 * float(special.bdtr(min(left, right), left + right, 0.5))) if left + right else 1.0


def _list_places_by_rater(comparisons: Comparisons) -> list[Ints]:
    """Of each rater the places of their comparisons, in order."""
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
    """Whether a rater of so many ratings took too little time for them, in the median: under the limit, or
    far less than the others did in theirs."""
    if ratings < MIN_RATED:
        return False
    usual = float(np.median(others)) if len(others) >= 2 else math.nan
    return median < limit or median < FAR_FASTER * usual  # of NaN neither is true


def _find_constant_answer(outcome: Ints) -> ConstantAnswer:
    if len(outcome) < MIN_RATED:
        return ""
    shares = np.bincount(outcome, minlength=len(CONSTANT_ANSWERS)) / len(outcome)
    return CONSTANT_ANSWERS[int(shares.argmax())] if shares.max() >= CONSTANT_SHARE else ""


def _estimate_consistencies(comparisons: Comparisons) -> list[Interval]:
    """Of each rater: the share of repeats that name the same system as the first showing did."""
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
    why = "no pair was shown again with its sides swapped"
    return [
        wilson_interval(sum(same), len(same)) if same else Interval(math.nan, None, None, 0, why=why)
        for same in alike
    ]


def _estimate_agreements(comparisons: Comparisons) -> list[Interval]:
    """Of each rater: the mean share of the others' votes that are like theirs, over items."""
    rated, outcome = select_votes(comparisons)
    tally = Tally.of(rated, outcome)
    counts = tally.counts[tally.unit] if len(rated) else np.zeros((0, KINDS))
    others = counts.sum(axis=1) - 1
    like = counts[np.arange(len(rated)), outcome] - 1
    agreements = []
    for places in _list_places_by_rater(rated):
        shared = places[others[places] > 0]
        if not len(shared):
            why = "nobody else rated the same items"
            agreements.append(Interval(math.nan, None, None, 0, why=why))
            continue
        shares = like[shared] / others[shared]
        weights = None if rated.weights is None else rated.weights[shared]
        clusters = RatingClusters(rated.item[shared], np.zeros(len(shared), np.int64), weights)
        if np.isin(shares, (0, 1)).all():
            agreements.append(clustered.estimate_share(shares, clusters))
        else:
            agreements.append(clustered.estimate_mean(shares, clusters, bounds=(0.0, 1.0)))
    return agreements


def _list_reasons(
    always: ConstantAnswer, left: Interval, leans: bool, fast: bool, seconds: float, consistency: Interval
) -> tuple[str, ...]:
    """Why this rater's answers may be worth little."""
    reasons = []
    if always:
        reasons.append(f"nearly every rating is “{always}”")
    elif leans:
        reasons.append(f"leans to the {'left' if left.value > 0.5 else 'right'} side, beyond chance")
    if fast:
        reasons.append(f"took {seconds:.1f} seconds median, too little to read two answers")
    if consistency.high is not None and consistency.high < 0.5:
        reasons.append("answers most pairs otherwise when their sides are swapped")
    return tuple(reasons)


# Who is reliable, where the truth is not known: Dawid and Skene's (1979) model of raters.
#
# Each unit has a true label, each rater a chance to give each label to each true one; both are estimated in
# turn (EM), with a little of each label added to every rater's counts (Dirichlet smoothing, more of it
# where the label is right), so that few ratings decide nothing. Its limits: raters are taken to err
# independently, so that errors which all share look like the truth; a side that a rater prefers is not part
# of it; and with two raters nobody can say which of them is right.
#
# How often a rater is right is not given as a figure: the estimates lean to the middle where items have few
# votes, and intervals around them hold the truth in 85 to 95 of 100 rounds only. Whether somebody is right
# less often than the others can be told: over resamples of items, at a level that holds for all raters
# together (Holm). Pure.

MIN_RATERS = 3  # of common items: of two that part, either may be right
MIN_UNITS = 80  # items with two votes or more: of 50 one of five equal raters is called unlike too often
SMOOTHING, RIGHT = 0.1, 0.5  # votes that each rater is given of every label, and more of the right one
STEPS, CONVERGED = 500, 1e-6
RESAMPLED_STEPS, RESAMPLED_CONVERGED = 100, 1e-3  # from the fit to all items on
MIN_AGREEMENT = 0.0  # that the interval of alpha is above: who agree by chance alone have no truth in common
RELIABILITY_LEVEL = 0.05
ROUNDING = 1e-9  # by which raters of the same answers may differ
CHUNK = 4_000_000  # chances of labels that are held at a time
LIMITATIONS = (
    "Errors that raters share look like the truth to this model, and it knows of no sides: a rater is called"
    " reliable who answers as most others do."
)

Floats = NDArray[np.float64]
ReliabilityVerdict = Literal["more", "less", "unclear"]


@dataclass(frozen=True)
class RaterReliability:
    """Whether a rater gives the likely true label more or less often than the mean of the others; n: ratings
    of theirs."""

    rater: str
    n: int
    standing: ReliabilityVerdict


@dataclass(frozen=True)
class Reliabilities:
    """Of raters with a rating. why: nothing can be said, and there are none."""

    raters: tuple[RaterReliability, ...]
    why: str = ""


def estimate_reliabilities(comparisons: Comparisons, *, resamples: int = 399, seed: int = 0) -> Reliabilities:
    """Of raters of comparisons; units as in `Tally`, resampled by item. A label is the pair's first system,
    its second one, a tie, or both bad."""
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
    drawn = _draw_resamples(int(item.max()) + 1, resamples, seed)
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
    """The first unit of each kind, and of each unit its kind: those of one kind have the same votes by the
    same raters, so that the model says the same of them."""
    given = np.zeros((int(unit.max()) + 1, int(rater.max()) + 1), np.int8)
    given[unit, rater] = label + 1
    _, first, kind = np.unique(given, axis=0, return_index=True, return_inverse=True)
    return first.astype(np.int64), kind.astype(np.int64)


def _draw_resamples(items: int, resamples: int, seed: int) -> Floats:
    """How often each item counts [items, 1 + resamples]: once, and as it is drawn."""
    drawn = np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples).T
    return np.concatenate([np.ones((items, 1)), drawn], axis=1)


def _describe_small_sample(tally: Tally, rated: Comparisons) -> str:
    shared = tally.counts.sum(axis=1)[tally.unit] >= 2 if len(rated) else np.zeros(0, bool)
    raters, units = len(np.unique(rated.rater[shared])), len(np.unique(tally.unit[shared]))
    if units < MIN_UNITS:
        items = "1 item with two votes is" if units == 1 else f"{units} items with two votes or more are"
        return f"{items} too few to tell who is reliable"
    if raters < MIN_RATERS:
        return "where two raters part, either of them may be right: it takes three"
    return ""


def _describe_too_many_raters(raters: int, resamples: int) -> str:
    """At a level for all of them together no resamples could tell one apart."""
    if raters * 2 / (1 + resamples) < RELIABILITY_LEVEL:
        return ""
    return f"of {raters} raters at once, {resamples} resamples could tell none from the others"


def _describe_low_agreement(comparisons: Comparisons) -> str:
    agreement = compute_outcome_alpha(comparisons).interval
    # undefined where all votes are the same
    if agreement.value == agreement.value and (agreement.low is None or agreement.low <= MIN_AGREEMENT):
        return "people agree too little for one of them to be right"
    return ""


def fit_dawid_skene(
    label: Ints, unit: Ints, rater: Ints, labels: int, *, smoothing: float = SMOOTHING, right: float = RIGHT
) -> tuple[Floats, Floats]:
    """(confusion [raters, true label, label given], posterior [units, labels]) of ratings, all places from 0
    on. It starts from shares of votes."""
    given = _GivenLabels(label, unit, rater, labels, smoothing, right)
    confusion, posterior = given.fit(np.ones((given.units, 1)), given.shares(), STEPS, CONVERGED)
    return confusion[:, :, 0].transpose(0, 2, 1), posterior[:, 0]


class _GivenLabels:
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
