"""The verdict on a run: what was gained against the base model, how sure that is, and what to do next.

The gain is base minus tuned loss a token on the same held-out rows, with a paired interval over rows. Whether
it matters is asked first: within `negligible_gain` of the base loss nothing was gained, however sure. Else
its sign against its interval decides the state, never the eye. Every sentence names the rows
it rests on. Pure: arrays and config in, a JSON document out (no NaN in it); docs/architecture.md shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics import phrasing
from engine.diagnostics.course import overfitting
from engine.diagnostics.course.advice import CheckpointChoice, advise, choice_of
from engine.diagnostics.course.stages import MetricValues
from engine.diagnostics.course.validation import Validation
from engine.diagnostics.statistics.statistics import Interval, ratio_interval

NEGLIGIBLE = 0.01  # `negligible_gain` where a config has none: of the base loss

Array = NDArray[np.float64]


def judge(
    *,
    row_ids: ArrayLike,
    split: str,
    base_loss_sum: ArrayLike,
    tuned_loss_sum: ArrayLike,
    tokens: ArrayLike,
    base_correct: ArrayLike,
    tuned_correct: ArrayLike,
    eval_rows: Sequence[Validation],
    train_curve: Sequence[tuple[int, float]],
    stopped: Mapping[str, Any],
    config: Mapping[str, Any],
    train_probe: Sequence[Validation] | None = None,
    membership: Mapping[str, Any] | None = None,
    metric: tuple[str, Sequence[MetricValues]] = ("", ()),
    extraction: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The verdict document of docs/architecture.md.

    Arrays have one entry for each held-out row: summed loss in nats, trained tokens, and how many of
    those were the model's first choice. `split`: "test" or "validation". `eval_rows`: the validations of
    the run in order, step 0 first. `train_curve`: (step, loss). `stopped`: reason, step, restored_step.
    `config`: the resolved TrainConfig. `train_probe`, `membership`, `extraction`: as `overfitting.assess`,
    `metric` its name in words and its values by step. Raises ValueError where no row has a token or lengths
    differ.
    """
    weights = np.asarray(tokens, np.float64)
    base, tuned = np.asarray(base_loss_sum, np.float64), np.asarray(tuned_loss_sum, np.float64)
    if not len(np.asarray(row_ids)) == len(base) == len(tuned) == len(weights):
        raise ValueError("Held-out rows, losses and tokens differ in length.")
    shape = overfitting.assess(
        eval_rows,
        train_curve,
        train_probe=train_probe,
        membership=membership,
        extraction=extraction,
        metric=metric,
    )
    models = {
        "base": _model(base, np.asarray(base_correct, np.float64), weights),
        "tuned": _model(tuned, np.asarray(tuned_correct, np.float64), weights),
    }
    broken = int((~np.isfinite(base - tuned)).sum())
    choice = choice_of(split, eval_rows, stopped, config)
    gain = None if broken else ratio_interval(base - tuned, weights, confidence=choice.confidence)
    correct = np.asarray(tuned_correct, np.float64) - np.asarray(base_correct, np.float64)
    accuracy = ratio_interval(correct, weights, confidence=choice.confidence)
    negligible = negligible_of(config)
    state = state_of(gain, models["base"]["loss"], negligible)
    return {
        "state": state,
        "headline": _headline(state, gain, split, broken, choice, negligible),
        "sentences": [
            *_tokens(models, accuracy, choice),
            *told(shape),
            *([ending] if (ending := ending_of(stopped, config)) else []),
            *choice.sentences,
        ],
        "advice": advise(
            state=state,
            gain=gain,
            overfitting=shape,
            stopped=stopped,
            split=split,
            config=config,
            eval_rows=eval_rows,
        ),
        "gain": gain and gain_of(gain, "nats a token", split, choice, negligible),
        "accuracy_gain": {**accuracy.to_dict(), "unit": "share of tokens"},
        **models,
        "overfitting": shape,
        "stopped": dict(stopped),
    }


def negligible_of(config: Mapping[str, Any]) -> float:
    """The share of the base loss, or of rows, up to which a gain doesn't matter; runs from before the setting
    have the default."""
    return float(config.get("negligible_gain", NEGLIGIBLE))


def state_of(gain: Interval | None, base_loss: float | None, negligible: float = NEGLIGIBLE) -> str:
    """What the gain says: first whether it can matter at all, then its sign against its interval. A gain of
    None is a loss that is not a number."""
    if gain is None:
        return "worse"
    if gain.low is None or gain.high is None:
        return "undecided"
    limit = negligible * abs(base_loss or 0.0)
    if gain.low == gain.high == 0 or -limit < gain.low <= gain.high < limit:
        return "no_gain"
    return "learned" if gain.above else "worse" if gain.below else "undecided"


def _model(loss_sum: Array, correct: Array, tokens: Array) -> dict[str, Any]:
    counted = float(tokens.sum())
    loss = float(loss_sum.sum() / counted) if counted else math.nan
    known = math.isfinite(loss)
    return {
        "loss": loss if known else None,
        "perplexity": math.exp(loss) if known and loss < 700 else None,
        "token_accuracy": float(correct.sum() / counted) if counted else None,
        "n": int((tokens > 0).sum()),
        "tokens": int(counted),
    }


