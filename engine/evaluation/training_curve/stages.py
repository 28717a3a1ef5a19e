"""Where a run ended: learning, converged, overfitting, memorising, diverged, or can't be told.

Two measurements stand below it: the gap between the losses of training and held-out rows (Welch, as they are
different rows), and whether the training loss surely and lastingly rose, by medians of blocks of steps. Pure.
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
# gap = validation loss - training loss, a token, of a fixed probe of training rows and of the validation
# rows, both measured in evaluation mode. They are two independent samples, so their errors add up (Welch).
# They may differ before any training: `growth` is the gap minus that of step 0, in pairs over the same
# rows, which takes that off and is surer. The relative gap, gap / validation loss, is amber from .1 and red
# from .3 where its whole interval lies above. Pure.

RELATIVE_GAP = {"amber": 0.1, "red": 0.3}


def compute_train_gaps(train: Sequence[Validation], validation: Sequence[Validation]) -> list[GapPoint]:
    """The gap at each step that both were measured at, green where it is surely under amber. Steps with a
    loss that is not a number are left out. Raises ValueError where the rows of one kind are not the same at
    every step."""
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
    """The last gap in words; empty where there is none."""
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
        return f"{sentence}; it did not surely grow in training."
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
    """Of two independent estimates; degrees of freedom by Welch and Satterthwaite."""
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
    """1 - training loss / validation loss, by the delta method."""
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


# Whether training diverged: the training loss surely and lastingly rose above where it began, or lost what
# it had gained.
#
# The losses of batches are noisy, so levels are medians of blocks of steps, which a batch or two can't
# move; the first steps, taken before weights have moved much, are a level too. Each of the last LASTING
# blocks must lie above an earlier level: by a quarter of it, by half of what the loss had fallen until
# there, and by more than levels differ for no reason, at a confidence widened for the levels that could
# have been picked (Bonferroni). That noise is the larger of what steps show and of what blocks show, as the
# noise of batches may last over steps. A spike that heals has its steps back at the old level before so
# many blocks are over. The price: what diverges within the last LASTING blocks is not told apart from such
# a spike. Pure.

BLOCKS = 20  # of a whole run
MIN_BLOCK = 5  # steps
LASTING_BLOCKS = 3  # blocks, that the loss must have stayed up for
MATERIAL_RISE = 1.25  # times the level that it rose from
LOSS_FLOOR = 0.01  # of the first loss: below it a loss is as good as 0
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
        rise = (f"{_format_loss(level.loss)} ({_format_steps(level)})" for level in (self.lowest, self.end))
        return f"Training diverged: the training loss rose from {' to '.join(rise)}."


def find_divergence(
    train_curve: TrainCurve, *, planned_steps: int = 0, looks: int = 1
) -> TrainingDivergence | None:
    """None where it did not surely diverge. planned_steps: of the whole run, of one that still trains and is
    asked `looks` times."""
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
    """Of the first steps, and of each block of `size` steps; the blocks end with the last step."""
    first = max(1, size // MIN_BLOCK)
    blocks = [(end - size, end) for end in range(len(losses), size - 1, -size)]
    spans = [(0, first), *reversed(blocks)]
    medians = np.array([np.median(losses[start:end]) for start, end in spans])
    floor = LOSS_FLOOR * max(float(medians[0]), 1e-6)
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


def _has_risen(level: LossLevel, late: list[LossLevel], began: LossLevel, reach: float) -> bool:
    """Each of the late levels is above it, by what matters and by what is sure."""
    lost = (began.loss + level.loss) / 2  # half of what it had gained
    return all(
        later.loss >= max(MATERIAL_RISE * level.loss, lost)
        and math.log(later.loss / level.loss) > reach * math.hypot(level.error, later.error)
        for later in late
    )


def _find_start(levels: list[LossLevel], lowest: LossLevel) -> int:
    """The first step of the blocks at the end that all lie above it by what matters."""
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


# Where a run ended: learning, converged, overfitting, memorising, diverged, or can't be told.
#
# memorising   it remembers which rows it was trained on (`membership.py`) or writes them (`extraction.py`),
# and overfits, or its gap to training rows surely grew and is surely red; writing rows is
# enough by itself
# overfitting  validation loss surely rose since its best step (`overfitting.py`)
# learning     validation loss surely fell, by IMPROVING of it at least and by more than it moves from step
# to step (`run_curve.py`), up to the last step
# converged    it surely fell at first, and its last change is surely under SETTLED of it
# diverged     the training loss surely and lastingly rose, or a loss is not a
# number any more: of such a course nothing else is said
# unclear      everything else, and training that is unstable
# The task's metric may say otherwise than the loss: quality can rise while the loss does. Both changes are
# then given with their intervals. Pure.

IMPROVING = 0.005  # of the loss
TYPICAL_METRIC_NOISE = (
    0.015  # by which a metric (of 0 to 1) moves from step to step until its course shows it
)
NEGLIGIBLE_CHANGE = 0.01  # of the loss: a smaller change doesn't matter


@dataclass(frozen=True)
class LossShape:
    """What the validation losses alone say: the fields of `Overfitting`."""

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
    """The stage and its sentence, from the shape of the validation losses and what else is known."""
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
        return "overfitting", f"It overfits, surely since step {shape.since_step:,}."
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
    since = f" surely since step {shape.since_step:,}" if shape.since_step is not None else ""
    overfits = f", and overfits{since}" if shape.state == "overfits" else ""
    return f"It memorises its training rows{overfits}. {' '.join(evidence)}"


def _classify_falling(validations: Sequence[Validation]) -> tuple[Stage, str]:
    losses = run_curve.mean_losses(validations)
    level, reach = float(losses[-1]), run_curve.estimate_curve_noise(losses).beyond_one(2)
    recent = run_curve.compute_loss_rise(validations[-2], validations[-1], 0.95)
    lasting = run_curve.compute_loss_rise(validations[-2], validations[-1], 0.95, reach)
    whole = run_curve.compute_loss_rise(validations[0], validations[-1], 0.95, reach)
    rows = formatting.plural(recent.n, "validation row")
    since = f"between step {validations[-2].step:,} and step {validations[-1].step:,}"
    if level == 0:  # a hinge loss, with every margin above 1
        return "converged", f"It converged: validation loss is 0 on each of {rows}, and can't fall further."
    if lasting.below and -recent.value >= IMPROVING * abs(level):
        amount = formatting.format_number(-100 * recent.value / abs(level), 1)
        return "learning", f"It is still learning: validation loss fell by {amount}% {since} ({rows})."
    if not whole.below:
        return "unclear", f"Can't tell from {rows}: validation loss did not surely fall at all."
    if recent.low is not None and recent.high is not None:
        least = max(abs(recent.low), abs(recent.high))
        if least < NEGLIGIBLE_CHANGE * abs(level):
            return "converged", f"It converged: validation loss changed by less than 1% {since} ({rows})."
    return (
        "unclear",
        f"Can't tell from {rows} whether it is still learning:"
        f" {_lowercase_first(_describe_change(lasting, since))}",
    )


def _describe_change(change: Interval, since: str) -> str:
    if change.low is None:
        return f"The change of validation loss {since} has no interval: {change.why}."
    return f"The change of validation loss {since} is {formatting.format_interval(change.low, change.high)}."


def _lowercase_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def find_metric_divergence(
    steps: tuple[int | None, int | None], metric: MetricCurve, loss_rises: Interval | None, looks: int = 1
) -> MetricDivergence | None:
    """Whether metric and loss say different things; None where they don't, or the metric was not measured.
    Asked `looks` times while it trains, the confidence is widened for these too.

    Looked at from the step of the lowest loss to the last, which are `steps`. It improves while the loss
    surely rose; it falls since its own best step, while the loss is at its lowest at the end.
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
    """By how much the metric moves from step to step, from its course since that step."""
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
        sentence = f"Loss and {name} part: {where} {name} rose by {amount} although validation loss rose."
        sentence += f" What counts is {name}; the loss says that it is too sure where it errs."
    else:
        sentence = f"Loss and {name} part: {where} {name} changed by {amount} although validation loss fell."
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
    """The gap at each step (`gaps`); empty where no training rows were measured."""
    return compute_train_gaps(train_probe, validations) if train_probe else []
