"""Interval estimates over rows: paired differences, shares, bounded means, and combined estimates.

Rows are the unit, as tokens of one row are not independent: a mean per token is a ratio of two sums over
rows, and the paired difference of two models on the same rows is such a ratio too. Estimates of different
rows are combined by their limits (Zou and Donner 2008); a few values between known bounds have a Bayesian
bootstrap (Rubin 1981); a share may be inspected after every answer (Ville 1939). Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from store.core.figure_schemas import Estimate

# Intervals of paired differences over rows, and the smallest detectable difference; nothing is random here.

MIN_ROWS = 5  # effective rows; with fewer there is no interval
MAX_WEIGHT = 0.5  # of a single row
# Rows that must all be exactly 0 for an interval of 0: if a fifth of rows differ, a tenth of samples of ten
# show none of them.
MIN_ALIKE = 20
ERROR_OF_ERROR = 2.5  # factor in `_compute_error_inflation`, chosen by simulation
BROKEN_ROW = 4.0  # nats per token by which rows of an unobserved kind may differ: `allow_for_unseen`
POWER = 0.84  # standard errors beyond a limit at which 80 of 100 estimates are beyond it too
UNSEEN_SKEW = 4.0  # correction for the skewness that a sample misses, see `_skewness`

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Estimate with its interval. `low` and `high` are None if the rows can't give them, and `why` says why
    ("there is only one row").

    n: rows with at least one token. se: standard error. detectable: the smallest true difference that a
    test at alpha = 1 - confidence would find in 80 of 100 such experiments (None without an interval).
    effective: the effective number of rows of equal weight, if known. unseen: the share of rows of an
    unobserved kind for which a limit was widened (`allow_for_unseen`), 0 if none was.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    se: float | None = None
    detectable: float | None = None
    why: str = ""
    effective: float | None = None
    unseen: float = 0.0

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high is not None and self.high < 0

    def to_estimate(self) -> Estimate:
        """Return value, low, high and n in the form used in documents, with `why` if there is no interval."""
        estimate = Estimate(value=self.value, low=self.low, high=self.high, n=self.n)
        if self.why:
            estimate.why = self.why
        return estimate


def get_limits(estimate: Estimate) -> tuple[float, float] | None:
    """Return low and high of a document's estimate; None if it has no interval."""
    low, high = estimate.low, estimate.high
    return None if low is None or high is None else (low, high)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    confidence: float = 0.95,
    population: ArrayLike | None = None,
) -> Interval:
    """Estimate the sum of numerators over the sum of denominators, with an interval over rows.

    For a token-weighted paired difference pass `first_loss_sum - second_loss_sum` and `tokens`, each of
    shape [rows]. Rows without a token are excluded from the estimate and from n.

    The error is the jackknife's (the linearized one of Cochran 1977, section 6.3, is too small with long
    rows), the quantile is Student's t at the effective number of rows: a few long rows among short ones
    say less than their number. On the side where rare rows may be missing, the limit is widened by Hall's
    (1992) transformed t for the rows' skewness; it is never narrowed. In simulations
    (`bench/truths/runs/gain.py`) this covers 94 to 97% for heavy tails and lengths that differ a
    hundredfold, where BCa covered 77 to 92. There is no interval if there are effectively fewer than
    MIN_ROWS rows, if one has half of the weight, or if all are the same; if MIN_ALIKE or more rows are all
    exactly 0, nothing differs, and the interval is 0 to 0.

    population: weights of further rows of the same kind, such as the training rows. A sample that happens
    to lack the few long rows looks harmless, so the effective number of rows is computed from the weights
    of all of them.

    Raises ValueError for arrays of different length, no row with a token, or values that are not finite.
    """
    top, bottom = _check_arrays(numerators, denominators)
    n = len(top)
    value = float(top.sum() / bottom.sum())
    effective = _compute_effective_rows(bottom, population)
    left_out = value - (top - value * bottom) / (bottom.sum() - bottom) if n > 1 else np.array([value])
    influence = left_out.mean() - left_out
    error = math.sqrt((n - 1) / n * float(np.square(influence).sum()))
    if why := _describe_too_little(bottom, effective):
        return Interval(value, None, None, n, why=why)
    if error <= 1e-12 * max(abs(value), 1e-300):
        if not top.any() and n >= MIN_ALIKE:
            return Interval(0.0, 0.0, 0.0, n, 0.0, 0.0)
        return Interval(value, None, None, n, why=f"all {n:,} rows are equal")
    quantile = float(special.stdtrit(effective - 1, (1 + confidence) / 2))
    tilt = _skewness(influence) / math.sqrt(n)
    below = error * max(quantile, _transform_quantile(quantile, tilt))
    above = error * max(quantile, -_transform_quantile(-quantile, tilt))
    reach = max(below, above) + error * float(special.stdtrit(effective - 1, 0.8))
    detectable = reach * _compute_error_inflation(influence)
    return Interval(value, value - below, value + above, n, error, detectable, effective=effective)


