"""Verdict on a classifier: how many held-out rows are right, compared with what, and how certain that is.

An untrained head is no base model: its output is noise. So a run is compared with always predicting the
most frequent class, paired by row, and also with the untuned model prompted for the label. The state is
based on the share of right rows, with Tango's interval for rows gained and lost; if that is inconclusive,
the loss per row, which reflects the model's confidence, is described in words. Pure functions from arrays
and config to the document of docs/results.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from engine.evaluation.statistics import proportions
from engine.evaluation.statistics.classification import list_most_confused
from engine.evaluation.statistics.intervals import BROKEN_ROW, Interval, allow_for_unseen, ratio_interval
from engine.evaluation.training_curve import overfitting
from engine.evaluation.training_curve.advice import (
    CheckpointChoice,
    VerdictOutcome,
    advise,
    find_checkpoint_choice,
)
from engine.evaluation.training_curve.run_curve import (
    NO_MEMORY,
    RowMemorisation,
    RunCurves,
    Validation,
    VerdictConfig,
)
from engine.evaluation.verdicts.paired_measurements import Floats, HeldOut
from engine.evaluation.verdicts.verdict import (
    SETTING,
    build_gain,
    describe_ending,
    describe_overfitting,
    determine_state,
    format_negligible,
    get_negligible_gain,
)
from store.core import formatting
from store.core.figure_schemas import Estimate, JudgingSplit, UnitEstimate
from store.evaluation.schemas import (
    ClassAverages,
    ClassFigures,
    Classification,
    ClassModels,
    MajorityClass,
)
from store.evaluation.verdict_schemas import LossFigures, Verdict, VerdictState

UNIT = "nats a row"
BASELINE = "always the most frequent class"


@dataclass(frozen=True)
class ClassHeldOut(HeldOut):
    """Held-out rows of a classifier; base is always the most frequent class. A row whose label is not in the
    training data (token 0) has no loss and is wrong. classification: as from `build_classification`.
    """

    classification: Classification


def judge_classifier(
    held_out: ClassHeldOut, course: RunCurves, config: VerdictConfig, memory: RowMemorisation = NO_MEMORY
) -> Verdict:
    """Judge a run with a classification head, given the curves of all validations, including step 0."""
    weights, (base, tuned) = held_out.weights, held_out.losses
    classification, split = held_out.classification, held_out.split
    course = replace(
        course,
        validations=drop_untrained_step(course.validations),
        baseline=build_baseline(course.validations),
    )
    choice, negligible = find_checkpoint_choice(split, course, config), get_negligible_gain(config)
    accuracy = proportions.estimate_answer_change(
        held_out.base.correct, held_out.tuned.correct, confidence=choice.confidence
    )
    broken = int((~np.isfinite(base - tuned)).sum())
    gain = None
    if not broken and weights.any():
        seen = ratio_interval(base - tuned, weights, confidence=choice.confidence)
        gain = allow_for_unseen(seen, BROKEN_ROW)
    shape = overfitting.assess_overfitting(course, memory, unit=UNIT)
    shape.baseline_sentence = _describe_validation_gain(course)
    state: VerdictState = "worse" if broken else determine_state(accuracy, 1.0, negligible)  # of all rows
    return Verdict(
        state=state,
        headline=_format_headline(state, classification, broken, negligible),
        sentences=[
            *_describe_classification(classification, accuracy, gain, choice),
            *describe_overfitting(shape),
            *([shape.baseline_sentence] if shape.baseline_sentence else []),
            describe_ending(course.stopped, config),
            *choice.sentences,
        ],
        advice=advise(VerdictOutcome(state, accuracy, split, shape, against=BASELINE), course, config),
        gain=build_gain(gain, UNIT, split, choice, negligible) if gain else None,
        accuracy_gain=UnitEstimate(**vars(accuracy.to_estimate()), unit="share of rows"),
        base=_build_figures(base, weights, classification.models.majority),
        tuned=_build_figures(tuned, weights, classification.models.tuned),
        overfitting=shape,
        membership=memory.membership,
        stopped=course.stopped,
        classification=classification,
    )


def drop_untrained_step(validations: Sequence[Validation]) -> list[Validation]:
    """Drop step 0 (always the most frequent class): that a new head starts above it is not a rise."""
    return [validation for validation in validations if validation.step > 0]


def build_baseline(validations: Sequence[Validation]) -> Validation | None:
    """Return step 0: always the most frequent class, with the training frequencies as probabilities."""
    return next((validation for validation in validations if validation.step == 0), None)


def _describe_validation_gain(course: RunCurves) -> str:
    """Describe how many more validation rows the kept model has right than always the most frequent class;
    empty if not measured.
    """
    by_step = {int(values.step): values for values in course.metric.values}
    kept = by_step.get(int(course.stopped.restored_step or course.stopped.step))
    most = by_step.get(0)
    if kept is None or most is None or kept is most:
        return ""
    change = proportions.estimate_answer_change(most.values, kept.values)
    shares = [100 * float(np.mean(np.asarray(each.values, np.float64))) for each in (kept, most)]
    places = formatting.compute_decimals(100 * (change.low or 0), 100 * (change.high or 0), default=1)
    right, base = (formatting.format_number(share, places) for share in shares)
    bounds = "no interval"
    if change.low is not None and change.high is not None:
        bounds = f"{formatting.format_interval(100 * change.low, 100 * change.high, places)} points"
    return (
        f"Of {formatting.plural(change.n, 'validation row')} {right}% are right at step"
        f" {int(kept.step):,},"
        f" against {base}% for {BASELINE} (95% interval of the difference {bounds})."
    )


class ClassifierFigures(NamedTuple):
    """Figures of the tuned model, of always the most frequent class, and of the untuned model prompted for
    the label; None if it can't be prompted.
    """

    tuned: ClassFigures
    majority: ClassFigures
    prompted: ClassFigures | None


def build_classification(
    split: JudgingSplit,
    labels: Sequence[str],
    rows: Sequence[int],
    models: ClassifierFigures,
    *,
    unseen: int,
    over_prompted: Interval | None,
) -> Classification:
    """Build `verdict["classification"]`. labels: the classes, with `rows` training rows each. over_prompted:
    the share of rows right beyond the prompted untuned model, in pairs.
    """
    most = max(rows)
    classification = Classification(
        split=split,
        class_count=len(labels),
        majority=MajorityClass(label=labels[list(rows).index(most)], share=most / sum(rows), n=sum(rows)),
        unseen=unseen,
        models=ClassModels(tuned=models.tuned, majority=_select_averages(models.majority)),
        over_prompted=over_prompted.to_estimate() if over_prompted else None,
        confused=list_most_confused(models.tuned.confusion),
    )
    if models.prompted is not None:
        classification.models.prompted = _select_averages(models.prompted)
    return classification


def _select_averages(figures: ClassAverages) -> ClassAverages:
    """Return the figures stored for the models compared with."""
    return ClassAverages(
        n=figures.n,
        accuracy=figures.accuracy,
        f1_macro=figures.f1_macro,
        f1_weighted=figures.f1_weighted,
    )


def _build_figures(loss: Floats, weights: Floats, figures: ClassAverages) -> LossFigures:
    counted = float(weights.sum())
    mean = float((loss * weights).sum() / counted) if counted else math.nan
    return LossFigures(
        loss=mean if math.isfinite(mean) else None,
        perplexity=None,
        token_accuracy=None,
        accuracy=figures.accuracy.value,
        f1_macro=figures.f1_macro.value,
        n=len(weights),
        tokens=int(counted),
    )


def _format_headline(state: str, classification: Classification, broken: int, negligible: float) -> str:
    split = classification.split
    if broken:
        where = formatting.plural(broken, f"{split} row")
        return f"Broken: the loss is not a number on {where}; training diverged."
    lead = {
        "learned": "Learned",
        "worse": "Worse",
        "no_gain": f"No gain (within {format_negligible(negligible)} of the rows, setting {SETTING})",
        "undecided": "Not distinguishable from noise",
    }[state]
    models = classification.models
    rows = "held-out rows" if split == "test" else "validation rows"
    text = f"{lead}: {format_accuracy(models.tuned.accuracy, rows)}, against"
    text += f" {formatting.format_share(models.majority.accuracy)} for {BASELINE}"
    if prompted := models.prompted:
        text += f" and {formatting.format_share(prompted.accuracy)} for the untuned model asked for the label"
    return f"{text}."


def format_accuracy(interval: Estimate, rows: str) -> str:
    """Format an accuracy as "91.2% of held-out rows right (88 to 94%, n 500)"."""
    bounds = formatting.format_share_bounds(interval)
    return f"{formatting.format_share(interval)} of {rows} right ({bounds}, n {interval.n:,})"


def _format_class_count(figures: ClassFigures) -> str:
    """Format a number of classes as "one class" or "6 classes"."""
    count = figures.class_count
    return "one class" if count == 1 else f"{count:,} classes"


def _describe_classification(
    classification: Classification, accuracy: Interval, gain: Interval | None, choice: CheckpointChoice
) -> list[str]:
    sentences = [_describe_accuracy_change(accuracy, f"than {BASELINE}", choice.basis)]
    if gain is not None and not accuracy.above and not accuracy.below and gain.above:
        sentences[0] += (
            " Its probabilities are better than the frequencies of the classes, though: the loss is lower"
        )
        sentences[0] += f" by {_format_gain(gain)} nats a row."
    if classification.models.prompted and (change := classification.over_prompted):
        over = Interval(change.value, change.low, change.high, change.n)
        than = f"than the untuned model asked for the label (n {over.n:,})"
        sentences.append(_describe_accuracy_change(over, than, "95% interval"))
    return sentences + describe_confusion(classification)


def describe_confusion(classification: Classification) -> list[str]:
    """Describe which classes are confused most, the calibration, and rows that can't be right."""
    sentences = []
    tuned = classification.models.tuned
    if classification.confused:
        pair = classification.confused[0]
        first, second = pair.labels
        sentences.append(
            f"The classes {first} and {second} are confused most: {formatting.plural(pair.rows, 'row')}."
        )
    macro = tuned.f1_macro
    if macro.low is not None:
        places = formatting.compute_decimals(macro.low, macro.high)
        sentences.append(
            f"Macro F1 over {_format_class_count(tuned)} is"
            f" {formatting.format_number(macro.value, places)}"
            f" ({formatting.format_interval(macro.low, macro.high, places)})."
        )
    elif macro.why:
        sentences.append(
            f"Macro F1 over {_format_class_count(tuned)} is"
            f" {formatting.format_number(macro.value, 2)}, without"
            f" an interval: {macro.why}."
        )
    calibration = tuned.calibration
    if calibration and calibration.overconfident and calibration.temperature:
        heat = calibration.temperature
        places = formatting.compute_decimals(heat.low, heat.high, default=1)
        sentences.append(
            "It is overconfident: calibration requires dividing its logits by"
            f" {formatting.format_number(heat.value, places)} ("
            f"{formatting.format_interval(heat.low, heat.high, places)}, n {heat.n:,})."
        )
    if unseen := classification.unseen:
        have, count = ("has", "it counts") if unseen == 1 else ("have", "they count")
        rows = formatting.plural(unseen, "row")
        sentences.append(
            f"{rows} {have} a label that is not in the training data: {count} as wrong, and {have} no loss."
        )
    return sentences


