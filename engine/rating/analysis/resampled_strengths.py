"""Bootstrap of strengths over items, and limits from the resamples.

Every item has a random exponential weight (the Bayesian bootstrap of Rubin 1981), and half a win for each
side, of random weight, is shared among the pairs (Jeffreys' prior of two systems), without which a system
that always won would win in every resample. Limits are the resamples' distances from their median, plus
the error that raters add (`clustered.py`), widened to Student's t. Resampling raters as well would count
variance that belongs neither to items nor to raters three times (the pigeonhole bootstrap, Owen 2007), and
a mean of five random weights varies less than the uncertainty that five raters leave. Where every item has
one rating, ratings are independent, no cluster variance is estimated, and the quantile is the normal one.
For many pairs at once, limits are simultaneous, based on the largest difference in each resample.

Resamples are refitted as long as that is cheap. For tens of thousands of ratings, each is one Newton step
from the fit to all ratings, provided that each strength is known well enough for the likelihood to be
nearly quadratic: with the resample's own information for few items; for many items, the sum of scores is
drawn from a normal distribution and the information is that of all ratings. Pure and seeded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from engine.evaluation.statistics import intervals
from engine.evaluation.statistics.clustered import RatingClusters, index_values, sum_by_cluster
from engine.rating.analysis import davidson
from engine.rating.analysis.comparisons import Comparisons, PairOutcome
from engine.rating.analysis.davidson import RIDGE, Design, Fit

CHUNK = 4_000_000  # numbers held in memory at once; above this, resamples take one step
TINY = 1e-300
PRIOR_WINS = 0.5  # for each side, with two systems
COVARIATE_PRIOR = 1 / 5**2  # inverse variance of a coefficient per standard deviation of its covariate
SAME_RATIO = 0.05  # ratio to the variance of independent ratings below which all ratings agree
KNOWN_ERROR = 0.3  # standard error of a strength or coefficient up to which one step is enough
FEW_ITEMS = 500
LIGHT_PRIOR = 0.01  # about twice the fraction of a strength's variance that random prior weights would add
CONVERGED = 1e-2  # log odds: resamples whose last step was shorter are within a hundredth of that

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DesignRows:
    """Ratings as rows of a design.

    row, outcome, weight: of each entry, which is a rating or one side's part of a fractional vote. design:
    x has one column per system and one per covariate, in units of its `scale`. mates: mean number of
    ratings per item and pair. clusters: clusters of the entries.
    """

    design: Design
    row: Ints
    outcome: Ints
    weight: Floats
    scale: Floats
    mates: float
    clusters: RatingClusters

    @classmethod
    def of(cls, rated: Comparisons, differences: Floats) -> DesignRows:
        """Build the rows from comparisons without "both bad", with `differences` [n, k] as covariates."""
        scale = np.sqrt(np.square(differences).mean(axis=0)) if len(rated) else np.ones(differences.shape[1])
        scale = np.where(scale > 0, scale, 1.0)
        mates = len(rated) / max(1, len(np.unique(rated.unit)))
        weights = rated.vote_weights
        place, outcome, part = _list_entries(rated)
        rated, differences, weights = rated.take(place), differences[place], weights[place] * part
        clusters = RatingClusters(rated.item, rated.rater, weights)
        weight = weights * (part.sum() / weights.sum()) if len(part) else weights
        left, right = rated.left, rated.right
        if not len(scale):  # sides don't matter then, which halves the rows
            turned = (left > right) & (outcome < PairOutcome.TIE)
            left, right, outcome = rated.lower, rated.upper, np.where(turned, 1 - outcome, outcome)
        if len(scale):
            columns = np.column_stack([left, right, differences / scale])
            keys, row = np.unique(columns, axis=0, return_inverse=True)
        else:  # sorting integers is many times faster than sorting rows
            numbers = left * len(rated.systems) + right
            keys, row = (
                np.column_stack(np.divmod(np.unique(numbers), len(rated.systems))),
                index_values(numbers),
            )
        penalty = np.append(np.full(len(rated.systems), RIDGE), np.full(len(scale), COVARIATE_PRIOR))
        design = Design(
            np.hstack([_build_pair_contrasts(keys[:, :2], len(rated.systems)), keys[:, 2:]]), penalty
        )
        return cls(design, row.astype(np.int64), outcome, weight, scale, mates, clusters)

    @property
    def cells(self) -> Ints:
        """Index of each entry in the flattened rows and outcomes."""
        return self.row * 3 + self.outcome

    @cached_property
    def whole(self) -> Floats:
        """Counts of all ratings [rows, 3]."""
        counts = np.bincount(self.cells, self.weight, 3 * len(self.design.x))
        return counts.astype(np.float64).reshape(-1, 3)

    def by_item(self, place: Ints, width: int) -> sparse.csr_array:
        """Return sums of weights [items, width], with each entry in column `place`."""
        return sparse.csr_array(
            (self.weight, (self.clusters.item_place, place)), (self.clusters.items, width)
        )


def _list_entries(rated: Comparisons) -> tuple[Ints, Ints, Floats]:
    """Return the rating index, outcome and fraction of each entry.

    A fractional vote has one entry for each side.
    """
    soft = np.flatnonzero(rated.soft)
    place, outcome = np.arange(len(rated)), rated.outcome
    if not len(soft):
        return place, outcome, np.ones(len(rated))
    own = np.where(outcome == PairOutcome.LEFT, 1 + rated.signs, 1 - rated.signs) / 2
    part = np.where(rated.soft, own, 1.0)
    return (
        np.concatenate([place, soft]),
        np.concatenate([outcome, 1 - outcome[soft]]),
        np.concatenate([part, 1 - part[soft]]),
    )


def _build_pair_contrasts(pairs: Floats | Ints, systems: int) -> Floats:
    """Return one row per pair of systems: 1 for the first, -1 for the second."""
    x, every = np.zeros((len(pairs), systems)), np.arange(len(pairs))
    x[every, pairs[:, 0].astype(np.int64)], x[every, pairs[:, 1].astype(np.int64)] = 1, -1
    return x


@dataclass(frozen=True)
class StrengthResamples:
    """Draws of contrasts [resamples, contrasts], the variance that raters add to each contrast, and its
    degrees of freedom.
    """

    drawn: Floats
    of_raters: Floats
    degrees: Floats

    @cached_property
    def _in_order(self) -> Floats:
        """Sorted draws of each contrast [contrasts, resamples]."""
        return np.sort(self.drawn.T, axis=1)

    def _quantile(self, level: float) -> Floats:
        """Return the quantile of each contrast, interpolated as in `numpy.quantile`."""
        place = level * (len(self.drawn) - 1)
        below, above = (self._in_order[:, int(end)] for end in (math.floor(place), math.ceil(place)))
        quantile: Floats = below + (above - below) * (place - math.floor(place))
        return quantile

    @cached_property
    def middle(self) -> Floats:
        """Median of each contrast."""
        return self._quantile(0.5)

    def limits(self, confidence: float, together: Ints | None = None) -> tuple[Floats, Floats]:
        """Return the lower and upper limits of each contrast.

        Limits of the contrasts `together` are simultaneous at that confidence. The errors over items and
        raters are added in quadrature, on each side (`statistics/intervals.py`).
        """
        tail = (1 - confidence) / 2
        low, high = self._quantile(tail), self._quantile(1 - tail)
        z = float(special.ndtri(1 - tail))
        times = np.full(self.drawn.shape[1], 1.0)
        if together is not None and len(together) > 1:
            off = self.drawn[:, together] - self.middle[together]
            reach = np.where(off > 0, (high - self.middle)[together], (low - self.middle)[together])
            largest = (off / np.where(np.abs(reach) > 0, reach, np.inf)).max(axis=1)
            times[together] = max(1.0, float(np.quantile(largest, confidence)))
        errors = special.stdtrit(self.degrees, special.ndtr(z * times))
        below, above = (
            np.sqrt(np.square(off / z) + self.of_raters) for off in (self.middle - low, high - self.middle)
        )
        return self.middle - errors * below, self.middle + errors * above

    @cached_property
    def errors(self) -> Floats:
        """Standard error of each contrast, from the central quantiles of the resamples."""
        low, high = (self._quantile(float(special.ndtr(z))) for z in (-1.0, 1.0))
        errors: Floats = np.sqrt(np.square((high - low) / 2) + self.of_raters)
        return errors

    @cached_property
    def chance_above(self) -> Floats:
        """Probability that each contrast is above 0, consistent with the limits' uncertainty."""
        share = ((self.drawn > 0).sum(axis=0) + 0.5) / (len(self.drawn) + 1)
        whole = np.maximum(self.errors, TINY)
        of_items = np.sqrt(np.maximum(np.square(whole) - self.of_raters, 0.0))
        chances: Floats = special.stdtr(self.degrees, special.ndtri(share) * of_items / whole)
        return chances


