"""What strengths might have been in another round: resamples of items, and limits from them.

Every item has a random weight (exponential: the bootstrap of Rubin 1981), and half a win either way, of
random weight, is shared among the pairs (Jeffreys' prior of two systems), without which a system that always
won would always win. Limits lie as far from the median as those of the resamples, times what the raters add
to the error (`clustered.py`), widened to Student's t. Resampling raters as well would count three times what
is of neither item nor rater (the pigeonhole bootstrap, Owen 2007), and a mean of five random weights reaches
less far out than what five raters leave open. Where every item has one rating, ratings are independent, no
variance of clusters is estimated, and the quantile is the normal one. For many pairs at once limits are those
that the largest difference of each resample keeps to. Pure and seeded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from engine.diagnostics.rating.rows.clustered import RatingClusters
from engine.diagnostics.rating.rows.ratings import Comparisons
from engine.diagnostics.rating.systems import davidson
from engine.diagnostics.rating.systems.davidson import RIDGE, Design, Fit
from engine.diagnostics.statistics import resampling

CHUNK = 4_000_000  # numbers held at a time
TINY = 1e-300
PRIOR_WINS = 0.5  # either way, of two systems
COVARIATE_PRIOR = 1 / 5**2  # inverse variance of a coefficient per standard deviation of its covariate
LITTLE = 0.05  # of the variance that independent ratings would have, under which all say the same
NEAR = 1e-2  # log odds: resamples whose last step was shorter are fitted to a hundredth of that

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """Ratings as rows of a design. row, outcome, weight: of each rating; x has a column a system and one a
    covariate, in units of its `scale`; mates: ratings of the same item and pair, in the mean."""

    design: Design
    row: Ints
    outcome: Ints
    weight: Floats
    scale: Floats
    mates: float

    @classmethod
    def of(cls, used: Comparisons, differences: Floats) -> Counted:
        """Of comparisons without those that both were bad, with `differences` [n, k] held equal."""
        n, systems = len(used), len(used.systems)
        scale = np.sqrt(np.square(differences).mean(axis=0)) if n else np.ones(differences.shape[1])
        scale = np.where(scale > 0, scale, 1.0)
        sides = np.zeros((n, systems))
        sides[np.arange(n), used.left] = 1
        sides[np.arange(n), used.right] = -1
        x, row = np.unique(np.hstack([sides, differences / scale]), axis=0, return_inverse=True)
        penalty = np.append(np.full(systems, RIDGE), np.full(len(scale), COVARIATE_PRIOR))
        weight = used.vote_weights / used.vote_weights.mean() if n else np.ones(0)
        mates = n / max(1, len(np.unique(used.unit)))
        return cls(Design(x, penalty), row.astype(np.int64), used.outcome, weight, scale, mates)

    @property
    def cells(self) -> Ints:
        """The place of each rating among the outcomes of the rows."""
        return self.row * 3 + self.outcome

    def whole(self) -> Floats:
        """Counts of all ratings [rows, 3]."""
        counts = np.bincount(self.cells, self.weight, 3 * len(self.design.x))
        return counts.astype(np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class Resampled:
    """`drawn` [resamples, contrasts]; the variance that raters add to each contrast, and the `degrees` of
    freedom behind it."""

    drawn: Floats
    of_raters: Floats
    degrees: Floats

    def limits(self, confidence: float, together: Ints | None = None) -> tuple[Floats, Floats]:
        """low and high of each contrast; those `together` hold all at once at that confidence. What items and
        raters leave open is added up in squares, on either side (`statistics/combined.py`)."""
        tail = (1 - confidence) / 2
        middle = np.median(self.drawn, axis=0)
        low, high = np.quantile(self.drawn, [tail, 1 - tail], axis=0)
        z = float(special.ndtri(1 - tail))
        times = np.full(self.drawn.shape[1], 1.0)
        if together is not None and len(together) > 1:
            off = self.drawn[:, together] - middle[together]
            reach = np.where(off > 0, (high - middle)[together], (low - middle)[together])
            largest = (off / np.where(np.abs(reach) > 0, reach, np.inf)).max(axis=1)
            times[together] = max(1.0, float(np.quantile(largest, confidence)))
        errors = special.stdtrit(self.degrees, special.ndtr(z * times))
        below, above = (np.sqrt(np.square(off / z) + self.of_raters) for off in (middle - low, high - middle))
        return middle - errors * below, middle + errors * above

    def errors(self) -> Floats:
        """The standard error of each contrast, read from the middle of the resamples."""
        low, high = np.quantile(self.drawn, special.ndtr([-1.0, 1.0]), axis=0)
        errors: Floats = np.sqrt(np.square((high - low) / 2) + self.of_raters)
        return errors

    def chance_above(self) -> Floats:
        """Of each contrast that it lies above 0, no surer than the limits are."""
        share = ((self.drawn > 0).sum(axis=0) + 0.5) / (len(self.drawn) + 1)
        whole = np.maximum(self.errors(), TINY)
        of_items = np.sqrt(np.maximum(np.square(whole) - self.of_raters, 0.0))
        chances: Floats = special.stdtr(self.degrees, special.ndtri(share) * of_items / whole)
        return chances


def resampled(
    counted: Counted, fitted: Fit, clusters: RatingClusters, contrasts: Floats, pairs: Ints, draws: int
) -> Resampled:
    """Draws of `contrasts` [k, coefficients and log nu]; `pairs` [pairs, 2] are the systems that met."""
    influence = davidson.influence(counted.design, counted.whole(), fitted, counted.row, counted.outcome)
    spread = clusters.spread(counted.weight[:, None] * (influence @ contrasts.T))
    rows = len(counted.design.x)
    design = Design(np.vstack([counted.design.x, _sides(pairs, counted)]), counted.design.penalty)
    met = len(np.unique(pairs))
    wins, alike = PRIOR_WINS * (met - 1) / len(pairs), _alike(counted, fitted, contrasts, spread.variance)
    random = np.random.default_rng(0)
    parts = []
    for count in resampling.parts(draws, 3 * len(design.x) + clusters.items, CHUNK):
        counts = np.zeros((count, len(design.x), 3))
        counts[:, :rows] = _weighed(counted, clusters, count, random)
        counts[:, rows:, :2] = alike * random.standard_gamma(wins, (count, len(pairs), 2))
        refitted = davidson.fit(design, counts, fitted, converged=NEAR)
        parts.append(np.column_stack([refitted.coefficients, refitted.log_nu]) @ contrasts.T)
    drawn, degrees = np.vstack(parts), spread.degrees
    if len(counted.scale):
        middle = np.median(drawn, axis=0)
        drawn = middle + (drawn - middle) * _taken_up(clusters.items, len(contrasts[0]) - 1)
    elif clusters.independent:
        degrees = np.full(len(contrasts), np.inf)
    return Resampled(drawn, spread.of_raters, degrees)


def _taken_up(items: int, parameters: int) -> float:
    """By how much resamples with covariates are widened: what a coefficient is estimated from it also takes
    up (as in MacKinnon and White's HC3 with an even share for each item)."""
    return items / max(items - parameters, items / 2)


def _sides(pairs: Ints, counted: Counted) -> Floats:
    """A row of the design for each pair, with all covariates held equal."""
    x = np.zeros((len(pairs), counted.design.x.shape[1]))
    every = np.arange(len(pairs))
    x[every, pairs[:, 0]], x[every, pairs[:, 1]] = 1, -1
    return x


def _alike(counted: Counted, fitted: Fit, contrasts: Floats, variance: Floats) -> float:
    """How many ratings say as much as an independent one: no more than there are of an item and a pair, and
    as many where all say the same, so that nothing is seen of it."""
    theta = np.append(fitted.coefficients[0], fitted.log_nu[0])[None]
    penalty = np.append(counted.design.penalty, RIDGE)
    _, information = davidson.derivatives(
        counted.design, counted.design.products, counted.whole()[None], theta, penalty
    )
    plain = np.einsum("ck,ck->c", contrasts, np.linalg.solve(information[0], contrasts.T).T)
    ratio = float(variance.sum() / plain.sum())
    return counted.mates if ratio < LITTLE else float(np.clip(ratio, 1.0, counted.mates))


def _weighed(counted: Counted, clusters: RatingClusters, draws: int, random: np.random.Generator) -> Floats:
    """Counts [draws, rows, 3] of ratings with random weights of their items."""
    size = 3 * len(counted.design.x)
    weights = random.standard_exponential((draws, clusters.items))
    sums = sparse.csr_array((counted.weight, (counted.cells, clusters.item_place)), (size, clusters.items))
    return np.asarray((sums @ weights.T).T, np.float64).reshape(draws, -1, 3)
