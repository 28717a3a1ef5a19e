"""Advice for the next run, as sentences with the fields they change.

A piece of advice follows from the evidence of a verdict alone, names the evidence, and changes config
fields that the form can apply unedited. The most useful comes first.

This also covers whether the judged model was chosen on the rows that judge it. The best of k checkpoints
is partly the luckiest on the rows that chose it: among 10 that gained nothing, 12% were called better at
95%, among 30 26%. If test rows judge, the choice costs nothing. Otherwise each checkpoint is tested at 1 -
0.05/k (Bonferroni), so that the conclusion holds whichever was chosen. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.evaluation.statistics.intervals import Interval, estimate_rows_needed
from engine.evaluation.training_curve import run_curve
from engine.evaluation.training_curve.run_curve import RunCurves, Validation, VerdictConfig
from store.core import formatting
from store.core.figure_schemas import JudgingSplit
from store.evaluation.forgetting_schemas import AdviceItem, SettingValue
from store.evaluation.verdict_schemas import Overfitting, TrainingStop, VerdictState

ADVISED_MAX_EPOCHS = 20.0
MAX_EPOCHS, MAX_PATIENCE = 1_000, 100  # limits of the config
MAX_SHARE = 0.5  # of the rows in a part
FAR_ABOVE_DEFAULT = 3.0  # times the default above which a learning rate is replaced, not lowered
WARMUP, GRAD_NORM = 0.1, 1.0  # values if they are off
MAX_NEEDED = 1_000_000  # largest number of rows stated
MAX_ROWS = 500  # held out by a split for validation, and for test (store.training.split.Split)


@dataclass(frozen=True)
class VerdictOutcome:
    """Outcome of a verdict: its state, the gain that it is based on (None if a loss is not a number), the
    split that judged it, whether it overfits, and what it was compared with.
    """

    state: VerdictState
    gain: Interval | None
    split: JudgingSplit
    overfitting: Overfitting
    against: str = "the base model"


def advise(outcome: VerdictOutcome, course: RunCurves, config: VerdictConfig) -> list[AdviceItem]:
    """Return pieces of advice: `text`, and `change` {field of TrainConfig: new value}, which may be empty."""
    pieces = [_advise_training(outcome, course, config)]
    diverged = outcome.overfitting.state == "diverged"
    if (
        outcome.state != "learned"
        and not diverged
        and is_always_above_baseline(course.validations, course.baseline)
    ):
        text = f"It does no better than {outcome.against}: check that labels match their texts."
        pieces.append(AdviceItem(text=text, change={}))
    if outcome.state == "undecided" and outcome.gain is not None and not diverged:
        pieces.append(advise_more_rows(outcome.gain, outcome.split, config))
    if outcome.split == "validation" and not config.get("test_size"):  # else there is too little data
        text = "Reserve test rows, which only the verdict uses, for an unbiased figure."
        pieces.append(AdviceItem(text=text, change={"test_size": 0.1}))
    return [piece for piece in pieces if piece]


def _advise_training(outcome: VerdictOutcome, course: RunCurves, config: VerdictConfig) -> AdviceItem | None:
    """Advise longer or shorter training, with larger or smaller steps."""
    overfitting, stopped, against = outcome.overfitting, course.stopped, outcome.against
    past_its_best = overfitting.state == "overfits" and overfitting.best_step
    threshold = float(config.get("early_stopping_threshold", 0.005))
    worse = outcome.state == "worse"
    if overfitting.state == "diverged":
        return advise_stabilisation(config, "Training diverged.")
    behind = is_always_above_baseline(course.validations, course.baseline)
    if worse and overfitting.state != "overfits" and has_improved(course.validations, threshold):
        learned = "It did" if behind else "It learned, but did"
        return _advise_longer_training(stopped, config, f"{learned} not get past {against} yet:")
    if worse and not past_its_best:
        return advise_lower_rate(config, f"It got worse than {against}: the steps were too large.")
    if overfitting.state == "overfits":
        return _advise_fewer_epochs(overfitting, stopped, config)
    if is_still_improving(course.validations, stopped, threshold):
        if behind:
            return _advise_longer_training(stopped, config, f"It did not get past {against} yet:")
        return _advise_longer_training(stopped, config, "Validation loss was still falling at the end:")
    return _advise_higher_rate(config) if outcome.state == "no_gain" else None


def is_still_improving(validations: Sequence[Validation], stopped: TrainingStop, threshold: float) -> bool:
    """Return whether the last validation is the best, better than the one before by more than `threshold` of
    it and by more than the noise from step to step (`run_curve.py`).
    """
    if stopped.reason == "early_stopping" or len(validations) < 2:
        return False
    losses = run_curve.mean_losses(validations)
    if not np.isfinite(losses).all() or losses[-1] > losses.min():
        return False
    least = max(threshold * losses[-2], run_curve.estimate_curve_noise(losses).beyond_one(2))
    return bool(losses[-2] - losses[-1] > least)


def is_always_above_baseline(validations: Sequence[Validation], baseline: Validation | None) -> bool:
    """Return whether no validation has a lower loss than the baseline."""
    if baseline is None or not validations:
        return False
    losses, level = run_curve.mean_losses(validations), run_curve.mean_loss(baseline)
    return bool(np.isfinite(losses).any() and np.nanmin(losses) >= level)


def has_improved(validations: Sequence[Validation], threshold: float) -> bool:
    """Return whether a model that began untrained (a new head: there is no step 0) has improved by more than
    `threshold` since the first validation.
    """
    if not validations or not validations[0].step:
        return False
    losses = run_curve.mean_losses(validations)
    return bool(losses.min() < losses[0] * (1 - threshold))


def advise_lower_rate(config: VerdictConfig, why: str) -> AdviceItem | None:
    """Advise a third of the learning rate, or the method's default if the rate is far above it, for the
    reason `why`; None if the config has no rate.
    """
    rate = config.get("learning_rate")
    if not rate:
        return None
    if default := _find_lower_default_rate(config):
        return advise_default_rate(default, rate, why)
    lower = formatting.round_significant(rate / 3)
    text = f"{why} Try a third of the learning rate, {formatting.format_setting(lower)}."
    return AdviceItem(text=text, change={"learning_rate": lower})


def advise_stabilisation(config: VerdictConfig, why: str) -> AdviceItem | None:
    """Advise how to prevent divergence: the method's default learning rate; if the rate was not far above it,
    a tenth, with warmup and gradient clipping if they are off.
    """
    rate = config.get("learning_rate")
    if not rate:
        return None
    if default := _find_lower_default_rate(config):
        return advise_default_rate(default, rate, why)
    lower = formatting.round_significant(rate / 10)
    change: dict[str, SettingValue] = {"learning_rate": lower}
    text = f"{why} Try a tenth of the learning rate, {formatting.format_setting(lower)}"
    if config.get("lr_scheduler_type") == "constant":  # starts at the full rate, whatever the warmup
        change["lr_scheduler_type"] = "constant_with_warmup"
    if config.get("warmup_steps") == 0 or "lr_scheduler_type" in change:
        change["warmup_steps"] = max(WARMUP, float(config.get("warmup_steps") or 0))
        text += ", reached slowly (warmup)"
    if config.get("max_grad_norm") == 0:
        change["max_grad_norm"] = GRAD_NORM
        text += f", with gradients clipped at {GRAD_NORM:g}"
    return AdviceItem(text=f"{text}.", change=change)


def _find_lower_default_rate(config: VerdictConfig) -> float | None:
    """Return the method's default learning rate if the config's is more than FAR_ABOVE_DEFAULT times
    as high.
    """
    rate, default = config.get("learning_rate"), config.get("default_learning_rate")
    return default if rate and default and rate > FAR_ABOVE_DEFAULT * default else None


def advise_default_rate(default: float, rate: float, why: str) -> AdviceItem:
    """Advise the method's default instead of the rate, for the reason `why`."""
    text = f"{why} Try the method's default learning rate, {formatting.format_setting(default)}, instead of"
    return AdviceItem(text=f"{text} {formatting.format_setting(rate)}.", change={"learning_rate": default})