def resample_strengths(
    counted: DesignRows, fitted: Fit, contrasts: Floats, pairs: Ints, draws: int
) -> StrengthResamples:
    """Draw resamples of `contrasts` [k, coefficients and log nu].

    `pairs` [pairs, 2] are the systems that were compared.
    """
    clusters = counted.clusters
    information = davidson.compute_information(counted.design, counted.whole, fitted)
    scores = davidson.compute_scores(counted.design, fitted, counted.row, counted.outcome)
    scores *= counted.weight[:, None]
    of_scores = np.asarray(
        np.linalg.solve(information, contrasts.T).T, np.float64
    )  # effect of a score on each contrast
    spread = clusters.spread(scores, of_scores)
    plain = (contrasts * of_scores).sum(axis=1)
    alike = _estimate_design_effect(counted, float(spread.variance.sum() / plain.sum()))
    least_known = _find_largest_variance(counted, plain)
    prior = _Prior.of(counted, pairs, alike, least_known)
    work = draws * (3 * len(counted.design.x) + clusters.items)
    if work > CHUNK and least_known <= KNOWN_ERROR**2:
        sums = sum_by_cluster(scores, clusters.item_place, clusters.items)
        drawn = _update_one_step(counted, fitted, information, sums, prior, draws) @ contrasts.T
    else:
        drawn = _refit_resamples(counted, fitted, prior, draws) @ contrasts.T
    degrees = spread.degrees
    if len(counted.scale):
        middle = np.median(drawn, axis=0)
        drawn = middle + (drawn - middle) * _compute_widening(clusters.items, len(contrasts[0]) - 1)
    elif clusters.independent:
        degrees = np.full(len(contrasts), np.inf)
    return StrengthResamples(drawn, spread.of_raters, degrees)


