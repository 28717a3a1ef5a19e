"""Whether training diverged: the training loss surely and lastingly rose above where it began, or lost what
it had gained.

The losses of batches are noisy, so levels are medians of blocks of steps, which a batch or two can't move;
the first steps, taken before weights have moved much, are a level too. Each of the last LASTING blocks must
lie above an earlier level: by a quarter of it, by half of what the loss had fallen until there, and by more
than levels differ for no reason, at a confidence widened for the levels that could have been picked
(Bonferroni). That noise is the larger of what steps show and of what blocks show, as the noise of batches may
last over steps. A spike that heals has its steps back at the old level before so many blocks are over. The
price: what diverges within the last LASTING blocks is not told apart from such a spike. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics import phrasing
from engine.diagnostics.course.run_course import TrainCurve

BLOCKS = 20  # of a whole run
MIN_BLOCK = 5  # steps
LASTING = 3  # blocks, that the loss must have stayed up for
MATERIAL_RISE = 1.25  # times the level that it rose from
FLOOR = 0.01  # of the first loss: below it a loss is as good as 0
QUARTILE = 0.3186  # of the size of what is normally distributed, in standard deviations
ERROR_OF_MEDIAN = math.sqrt(math.pi / 2)  # over that of a mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LossLevel:
    """The median training loss from one step to another; `error` is that of its logarithm."""

    first_step: int
    last_step: int
    loss: float
    error: float


@dataclass(frozen=True)
class TrainingDivergence:
    """From which level the training loss rose, to which it did at the end, and since when it stays up."""

    lowest: LossLevel
    end: LossLevel
    since_step: int

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        rise = (f"{_amount(level.loss)} ({_where(level)})" for level in (self.lowest, self.end))
        return f"Training diverged: the training loss rose from {' to '.join(rise)}."


def find(train_curve: TrainCurve, *, planned_steps: int = 0, looks: int = 1) -> TrainingDivergence | None:
    """None where it did not surely diverge. planned_steps: of the whole run, of one that still trains and is
    asked `looks` times."""
    steps = np.array([step for step, _ in train_curve], np.int64)
    losses = np.array([loss for _, loss in train_curve], np.float64)
    size = max(MIN_BLOCK, max(planned_steps, len(losses)) // BLOCKS)
    if len(losses) // size <= LASTING:
        return None
    levels = _levels(steps, np.where(np.isnan(losses), np.inf, losses), size)
    before, late = levels[:-LASTING], levels[-LASTING:]
    reach = float(special.stdtrit(len(levels), 1 - 0.05 / (len(before) * looks)))
    risen = [level for level in before if _rose(level, late, levels[0], reach)]
    if not risen:
        return None
    lowest, rise = min(risen, key=lambda level: level.loss), slice(-LASTING * size, None)
    end = LossLevel(int(steps[rise][0]), int(steps[-1]), float(np.median(losses[rise])), late[-1].error)
    return TrainingDivergence(lowest, end, _since(levels, lowest))


def _levels(steps: NDArray[np.int64], losses: Floats, size: int) -> list[LossLevel]:
    """Of the first steps, and of each block of `size` steps; the blocks end with the last step."""
    first = max(1, size // MIN_BLOCK)
    blocks = [(end - size, end) for end in range(len(losses), size - 1, -size)]
    spans = [(0, first), *reversed(blocks)]
    medians = np.array([np.median(losses[start:end]) for start, end in spans])
    floor = FLOOR * max(float(medians[0]), 1e-6)
    of_steps = _measure_spread(_take_logs(losses, floor), 1)
    logs = _take_logs(medians[1:], floor)
    of_blocks = min(
        _measure_spread(logs, order) for order in (1, 2)
    )  # of a jump the first, of a slope the second
    return [
        LossLevel(
            int(steps[start]),
            int(steps[end - 1]),
            max(float(median), floor),
            math.hypot(ERROR_OF_MEDIAN * of_steps / math.sqrt(end - start), of_blocks),
        )
        for (start, end), median in zip(spans, medians, strict=True)
    ]


def _take_logs(losses: Floats, floor: float) -> Floats:
    """Of those that are numbers: noise is a share of the loss."""
    return np.log(np.maximum(losses[np.isfinite(losses)], floor))


def _measure_spread(values: Floats, order: int) -> float:
    """The standard deviation of values about a slow course, from their differences of that order. Their lower
    quartile, as what the course itself does in a few places is no noise: of six blocks that is half."""
    differences = np.abs(np.diff(values, order))
    if not len(differences):
        return 0.0
    return float(np.quantile(differences, 0.25)) / QUARTILE / math.sqrt(math.comb(2 * order, order))


def _rose(level: LossLevel, late: list[LossLevel], began: LossLevel, reach: float) -> bool:
    """Each of the late levels is above it, by what matters and by what is sure."""
    lost = (began.loss + level.loss) / 2  # half of what it had gained
    return all(
        later.loss >= max(MATERIAL_RISE * level.loss, lost)
        and math.log(later.loss / level.loss) > reach * math.hypot(level.error, later.error)
        for later in late
    )


def _since(levels: list[LossLevel], lowest: LossLevel) -> int:
    """The first step of the blocks at the end that all lie above it by what matters."""
    since = levels[-1]
    for level in reversed(levels):
        if level.loss < MATERIAL_RISE * lowest.loss:
            break
        since = level
    return since.first_step


def _amount(loss: float) -> str:
    return phrasing.number(loss, 1 if loss >= 1 else 2) if math.isfinite(loss) else "no number"


def _where(level: LossLevel) -> str:
    if level.first_step == level.last_step:
        return f"step {level.first_step:,}"
    return f"steps {level.first_step:,} to {level.last_step:,}"