def _advise_higher_rate(config: VerdictConfig) -> AdviceItem | None:
    rate = config.get("learning_rate")
    if not rate:
        return None
    higher = min(1.0, formatting.round_significant(rate * 3))
    if higher <= rate:
        return None
    more = "three times the" if higher < 1 else "a higher"
    text = f"Nothing moved: try {more} learning rate, {formatting.format_setting(higher)}."
    return AdviceItem(text=text, change={"learning_rate": higher})


def _advise_fewer_epochs(
    overfitting: Overfitting, stopped: TrainingStop, config: VerdictConfig
) -> AdviceItem | None:
    best, epochs = overfitting.best_step, float(config.get("num_train_epochs") or 0)
    if not best:
        return advise_lower_rate(config, "It overfits from the start.")
    kept = stopped.restored_step not in (None, stopped.step)
    lead = "The best step was saved." if kept else "The last step was saved, which is past the best."
    change: dict[str, SettingValue] = {}
    if not kept and config.get("load_best_model_at_end") is False:
        lead, change = (
            "The last step was saved, which is past the best: save the best.",
            {"load_best_model_at_end": True},
        )
    fewer = max(0.5, math.ceil(2 * epochs * best / int(stopped.step)) / 2)
    if stopped.reason != "epochs" or fewer >= epochs:
        lower = advise_lower_rate(config, f"{lead} Smaller steps may reach a lower loss before it overfits.")
        return lower and replace(lower, change=change | lower.change)
    text = f"{lead} {formatting.format_epochs(fewer)} instead of {epochs:g} would stop near it."
    return AdviceItem(text=text, change=change | {"num_train_epochs": fewer})