def gain_of(
    gain: Interval, unit: str, split: str, choice: CheckpointChoice, negligible: float
) -> dict[str, Any]:
    """The `gain` of a verdict; `chosen_of`: the steps that its interval is widened for."""
    document = {**gain.to_dict(), "unit": unit, "split": split, "detectable": gain.detectable}
    return document | {"negligible": negligible, "chosen_of": choice.steps}


def _headline(
    state: str, gain: Interval | None, split: str, broken: int, choice: CheckpointChoice, negligible: float
) -> str:
    if gain is None:
        where = phrasing.plural(broken, f"{split} row")
        return f"Broken: the loss is not a number on {where}; training diverged."
    rows = phrasing.plural(gain.n, "held-out row" if split == "test" else "validation row")
    if gain.low is None or gain.high is None:
        return _unknown(gain, rows)
    if gain.low == gain.high:
        return f"No gain: on each of {rows} the loss is exactly that of the base model; nothing moved."
    amount = f"{phrasing.number(abs(gain.value), phrasing.decimals(gain.low, gain.high))} nats a token"
    way = "better" if gain.value > 0 else "worse"
    least, most = sorted((gain.low, gain.high)) if gain.value > 0 else (-gain.high, -gain.low)
    moved = (
        f"on {rows} the tuned model is {way} by {amount} ({choice.basis} {phrasing.interval(least, most)})"
    )
    if state in ("learned", "worse"):
        return f"{state.capitalize()}: {moved}."
    bounds = f"{choice.basis} {phrasing.interval(gain.low, gain.high)} nats a token"
    if state == "no_gain":
        within = f"{within_of(negligible)} of the base model's loss (setting {SETTING})"
        if gain.above or gain.below:
            return f"No gain that matters: {moved}, less than {within}."
        return f"No gain: on {rows} the tuned model is as good as the base model ({bounds}), within {within}."
    return f"Can't be told from noise with {rows} ({bounds}){smallest(gain)}."


SETTING = "negligible_gain"


def within_of(negligible: float) -> str:
    """ "1%"."""
    return f"{100 * negligible:g}%"


def smallest(gain: Interval) -> str:
    """ "; the smallest gain that could be seen is 0.12", empty where that is not known."""
    if not gain.detectable:
        return ""
    places = max(2, phrasing.decimals(gain.low, gain.high))
    return f"; the smallest gain that could be seen is {phrasing.number(gain.detectable, places)}"


def _unknown(gain: Interval, rows: str) -> str:
    said = f"Can't be told from {rows}: {gain.why or 'they are too few'}, so that there is no interval"
    if not gain.value:
        return f"{said}."
    way = "better" if gain.value > 0 else "worse"
    return f"{said}; the tuned model is {way} there by {phrasing.alone(abs(gain.value))} nats a token."


def _tokens(models: dict[str, dict[str, Any]], accuracy: Interval, choice: CheckpointChoice) -> list[str]:
    base, tuned = models["base"], models["tuned"]
    if not base["perplexity"] or not tuned["perplexity"]:
        return []
    before, after = phrasing.perplexity(base["perplexity"]), phrasing.perplexity(tuned["perplexity"])
    perplexity = f"went from {before} to {after}" if before != after else f"stayed at {before}"
    return [
        f"Perplexity {perplexity}, and the first choice is right for"
        f" {phrasing.percent(tuned['token_accuracy'])} of tokens (n {base['tokens']:,}; base model"
        f" {phrasing.percent(base['token_accuracy'])}; {_points(accuracy, choice)})."
    ]


def _points(change: Interval, choice: CheckpointChoice) -> str:
    if change.low is None or change.high is None:
        return f"no interval of the change: {change.why}"
    if change.low == change.high:
        return "as many on each row"
    bounds = phrasing.interval(100 * change.low, 100 * change.high)
    return f"{choice.basis} of the change {bounds} points"


def told(shape: Mapping[str, Any]) -> list[str]:
    """Whether it overfits, where loss and metric part, and that it memorises where it does."""
    parts = [shape["parting"]["sentence"]] if shape["parting"] else []
    memorises = [shape["stage_sentence"]] if shape["stage"] == "memorising" else []
    return [shape["sentence"], *parts, *memorises]


def ending_of(stopped: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """How training ended, as a sentence; empty where there was no training."""
    step, restored = int(stopped["step"]), stopped.get("restored_step")
    if stopped["reason"] == "mixed":  # from the weights of another run
        return ""
    reason = {
        "early_stopping": "Early stopping ended it",
        "forgetting": "It was stopped for what it forgot,",
        "max_steps": "It ended at its limit of steps,",
        "epochs": "It ran all its epochs and ended",
    }[stopped["reason"]]
    ending = f"{reason} at step {step:,}"
    if stopped["reason"] == "early_stopping" and "early_stopping_patience" in config:
        waited = phrasing.plural(config["early_stopping_patience"], "validation")
        ending += f", as {waited} brought no improvement of {100 * config['early_stopping_threshold']:g}%"
    if restored is not None and int(restored) != step:
        ending += f"; the weights of step {int(restored):,}, the best, were restored"
    return ending + "."
