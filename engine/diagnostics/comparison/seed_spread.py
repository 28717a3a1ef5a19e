"""Two settings compared by the runs that were made with each: what the seed does is not theirs.

Rows say how sure it is that one *model* is better than another. A setting is more than the one model that one
seed made of it, and of two models that differ in nothing but their seed one is nearly always surely better on
the same rows. So the error of a difference between settings has two parts: that of the rows, of the paired
differences of the seed-averaged losses; and that of the seeds, whose variance is pooled over every setting
that was repeated. With a few seeds a bootstrap over them is too sure, so Student's t is taken, with the
degrees of freedom of the two parts together (Welch 1947, Satterthwaite 1946). Without any repetition nothing
is known of the second part, and nothing is answered. Pure: arrays in, an `Interval` out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from engine.diagnostics.statistics.statistics import Interval, ratio_interval


@dataclass(frozen=True)
class SeedSpread:
    """How runs of one setting differ by their seed alone: the standard deviation of their loss (in its unit),
    and how many degrees of freedom it was estimated with."""

    deviation: float
    degrees: int


def spread(settings: Sequence[ArrayLike], tokens: ArrayLike) -> SeedSpread | None:
    """Over settings, each with the summed losses of its runs, [runs, rows]; None where none was repeated."""
    squares, degrees = 0.0, 0
    for losses in settings:
        means = _means(losses, tokens)
        squares += float(((means - means.mean()) ** 2).sum())
        degrees += len(means) - 1
    return SeedSpread(float(np.sqrt(squares / degrees)), degrees) if degrees else None


def difference(
    better: ArrayLike, other: ArrayLike, tokens: ArrayLike, by_seed: SeedSpread, *, confidence: float = 0.95
) -> Interval:
    """`other` minus `better` in loss a token: summed losses of the runs of either setting, [runs, rows].

    Raises ValueError for arrays that are not of the same rows.
    """
    first, second = (np.atleast_2d(np.asarray(losses, np.float64)) for losses in (better, other))
    rows = ratio_interval(second.mean(axis=0) - first.mean(axis=0), tokens)
    if rows.se is None:
        return rows
    of_seeds = by_seed.deviation**2 * (1 / len(first) + 1 / len(second))
    of_rows = rows.se**2
    error = float(np.sqrt(of_rows + of_seeds))
    if error == 0:
        return rows
    degrees = error**4 / (of_rows**2 / (rows.n - 1) + of_seeds**2 / by_seed.degrees)
    half = float(special.stdtrit(degrees, (1 + confidence) / 2))
    detectable = (half + float(special.stdtrit(degrees, 0.8))) * error
    return Interval(
        rows.value, rows.value - half * error, rows.value + half * error, rows.n, error, detectable
    )


def _means(losses: ArrayLike, tokens: ArrayLike) -> NDArray[np.float64]:
    """Loss a token of each run."""
    sums: NDArray[np.float64] = np.atleast_2d(np.asarray(losses, np.float64)).sum(axis=1)
    return sums / float(np.sum(np.asarray(tokens, np.float64)))
