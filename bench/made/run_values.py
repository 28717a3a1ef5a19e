"""The values of a thousand runs of twenty metrics, the same for every store that is compared; numpy alone, so
that a peer's own Python can make them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PROJECT = "bench"  # of the runs, in stores that have projects
LONG_RUNS, LONG_STEPS = 10, 10_000
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
RANKS = (4, 8, 16, 64)
METRICS = (
    "train/loss",
    "train/learning_rate",
    "train/grad_norm",
    "train/tokens_per_second",
    "train/tokens_seen",
    "train/epoch",
    "train/accuracy",
    "train/step_seconds",
    "eval/loss",
    "eval/perplexity",
    "eval/accuracy",
    "eval/f1_macro",
    "eval/entropy",
    "probe/prose/loss",
    "probe/questions/accuracy",
    "probe/kl",
    "system/memory_gib",
    "system/cpu_percent",
    "system/disk_gib",
    "system/temperature_c",
)


@dataclass(frozen=True)
class ManyRuns:
    """Sizes of the store. points: of all runs and metrics together."""

    runs: int = 1_000
    points: int = 38_000_000

    def count_steps(self, place: int) -> int:
        """Return the number of steps of a run by its place; the newest are the long ones."""
        if place >= self.runs - LONG_RUNS:
            return LONG_STEPS
        left = self.points // len(METRICS) - LONG_RUNS * LONG_STEPS
        return max(20, left // (self.runs - LONG_RUNS))


def build_values(place: int, steps: int) -> np.ndarray:
    """Return the values of a run, [steps, metrics]; the same for every store that is compared."""
    rng = np.random.default_rng(place)
    at = np.arange(1, steps + 1)
    rate, rank = RATES[place % len(RATES)], RANKS[place // len(RATES) % len(RANKS)]
    level = 1.2 + 0.15 * (np.log10(rate) + 3.7) ** 2 - 0.01 * np.log2(rank)
    values = rng.normal(0, 0.03, (steps, len(METRICS))) + level
    values[:, 0] += 2 * np.exp(-at / (steps / 6))
    values[:, 8] += 1.8 * np.exp(-at / (steps / 6))
    values[:, METRICS.index("train/learning_rate")] = rate
    values[:, METRICS.index("train/tokens_seen")] = at * 870
    values[:, METRICS.index("train/epoch")] = 3 * at / steps
    values[rng.integers(steps), 0] = np.nan if place % 50 == 0 else 9.0  # a spike, or not a number
    return values