def _describe_accuracy_change(change: Interval, than: str, basis: str) -> str:
    low, high = change.low, change.high
    if low is None or high is None:  # in older runs
        return f"Whether it is more often right {than} is unclear: {change.why or 'there is only one row'}."
    places = formatting.compute_decimals(100 * low, 100 * high, default=1)
    amount = formatting.format_number(abs(100 * change.value), places)
    if low <= 0 <= high:
        bounds = formatting.format_interval(100 * low, 100 * high, places)
        return (
            f"That it is more often right {than} can't be distinguished from noise ({basis} {bounds} points)."
        )
    way = "more" if change.value > 0 else "less"
    least, most = sorted((abs(100 * low), abs(100 * high)))
    bounds = formatting.format_interval(least, most, places)
    return f"It is right {way} often {than}, by {amount} points ({basis} {bounds})."


def _format_gain(gain: Interval) -> str:
    places = formatting.compute_decimals(gain.low, gain.high)
    return (
        f"{formatting.format_number(gain.value, places)}"
        f" ({formatting.format_interval(gain.low, gain.high, places)})"
    )


def add_label_figures(verdict: Verdict, classification: Classification) -> None:
    """Add classifier figures to the verdict of a run that learned to answer with the label."""
    models = classification.models
    rows = "held-out rows" if classification.split == "test" else "validation rows"
    sentence = (
        f"As a classifier, by the likeliest label: {format_accuracy(models.tuned.accuracy, rows)}, against"
    )
    if models.prompted is not None:
        sentence += f" {formatting.format_share(models.prompted.accuracy)} for the base model and"
    sentence += f" {formatting.format_share(models.majority.accuracy)} for {BASELINE}."
    verdict.classification = classification
    verdict.sentences = [sentence, *describe_confusion(classification)[:1], *verdict.sentences]
