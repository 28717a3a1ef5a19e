"""What a preview warns of in the classes of a data set: labels never trained, small classes, a large one."""

from __future__ import annotations

import numpy as np

from engine.diagnostics import phrasing
from engine.prepare.class_rows import ClassRows
from engine.problems.problem import problem
from store.documents.asks.preview import Problem

SMALL = 5  # training rows
LARGE_SHARE = 0.8  # of the training rows that are of one class
NAMED = 3  # classes that a message names


def find(rows: ClassRows) -> list[Problem]:
    """Every warning."""
    return [*_unlabelled(rows), *_unseen(rows), *_small(rows), *_imbalance(rows)]


def _warning(message: str, fix: str) -> Problem:
    return problem("warning", "dataset", message, fix)


def _unlabelled(rows: ClassRows) -> list[Problem]:
    if not rows.unlabelled:
        return []
    return [_warning(
        f"{phrasing.plural(rows.unlabelled, 'row')} without a label will be left out.",
        "Label them, or go on.",
    )]  # fmt: skip


def _unseen(rows: ClassRows) -> list[Problem]:
    unseen = rows.unseen()
    if not unseen:
        return []
    count = phrasing.plural(sum(unseen.values()), "held-out row")
    return [_warning(
        f"{count} with a label that no training row has ({_names(list(unseen))}): they can't be right, count"
        " as wrong, and have no loss.",
        "Split by strata of label (split_by), or train on more rows.",
    )]  # fmt: skip


def _small(rows: ClassRows) -> list[Problem]:
    counts = rows.counts("train")
    small = np.flatnonzero(counts < SMALL)
    if not len(small):
        return []
    order = small[np.argsort(counts[small], kind="stable")]
    names = _names([f"{rows.labels.names[i]}: {counts[i]}" for i in order.tolist()])
    return [_warning(
        f"{len(small):,} of {len(counts):,} classes have under {SMALL} training rows ({names}): little can be"
        " learned of them, and less be known.",
        "Add rows of these classes, or put them together.",
    )]  # fmt: skip


def _imbalance(rows: ClassRows) -> list[Problem]:
    counts = rows.counts("train")
    share = counts.max() / counts.sum()
    if share < LARGE_SHARE:
        return []
    name = rows.labels.names[int(counts.argmax())]
    return [_warning(
        f"{share:.0%} of the training rows are of one class, {name}: who always says so is right as often.",
        "Read macro F1 beside accuracy, in which every class counts the same.",
    )]  # fmt: skip


def _names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
