"""All figures of a verdict as one list, by keys that the verdict of a repeated run has too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from store.documents.figures.estimate import Estimate
from store.documents.runs.bundle import RunFigure
from store.documents.verdicts.classification import Classification
from store.documents.verdicts.forgetting import Forgetting
from store.documents.verdicts.verdict import Verdict

NATS, SHARE = "nats a token", "share"
BASE, TUNED, GAIN, RIGHT = "loss.base", "loss.tuned", "gain", "accuracy_gain"

PROBES = {
    "prose": "general prose",
    "choices": "general questions",
    "own_samples": "its own general texts",
    "task_samples": "its own answers to held-out prompts",
}
SCORES = {
    "loss": "the loss",
    "calibrated": "the loss less the base model's",
    "min_k": "the least likely tokens",
    "margin": "the margin of pairs",
}

Floats = NDArray[np.float64]


class JudgedRows(NamedTuple):
    """Both models of a run on the rows that judged it, in the order of their ids: what is summed over rows
    for each of the figures that pairs of runs share."""

    row_ids: NDArray[np.int64]
    tokens: Floats
    base_loss: Floats
    tuned_loss: Floats
    base_correct: Floats
    tuned_correct: Floats

    def sums(self) -> dict[str, Floats]:
        """The numerator of each row, by the figure's key; the denominator is its tokens."""
        return {
            BASE: self.base_loss,
            TUNED: self.tuned_loss,
            GAIN: self.base_loss - self.tuned_loss,
            RIGHT: self.tuned_correct - self.base_correct,
        }


class _Named(NamedTuple):
    key: str
    title: str
    unit: str
    estimate: Estimate | None


def figures_of(verdict: Verdict, rows: JudgedRows | None = None) -> list[RunFigure]:
    """Those that are there; rows: what gives the losses their intervals."""
    figures: list[RunFigure] = []
    for key, title, unit, estimate in _all(verdict, rows):
        if estimate is not None and np.isfinite(estimate["value"]):
            ends = {"low": estimate["low"], "high": estimate["high"], "n": estimate["n"]}
            figures.append(RunFigure(key=key, title=title, unit=unit, value=estimate["value"], **ends))  # type: ignore[typeddict-item]
    return figures


def _all(verdict: Verdict, rows: JudgedRows | None) -> Iterator[_Named]:
    gain = verdict["gain"]
    unit = gain["unit"] if gain else NATS
    yield _Named(BASE, "loss of the base model", unit, _loss(verdict, "base", rows))
    yield _Named(TUNED, "loss of the tuned model", unit, _loss(verdict, "tuned", rows))
    yield _Named(GAIN, "gain", unit, gain)
    if parts := verdict.get("parts"):
        yield _Named("gain.question", "gain from the question", parts["unit"], parts["question"])
        yield _Named("gain.shape", "gain after any prompt", parts["unit"], parts["shape"])
    right = verdict.get("accuracy_gain")
    yield _Named(RIGHT, "change of the share that is right", right["unit"] if right else SHARE, right)
    if preference := verdict.get("preference"):
        yield _Named("preference.accuracy", "pairs that gained", SHARE, preference["reward_accuracy"])
        yield _Named("preference.margin", "mean margin of pairs", "rewards", preference["reward_margin"])
    if classification := verdict.get("classification"):
        yield from _of_classes(classification)
    if forgetting := verdict.get("forgetting"):
        yield from _of_forgetting(forgetting)
    if membership := verdict.get("membership"):
        for name, score in membership["scores"].items():
            title = f"training rows told from held-out ones by {SCORES[name]}"
            yield _Named(f"membership.{name}", title, "area under the curve", score["auc"])
    if extraction := verdict.get("extraction"):
        yield _Named("extraction.beyond", "training rows that come out", SHARE, extraction["beyond"])


def _loss(verdict: Verdict, which: str, rows: JudgedRows | None) -> Estimate | None:
    figures = verdict["base"] if which == "base" else verdict["tuned"]
    loss = figures["loss"]
    if loss is None:
        return None
    between = interval(rows, BASE if which == "base" else TUNED) if rows else None
    if between is None or not same_value(between.value, loss):
        return {"value": loss, "low": None, "high": None, "n": figures["n"]}
    return {"value": loss, "low": between.low, "high": between.high, "n": between.n}


def _of_classes(classification: Classification) -> Iterator[_Named]:
    tuned = classification["models"]["tuned"]
    yield _Named("classes.accuracy", "accuracy", SHARE, tuned["accuracy"])
    yield _Named("classes.f1_macro", "macro F1", SHARE, tuned["f1_macro"])
    over = classification["over_prompted"]
    yield _Named("classes.over_prompted", "right beyond the untuned model", SHARE, over)
    if calibration := tuned.get("calibration"):
        yield _Named("classes.brier", "Brier score", "0 to 2", calibration["brier"])


def _of_forgetting(forgetting: Forgetting) -> Iterator[_Named]:
    for text in forgetting["texts"]:
        yield _Named(
            f"text.{text['probe']}", f"loss on {_probe(text['probe'])}, change", text["unit"], text["change"]
        )
    for choice in forgetting["choices"]:
        title = f"accuracy on {_probe(choice['probe'])}, change"
        yield _Named(f"choices.{choice['probe']}", title, SHARE, choice["change"])
    for far in forgetting["divergence"]:
        yield _Named(
            f"kl.{far['probe']}",
            f"distance from the base model on {_probe(far['probe'])}",
            far["unit"],
            far["kl"],
        )
    if requests := forgetting.get("requests"):
        harmful, harmless = requests["harmful"]["change"], requests["harmless"]["change"]
        yield _Named("requests.harmful", "harmful requests refused, change", SHARE, harmful)
        yield _Named("requests.harmless", "harmless requests refused, change", SHARE, harmless)


def _probe(name: str) -> str:
    """A built-in probe in words, a data set or a task by its name."""
    return PROBES.get(name, name.partition("/")[2] or name)


def interval(rows: JudgedRows, key: str, sums: Floats | None = None) -> Interval | None:
    """The figure `key` over the rows, or that of other sums; None where no row has a token, or a loss is not
    finite."""
    top = rows.sums()[key] if sums is None else sums
    if not (rows.tokens > 0).any() or not np.isfinite(top[rows.tokens > 0]).all():
        return None
    return ratio_interval(top, rows.tokens)


def same_value(value: float, other: float) -> bool:
    """Whether two ways of working a figure out mean the same."""
    return bool(np.isclose(value, other, rtol=1e-6, atol=1e-9))
