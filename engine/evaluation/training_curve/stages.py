"""Stage at which a run ended: learning, converged, overfitting, memorising, diverged, or unclear.

It builds on two measurements: the gap between the losses of training and held-out rows (Welch, as they are
different rows), and whether the training loss significantly and lastingly rose, by medians of blocks of
steps. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.evaluation.statistics.intervals import Interval, get_limits, ratio_interval
from engine.evaluation.training_curve import run_curve
from engine.evaluation.training_curve.run_curve import (
    MetricCurve,
    MetricValues,
    RowMemorisation,
    StepNoise,
    TrainCurve,
    Validation,
)
from store.core import formatting
from store.evaluation.verdict_schemas import GapLevel, GapPoint, MetricDivergence, OverfittingState, Stage

# How much better a model is on rows it was trained on than on rows it never saw.
#
# gap = validation loss - training loss, per token, of a fixed probe of training rows and of the validation
# rows, both measured in evaluation mode. They are two independent samples, so their errors add up (Welch).
# They may differ before any training: `growth` is the gap minus that of step 0, paired over the same rows,
# which removes that and is more precise. The relative gap, gap / validation loss, is amber from .1 and red
# from .3 if its whole interval is above.

RELATIVE_GAP = {"amber": 0.1, "red": 0.3}


def compute_train_gaps(train: Sequence[Validation], validation: Sequence[Validation]) -> list[GapPoint]:
    """Compute the gap at each step where both were measured; green if it is significantly below amber.

    Steps with a loss that is not a number are left out. Raises ValueError if the rows of one kind differ
    between steps.
    """
    seen = {int(v.step): v for v in validation if _is_finite(v)}
    pairs = [(t, seen[int(t.step)]) for t in train if int(t.step) in seen and _is_finite(t)]
    points: list[GapPoint] = []
    for trained, held_out in pairs:
        inside, outside = _estimate_mean(trained), _estimate_mean(held_out)
        relative = _compute_relative_gap(inside, outside)
        growth = None
        if points:
            growth = _subtract_intervals(
                _compute_change(pairs[0][1], held_out), _compute_change(pairs[0][0], trained)
            ).to_estimate()
        points.append(
            GapPoint(
                step=int(trained.step),
                train=inside.to_estimate(),
                validation=outside.to_estimate(),
                gap=_subtract_intervals(outside, inside).to_estimate(),
                relative=relative.to_estimate(),
                growth=growth,
                level=_classify_gap(relative),
            )
        )
    return points


def describe_gap(points: Sequence[GapPoint], unit: str = "nats a token") -> str:
    """Describe the last gap in words; empty if there is none."""
    if not points:
        return ""
    last = points[-1]
    gap, n, m = last.gap, last.train.n, last.validation.n
    rows = f"{formatting.plural(n, 'training row')} and {formatting.plural(m, 'validation row')}"
    if gap.low is None or gap.high is None:
        why = last.train.why or last.validation.why
        return f"The gap between {rows} has no interval{f': {why}' if why else ''}."
    if gap.low == gap.high == 0:
        return f"Loss on {rows} is the same."
    places = formatting.compute_decimals(gap.low, gap.high)
    bounds = formatting.format_interval(gap.low, gap.high, places)
    amount = f"{formatting.format_number(gap.value, places)} {unit} ({bounds}; {rows})"
    if gap.low <= 0 <= gap.high:
        return f"A gap between training and validation loss can't be distinguished from noise: {amount}."
    share = f"{formatting.format_number(100 * last.relative.value, 0)}% of the validation loss"
    way = "higher" if gap.value > 0 else "lower"
    sentence = f"Validation loss is {way} than loss on training rows by {amount}, {share}"
    growth = get_limits(last.growth) if last.growth else None
    if growth and growth[0] <= 0 <= growth[1]:
        return f"{sentence}; it did not grow significantly in training."
    return f"{sentence}."


def _is_finite(validation: Validation) -> bool:
    return bool(np.isfinite(np.asarray(validation.loss_sums, np.float64)).all())


def _estimate_mean(validation: Validation) -> Interval:
    return ratio_interval(validation.loss_sums, validation.tokens)


def _compute_change(first: Validation, later: Validation) -> Interval:
    if not np.array_equal(np.asarray(first.row_ids), np.asarray(later.row_ids)):
        raise ValueError(f"Losses at steps {first.step} and {later.step} are of different rows.")
    rise = np.asarray(later.loss_sums, np.float64) - np.asarray(first.loss_sums, np.float64)
    return ratio_interval(rise, first.tokens)


def _subtract_intervals(first: Interval, second: Interval) -> Interval:
    """Subtract two independent estimates; degrees of freedom by Welch and Satterthwaite."""
    value, n = first.value - second.value, first.n + second.n
    if first.se is None or second.se is None:
        return Interval(value, None, None, n)
    parts = [(i.se or 0.0) ** 2 for i in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(value, value, value, n, 0.0, 0.0)
    degrees = sum(parts) ** 2 / sum(p**2 / (i.n - 1) for p, i in zip(parts, (first, second), strict=True))
    half = float(special.stdtrit(degrees, 0.975)) * error
    return Interval(value, value - half, value + half, n, error)


def _compute_relative_gap(inside: Interval, outside: Interval) -> Interval:
    """Compute 1 - training loss / validation loss, by the delta method."""
    if outside.value <= 0:
        return Interval(0.0, None, None, inside.n + outside.n)
    ratio = inside.value / outside.value
    if inside.se is None or outside.se is None:
        return Interval(1 - ratio, None, None, inside.n + outside.n)
    error = math.hypot(inside.se, ratio * outside.se) / outside.value
    half = float(special.stdtrit(max(1, min(inside.n, outside.n) - 1), 0.975)) * error
    return Interval(1 - ratio, 1 - ratio - half, 1 - ratio + half, inside.n + outside.n, error)


def _classify_gap(relative: Interval) -> GapLevel:
    if relative.low is None or relative.high is None:
        return "unclear"
    if relative.low > RELATIVE_GAP["amber"]:
        return "red" if relative.low > RELATIVE_GAP["red"] else "amber"
    return "green" if relative.high < RELATIVE_GAP["amber"] else "unclear"


# Whether training diverged: the training loss significantly and lastingly rose above where it began, or lost
# what it had gained.
#
# The losses of batches are noisy, so levels are medians of blocks of steps, which a batch or two can't move;
# the first steps, taken before weights have moved much, are a level too. Each of the last LASTING_BLOCKS
# blocks must be above an earlier level: by a quarter of it, by half of what the loss had fallen until there,
# and by more than the noise between levels, at a confidence widened for the levels that could have been
# picked (Bonferroni). That noise is the larger of what steps and what blocks show, as the noise of batches
# may persist over steps. After a spike that recovers, the steps are back at the old level before that many
# blocks are over. The price: a divergence within the last LASTING_BLOCKS blocks can't be distinguished from
# such a spike.

BLOCKS = 20  # of a whole run
MIN_BLOCK = 5  # steps
LASTING_BLOCKS = 3  # blocks for which the loss must have stayed up
MATERIAL_RISE = 1.25  # times the level from which it rose
LOSS_FLOOR = 0.01  # of the first loss; a lower loss counts as this
QUARTILE = 0.3186  # lower quartile of the absolute value of a standard normal
ERROR_OF_MEDIAN = math.sqrt(math.pi / 2)  # relative to that of a mean

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LossLevel:
    """Median training loss from one step to another; `error` is that of its logarithm."""

    first_step: int
    last_step: int
    loss: float
    error: float


@dataclass(frozen=True)
class TrainingDivergence:
    """From which level to which final level the training loss rose, and since when it has stayed up."""

    lowest: LossLevel
    end: LossLevel
    since_step: int

    @property
    def sentence(self) -> str:
        """Description in words."""
        rise = (f"{_format_loss(level.loss)} ({_format_steps(level)})" for level in (self.lowest, self.end))
        return f"Training diverged: the training loss rose from {' to '.join(rise)}."


def find_divergence(
    train_curve: TrainCurve, *, planned_steps: int = 0, looks: int = 1
) -> TrainingDivergence | None:
    """Find a significant divergence; None if there is none. planned_steps: of the whole run, for one that is
    still training and is checked `looks` times.
    """
    steps = np.array([step for step, _ in train_curve], np.int64)
    losses = np.array([loss for _, loss in train_curve], np.float64)
    size = max(MIN_BLOCK, max(planned_steps, len(losses)) // BLOCKS)
    if len(losses) // size <= LASTING_BLOCKS:
        return None
    levels = _compute_levels(steps, np.where(np.isnan(losses), np.inf, losses), size)
    before, late = levels[:-LASTING_BLOCKS], levels[-LASTING_BLOCKS:]
    reach = float(special.stdtrit(len(levels), 1 - 0.05 / (len(before) * looks)))
    risen = [level for level in before if _has_risen(level, late, levels[0], reach)]
    if not risen:
        return None
    lowest, rise = min(risen, key=lambda level: level.loss), slice(-LASTING_BLOCKS * size, None)
    end = LossLevel(int(steps[rise][0]), int(steps[-1]), float(np.median(losses[rise])), late[-1].error)
    return TrainingDivergence(lowest, end, _find_start(levels, lowest))


def _compute_levels(steps: NDArray[np.int64], losses: Floats, size: int) -> list[LossLevel]:
    """Compute the levels of the first steps and of each block of `size` steps; the last block ends at the
    last step.
    """
    first = max(1, size // MIN_BLOCK)
    blocks = [(end - size, end) for end in range(len(losses), size - 1, -size)]
    spans = [(0, first), *reversed(blocks)]
    medians = np.array([np.median(losses[start:end]) for start, end in spans])
    floor = LOSS_FLOOR * max(float(medians[0]), 1e-6)
    of_steps = _measure_spread(_take_logs(losses, floor), 1)
    logs = _take_logs(medians[1:], floor)
    of_blocks = min(_measure_spread(logs, order) for order in (1, 2))  # 1 for a jump, 2 for a slope
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
    """Return logarithms of the finite losses: noise is proportional to the loss."""
    return np.log(np.maximum(losses[np.isfinite(losses)], floor))


def _measure_spread(values: Floats, order: int) -> float:
    """Estimate the standard deviation of values about a slowly changing curve, from their differences of that
    order.

    The lower quartile is used, as what the curve itself does in a few places is not noise: of six blocks
    that is half.
    """
    differences = np.abs(np.diff(values, order))
    if not len(differences):
        return 0.0
    return float(np.quantile(differences, 0.25)) / QUARTILE / math.sqrt(math.comb(2 * order, order))


def _has_risen(level: LossLevel, late: list[LossLevel], began: LossLevel, reach: float) -> bool:
    """Return whether each of the late levels is above it, materially and significantly."""
    lost = (began.loss + level.loss) / 2  # back to half of what it had gained
    return all(
        later.loss >= max(MATERIAL_RISE * level.loss, lost)
        and math.log(later.loss / level.loss) > reach * math.hypot(level.error, later.error)
        for later in late
    )


def _find_start(levels: list[LossLevel], lowest: LossLevel) -> int:
    """Return the first step of the final blocks that are all materially above it."""
    since = levels[-1]
    for level in reversed(levels):
        if level.loss < MATERIAL_RISE * lowest.loss:
            break
        since = level
    return since.first_step


def _format_loss(loss: float) -> str:
    return formatting.format_number(loss, 1 if loss >= 1 else 2) if math.isfinite(loss) else "no number"


def _format_steps(level: LossLevel) -> str:
    if level.first_step == level.last_step:
        return f"step {level.first_step:,}"
    return f"steps {level.first_step:,} to {level.last_step:,}"


# Stages at the end of a run:
#
# - memorising: it remembers which rows it was trained on (`membership_inference.py`) or reproduces them
#   (`extraction.py`), and overfits, or its gap to training rows significantly grew and is significantly red;
#   reproducing rows is sufficient by itself
# - overfitting: validation loss significantly rose since its best step (`overfitting.py`)
# - learning: validation loss significantly fell, by at least IMPROVING of it and by more than the noise from
#   step to step (`run_curve.py`), up to the last step
# - converged: it significantly fell at first, and its last change is significantly under NEGLIGIBLE_CHANGE
# - diverged: the training loss significantly and lastingly rose, or a loss is not a number any more: nothing
#   else is concluded from such a curve
# - unclear: everything else, and unstable training
#
# The task's metric may contradict the loss: quality can rise while the loss does. Both changes are then
# reported with their intervals.

IMPROVING = 0.005  # of the loss
TYPICAL_METRIC_NOISE = 0.015  # step-to-step noise assumed for a metric (0 to 1) until its curve shows it
NEGLIGIBLE_CHANGE = 0.01  # of the loss; a smaller change is immaterial


@dataclass(frozen=True)
class LossShape:
    """What the validation losses alone show: the fields of `Overfitting`."""

    state: OverfittingState
    sentence: str
    best_step: int | None = None
    last_step: int | None = None
    since_step: int | None = None
    rise: Interval | None = None
    gl: float | None = None
    pq: float | None = None


def determine_stage(
    shape: LossShape, validations: Sequence[Validation], points: Sequence[GapPoint], memory: RowMemorisation
) -> tuple[Stage, str]:
    """Return the stage and its sentence, from the shape of the validation losses and the other evidence."""
    if shape.state == "diverged":
        return "diverged", shape.sentence
    membership, extraction = memory.membership, memory.extraction
    remembers = bool(membership and membership.state == "remembers")
    writes = bool(extraction and extraction.state == "extracts")
    last = points[-1] if points else None
    grown = bool(last and last.growth and (last.growth.low or 0) > 0 and last.level == "red")
    if writes or (remembers and (shape.state == "overfits" or grown)):
        return "memorising", _describe_memorisation(shape, memory, remembers, writes)
    if shape.state == "overfits":
        return "overfitting", f"It overfits, significant since step {shape.since_step:,}."
    if shape.state == "unclear" or len(validations) < 2:
        rows = len(np.asarray(validations[-1].row_ids)) if validations else 0
        return (
            "unclear",
            f"Can't tell from {formatting.plural(rows, 'validation row')}:"
            f" {_lowercase_first(shape.sentence)}",
        )
    return _classify_falling(validations)


def _describe_memorisation(shape: LossShape, memory: RowMemorisation, remembers: bool, writes: bool) -> str:
    evidence = []
    if remembers and memory.membership:
        evidence.append(memory.membership.sentence)
    if writes and memory.extraction:
        evidence.append(memory.extraction.sentence)
    since = f" (significant since step {shape.since_step:,})" if shape.since_step is not None else ""
    overfits = f", and overfits{since}" if shape.state == "overfits" else ""
    return f"It memorizes its training rows{overfits}. {' '.join(evidence)}"


def _classify_falling(validations: Sequence[Validation]) -> tuple[Stage, str]:
    losses = run_curve.mean_losses(validations)
    level, reach = float(losses[-1]), run_curve.estimate_curve_noise(losses).beyond_one(2)
    recent = run_curve.compute_loss_rise(validations[-2], validations[-1], 0.95)
    lasting = run_curve.compute_loss_rise(validations[-2], validations[-1], 0.95, reach)
    whole = run_curve.compute_loss_rise(validations[0], validations[-1], 0.95, reach)
    rows = formatting.plural(recent.n, "validation row")
    since = f"between step {validations[-2].step:,} and step {validations[-1].step:,}"
    if level == 0:  # hinge loss with every margin above 1
        return "converged", f"It converged: validation loss is 0 on each of {rows}, the minimum."
    if lasting.below and -recent.value >= IMPROVING * abs(level):
        amount = formatting.format_number(-100 * recent.value / abs(level), 1)
        return "learning", f"It is still learning: validation loss fell by {amount}% {since} ({rows})."
    if not whole.below:
        return "unclear", f"Can't tell from {rows}: validation loss did not fall significantly."
    if recent.low is not None and recent.high is not None:
        least = max(abs(recent.low), abs(recent.high))
        if least < NEGLIGIBLE_CHANGE * abs(level):
            return "converged", f"It converged: validation loss changed by less than 1% {since} ({rows})."
    if lasting.low is None:
        change = f"has no interval: {lasting.why}"
    else:
        change = f"is {formatting.format_interval(lasting.low, lasting.high)}"
    return (
        "unclear",
        f"Can't tell from {rows} whether it is still learning:"
        f" the change of validation loss {since} {change}.",
    )


def _lowercase_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def find_metric_divergence(
    steps: tuple[int | None, int | None], metric: MetricCurve, loss_rises: Interval | None, looks: int = 1
) -> MetricDivergence | None:
    """Return how metric and loss contradict each other; None if they don't, or if the metric was not
    measured.

    They are compared from the step of the lowest loss to the last, which are `steps`: the metric improves
    while the loss significantly rose, or it falls since its own best step, while the loss is lowest at the
    end. If checked `looks` times during training, the confidence is widened for these too.
    """
    by_step = {int(m.step): m for m in metric.values}
    best, last = steps
    if best is None or last is None or last not in by_step or len(by_step) < 2:
        return None
    means = {step: _compute_metric_mean(m) for step, m in by_step.items() if step <= last}
    if best in by_step and best != last and loss_rises is not None and loss_rises.above:
        change = _compute_metric_change(by_step[best], by_step[last], 1 - 0.05 / looks)
        if run_curve.widen_by_noise(change, _estimate_metric_noise(means, best).beyond_one(2 * looks)).above:
            return _build_parting("metric_improves", (best, last), metric.name, change, loss_rises)
    top = max(means, key=lambda step: means[step])
    if best == last and top != last:
        change = _compute_metric_change(by_step[top], by_step[last], 1 - 0.05 / (len(means) - 1) / looks)
        if run_curve.widen_by_noise(
            change, _estimate_metric_noise(means, top).beyond_one(len(means) * looks)
        ).below:
            return _build_parting("metric_falls", (top, last), metric.name, change, None)
    return None


def _estimate_metric_noise(means: Mapping[int, float], since: int) -> StepNoise:
    """Estimate the metric's noise from step to step, from its curve since that step."""
    return run_curve.estimate_roughness_noise(
        np.array([means[step] for step in sorted(means) if step >= since]), TYPICAL_METRIC_NOISE
    )


