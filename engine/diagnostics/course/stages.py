"""Where a run ended: learning, converged, overfitting, memorising, diverged, or can't be told.

  memorising   it remembers which rows it was trained on (`membership.py`) or writes them (`extraction.py`),
               and overfits, or its gap to training rows surely grew and is surely red; writing rows is
               enough by itself
  overfitting  validation loss surely rose since its best step (`overfitting.py`)
  learning     validation loss surely fell, by IMPROVING of it at least and by more than it moves from step
               to step (`step_noise.py`), up to the last step
  converged    it surely fell at first, and its last change is surely under SETTLED of it
  diverged     the training loss surely and lastingly rose (`training_divergence.py`), or a loss is not a
               number any more: of such a course nothing else is said
  unclear      everything else, and training that is unstable
The task's metric may say otherwise than the loss: quality can rise while the loss does. Both changes are
then given with their intervals. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.diagnostics import phrasing
from engine.diagnostics.course import step_noise, train_gap
from engine.diagnostics.course.run_course import MetricCourse, MetricValues, RowMemory
from engine.diagnostics.course.step_noise import StepNoise
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from store.documents.verdicts.overfitting import GapPoint, OverfittingState, Parting, Stage

IMPROVING = 0.005  # of the loss
METRIC_USUAL = 0.015  # by which a metric (of 0 to 1) moves from step to step until its course shows it
SETTLED = 0.01  # of the loss: a smaller change doesn't matter


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


def stage_of(
    shape: LossShape, validations: Sequence[Validation], points: Sequence[GapPoint], memory: RowMemory
) -> tuple[Stage, str]:
    """The stage and its sentence, from the shape of the validation losses and what else is known."""
    if shape.state == "diverged":
        return "diverged", shape.sentence
    membership, extraction = memory.membership, memory.extraction
    remembers = bool(membership and membership["state"] == "remembers")
    writes = bool(extraction and extraction["state"] == "extracts")
    last = points[-1] if points else None
    grown = bool(last and last["growth"] and (last["growth"]["low"] or 0) > 0 and last["level"] == "red")
    if writes or (remembers and (shape.state == "overfits" or grown)):
        return "memorising", _memorising(shape, memory, remembers, writes)
    if shape.state == "overfits":
        return "overfitting", f"It overfits, surely since step {shape.since_step:,}."
    if shape.state == "unclear" or len(validations) < 2:
        rows = len(np.asarray(validations[-1]["row_ids"])) if validations else 0
        return (
            "unclear",
            f"Can't tell from {phrasing.plural(rows, 'validation row')}: {_lower(shape.sentence)}",
        )
    return _falling(validations)


def _memorising(shape: LossShape, memory: RowMemory, remembers: bool, writes: bool) -> str:
    evidence = []
    if remembers and memory.membership:
        evidence.append(memory.membership["sentence"])
    if writes and memory.extraction:
        evidence.append(memory.extraction["sentence"])
    since = f" surely since step {shape.since_step:,}" if shape.since_step is not None else ""
    overfits = f", and overfits{since}" if shape.state == "overfits" else ""
    return f"It memorises its training rows{overfits}. {' '.join(evidence)}"


def _falling(validations: Sequence[Validation]) -> tuple[Stage, str]:
    losses = step_noise.mean_losses(validations)
    level, reach = float(losses[-1]), step_noise.of_course(losses).beyond_one(2)
    recent = step_noise.rise(validations[-2], validations[-1], 0.95)
    lasting = step_noise.rise(validations[-2], validations[-1], 0.95, reach)
    whole = step_noise.rise(validations[0], validations[-1], 0.95, reach)
    rows = phrasing.plural(recent.n, "validation row")
    since = f"between step {validations[-2]['step']:,} and step {validations[-1]['step']:,}"
    if level == 0:  # a hinge loss, with every margin above 1
        return "converged", f"It converged: validation loss is 0 on each of {rows}, and can't fall further."
    if lasting.below and -recent.value >= IMPROVING * abs(level):
        amount = phrasing.number(-100 * recent.value / abs(level), 1)
        return "learning", f"It is still learning: validation loss fell by {amount}% {since} ({rows})."
    if not whole.below:
        return "unclear", f"Can't tell from {rows}: validation loss did not surely fall at all."
    if recent.low is not None and recent.high is not None:
        least = max(abs(recent.low), abs(recent.high))
        if least < SETTLED * abs(level):
            return "converged", f"It converged: validation loss changed by less than 1% {since} ({rows})."
    return "unclear", f"Can't tell from {rows} whether it is still learning: {_lower(_noise(lasting, since))}"


def _noise(change: Interval, since: str) -> str:
    if change.low is None:
        return f"The change of validation loss {since} has no interval: {change.why}."
    return f"The change of validation loss {since} is {phrasing.interval(change.low, change.high)}."


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def parting(
    steps: tuple[int | None, int | None], metric: MetricCourse, loss_rises: Interval | None, looks: int = 1
) -> Parting | None:
    """Whether metric and loss say different things; None where they don't, or the metric was not measured.
    Asked `looks` times while it trains, the confidence is widened for these too.

    Looked at from the step of the lowest loss to the last, which are `steps`. It improves while the loss
    surely rose; it falls since its own best step, while the loss is at its lowest at the end.
    """
    by_step = {int(m["step"]): m for m in metric.values}
    best, last = steps
    if best is None or last is None or last not in by_step or len(by_step) < 2:
        return None
    means = {step: _mean(m) for step, m in by_step.items() if step <= last}
    if best in by_step and best != last and loss_rises is not None and loss_rises.above:
        change = _metric_change(by_step[best], by_step[last], 1 - 0.05 / looks)
        if step_noise.with_reach(change, _metric_noise(means, best).beyond_one(2 * looks)).above:
            return _parted("metric_improves", (best, last), metric.name, change, loss_rises)
    top = max(means, key=lambda step: means[step])
    if best == last and top != last:
        change = _metric_change(by_step[top], by_step[last], 1 - 0.05 / (len(means) - 1) / looks)
        if step_noise.with_reach(change, _metric_noise(means, top).beyond_one(len(means) * looks)).below:
            return _parted("metric_falls", (top, last), metric.name, change, None)
    return None


def _metric_noise(means: Mapping[int, float], since: int) -> StepNoise:
    """By how much the metric moves from step to step, from its course since that step."""
    return step_noise.of_rough(
        np.array([means[step] for step in sorted(means) if step >= since]), METRIC_USUAL
    )


def _mean(metric: MetricValues) -> float:
    weights = np.asarray(metric["weights"], np.float64)
    return float((np.asarray(metric["values"], np.float64) * weights).sum() / weights.sum())


def _metric_change(first: MetricValues, later: MetricValues, confidence: float = 0.95) -> Interval:
    if not np.array_equal(np.asarray(first["row_ids"]), np.asarray(later["row_ids"])):
        raise ValueError(f"Metrics at steps {first['step']} and {later['step']} are of different rows.")
    weights = np.asarray(first["weights"], np.float64)
    change = np.asarray(later["values"], np.float64) - np.asarray(first["values"], np.float64)
    return ratio_interval(change * weights, weights, confidence=confidence)


def _parted(
    kind: Literal["metric_improves", "metric_falls"],
    steps: tuple[int, int],
    name: str,
    change: Interval,
    loss: Interval | None,
) -> Parting:
    places = phrasing.decimals(change.low, change.high)
    bounds = phrasing.interval(change.low, change.high, places)
    amount = f"{phrasing.number(change.value, places)} ({bounds}, {phrasing.plural(change.n, 'row')})"
    where = f"between step {steps[0]:,} and step {steps[1]:,}"
    if kind == "metric_improves":
        sentence = f"Loss and {name} part: {where} {name} rose by {amount} although validation loss rose."
        sentence += f" What counts is {name}; the loss says that it is too sure where it errs."
    else:
        sentence = f"Loss and {name} part: {where} {name} changed by {amount} although validation loss fell."
    return {
        "kind": kind,
        "from_step": steps[0],
        "to_step": steps[1],
        "metric": change.to_dict(),
        "loss": loss.to_dict() if loss else None,
        "sentence": sentence,
    }


def gap_points(train_probe: Sequence[Validation] | None, validations: Sequence[Validation]) -> list[GapPoint]:
    """The gap at each step (`train_gap.gaps`); empty where no training rows were measured."""
    return train_gap.gaps(train_probe, validations) if train_probe else []