def _find_largest_variance(counted: DesignRows, variance: Floats) -> float:
    """Return the largest variance of a strength or a coefficient.

    `variance` is that of the contrasts for independent ratings, strengths first and log nu last.
    """
    covariates = len(counted.scale)
    strengths = len(counted.design.penalty) - covariates
    asked = np.append(variance[:strengths], variance[len(variance) - 1 - covariates : -1])
    return float(asked.max(initial=0.0))


@dataclass(frozen=True)
class _Prior:
    """Prior of half a win for each side of two systems, shared among the pairs that were compared, one row of
    x each.

    alike: number of ratings per independent rating. is_light: random prior weights hardly affect the
    result, so their mean is used.
    """

    x: Floats
    wins: float
    alike: float
    is_light: bool

    @classmethod
    def of(cls, counted: DesignRows, pairs: Ints, alike: float, variance: float) -> _Prior:
        """Build the prior, with all covariates equal; `variance` is that of the least certain strength."""
        covariates = np.zeros((len(pairs), len(counted.scale)))
        systems = counted.design.x.shape[1] - len(counted.scale)
        wins = PRIOR_WINS * (len(np.unique(pairs)) - 1) / len(pairs)
        x = np.hstack([_build_pair_contrasts(pairs, systems), covariates])
        return cls(x, wins, alike, alike * alike * variance < LIGHT_PRIOR)

    def mean(self) -> Floats:
        """Return counts of equal weight [1, pairs, 3]."""
        return np.tile([self.alike * self.wins, self.alike * self.wins, 0.0], (1, len(self.x), 1))

    def drawn(self, draws: int, random: np.random.Generator) -> Floats:
        """Return counts of random weight [draws, pairs, 3]."""
        counts = np.zeros((draws, len(self.x), 3))
        counts[..., :2] = self.alike * random.standard_gamma(self.wins, (draws, len(self.x), 2))
        return counts


