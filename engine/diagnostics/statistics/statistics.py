"""Interval estimates for paired differences over rows, and what a difference needs to be seen.

Rows are the unit: tokens of one row are not independent. A mean per token is the ratio of two sums over rows
(loss and tokens), and the paired difference of two models on the same rows is such a ratio too. Nothing here
knows of models or stores: arrays in, an `Interval` out, and nothing is drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from store.documents.figures.estimate import Estimate

LEAST_ROWS = 5  # effective rows, under which nothing is said of how sure an estimate is
MOST_WEIGHT = 0.5  # that one row may hold
LEAST_ALIKE = (
    20  # rows that all say exactly 0 before that is the interval: of ten, a fifth of which differ, a tenth
)
ERROR_OF_ERROR = 2.5  # by how much that raises what can be seen, see `_unsure`; both chosen by simulation
BROKEN_ROW = 4.0  # nats a token, by which rows of an unseen kind may differ: `allow_for_unseen`
POWER = 0.84  # standard errors beyond a limit, at which 80 of 100 estimates lie beyond it too
UNSEEN_SKEW = 4.0  # by how much a sample's skewness is taken to fall short of the truth, see `_skewness`

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `low` and `high` are None where the rows can't give them, and `why`
    says in words for what reason ("there is only one row").

    n: rows with at least one token. se: standard error. detectable: the smallest true difference that
    a test at alpha = 1 - confidence would find in 80 of 100 such experiments (None without an interval).
    effective: rows of equal weight that say as much, where that is known. unseen: the share of rows of a
    kind that is not among these for which a limit was moved out (`allow_for_unseen`), 0 where none was.
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
        """The whole interval lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def below(self) -> bool:
        """The whole interval lies below 0."""
        return self.high is not None and self.high < 0

    def to_dict(self) -> Estimate:
        """value, low, high and n, as documents hold them; why, where there is no interval."""
        estimate = Estimate(value=self.value, low=self.low, high=self.high, n=self.n)
        if self.why:
            estimate["why"] = self.why
        return estimate


def limits(estimate: Estimate) -> tuple[float, float] | None:
    """low and high of a document's estimate; None where it has no interval."""
    low, high = estimate["low"], estimate["high"]
    return None if low is None or high is None else (low, high)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    confidence: float = 0.95,
    population: ArrayLike | None = None,
) -> Interval:
    """Sum of numerators over sum of denominators, with an interval over rows.

    For a token-weighted paired difference give `first_loss_sum - second_loss_sum` and `tokens`, each of
    shape [rows]. Rows without a token are left out of the estimate and of n.

    The error is the jackknife's (Cochran 1977, section 6.3, has the linearised one, too small at long rows),
    the quantile Student's t at the effective number of rows: a few long rows among short ones say less than
    their number. On the side where rare rows may be missing, the limit is moved out as Hall's (1992)
    transformed t says for the rows' skewness; it is never moved in. In simulations
    (`bench/truths/runs/gain.py`) this covers 94 to 97% for heavy tails and lengths that differ a hundredfold,
    where BCa covered 77 to 92. There is no interval where the rows are effectively under LEAST_ROWS, one
    holds half of the weight, or all say the same; where all of LEAST_ALIKE or more say exactly 0, nothing
    differs, and the interval is 0 to 0.

    population: weights of more rows of the same kind, such as those that were trained on. A sample that
    happens to lack the few long rows looks harmless, so that rows count as effectively as many as the
    weights of all of them say.

    Raises ValueError for arrays of different length, no row with a token, or values that are not finite.
    """
    top, bottom = _checked(numerators, denominators)
    n = len(top)
    value = float(top.sum() / bottom.sum())
    effective = _effective_rows(bottom, population)
    left_out = value - (top - value * bottom) / (bottom.sum() - bottom) if n > 1 else np.array([value])
    influence = left_out.mean() - left_out
    error = math.sqrt((n - 1) / n * float(np.square(influence).sum()))
    if why := _too_little(bottom, effective):
        return Interval(value, None, None, n, why=why)
    if error <= 1e-12 * max(abs(value), 1e-300):
        if not top.any() and n >= LEAST_ALIKE:
            return Interval(0.0, 0.0, 0.0, n, 0.0, 0.0)
        return Interval(value, None, None, n, why=f"all {n:,} rows say the same")
    quantile = float(special.stdtrit(effective - 1, (1 + confidence) / 2))
    tilt = _skewness(influence) / math.sqrt(n)
    below = error * max(quantile, _transformed(quantile, tilt))
    above = error * max(quantile, -_transformed(-quantile, tilt))
    reach = max(below, above) + error * float(special.stdtrit(effective - 1, 0.8))
    detectable = reach * _unsure(influence)
    return Interval(value, value - below, value + above, n, error, detectable, effective=effective)


def unseen_share(rows: float, *, confidence: float = 0.95) -> float:
    """The largest share of all rows that some kind may have of which none is among `rows`: about 3.7 / n.

    At half of the level, as a limit is. (Hanley and Lippman-Hand 1983, "If Nothing Goes Wrong, Is Everything
    All Right?", have 3 / n for 95% one-sided.)
    """
    return 1 - float(((1 - confidence) / 2) ** (1 / max(1.0, rows)))