def _compute_metric_mean(metric: MetricValues) -> float:
    weights = np.asarray(metric.weights, np.float64)
    return float((np.asarray(metric.values, np.float64) * weights).sum() / weights.sum())


def _compute_metric_change(first: MetricValues, later: MetricValues, confidence: float = 0.95) -> Interval:
    if not np.array_equal(np.asarray(first.row_ids), np.asarray(later.row_ids)):
        raise ValueError(f"Metrics at steps {first.step} and {later.step} are of different rows.")
    weights = np.asarray(first.weights, np.float64)
    change = np.asarray(later.values, np.float64) - np.asarray(first.values, np.float64)
    return ratio_interval(change * weights, weights, confidence=confidence)


def _build_parting(
    kind: Literal["metric_improves", "metric_falls"],
    steps: tuple[int, int],
    name: str,
    change: Interval,
    loss: Interval | None,
) -> MetricDivergence:
    places = formatting.compute_decimals(change.low, change.high)
    bounds = formatting.format_interval(change.low, change.high, places)
    amount = (
        f"{formatting.format_number(change.value, places)} ({bounds}, {formatting.plural(change.n, 'row')})"
    )
    where = f"between step {steps[0]:,} and step {steps[1]:,}"
    if kind == "metric_improves":
        sentence = f"Loss and {name} diverge: {where} {name} rose by {amount} although validation loss rose."
        sentence += f" {name} is what matters; the loss shows that it is overconfident where it is wrong."
    else:
        sentence = (
            f"Loss and {name} diverge: {where} {name} changed by {amount} although validation loss fell."
        )
    return MetricDivergence(
        kind=kind,
        from_step=steps[0],
        to_step=steps[1],
        metric=change.to_estimate(),
        loss=loss.to_estimate() if loss else None,
        sentence=sentence,
    )


def list_gap_points(
    train_probe: Sequence[Validation] | None, validations: Sequence[Validation]
) -> list[GapPoint]:
    """Return the gap at each step (`compute_train_gaps`); empty if no training rows were measured."""
    return compute_train_gaps(train_probe, validations) if train_probe else []