def _update_one_step(
    counted: DesignRows, fitted: Fit, information: Floats, sums: Floats, prior: _Prior, draws: int
) -> Floats:
    """Return coefficients and log nu of resamples [draws, k + 1], one Newton step from the full fit.

    `sums` are the sums of scores by item.
    """
    random = np.random.default_rng(0)
    items, k = sums.shape
    design = counted.design
    if items > FEW_ITEMS:
        values, vectors = np.linalg.eigh(sums.T @ sums)
        gradient = random.standard_normal((draws, k)) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        own = information[None]
    else:
        weights = random.standard_exponential((draws, items))
        of_items = davidson.compute_information_of_sets(
            design, counted.by_item(counted.row, len(design.x)), fitted
        )
        own = np.tensordot(weights, of_items, axes=1) + np.diag(np.append(design.penalty, RIDGE))
        gradient = (weights - 1) @ sums
    theta = np.append(fitted.coefficients[0], fitted.log_nu[0])
    pulls = prior.mean() if prior.is_light else prior.drawn(draws, random)
    pulled, held = davidson.compute_derivatives(
        Design(prior.x, np.zeros(k - 1)), pulls, np.tile(theta, (len(pulls), 1)), np.zeros(k)
    )
    step = np.linalg.solve(own + held, (gradient + pulled)[..., None])[..., 0]
    return np.asarray(theta + step, np.float64)


def _refit_resamples(counted: DesignRows, fitted: Fit, prior: _Prior, draws: int) -> Floats:
    """Return coefficients and log nu of resamples [draws, k + 1], each refitted."""
    random = np.random.default_rng(0)
    rows, items = len(counted.design.x), counted.clusters.items
    design = Design(np.vstack([counted.design.x, prior.x]), counted.design.penalty)
    sums = counted.by_item(counted.cells, 3 * rows).T.tocsr()
    parts = []
    for count in intervals.draw_batches(draws, 3 * len(design.x) + items, CHUNK):
        weights = random.standard_exponential((count, items))
        counts = np.asarray((sums @ weights.T).T, np.float64).reshape(count, -1, 3)
        counts = np.concatenate([counts, prior.drawn(count, random)], axis=1)
        refitted = davidson.fit(design, counts, fitted, converged=CONVERGED)
        parts.append(np.column_stack([refitted.coefficients, refitted.log_nu]))
    return np.vstack(parts)


def _compute_widening(items: int, parameters: int) -> float:
    """Return the factor by which resamples with covariates are widened.

    It accounts for the degrees of freedom that estimating coefficients uses (as in MacKinnon and White's
    HC3 with equal leverage for each item).
    """
    return items / max(items - parameters, items / 2)


def _estimate_design_effect(counted: DesignRows, ratio: float) -> float:
    """Return the number of ratings per independent rating.

    It is at most the number of ratings per item and pair, and exactly that where all ratings agree, so
    that the effect can't be observed. `ratio` is the variance of contrasts relative to that of independent
    ratings.
    """
    return counted.mates if ratio < SAME_RATIO else float(np.clip(ratio, 1.0, counted.mates))
