"""The verdict on a classifier: how many held-out rows are right, against what, and how sure that is.

An untrained head is no base model: it says noise. So a run is held against always the most frequent class,
row by row and in pairs, and beside it against the untuned model that is asked for the label. The state is
read from the share of rows right, with Tango's interval for rows gained and lost; where that can't tell, the
loss a row, which sees how sure the model is, says so in words. Pure: arrays and config in, the document of
docs/architecture.md out.
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
from engine.diagnostics.statistics import flips
from engine.diagnostics.statistics.class_figures import most_confused
from engine.diagnostics.statistics.statistics import Interval, ratio_interval
from engine.diagnostics.verdicts.verdict import (
    SETTING,
    ending_of,
    gain_of,
    negligible_of,
    state_of,
    told,
    within_of,
)

UNIT = "nats a row"
BASELINE = "always the most frequent class"
SHORT = ("n", "accuracy", "f1_macro", "f1_weighted")  # what is kept of the models that are compared with

Array = NDArray[np.float64]
Document = dict[str, Any]


def judge(
    *,
    split: str,
    base_loss: ArrayLike,
    tuned_loss: ArrayLike,
    known: ArrayLike,
    base_correct: ArrayLike,
    tuned_correct: ArrayLike,
    classification: Document,
    eval_rows: Sequence[Validation],
    train_curve: Sequence[tuple[int, float]],
    stopped: Mapping[str, Any],
    config: Mapping[str, Any],
    metric: tuple[str, Sequence[MetricValues]] = ("", ()),
    train_probe: Sequence[Validation] | None = None,
    membership: Mapping[str, Any] | None = None,
) -> Document:
    """The verdict document of a run with a classification head.

    Arrays have one entry for each held-out row: loss in nats, whether training knows its label (1 or 0; a row
    that it doesn't know has no loss and is wrong), and 1 where the prediction is right. base: always the most
    frequent class. classification: `document`. The rest is as in `engine.diagnostics.verdicts.verdict.judge`.
    """
    weights = np.asarray(known, np.float64)
    base, tuned = np.asarray(base_loss, np.float64), np.asarray(tuned_loss, np.float64)
    validations = of_the_head(eval_rows)
    choice, negligible = choice_of(split, validations, stopped, config), negligible_of(config)
    accuracy = flips.change_of(base_correct, tuned_correct, confidence=choice.confidence)
    broken = int((~np.isfinite(base - tuned)).sum())
    gain = None
    if not broken and weights.any():
        gain = ratio_interval(base - tuned, weights, confidence=choice.confidence)
    shape = overfitting.assess(
        validations, train_curve, unit=UNIT, train_probe=train_probe, metric=metric, membership=membership
    )
    state = "worse" if broken else state_of(accuracy, 1.0, negligible)  # of all rows
    models = {
        "base": _model(base, weights, classification["models"]["majority"]),
        "tuned": _model(tuned, weights, classification["models"]["tuned"]),
    }
    return {
        "state": state,
        "headline": _headline(state, classification, split, broken, negligible),
        "sentences": [
            *_sentences(classification, accuracy, gain, choice),
            *told(shape),
            ending_of(stopped, config),
            *choice.sentences,
        ],
        "advice": advise(
            state=state,
            gain=accuracy,
            overfitting=shape,
            stopped=stopped,
            split=split,
            config=config,
            eval_rows=validations,
            against=BASELINE,
        ),
        "gain": gain and gain_of(gain, UNIT, split, choice, negligible),
        "accuracy_gain": {**accuracy.to_dict(), "unit": "share of rows"},
        **models,
        "overfitting": shape,
        "membership": membership,
        "stopped": dict(stopped),
        "classification": classification,
    }


def of_the_head(validations: Sequence[Validation]) -> list[Validation]:
    """Without step 0, always the most frequent class: that a new head begins above it is no rise."""
    return [one for one in validations if one["step"] > 0]


def document(
    split: str,
    labels: Sequence[str],
    rows: Sequence[int],
    models: Mapping[str, Document | None],
    *,
    unseen: int,
    over_prompted: Interval | None,
) -> Document:
    """`verdict["classification"]`. labels: the classes with `rows` of training each. models: figures of tuned
    (whole), majority and prompted. over_prompted: how many more rows are right than when the untuned model is
    asked, as a share, in pairs."""
    found: Document = {
        name: figures if name == "tuned" else {part: figures[part] for part in SHORT}
        for name, figures in models.items()
        if figures is not None
    }
    most = max(rows)
    return {
        "split": split,
        "class_count": len(labels),
        "majority": {"label": labels[list(rows).index(most)], "share": most / sum(rows), "n": sum(rows)},
        "unseen": unseen,
        "models": found,
        "over_prompted": over_prompted and over_prompted.to_dict(),
        "confused": most_confused(found["tuned"]["confusion"]),
    }


def _model(loss: Array, weights: Array, figures: Mapping[str, Any]) -> Document:
    counted = float(weights.sum())
    mean = float((loss * weights).sum() / counted) if counted else math.nan
    return {
        "loss": mean if math.isfinite(mean) else None,
        "perplexity": None,
        "token_accuracy": None,
        "accuracy": figures["accuracy"]["value"],
        "f1_macro": figures["f1_macro"]["value"],
        "n": len(weights),
        "tokens": int(counted),
    }


def _headline(state: str, found: Mapping[str, Any], split: str, broken: int, negligible: float) -> str:
    if broken:
        where = phrasing.plural(broken, f"{split} row")
        return f"Broken: the loss is not a number on {where}; training diverged."
    lead = {
        "learned": "Learned",
        "worse": "Worse",
        "no_gain": f"No gain (within {within_of(negligible)} of the rows, setting {SETTING})",
        "undecided": "Can't be told from noise",
    }[state]
    models = found["models"]
    rows = "held-out rows" if split == "test" else "validation rows"
    text = f"{lead}: {shares(models['tuned']['accuracy'], rows)}, against"
    text += f" {phrasing.share(models['majority']['accuracy'])} for {BASELINE}"
    if prompted := models.get("prompted"):
        text += f" and {phrasing.share(prompted['accuracy'])} for the untuned model asked for the label"
    return f"{text}."


def shares(interval: Mapping[str, Any], rows: str) -> str:
    """ "91.2% of held-out rows right (88 to 94%, n 500)"."""
    bounds = phrasing.share_bounds(interval)
    return f"{phrasing.share(interval)} of {rows} right ({bounds}, n {interval['n']:,})"


def _sentences(
    found: Mapping[str, Any], accuracy: Interval, gain: Interval | None, choice: CheckpointChoice
) -> list[str]:
    said = [_points(accuracy, f"than {BASELINE}", choice.basis)]
    if gain is not None and not accuracy.above and not accuracy.below and gain.above:
        said[0] += (
            " Its probabilities are better than the frequencies of the classes, though: the loss is lower"
        )
        said[0] += f" by {_amount(gain)} nats a row."
    prompted = found["models"].get("prompted")
    if prompted and found["over_prompted"]:
        over = Interval(**found["over_prompted"])
        said.append(
            _points(over, f"than the untuned model asked for the label (n {over.n:,})", "95% interval")
        )
    said += confusion_sentences(found)
    return said


def confusion_sentences(found: Mapping[str, Any]) -> list[str]:
    """What is mixed up most, how sure the model is, and rows that it can't get right."""
    said = []
    tuned = found["models"]["tuned"]
    if found["confused"]:
        pair = found["confused"][0]
        first, second = pair["labels"]
        said.append(
            f"The classes {first} and {second} are confused most: {phrasing.plural(pair['rows'], 'row')}."
        )
    macro = tuned["f1_macro"]
    if macro["low"] is not None:
        places = phrasing.decimals(macro["low"], macro["high"])
        said.append(
            f"Macro F1 over {tuned['class_count']:,} classes is {phrasing.number(macro['value'], places)}"
            f" ({phrasing.interval(macro['low'], macro['high'], places)})."
        )
    calibration = tuned.get("calibration")
    if calibration and calibration["overconfident"]:
        heat = calibration["temperature"]
        places = phrasing.decimals(heat["low"], heat["high"], default=1)
        said.append(
            "It is more sure than it is right: its logits would have to be divided by"
            f" {phrasing.number(heat['value'], places)}"
            f" ({phrasing.interval(heat['low'], heat['high'], places)}, n {heat['n']:,})."
        )
    if found["unseen"]:
        have, count = ("has", "it counts") if found["unseen"] == 1 else ("have", "they count")
        rows = phrasing.plural(found["unseen"], "row")
        said.append(f"{rows} {have} a label that training never saw: {count} as wrong, and {have} no loss.")
    return said


def _points(change: Interval, than: str, basis: str) -> str:
    low, high = change.low, change.high
    if low is None or high is None:  # of runs from before
        return (
            f"Whether it is more often right {than} can't be told: {change.why or 'there is only one row'}."
        )
    places = phrasing.decimals(100 * low, 100 * high, default=1)
    amount = phrasing.number(abs(100 * change.value), places)
    if low <= 0 <= high:
        bounds = phrasing.interval(100 * low, 100 * high, places)
        return f"That it is more often right {than} can't be told from noise ({basis} {bounds} points)."
    way = "more" if change.value > 0 else "less"
    least, most = sorted((abs(100 * low), abs(100 * high)))
    bounds = phrasing.interval(least, most, places)
    return f"It is right {way} often {than}, by {amount} points ({basis} {bounds})."


def _amount(gain: Interval) -> str:
    places = phrasing.decimals(gain.low, gain.high)
    return f"{phrasing.number(gain.value, places)} ({phrasing.interval(gain.low, gain.high, places)})"


def add_labels(verdict: Document, classification: Document) -> None:
    """Give the verdict of a run that learned to answer with the label its figures as a classifier."""
    tuned, prompted = classification["models"]["tuned"], classification["models"]["prompted"]
    rows = "held-out rows" if classification["split"] == "test" else "validation rows"
    said = f"As a classifier, by the likeliest label: {shares(tuned['accuracy'], rows)}, against"
    said += f" {phrasing.share(prompted['accuracy'])} for the base model and"
    said += f" {phrasing.share(classification['models']['majority']['accuracy'])} for {BASELINE}."
    verdict["classification"] = classification
    verdict["sentences"] = [said, *confusion_sentences(classification)[:1], *verdict["sentences"]]