def allow_for_unseen(interval: Interval, size: float, *, confidence: float = 0.95) -> Interval:
    """The interval with its limits moved out to where rows of a kind that is not among these could move the
    mean, if they differ by `size` (in the interval's unit) and are as frequent as they can be
    (`unseen_share`); never moved in.

    A sample can't show what is not in it: a kind that one row in 30 is of is missing from a third of all
    samples of 30. In simulations (`bench/truths/runs/gain.py`) a gain that is 0, as 5% of rows lose 3 nats a
    token, is told from 0 by 59, 22 and 11 of 100 plain intervals at 10, 30 and 67 rows; at a size of 4 by
    none.
    """
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return interval
    share = unseen_share(interval.effective or interval.n, confidence=confidence)
    low = min(interval.low, interval.value - share * size)
    high = max(interval.high, interval.value + share * size)
    if (low, high) == (interval.low, interval.high):
        return interval
    detectable = max(interval.detectable or 0.0, share * size + POWER * (interval.se or 0.0))
    return replace(interval, low=low, high=high, detectable=detectable, unseen=share)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927).

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials is not a proportion.")
    z = float(special.ndtri((1 + confidence) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def bca_limits(
    value: float, drawn: Array, left_out: Array, n: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """BCa limits of any estimate over n rows, from its resamples and its values with each row left out.

    The levels are widened by sqrt(n/(n-1)) t/z, without which bootstrap intervals of few rows are too narrow
    (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.3).
    """
    tail = special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - confidence) / 2))
    return _bca(value, drawn, left_out, float(tail))


def rows_needed(interval: Interval, difference: float) -> int | None:
    """Rows at which `difference` would be seen with 80% power; None where the interval can't tell."""
    if not interval.detectable or not difference:
        return None
    if not interval.unseen or interval.low is None or interval.high is None:
        return math.ceil(interval.n * (interval.detectable / difference) ** 2)
    size = max(interval.value - interval.low, interval.high - interval.value) / interval.unseen
    share = min(0.99, abs(difference) / size)  # of rows of another kind, that would undo it
    without_them = math.log(0.025) / math.log1p(-share)
    noise = interval.n * ((1.96 + POWER) * (interval.se or 0.0) / difference) ** 2
    return math.ceil(max(without_them, noise))


def _checked(numerators: ArrayLike, denominators: ArrayLike) -> tuple[Array, Array]:
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


def _effective_rows(weights: Array, population: ArrayLike | None = None) -> float:
    """Kish's (1965) effective sample size; n where all rows weigh the same, never under 2 here. With more
    weights of the same kind, what so many of all of them amount to where that is less."""
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    if population is not None:
        every = np.concatenate([weights, np.asarray(population, np.float64)])
        effective = min(effective, len(weights) * float(every.mean() ** 2 / np.square(every).mean()))
    return max(2.0, effective)


def _too_little(weights: Array, effective: float) -> str:
    """Why so few rows, or rows of so unequal weight, give no interval; empty where they do."""
    n, share = len(weights), float(weights.max() / weights.sum())
    if n == 1:
        return "there is only one row"
    if n < LEAST_ROWS:
        return f"{n} rows are too few"
    if share >= MOST_WEIGHT:
        return f"one of {n:,} rows holds {_floored(share)}% of the weight"
    if effective < LEAST_ROWS:
        return f"{n:,} rows of so unequal length say as much as {effective:.1f} would"
    return ""


def _floored(share: float) -> int:
    return min(99, math.floor(100 * share))


def _skewness(influence: Array) -> float:
    """Of the rows' influence on the estimate, raised by what a sample is likely not to show of it.

    Of n rows none can be more skewed than about sqrt(n), so that a sample of log-normal gains (sigma 1.2, a
    skewness of 11) shows 3 at n 50. The factor 1 + 4 g^2/n was chosen by simulation; it is near 1 for what is
    symmetric.
    """
    n = len(influence)
    unit = influence / math.sqrt(float(np.square(influence).mean()))
    skew = float((unit**3).mean())
    return skew * (1 + UNSEEN_SKEW * skew * skew / n)


def _unsure(influence: Array) -> float:
    """By how much the smallest difference that can be seen is raised for not knowing the error well.

    The squared error of an error is (kurtosis - 1) / 4n. Without it the difference was seen in 63 to 77 of
    100 further experiments, not 80, as those in which the error looks small promise too much.
    """
    unit = influence / math.sqrt(float(np.square(influence).mean()))
    return 1 + ERROR_OF_ERROR * (float((unit**4).mean()) - 1) / (2 * len(influence))


def _transformed(quantile: float, tilt: float) -> float:
    """The quantile of t whose cubic transform for skewness is `quantile` (Hall 1992, "On the Removal of
    Skewness by Transformation"); tilt: skewness over sqrt(n)."""
    if abs(tilt) < 1e-9:
        return quantile
    return 3 / tilt * (float(np.cbrt(1 + tilt * (quantile - tilt / 6))) - 1)


def _bca(value: float, drawn: Array, left_out: Array, tail: float) -> tuple[float, float]:
    """Bias-corrected and accelerated limits (Efron 1987; the same arithmetic as scipy.stats.bootstrap)."""
    below = ((drawn < value).sum() + (drawn <= value).sum()) / (2 * len(drawn))
    half = 0.5 / len(drawn)  # keeps the bias finite where every draw lies on one side
    bias = float(special.ndtri(np.clip(below, half, 1 - half)))
    deviations = left_out.mean() - left_out
    spread = np.square(deviations).sum()
    acceleration = float((deviations**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    quantile = float(special.ndtri(tail))

    def level(z: float) -> float:
        return float(special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))

    low, high = np.quantile(drawn, [level(quantile), level(-quantile)])
    return float(low), float(high)