def _advise_longer_training(stopped: TrainingStop, config: VerdictConfig, lead: str) -> AdviceItem | None:
    """Advise more of what ended the run: steps, patience or epochs, so that no remaining limit ends it as
    early.
    """
    if stopped.reason == "forgetting":
        return advise_lower_rate(config, f"{lead} it was stopped because of forgetting.")
    if stopped.reason == "early_stopping":
        patience = 2 * int(config.get("early_stopping_patience") or 1)
        if patience > MAX_PATIENCE:
            return AdviceItem(text=f"{lead} turn off early stopping.", change={"early_stopping": False})
        text = f"{lead} let early stopping wait for {formatting.plural(patience, 'validation')}."
        return AdviceItem(text=text, change={"early_stopping_patience": patience})
    epochs, limit = float(config.get("num_train_epochs") or 0), config.get("max_steps")
    if stopped.reason == "max_steps" and limit:
        steps, change = 2 * int(limit), dict[str, SettingValue]()
        if 0 < epochs <= MAX_EPOCHS / 2:  # the epochs were longer than the limit: doubling both is enough
            change = {"num_train_epochs": 2 * epochs}
        return AdviceItem(text=f"{lead} try {steps:,} steps.", change={"max_steps": steps, **change})
    if not 0 < epochs < ADVISED_MAX_EPOCHS:
        return None
    more = min(ADVISED_MAX_EPOCHS, 2 * epochs)
    text, change = f"{lead} try {formatting.format_epochs(more)}", {"num_train_epochs": more}
    steps = math.ceil(more / epochs * int(stopped.step))
    if limit and int(limit) < steps:
        text, change = f"{text}, and a limit of {steps:,} steps", change | {"max_steps": steps}
    return AdviceItem(text=f"{text}.", change=change)


