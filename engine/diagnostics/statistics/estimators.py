"""Figures of a whole set of rows as functions of sums over its rows, so that resampling them is arithmetic.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) are no means of rows: each row counts n-grams, the counts
are added up, and the figure follows from the sums. So do macro and weighted averages over classes, from the
rows of each class. Every function takes sums [draws, counts] and answers one value a draw. BLEU and chrF are
what sacrebleu makes of the same counts (exponential smoothing; effective order). Pure: arrays in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Sums = NDArray[np.float64]  # [draws, counts]
FigureOfSums = Callable[[Sums], Floats]
BLEU_ORDERS = 4
MIN_CLASS_ROWS = 10  # under which intervals of averages over classes hold the truth in 45 to 90 of 100 draws
CLASS_FIGURES = (
    "accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro", "precision_micro",
    "precision_weighted", "recall_macro", "recall_micro", "recall_weighted",
)  # fmt: skip

MACRO_FIGURES = tuple(name for name in CLASS_FIGURES if name.endswith("_macro"))


def mean(sums: Sums) -> Floats:
    """Of [sum of the scores, sum of their weights]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = sums[:, 0] / sums[:, 1]
    return means


def perplexity(sums: Sums) -> Floats:
    """Of [nats, tokens]."""
    with np.errstate(over="ignore"):
        return np.exp(mean(sums))


def bits_per_byte(sums: Sums) -> Floats:
    """Of [nats, bytes of the text]."""
    return mean(sums) / math.log(2)


def bleu(sums: Sums) -> Floats:
    """0 to 100, of [words of the answers, of the references, right n-grams of 1 to 4, all n-grams of 1 to 4].

    An order without a hit counts half a hit, the next one without a quarter, and so on. It is 0 where no
    answer has four words.
    """
    counts = np.asarray(sums, np.float64)
    answers, references = counts[:, 0], counts[:, 1]
    right, total = counts[:, 2 : 2 + BLEU_ORDERS], counts[:, 2 + BLEU_ORDERS :]
    missed = np.cumsum((right == 0) & (total > 0), axis=1)
    hits = np.where(right > 0, right, 0.5**missed)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.where(total > 0, np.log(100 * hits / total), -np.inf)
        brevity = np.where(answers < references, np.exp(1 - references / answers), 1.0)
        figures = brevity * np.exp(logs.mean(axis=1))
    return np.where((right.sum(axis=1) > 0) & (answers > 0), figures, 0.0)


def chrf(sums: Sums, *, beta: float = 2) -> Floats:
    """0 to 100, of [n-grams of the answers, of the references, in both] for each order in turn."""
    counts = np.asarray(sums, np.float64)
    answers, references, both = counts[:, 0::3], counts[:, 1::3], counts[:, 2::3]
    used = (answers > 0) & (references > 0)
    orders = np.maximum(used.sum(axis=1), 1)
    precision = np.where(used, both / np.where(used, answers, 1), 0).sum(axis=1) / orders
    recall = np.where(used, both / np.where(used, references, 1), 0).sum(axis=1) / orders
    below = beta**2 * precision + recall
    return np.where(below > 0, 100 * (1 + beta**2) * precision * recall / np.where(below > 0, below, 1), 0)


def class_counts(truth: ArrayLike, answers: ArrayLike, classes: int) -> sparse.csr_array:
    """What each row adds to the sums of `of_classes`: a sparse matrix [rows, 3 × classes + 1].

    A place from `classes` on is no class: an answer that names none, or a label outside the set. Such a row
    is never right.
    """
    true, guess = np.asarray(truth, np.int64), np.asarray(answers, np.int64)
    every = np.arange(len(true))
    is_true, is_guess = true < classes, guess < classes
    right = is_true & (true == guess)
    rows = np.concatenate([every[right], every[is_true], every[is_guess], every])
    columns = np.concatenate(
        [true[right], classes + true[is_true], 2 * classes + guess[is_guess], np.full(len(true), 3 * classes)]
    )
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(true), 3 * classes + 1))


def of_classes(figure: str, classes: int) -> FigureOfSums:
    """One of CLASS_FIGURES as a function of [rows right of each class, rows of it, rows called it, all rows].

    A class that is neither present nor predicted is left out of averages, as in scikit-learn.
    """

    def value(sums: Sums) -> Floats:
        counts = np.asarray(sums, np.float64)
        right, support, called = (counts[:, i * classes : (i + 1) * classes] for i in range(3))
        rows = counts[:, -1]
        if figure == "accuracy":
            shares: Floats = right.sum(axis=1) / rows
            return shares
        name, average = figure.split("_")
        if average == "micro":  # a label outside the set can't be recalled, but is a row all the same
            return _ratio(name, right.sum(axis=1), rows, called.sum(axis=1))
        weight = support if average == "weighted" else (support + called > 0).astype(np.float64)
        below = weight.sum(axis=1)
        each = _ratio(name, right, support, called)
        averages: Floats = (each * weight).sum(axis=1) / np.where(below > 0, below, 1)
        return averages

    return value


def rare_classes(support: ArrayLike, labels: Sequence[str]) -> str:
    """Why an average that counts every class the same has no interval; empty where it has one."""
    rows = np.asarray(support, np.int64)
    rare = np.flatnonzero(rows < MIN_CLASS_ROWS)
    if not len(rare):
        return ""
    fewest = int(rare[rows[rare].argmin()])
    own = f"the class {labels[fewest]} has {rows[fewest]} {'row' if rows[fewest] == 1 else 'rows'}"
    others = (
        f", and {len(rare) - 1:,} more {'has' if len(rare) == 2 else 'have'} too few" if len(rare) > 1 else ""
    )
    return f"{own}{others} (from {MIN_CLASS_ROWS} rows of each class on)"


def _ratio(name: str, right: Floats, support: Floats, called: Floats) -> Floats:
    """Precision, recall or F1; 0 where it is not defined."""
    above, below = {
        "precision": (right, called),
        "recall": (right, support),
        "f1": (2 * right, support + called),
    }[name]
    return above / np.where(below > 0, below, 1)


ESTIMATORS: dict[str, FigureOfSums] = {
    "mean": mean,
    "perplexity": perplexity,
    "bits_per_byte": bits_per_byte,
    "bleu": bleu,
    "chrf": chrf,
}
