"""An earlier step of a run that gained nearly as much and forgot surely less: where fewer epochs would stop.

Steps are those at which both validation rows and passages of general prose were measured. Of the steps that
had nine tenths of the gain that was kept, the one that forgot least is taken: no step gained more and forgot
less, so that it lies on the front of the run's own course. That it forgot less is tested passage by passage,
at a confidence widened for the steps that were looked at (Bonferroni), and must amount to something.
Pure: tables and validations in, a piece of advice out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.diagnostics import phrasing
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

KEPT = 0.9  # of the gain, that an earlier step must have had
LEAST = 0.02  # nats a token, by which it must have forgotten less
Document = dict[str, Any]


@dataclass(frozen=True)
class EarlierStep:
    """One step that will do: gain over the base model on validation rows, and by how much less prose lost."""

    step: int
    gain: Interval
    less: Interval


def find(
    validations: Sequence[Validation], prose: Mapping[int, pa.Table], kept: pa.Table, last: int
) -> tuple[EarlierStep, Interval] | None:
    """The step, and the gain of the model that was kept; None where no step will do.

    validations: step 0 is the base model. prose: rows of the probe by step. kept: its rows under the model
    that was kept, which is that of step `last`.
    """
    by_step = {v["step"]: v for v in validations}
    looked = sorted(step for step in prose if 0 < step < last and step in by_step)
    if not looked or not {0, last} <= set(by_step):
        return None
    whole = _gain(by_step[0], by_step[last])
    if whole.low is None or whole.low <= 0:
        return None
    found = []
    for step in looked:
        gain, less = _gain(by_step[0], by_step[step]), _less(prose[step], kept, len(looked))
        sure = less is not None and less.low is not None and less.low > 0 and less.value >= LEAST
        if gain.value >= KEPT * whole.value and less is not None and sure:
            found.append(EarlierStep(step, gain, less))
    return (max(found, key=lambda one: one.less.value), whole) if found else None


def _gain(base: Validation, now: Validation) -> Interval:
    tokens = np.asarray(base["tokens"], np.float64)
    return ratio_interval(np.asarray(base["loss_sums"]) - np.asarray(now["loss_sums"]), tokens)


def _less(then: pa.Table, kept: pa.Table, looks: int) -> Interval | None:
    """By how much less prose had lost then than under the model that was kept."""
    paired = probe_scores.pair(then, kept).get(probe_scores.PROSE)
    if paired is None or not paired.items:
        return None
    change = paired.tuned["loss_sum"] - paired.base["loss_sum"]
    return ratio_interval(change, paired.base["tokens"], confidence=1 - 0.05 / looks)


def advise(
    validations: Sequence[Validation],
    prose: Mapping[int, pa.Table],
    kept: pa.Table,
    stopped: Mapping[str, Any],
    config: Mapping[str, Any],
) -> Document | None:
    """{text, change, kind} of a launch that ends at such a step; None where there is none."""
    last = int(stopped.get("restored_step") or stopped["step"])
    found = find(validations, prose, kept, last)
    if found is None:
        return None
    one, whole = found
    epochs = float(config.get("num_train_epochs") or 0)
    if stopped["reason"] == "epochs" and epochs:
        fewer = round(max(0.01, epochs * one.step / int(stopped["step"])), 2)
        change: Document = {"num_train_epochs": fewer}
        until = f"{fewer:g} epoch{'' if fewer == 1 else 's'} in place of {epochs:g}"
    else:
        change, until = {"max_steps": one.step}, f"{one.step:,} steps"
    share = f"{100 * one.gain.value / whole.value:.0f}%"
    text = (
        f"Stop earlier, after {until}: at step {one.step:,} of {last:,} it had {share} of the gain"
        f" ({phrasing.plural(whole.n, 'validation row')}), and {_said(one.less)}."
    )
    return {"text": text, "change": change, "kind": "epochs"}


def _said(less: Interval) -> str:
    places = phrasing.decimals(less.low, less.high)
    amount, bounds = phrasing.number(less.value, places), phrasing.interval(less.low, less.high, places)
    return f"prose had lost {amount} nats a token less ({bounds}, {phrasing.plural(less.n, 'passage')})"
