"""Alarms of a run and their steps, during training and after its verdict.

Kinds are those of `store.runs.run_outcomes`. A run is checked repeatedly, so alarms during training are
tested at a confidence widened for all of these checks (Bonferroni): of runs without problems, at most one
in twenty raises an alarm. Pure functions from numbers to alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from engine.evaluation.statistics.intervals import Interval, ratio_interval
from engine.evaluation.training_curve import overfitting, run_curve, stages
from engine.evaluation.training_curve.run_curve import LossCurves, TrainCurve
from engine.evaluation.training_curve.stages import find_metric_divergence
from engine.evaluation.verdicts.forgetting import THRESHOLDS
from engine.evaluation.verdicts.paired_measurements import PROSE
from store.core import formatting
from store.evaluation.verdict_schemas import Verdict

Colour = Literal["red", "amber"]
COLOURS: tuple[Colour, Colour] = ("red", "amber")


@dataclass(frozen=True)
class Alarm:
    """Alarm: its kind, the step that it refers to, and its message."""

    kind: str
    step: int
    message: str


def check_divergence(train_curve: TrainCurve, *, planned_steps: int, looks: int) -> list[Alarm]:
    """Check whether the training loss significantly and lastingly rose, in a run of `planned_steps`; if so,
    other alarms about its curve are not news.
    """
    divergence = stages.find_divergence(train_curve, planned_steps=planned_steps, looks=looks)
    return [Alarm("diverged", divergence.since_step, divergence.sentence)] if divergence else []


def check_overfitting(course: LossCurves, *, unit: str, looks: int) -> list[Alarm]:
    """Check whether validation loss significantly rose since its best step, and whether the metric
    contradicts it.
    """
    validations = course.validations
    onset = overfitting.find_onset(validations, course.train_curve, looks)
    last = int(validations[-1].step) if len(validations) else 0
    alarms = []
    if onset:
        since, best, rise = onset
        message = (
            f"It overfits, significant since step {since:,}: validation loss is {_format_rise(rise)} {unit}"
            " above"
        )
        message += f" that of step {best:,} ({_format_certainty(looks)}, {formatting.plural(rise.n, 'row')})."
        alarms.append(Alarm("overfitting", since, message))
    losses = run_curve.mean_losses(validations)
    if course.metric.values and len(losses) > 1 and np.isfinite(losses).all():
        best = onset[1] if onset else int(validations[int(losses.argmin())].step)
        parted = find_metric_divergence((best, last), course.metric, onset[2] if onset else None, looks)
        if parted:
            alarms.append(Alarm("parting", int(parted.to_step), parted.sentence))
    return alarms


def check_forgetting(
    step: int, base: ArrayLike, tuned: ArrayLike, tokens: ArrayLike, *, looks: int
) -> list[Alarm]:
    """Return an alarm for each threshold that the loss on plain prose significantly exceeds. Losses are
    summed nats of each passage.
    """
    change = np.asarray(tuned, np.float64) - np.asarray(base, np.float64)
    if not np.isfinite(change).all():  # reported by training itself
        return []
    rise = ratio_interval(change, tokens, confidence=1 - 0.05 / max(1, looks))
    amount = (
        f"{_format_rise(rise)} nats a token ({_format_certainty(looks)},"
        f" {formatting.plural(rise.n, 'passage')})"
    )
    passed = [colour for colour in COLOURS if (rise.low or 0) > THRESHOLDS.nats.get(colour)]
    return [_build_forgetting_alarm(colour, step, amount) for colour in passed]


def list_verdict_alarms(verdict: Verdict) -> list[Alarm]:
    """List the alarms of a verdict about the kept model and its training."""
    alarms, shape = [], verdict.overfitting
    since = shape.since_step if shape else None
    if shape and shape.state == "overfits" and since is not None:
        rise = shape.sentence.removeprefix("It overfits: ")
        message = f"It overfits, significant since step {since:,}: {rise}"
        alarms.append(Alarm("overfitting", since, message))
    if shape and shape.state == "diverged" and since is not None:
        alarms.append(Alarm("diverged", since, shape.sentence))
    if shape and shape.stage == "memorising":
        alarms.append(Alarm("memorising", int(shape.last_step or 0), shape.stage_sentence))
    if shape and shape.parting:
        alarms.append(Alarm("parting", int(shape.parting.to_step), shape.parting.sentence))
    return alarms + _list_prose_alarms(verdict)


def _list_prose_alarms(verdict: Verdict) -> list[Alarm]:
    forgetting, stopped = verdict.forgetting, verdict.stopped
    kept = int(stopped.restored_step or stopped.step)
    alarms = []
    for text in forgetting.texts if forgetting else ():
        change = text.change
        if text.probe != PROSE or not change or change.low is None:
            continue
        rise = Interval(change.value, change.low, change.high, change.n)
        amount = f"{_format_rise(rise)} nats a token (95% interval, {formatting.plural(rise.n, 'passage')})"
        passed = [colour for colour in reversed(COLOURS) if change.low > THRESHOLDS.nats.get(colour)]
        alarms += [_build_forgetting_alarm(colour, kept, amount) for colour in passed]
    return alarms


def _build_forgetting_alarm(colour: Colour, step: int, amount: str) -> Alarm:
    limit = THRESHOLDS.nats.get(colour)
    lead = f"It has forgotten more than {limit:g} nats a token at step {step:,}: the loss on plain prose rose"
    return Alarm(f"forgetting_{colour}", step, f"{lead} by {amount}.")


def _format_certainty(looks: int) -> str:
    return f"95% over {looks} validations" if looks > 1 else "95% interval"


def _format_rise(rise: Interval) -> str:
    places = formatting.compute_decimals(rise.low, rise.high)
    return (
        f"{formatting.format_number(rise.value, places)}"
        f" ({formatting.format_interval(rise.low, rise.high, places)})"
    )