def advise_more_rows(
    gain: Interval, split: JudgingSplit, config: VerdictConfig, *, most: int = MAX_ROWS
) -> AdviceItem:
    """Advise more held-out rows, up to the maximum of a split, or up to `most`."""
    needed = estimate_rows_needed(gain, gain.value)
    enough = needed if needed is not None and needed > gain.n else None
    about = f"about {formatting.round_significant(enough or 0):,.0f}"
    size = f"a gain of this size needs {about if (enough or 0) <= MAX_NEEDED else f'over {MAX_NEEDED:,}'}"
    size += " of them"
    if gain.n >= most:
        text = (
            f"It can't be distinguished from noise on all {gain.n:,} held-out rows, and a split holds out"
            " no more"
        )
        return AdviceItem(text=f"{text}{f'; {size}' if enough else ''}.", change={})
    wanted = min(most, int(formatting.round_significant(enough))) if enough else 2 * gain.n
    held = advise_hold_out(min(most, max(wanted, gain.n + 1)), gain.n, split, config)
    text = held.text
    if enough:
        text += f": {size}"
        if enough > most:
            limit = "a split holds out" if most == MAX_ROWS else "are asked"
            text += f", and {most} is the most that {limit}, so it may stay inconclusive"
    return AdviceItem(text=f"{text}.", change=held.change)


def advise_hold_out(wanted: int, n: int, split: JudgingSplit, config: VerdictConfig) -> AdviceItem:
    """Advise judging on `wanted` held-out rows instead of `n`; the text has no full stop."""
    own = config.get("test_size") if split == "test" else config.get("validation_size")
    share, limit = float(own or 0.1), int(config.get("max_eval_rows", MAX_ROWS))
    change: dict[str, SettingValue] = {
        f"{split}_size": min(MAX_SHARE, formatting.round_significant(share * wanted / n)),
        "max_eval_rows": min(MAX_ROWS, max(limit, wanted)),
    }
    text = "Evaluate on more held-out rows"
    if config.get("split_by") == "given":  # the file determines the parts, whatever their sizes
        del change[f"{split}_size"]
        if n < limit:
            text, change = f"{text}, marked as such in the file", {}
    elif share >= MAX_SHARE and n < limit:
        text, change = f"{text}, which requires more data: half of it is held out", {}
    return AdviceItem(text=text, change=change)


@dataclass(frozen=True)
class CheckpointChoice:
    """Checkpoint selection. `steps`: validations after step 0 of which the judged model is the best, on the
    same rows; 0 if none was chosen, or if other rows judge it.
    """

    steps: int = 0

    @property
    def confidence(self) -> float:
        """Confidence level of each interval."""
        return 1 - 0.05 / max(1, self.steps)

    @property
    def basis(self) -> str:
        """Name of an interval: "95% interval", or that it is one over several steps."""
        return f"95% interval over {self.steps} steps" if self.steps > 1 else "95% interval"

    @property
    def sentences(self) -> list[str]:
        """What a reader must know about the choice; empty if there was none."""
        if self.steps < 2:
            return []
        best_of = formatting.plural(self.steps, "validation")
        return [
            f"No test rows: the step was selected as the best of {best_of} on the same rows that evaluate"
            " it. Intervals are widened for that; the figures themselves are those of the luckiest step and"
            " would be lower on test rows."
        ]


def find_checkpoint_choice(split: JudgingSplit, course: RunCurves, config: VerdictConfig) -> CheckpointChoice:
    """Return the checkpoint choice. split: the rows that judge."""
    kept_best = config.get("load_best_model_at_end", True) or course.stopped.reason == "early_stopping"
    if split != "validation" or not kept_best:
        return CheckpointChoice()
    trained = [v for v in course.validations if v.step > 0]
    measured = [v for v in trained if np.isfinite(np.asarray(v.loss_sums)).all()]
    return CheckpointChoice(len(measured))