def bound_unseen_share(rows: float, *, confidence: float = 0.95) -> float:
    """Return the largest share of all rows that a kind may have if none of it is among `rows`: about 3.7 / n.

    It is at half of the level, as each limit of an interval. (Hanley and Lippman-Hand 1983, "If Nothing
    Goes Wrong, Is Everything All Right?", have 3 / n for 95% one-sided.)
    """
    return 1 - float(((1 - confidence) / 2) ** (1 / max(1.0, rows)))


def allow_for_unseen(interval: Interval, size: float, *, confidence: float = 0.95) -> Interval:
    """Widen the limits to where rows of an unobserved kind could move the mean, if they differ by `size` (in
    the interval's unit) and are as frequent as possible (`bound_unseen_share`); never narrow them.

    A sample can't show what is not in it: a kind that makes up one row in 30 is missing from a third of
    all samples of 30. In simulations (`bench/truths/runs/gain.py`) a gain that is truly 0, as 5% of rows
    lose 3 nats per token, is distinguished from 0 by 59, 22 and 11 of 100 plain intervals at 10, 30 and 67
    rows; with a size of 4 by none.
    """
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return interval
    share = bound_unseen_share(interval.effective or interval.n, confidence=confidence)
    low = min(interval.low, interval.value - share * size)
    high = max(interval.high, interval.value + share * size)
    if (low, high) == (interval.low, interval.high):
        return interval
    detectable = max(interval.detectable or 0.0, share * size + POWER * (interval.se or 0.0))
    return replace(interval, low=low, high=high, detectable=detectable, unseen=share)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Estimate a proportion with Wilson's score interval (Wilson 1927).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials is not a proportion.")
    z = float(special.ndtri((1 + confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = centre - half if successes else 0.0  # exactly; rounding would leave 3e-17
    high = centre + half if successes < n else 1.0
    return Interval(share, low, high, n)


def bca_limits(
    value: float, drawn: Floats, left_out: Floats, n: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute BCa limits of an estimate over n rows, from its resamples and its values with each row left
    out.

    The levels are widened by sqrt(n/(n-1)) t/z, without which bootstrap intervals of few rows are too
    narrow (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.3).
    """
    tail = special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - confidence) / 2))
    return _bca(value, drawn, left_out, float(tail))


def estimate_rows_needed(interval: Interval, difference: float) -> int | None:
    """Return the number of rows that shows `difference` with 80% power; None if the interval can't tell."""
    if not interval.detectable or not difference:
        return None
    if not interval.unseen or interval.low is None or interval.high is None:
        return math.ceil(interval.n * (interval.detectable / difference) ** 2)
    size = max(interval.value - interval.low, interval.high - interval.value) / interval.unseen
    share = min(0.99, abs(difference) / size)  # of rows of another kind that would cancel it
    without_them = math.log(0.025) / math.log1p(-share)
    noise = interval.n * ((1.96 + POWER) * (interval.se or 0.0) / difference) ** 2
    return math.ceil(max(without_them, noise))


def _check_arrays(numerators: ArrayLike, denominators: ArrayLike) -> tuple[Floats, Floats]:
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"Shapes {top.shape} and {bottom.shape} are not one value a row each.")
    if not np.isfinite(bottom).all() or (bottom < 0).any():
        raise ValueError("Weights must be finite and not negative.")
    top, bottom = top[bottom > 0], bottom[bottom > 0]
    if not len(top):
        raise ValueError("There is no row with a token to compare.")
    if not np.isfinite(top).all():
        raise ValueError(f"{int((~np.isfinite(top)).sum())} of {len(top)} values are not finite.")
    return top, bottom


def _compute_effective_rows(weights: Floats, population: ArrayLike | None = None) -> float:
    """Compute Kish's (1965) effective sample size; n if all weights are equal, at least 2.

    With a population of further weights, it is that of as many rows of the whole population, if that is
    smaller.
    """
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    if population is not None:
        every = np.concatenate([weights, np.asarray(population, np.float64)])
        effective = min(effective, len(weights) * float(every.mean() ** 2 / np.square(every).mean()))
    return max(2.0, effective)


def _describe_too_little(weights: Floats, effective: float) -> str:
    """Return why there are too few rows, or rows of too unequal weight, for an interval; empty if not."""
    n, share = len(weights), float(weights.max() / weights.sum())
    if n == 1:
        return "there is only one row"
    if n < MIN_ROWS:
        return f"{n} rows are too few"
    if share >= MAX_WEIGHT:
        return f"one of {n:,} rows has {min(99, math.floor(100 * share))}% of the weight"
    if effective < MIN_ROWS:
        return f"{n:,} rows of unequal length are equivalent to {effective:.1f} rows of equal length"
    return ""


def _skewness(influence: Floats) -> float:
    """Compute the skewness of the rows' influence on the estimate, raised by what a sample is likely to miss.

    The skewness of n rows can't exceed about sqrt(n), so that a sample of log-normal gains (sigma 1.2, a
    skewness of 11) shows 3 at n = 50. The factor 1 + 4 g^2/n was chosen by simulation; it is near 1 for
    symmetric data.
    """
    n = len(influence)
    unit = influence / math.sqrt(float(np.square(influence).mean()))
    skew = float((unit**3).mean())
    return skew * (1 + UNSEEN_SKEW * skew * skew / n)


def _compute_error_inflation(influence: Floats) -> float:
    """Return the factor that raises the smallest detectable difference for the uncertainty of the error.

    The squared error of an error is (kurtosis - 1) / 4n. Without the factor the difference was seen in 63
    to 77 of 100 further experiments, not 80, as those with a small estimated error promise too much.
    """
    unit = influence / math.sqrt(float(np.square(influence).mean()))
    return 1 + ERROR_OF_ERROR * (float((unit**4).mean()) - 1) / (2 * len(influence))


def _transform_quantile(quantile: float, tilt: float) -> float:
    """Return the t quantile whose cubic transform for skewness is `quantile` (Hall 1992, "On the Removal of
    Skewness by Transformation"). tilt: skewness over sqrt(n).
    """
    if abs(tilt) < 1e-9:
        return quantile
    return 3 / tilt * (float(np.cbrt(1 + tilt * (quantile - tilt / 6))) - 1)


def _bca(value: float, drawn: Floats, left_out: Floats, tail: float) -> tuple[float, float]:
    """Compute bias-corrected and accelerated limits (Efron 1987; same arithmetic as
    scipy.stats.bootstrap).
    """
    below = ((drawn < value).sum() + (drawn <= value).sum()) / (2 * len(drawn))
    half = 0.5 / len(drawn)  # keeps the bias finite if every draw is on one side
    bias = float(special.ndtri(np.clip(below, half, 1 - half)))
    deviations = left_out.mean() - left_out
    spread = np.square(deviations).sum()
    acceleration = float((deviations**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    quantile = float(special.ndtri(tail))

    def level(z: float) -> float:
        return float(special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))

    low, high = np.quantile(drawn, [level(quantile), level(-quantile)])
    return float(low), float(high)


# Estimates from different rows combined by their limits: the method of variance estimates recovery (Zou and
# Donner 2008).
#
# The distance of a limit from its estimate measures the uncertainty in that direction, whatever the kind of
# interval: a limit of the whole adds up the squares of these distances. If every part has correct coverage,
# so has the whole, even if the parts are skewed. For shares with Wilson's limits it is Newcombe's (1998)
# interval.

MIN_DEGREES = 4  # degrees of freedom, as an interval needs five rows


def subtract_estimates(first: Interval, second: Interval) -> Interval:
    """Return the first minus the second; n counts the rows of both. If one of them has no limits, neither has
    the result, with the same reason.
    """
    return _combine_weighted([first, second], [1.0, -1.0])


def average_estimates(parts: Sequence[Interval]) -> Interval:
    """Return the average of one or more parts; n counts the rows of all. If one of them has no limits,
    neither has the result, with the same reason.
    """
    return _combine_weighted(parts, [1 / len(parts)] * len(parts))


def widen_for_comparisons(estimate: Estimate, looks: int) -> Estimate:
    """Widen a 95% interval for this many comparisons (Bonferroni), without access to its rows.

    Rows of unequal length say less than their number, so half of them are counted in Student's t.
    """
    low, high, value = estimate.low, estimate.high, estimate.value
    if low is None or high is None or looks <= 1:
        return estimate
    degrees = max(MIN_DEGREES, estimate.n / 2 - 1)
    wider = float(special.stdtrit(degrees, 1 - 0.025 / looks) / special.stdtrit(degrees, 0.975))
    return replace(estimate, low=value - wider * (value - low), high=value + wider * (high - value))


def _combine_weighted(parts: Sequence[Interval], weights: Sequence[float]) -> Interval:
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    n = sum(part.n for part in parts)
    below = above = 0.0
    for weight, part in zip(weights, parts, strict=True):
        if part.low is None or part.high is None:
            return Interval(value, None, None, n, why=part.why)
        down, up = weight * (part.value - part.low), weight * (part.high - part.value)
        below, above = below + (down if weight > 0 else up) ** 2, above + (up if weight > 0 else down) ** 2
    return Interval(value, value - math.sqrt(below), value + math.sqrt(above), n)


def draw_batches(draws: int, width: int, most: int) -> Iterator[int]:
    """Yield batch sizes that sum to `draws`, so that with `width` numbers per draw at most `most` numbers are
    held at a time; at least one draw per batch.
    """
    at_once = max(1, most // max(1, width))
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


# Mean of a few values between known bounds, such as shares or bits of exposure.
#
# Student's t and the bootstrap learn nothing about what was not observed: five values at the upper bound
# would give an interval of zero width. Instead this uses Rubin's (1981) bootstrap, in which the values have
# random weights, with additional values at the bounds, as what was not observed may lie there. Each limit has
# its own number of them: half a value at the bound that it is drawn to, a tenth at the other one. (A whole
# value and none give the limits of Gaffke 2005, and for shares those of Clopper and Pearson; half a value at
# each gives Jeffreys', which near a bound is pulled away from it: with a mean of 7.9 of 8 its upper limit was
# too low in 7 of 100 draws.)
#
# In simulations (`bench/truths/runs/extraction.py`) this covers 95 to 99%. It is conservative near a bound:
# the limit there can hardly be wrong, so that only the 2.5% of the other one remain, and hardly these if
# nearly every draw has all values at the bound. The draws are seeded.

BOUNDED_DRAWS = 4_000
BOUNDED_CHUNK = 2_000_000  # weights drawn at a time
MAX_CACHED_ROWS = 100  # values up to which weights are cached
AT_ITS_BOUND, AT_THE_OTHER = 0.5, 0.1  # fractions of a value

Weights = tuple[Floats, Floats, Floats]  # of the values [draws, n]; at the near and the far bound [draws]


class BoundedMean:
    """Mean of values between `low` and `high`; drawn once, for intervals at any confidence.

    Raises ValueError if there are no values, or one is outside the bounds.
    """

    def __init__(self, values: ArrayLike, low: float, high: float) -> None:
        seen = np.asarray(values, np.float64)
        n = len(seen)
        if not n or not (seen.min() >= low and seen.max() <= high):
            raise ValueError(f"{n} values do not lie within {low:g} and {high:g}.")
        self._seen, self._low, self._high = seen, low, high
        drawn: dict[float, list[Floats]] = {low: [], high: []}
        for weights, near, far in (
            () if n == 1 else _cache_weights(n) if n <= MAX_CACHED_ROWS else _draw_weights(n)
        ):
            inside, whole = weights @ seen, weights.sum(axis=1) + near + far
            for bound, other in ((low, high), (high, low)):
                drawn[bound].append((inside + near * bound + far * other) / whole)
        self._drawn = {bound: np.concatenate(parts) for bound, parts in drawn.items() if parts}

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval; a single value has none."""
        seen, low, high = self._seen, self._low, self._high
        n, mean = len(seen), float(seen.mean())
        if n == 1:
            return Interval(mean, None, None, 1, why="there is only one value")
        least = min(mean, float(np.quantile(self._drawn[low], (1 - confidence) / 2)))
        most = max(mean, float(np.quantile(self._drawn[high], (1 + confidence) / 2)))
        return Interval(mean, low if seen.max() == low else least, high if seen.min() == high else most, n)


def bounded_mean_interval(
    values: ArrayLike, low: float, high: float, *, confidence: float = 0.95
) -> Interval:
    """Return the interval of `BoundedMean` at one confidence."""
    return BoundedMean(values, low, high).interval(confidence)


@lru_cache(maxsize=8)
def _cache_weights(n: int) -> tuple[Weights, ...]:
    return tuple(_draw_weights(n))


def _draw_weights(n: int) -> Iterator[Weights]:
    """Yield the same BOUNDED_DRAWS weights of n values at every call, in batches."""
    random = np.random.default_rng(0)
    for draws in draw_batches(BOUNDED_DRAWS, n, BOUNDED_CHUNK):
        weights = random.standard_exponential((draws, n))
        yield weights, random.standard_gamma(AT_ITS_BOUND, draws), random.standard_gamma(AT_THE_OTHER, draws)


# Share with an interval that may be inspected after every answer.
#
# For each candidate share, a gambler bets against it by what was observed before (the uniform mixture of all
# shares: Ville 1939, Robbins 1970); if it were true, the probability that the capital ever reaches 1 / alpha
# would be at most alpha. The capital follows from the two counts alone, so that a million answers cost as
# much as ten. Each answer must be as likely as the next, whatever came before, which doesn't hold for many
# answers of one person.

HALVINGS = 60


def anytime_share(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Estimate a share, with an interval that holds at every moment. Raises ValueError unless 0 <= successes
    <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials is not a proportion.")
    if n == 0:
        return Interval(math.nan, None, None, 0, why="no answers yet")
    share = successes / n
    mixed = float(special.betaln(successes + 1, n - successes + 1))
    limit = mixed + math.log(1 - confidence)  # log-likelihood below which a share is ruled out

    def ruled_out(candidate: float) -> bool:
        likelihood = special.xlogy(successes, candidate) + special.xlogy(n - successes, 1 - candidate)
        return float(likelihood) < limit

    ends = []
    for outside in (0.0, 1.0):
        inside = share
        if not ruled_out(outside):
            ends.append(outside)
            continue
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if ruled_out(middle) else (middle, outside)
        ends.append(outside)
    return Interval(share, ends[0], ends[1], n)
