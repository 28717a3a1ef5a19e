"""Interval estimates for paired differences over rows, and what a difference needs to be seen.

Rows are the unit: tokens of one row are not independent, so every interval resamples whole rows.
A mean per token is the ratio of two sums over rows (loss and tokens), and the paired difference of two
models on the same rows is such a ratio too. Nothing here knows of models or stores: arrays in, an
`Interval` out. All randomness is seeded, so that the same evidence always gives the same verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

RESAMPLES = 10_000
CHUNK = 2_000_000  # resampled numbers held at a time: 16 MB an array

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `low` and `high` are None where one row can't give them.

    n: rows with at least one token. se: standard error. detectable: the smallest true difference that
    a test at alpha = 1 - confidence would find in 80 of 100 such experiments (None with one row).
    """

    value: float
    low: float | None
    high: float | None
    n: int
    se: float | None = None
    detectable: float | None = None

    @property
    def above(self) -> bool:
        """The whole interval lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def below(self) -> bool:
        """The whole interval lies below 0."""
        return self.high is not None and self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """value, low, high and n, as the verdict document holds them."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    small_sample: bool = True,
) -> Interval:
    """Sum of numerators over sum of denominators, with a BCa bootstrap interval over rows.

    For a token-weighted paired difference give `first_loss_sum - second_loss_sum` and `tokens`, each of
    shape [rows]. Rows without a token are left out of the estimate and of n. `small_sample` widens the
    levels by sqrt(m/(m-1)) t/z, without which bootstrap intervals of few rows are too narrow (Hesterberg
    2015, "What Teachers Should Know About the Bootstrap", section 3.3), m being the effective number of
    rows: a few long rows among short ones say less than their number. It fades as m grows. Of so few rows
    that the level lies beyond the last resample, Student's t on the linearised ratio is taken.

    Raises ValueError for arrays of different length, no row with a token, or values that are not finite.
    """
    top, bottom = _checked(numerators, denominators)
    n = len(top)
    value = float(top.sum() / bottom.sum())
    if n == 1:
        return Interval(value, None, None, 1)
    se = _standard_error(top, bottom, value)
    if se <= 1e-12 * max(abs(value), 1e-300):  # every row says the same, up to rounding
        return Interval(value, value, value, n, 0.0, 0.0)
    effective = _effective_rows(bottom)
    tail = _tail(effective, confidence, small_sample)
    if tail * resamples < 1:
        return quick_interval(top, bottom, confidence=confidence)
    drawn = _resampled_ratios(top, bottom, resamples, seed)
    low, high = _bca(value, drawn, _jackknife(top, bottom), tail)
    return Interval(value, low, high, n, se, _detectable(se, effective, confidence))


def quick_interval(numerators: ArrayLike, denominators: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """`ratio_interval` by the delta method and Student's t: no resampling, for scans over many steps."""
    top, bottom = _checked(numerators, denominators)
    n = len(top)
    value = float(top.sum() / bottom.sum())
    if n == 1:
        return Interval(value, None, None, 1)
    se = _standard_error(top, bottom, value)
    effective = _effective_rows(bottom)
    half = float(special.stdtrit(effective - 1, (1 + confidence) / 2)) * se
    return Interval(value, value - half, value + half, n, se, _detectable(se, effective, confidence))


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
    """BCa limits of any estimate over n rows, from its resamples and its values with each row left out."""
    return _bca(value, drawn, left_out, _tail(n, confidence, small_sample=True))


def rows_needed(interval: Interval, difference: float) -> int | None:
    """Rows at which `difference` would be seen with 80% power; None where the interval can't tell."""
    if not interval.detectable or not difference:
        return None
    return math.ceil(interval.n * (interval.detectable / difference) ** 2)


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


def _effective_rows(weights: Array) -> float:
    """Kish's (1965) effective sample size; n where all rows weigh the same, never under 2 here."""
    return max(2.0, float(weights.sum() ** 2 / np.square(weights).sum()))


def _standard_error(top: Array, bottom: Array, value: float) -> float:
    """Of a ratio of sums, by linearisation (Cochran 1977, section 6.3)."""
    n = len(top)
    residuals = top - value * bottom
    return float(math.sqrt(n / (n - 1) * np.square(residuals).sum()) / bottom.sum())


def _detectable(se: float, n: float, confidence: float) -> float:
    """(t(1 - alpha/2) + t(0.8)) standard errors: two-sided test, 80% power (Miller 2024, section 5)."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2) + special.stdtrit(n - 1, 0.8)) * se


def _resampled_ratios(top: Array, bottom: Array, resamples: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    n = len(top)
    at_once = max(1, CHUNK // n)
    parts = []
    for start in range(0, resamples, at_once):
        rows = generator.integers(0, n, (min(at_once, resamples - start), n))
        parts.append(top[rows].sum(axis=1) / bottom[rows].sum(axis=1))
    return np.concatenate(parts)


def _jackknife(top: Array, bottom: Array) -> Array:
    """The estimate with each row left out in turn."""
    return (top.sum() - top) / (bottom.sum() - bottom)


def _tail(n: float, confidence: float, small_sample: bool) -> float:
    tail = (1 - confidence) / 2
    if not small_sample:
        return tail
    return float(special.ndtr(math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, tail)))


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
