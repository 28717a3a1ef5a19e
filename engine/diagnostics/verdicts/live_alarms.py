"""What a run should be warned of, at which step: while it trains, and once its verdict is passed.

Kinds are those of `store.queries.alerts`. A run is looked at again and again, so what is said while it trains
is said at a confidence widened for all of these looks (Bonferroni): of runs that are fine, at most one in
twenty is warned of something. Pure: numbers in, alarms out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.diagnostics import phrasing
from engine.diagnostics.course import overfitting, step_noise
from engine.diagnostics.course.overfitting import TrainCurve
from engine.diagnostics.course.stages import MetricValues, parting
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.forgetting.forgetting import THRESHOLDS
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Alarm:
    """One warning: its kind, the step that it is about, and what it says."""

    kind: str
    step: int
    message: str


def overfits(
    validations: Sequence[Validation],
    train_curve: TrainCurve,
    *,
    unit: str,
    looks: int,
    metric: Sequence[MetricValues] = (),
    metric_name: str = "",
) -> list[Alarm]:
    """Whether validation loss surely rose since its best step, and whether the metric says otherwise."""
    found = overfitting.onset(validations, train_curve, looks)
    last = int(validations[-1]["step"]) if len(validations) else 0
    alarms = []
    if found:
        since, best, rise = found
        said = f"It overfits, surely since step {since:,}: validation loss lies {_amount(rise)} {unit} above"
        said += f" that of step {best:,} ({_certainty(looks)}, {phrasing.plural(rise.n, 'row')})."
        alarms.append(Alarm("overfitting", since, said))
    losses = step_noise.mean_losses(validations)
    if metric and len(losses) > 1 and np.isfinite(losses).all():
        best = found[1] if found else int(validations[int(losses.argmin())]["step"])
        shape = {"best_step": best, "last_step": last}
        parted = parting(shape, metric, metric_name, found[2] if found else None, looks)
        if parted:
            alarms.append(Alarm("parting", int(parted["to_step"]), parted["sentence"]))
    return alarms


def forgets(step: int, base: ArrayLike, tuned: ArrayLike, tokens: ArrayLike, *, looks: int) -> list[Alarm]:
    """Thresholds that the loss on plain prose has surely passed; losses are summed nats of each passage."""
    change = np.asarray(tuned, np.float64) - np.asarray(base, np.float64)
    if not np.isfinite(change).all():  # training says so itself
        return []
    rise = ratio_interval(change, tokens, confidence=1 - 0.05 / max(1, looks))
    limits = THRESHOLDS["nats"]
    amount = f"{_amount(rise)} nats a token ({_certainty(looks)}, {phrasing.plural(rise.n, 'passage')})"
    passed = [colour for colour in ("red", "amber") if (rise.low or 0) > limits[colour]]
    return [_forgot(colour, limits[colour], step, amount) for colour in passed]


def of_verdict(verdict: Document) -> list[Alarm]:
    """What a verdict says of the kept model and of its training."""
    alarms = []
    stopped = verdict.get("stopped") or {}
    shape = verdict.get("overfitting") or {}
    if shape.get("state") == "overfits":
        rise = shape["sentence"].removeprefix("It overfits: ")
        said = f"It overfits, surely since step {shape['since_step']:,}: {rise}"
        alarms.append(Alarm("overfitting", int(shape["since_step"]), said))
    if shape.get("stage") == "memorising":
        alarms.append(Alarm("memorising", int(shape["last_step"]), shape["stage_sentence"]))
    if parted := shape.get("parting"):
        alarms.append(Alarm("parting", int(parted["to_step"]), parted["sentence"]))
    kept = int(stopped.get("restored_step") or stopped.get("step") or 0)
    for text in (verdict.get("forgetting") or {}).get("texts", ()):
        change = text.get("change")
        if text["probe"] != "prose" or not change or change["low"] is None:
            continue
        rise = Interval(**change)
        basis = f"95% interval, {phrasing.plural(rise.n, 'passage')}"
        alarms += [
            _forgot(colour, limit, kept, f"{_amount(rise)} nats a token ({basis})")
            for colour, limit in THRESHOLDS["nats"].items()
            if change["low"] > limit
        ]
    return alarms


def _forgot(colour: str, limit: float, step: int, amount: str) -> Alarm:
    said = f"It has forgotten more than {limit:g} nats a token at step {step:,}: the loss on plain prose rose"
    return Alarm(f"forgetting_{colour}", step, f"{said} by {amount}.")


def _certainty(looks: int) -> str:
    return f"95% over {looks} looks" if looks > 1 else "95% interval"


def _amount(rise: Interval) -> str:
    places = phrasing.decimals(rise.low, rise.high)
    return f"{phrasing.number(rise.value, places)} ({phrasing.interval(rise.low, rise.high, places)})"
