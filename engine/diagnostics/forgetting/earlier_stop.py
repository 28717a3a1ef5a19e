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
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.diagnostics import phrasing
from engine.diagnostics.course.judged_config import JudgedConfig
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from store.documents.verdicts.forgetting import AdvicePiece, SettingValue
from store.documents.verdicts.verdict import Stopped

KEPT = 0.9  # of the gain, that an earlier step must have had
LEAST = 0.02  # nats a token, by which it must have forgotten less


class ProseCourse(NamedTuple):
    """Rows of the probe of general prose by step, and under the model that was kept."""

    by_step: Mapping[int, pa.Table]
    kept: pa.Table


@dataclass(frozen=True)
class EarlierStep:
    """One step that will do: gain over the base model on validation rows, and by how much less prose lost."""

    step: int
    gain: Interval
    less: Interval


def find(
    validations: Sequence[Validation], prose: ProseCourse, last: int
) -> tuple[EarlierStep, Interval] | None:
    """The step, and the gain of the model that was kept, which is that of step `last`; None where no step
    will do. validations: step 0 is the base model."""
    by_step = {v["step"]: v for v in validations}
    looked = sorted(step for step in prose.by_step if 0 < step < last and step in by_step)
    if not looked or not {0, last} <= set(by_step):
        return None
    whole = _gain(by_step[0], by_step[last])
    if whole.low is None or whole.low <= 0:
        return None
    steps = []
    for step in looked:
        gain = _gain(by_step[0], by_step[step])
        less = _less(prose.by_step[step], prose.kept, len(looked))
        sure = less is not None and less.low is not None and less.low > 0 and less.value >= LEAST
        if gain.value >= KEPT * whole.value and less is not None and sure:
            steps.append(EarlierStep(step, gain, less))
    return (max(steps, key=lambda step: step.less.value), whole) if steps else None


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
    validations: Sequence[Validation], prose: ProseCourse, stopped: Stopped, config: JudgedConfig
) -> AdvicePiece | None:
    """Of a launch that ends at such a step; None where there is none."""
    last = int(stopped["restored_step"] or stopped["step"])
    step_and_gain = find(validations, prose, last)
    if step_and_gain is None:
        return None
    earlier, whole = step_and_gain
    epochs = float(config.get("num_train_epochs") or 0)
    if stopped["reason"] == "epochs" and epochs:
        fewer = round(max(0.01, epochs * earlier.step / int(stopped["step"])), 2)
        change: dict[str, SettingValue] = {"num_train_epochs": fewer}
        until = f"{phrasing.epochs(fewer)} in place of {epochs:g}"
    else:
        change, until = {"max_steps": earlier.step}, f"{earlier.step:,} steps"
    share = f"{100 * earlier.gain.value / whole.value:.0f}%"
    text = (
        f"Stop earlier, after {until}: at step {earlier.step:,} of {last:,} it had {share} of the gain"
        f" ({phrasing.plural(whole.n, 'validation row')}), and {_prose_kept(earlier.less)}."
    )
    return {"text": text, "change": change, "kind": "epochs"}


def _prose_kept(less: Interval) -> str:
    places = phrasing.decimals(less.low, less.high)
    amount, bounds = phrasing.number(less.value, places), phrasing.interval(less.low, less.high, places)
    return f"prose had lost {amount} nats a token less ({bounds}, {phrasing.plural(less.n, 'passage')})"
