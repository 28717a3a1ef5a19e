"""The verdict on a run: what was gained against the base model, how sure that is, and what to do next.

The gain is base minus tuned loss a token on the same held-out rows, with a paired bootstrap interval
over rows; its sign against its interval decides the state, never the eye. Every sentence names the rows
it rests on. Pure: arrays and config in, a JSON document out (no NaN in it); docs/architecture.md shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.diagnostics import overfitting, phrasing
from engine.diagnostics.advice import advise
from engine.diagnostics.overfitting import Validation
from engine.diagnostics.stages import Metric
from engine.diagnostics.statistics import Interval, ratio_interval

FLATTERED = (
    "There are no test rows: the step was chosen on the same rows that judge it, "
    "which flatters the gain a little."
)
NEGLIGIBLE = 0.01  # of the base loss: an interval within ±1% of it says that nothing was gained

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
    metric: tuple[str, Sequence[Metric]] = ("", ()),
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
    gain = None if broken else ratio_interval(base - tuned, weights)
    correct = np.asarray(tuned_correct, np.float64) - np.asarray(base_correct, np.float64)
    accuracy = ratio_interval(correct, weights)
    state = state_of(gain, models["base"]["loss"])
    return {
        "state": state,
        "headline": _headline(state, gain, split, broken),
        "sentences": _sentences(models, accuracy, shape, stopped, split, config),
        "advice": advise(
            state=state,
            gain=gain,
            overfitting=shape,
            stopped=stopped,
            split=split,
            config=config,
            eval_rows=eval_rows,
        ),
        "gain": gain and _gain(gain, split),
        "accuracy_gain": {**accuracy.to_dict(), "unit": "share of tokens"},
        **models,
        "overfitting": shape,
        "stopped": dict(stopped),
    }


def state_of(gain: Interval | None, base_loss: float | None) -> str:
    """What the gain against its interval says; None is a loss that is not a number."""
    if gain is None or gain.below:
        return "worse"
    if gain.above:
        return "learned"
    if gain.low is None or gain.high is None or base_loss is None:
        return "undecided"
    limit = NEGLIGIBLE * base_loss
    return "no_gain" if -limit < gain.low and gain.high < limit else "undecided"


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


def _gain(gain: Interval, split: str) -> dict[str, Any]:
    return {**gain.to_dict(), "unit": "nats a token", "split": split, "detectable": gain.detectable}


def _headline(state: str, gain: Interval | None, split: str, broken: int) -> str:
    if gain is None:
        where = phrasing.plural(broken, f"{split} row")
        return f"Broken: the loss is not a number on {where}; training diverged."
    rows = phrasing.plural(gain.n, "held-out row" if split == "test" else "validation row")
    places = phrasing.decimals(gain.low, gain.high)
    amount = f"{phrasing.number(abs(gain.value), places)} nats a token"
    if gain.low is None or gain.high is None:
        way = "better" if gain.value > 0 else "worse"
        return f"Can't be told from one row, on which the tuned model is {way} by {amount}."
    bounds = phrasing.interval(gain.low, gain.high)
    if state == "learned":
        return f"Learned: on {rows} the tuned model is better by {amount} (95% interval {bounds})."
    if state == "worse":
        bounds = phrasing.interval(-gain.high, -gain.low)
        return f"Worse: on {rows} the tuned model is worse by {amount} (95% interval {bounds})."
    if state == "no_gain":
        return f"No gain: on {rows} the tuned model is as good as the base model (95% interval {bounds})."
    smallest = phrasing.number(gain.detectable or 0.0, max(places, 2))
    return (
        f"Can't be told from noise with {rows} (95% interval {bounds} nats a token); "
        f"the smallest gain that could be seen is {smallest}."
    )


def _sentences(
    models: dict[str, dict[str, Any]],
    accuracy: Interval,
    shape: dict[str, Any],
    stopped: Mapping[str, Any],
    split: str,
    config: Mapping[str, Any],
) -> list[str]:
    base, tuned = models["base"], models["tuned"]
    found = []
    if base["perplexity"] and tuned["perplexity"]:
        found.append(
            f"Perplexity went from {phrasing.perplexity(base['perplexity'])} to "
            f"{phrasing.perplexity(tuned['perplexity'])}, and "
            f"{tuned['token_accuracy']:.1%} of {base['tokens']:,} tokens are predicted right "
            f"(base model {base['token_accuracy']:.1%}; {_points(accuracy)})."
        )
    found += told(shape)
    found.append(ending_of(stopped, config))
    chosen = config.get("load_best_model_at_end", True) or stopped.get("reason") == "early_stopping"
    if split == "validation" and chosen:
        found.append(FLATTERED)
    return [sentence for sentence in found if sentence]


def _points(change: Interval) -> str:
    low, high = change.low, change.high
    if low is None or high is None:
        return "one row gives no interval"
    places = phrasing.decimals(100 * low, 100 * high, default=1)
    return f"95% interval of the change {phrasing.interval(100 * low, 100 * high, places)} points"


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
        ending += f", as {waited} brought no improvement of {config['early_stopping_threshold']:.1%}"
    if restored is not None and int(restored) != step:
        ending += f"; the weights of step {int(restored):,}, the best, were restored"
    return ending + "."
