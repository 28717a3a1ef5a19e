"""Answers as labels, and probabilities of labels: what classification is measured by.

An answer names a label when it is that label, white space, quotation marks and a closing full stop apart, in
any case if so asked. Nothing is guessed: "positive, I think" names none. Such a row is wrong, and it is
counted. So is a row whose own label isn't in the set: no answer can be right there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.diagnostics.statistics.calibration import calibration
from engine.diagnostics.statistics.class_figures import figures
from store.documents.evaluations.metric_details import ClassDetails, OutsideTexts
from store.documents.verdicts.classification import CalibrationFigures

NONE = "(none of the labels)"
OUTSIDE = "(label outside the set)"
_AROUND = " \t\r\n\"'`“”‘’«»*_.:,"
MOST_NAMED = 20  # labels and answers outside the set that a document lists


def label_set(truths: Sequence[str | None]) -> list[str]:
    """The labels that occur, sorted."""
    return sorted({label for label in truths if label is not None})


def places(texts: Sequence[str], labels: Sequence[str], *, ignore_case: bool = True) -> np.ndarray:
    """The place of each text in `labels`, len(labels) for one that names none.

    Where two labels differ in case alone, the case always counts.
    """
    exact = {label: place for place, label in enumerate(labels)}
    bare = {label.strip(_AROUND): place for label, place in exact.items()}
    folded = {label.casefold(): place for label, place in bare.items()}
    label_places = []
    for text in texts:
        name = text.strip(_AROUND)
        place = exact.get(text.strip(), bare.get(name))
        if place is None and ignore_case and len(folded) == len(bare):
            place = folded.get(name.casefold())
        label_places.append(len(labels) if place is None else place)
    return np.array(label_places, np.int64)


def details(truth: np.ndarray, answers: np.ndarray, labels: Sequence[str]) -> ClassDetails:
    """Figures of each class and the confusion matrix; rows outside of the labels stand under names of their
    own. `truth` and `answers`: places as `places` gives them."""
    own = np.where(truth < len(labels), truth, len(labels) + 1)
    class_document = figures(own, answers, [*labels, NONE, OUTSIDE])
    return {
        "classes": [row for row in class_document["classes"] if row["label"] not in (NONE, OUTSIDE)],
        "confusion": class_document["confusion"],
        "pair_count": class_document["pair_count"],
    }


def outside(texts: Sequence[str], label_places: np.ndarray, labels: Sequence[str]) -> OutsideTexts:
    """How many texts name no label, and the most frequent of them."""
    named_texts = Counter(
        text.strip()[:80] for text, place in zip(texts, label_places, strict=True) if place == len(labels)
    )
    return {
        "count": named_texts.total(),
        "most": [list(pair) for pair in named_texts.most_common(MOST_NAMED)],
    }


def calibrated(log_probabilities: np.ndarray, truth: np.ndarray, classes: int) -> CalibrationFigures:
    """The calibration document; `truth`: places, from `classes` on for a label that the model lacks."""
    return calibration(log_probabilities, np.where(truth < classes, truth, -1))


def brier(log_probabilities: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Squared distance of each row's probabilities from the truth, 0 to 2."""
    shares = np.exp(np.asarray(log_probabilities, np.float64))
    target = np.zeros_like(shares)
    has_class = truth < classes
    target[np.flatnonzero(has_class), truth[has_class]] = 1
    return np.square(shares - target).sum(axis=1) + np.where(has_class, 0, 1)
