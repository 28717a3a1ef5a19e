"""Predictions held against what runs measured: a factor for the next one, and how far off it may still be.

The logarithm of measured over predicted is taken as normal, with a prior on its mean (predictions are right)
and on its spread (what benchmarks found). Runs of another kind (method and task) count for less. Few runs
move the factor little and leave the interval wide, many take over. Predictions must be those before any
correction, or it would feed on itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

OTHER_KIND = 0.3  # weight of a run of another kind


@dataclass(frozen=True)
class Prior:
    """What is believed before a run: `spread` of log(measured / predicted) on `degrees` of freedom, a mean
    of 0 that weighs as much as `runs` runs."""

    spread: float
    degrees: float
    runs: float


# 53 runs on a CPU (bench/costs/memory.py): 48 within 15% of what was predicted, all within 25%.
MEMORY = Prior(spread=0.08, degrees=8, runs=1)
# Steps of twelve kinds of run (bench/costs/time.py): measured over predicted 1.10 in the median, with a
# spread of 0.22 in its logarithm, and of 0.48 with the first prediction on a machine, before rates were
# known well. So a first prediction, whose own mean is unknown too, has a spread of
# 0.25 * sqrt(1 + 1 / 0.3) = 0.52.
TIME = Prior(spread=0.25, degrees=10, runs=0.3)


@dataclass(frozen=True)
class MeasuredPrediction:
    """One run: what was predicted and what it took, in one unit, and its kind."""

    predicted: float
    measured: float
    kind: str


@dataclass(frozen=True)
class Correction:
    """Measured over predicted for the next run: `factor`, with the interval in which it is expected to lie.

    n: runs that it rests on; same: those of them of the same kind.
    """

    factor: float
    low: float
    high: float
    n: int
    same: int
    confidence: float

    @property
    def factors(self) -> tuple[float, float, float]:
        """low, factor, high."""
        return self.low, self.factor, self.high

    def sentence(self, what: str) -> str:
        """What the interval of `what` rests on."""
        if not self.n:
            return f"No run on this device has measured its {what} yet; the interval is that of benchmarks."
        runs = f"{self.n} run{'s' * (self.n != 1)} on this device"
        return f"Corrected by {runs} ({self.same} with this method and task): times {self.factor:.2f}."


def correct(
    pairs: Iterable[MeasuredPrediction], kind: str, prior: Prior, *, confidence: float = 0.95
) -> Correction:
    """The correction for a run of that kind, from runs on the same device.

    Pairs with a number that is not above 0 are left out.
    """
    used = [
        p for p in pairs if p.predicted > 0 and p.measured > 0 and math.isfinite(p.measured / p.predicted)
    ]
    logs = [(math.log(p.measured / p.predicted), 1.0 if p.kind == kind else OTHER_KIND) for p in used]
    weight = sum(w for _, w in logs)
    mean = sum(w * y for y, w in logs) / (weight + prior.runs)
    squares = sum(w * (y - mean) ** 2 for y, w in logs) + prior.runs * mean**2
    degrees = prior.degrees + weight
    spread = math.sqrt((prior.degrees * prior.spread**2 + squares) / degrees)
    width = float(special.stdtrit(degrees, (1 + confidence) / 2)) * spread
    half = width * math.sqrt(1 + 1 / (weight + prior.runs))
    same = sum(p.kind == kind for p in used)
    low, factor, high = (math.exp(mean + shift) for shift in (-half, 0.0, half))
    return Correction(factor, low, high, len(used), same, confidence)
