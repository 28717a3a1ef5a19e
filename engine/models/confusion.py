"""Counts of true and predicted classes, and F1 averages computed from them. Pure and light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """The non-zero cells of a confusion matrix with `classes` classes.

    `truth` and `predicted` are class indices.
    """

    truth: Counts
    predicted: Counts
    count: Counts
    classes: int

    @classmethod
    def of(cls, truth: Any, predicted: Any, classes: int) -> Confusion:
        """Count pairs of true and predicted class, one per row.

        Raises ValueError if lengths differ or there are no rows.
        """
        true, guess = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
        if true.shape != guess.shape or not len(true):
            raise ValueError(f"{len(true)} true and {len(guess)} predicted labels are not one a row each.")
        cells, count = np.unique(true * classes + guess, return_counts=True)
        return cls(cells // classes, cells % classes, count.astype(np.int64), classes)

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.count.sum())

    def sums(self, count: Floats | Counts | None = None) -> tuple[Any, Any, Any]:
        """Return per class: rows predicted correctly, rows of the class, rows predicted as it.

        `count` may also be an array [draws, cells]; each result has the shape [draws, classes].
        """
        counts = np.atleast_2d(self.count if count is None else count)
        right = counts * (self.truth == self.predicted)
        return (
            _sum_by_group(right, self.truth, self.classes),
            _sum_by_group(counts, self.truth, self.classes),
            _sum_by_group(counts, self.predicted, self.classes),
        )


def _sum_by_group(counts: Any, group: Counts, groups: int) -> Any:
    """Sum the columns of `counts` [draws, cells] by group, giving [draws, groups]."""
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((len(counts), groups), counts.dtype)
    sums[:, present] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def compute_f1_averages(right: Any, support: Any, predicted: Any) -> tuple[Floats, Floats]:
    """Return macro and weighted F1 of each draw, from arrays [draws, classes] of `Confusion.sums`."""
    below = support + predicted
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(below > 0, 2 * right / below, np.nan)
        macro = np.nanmean(f1, axis=1)
        weighted = np.nansum(f1 * support, axis=1) / support.sum(axis=1)
    return macro, weighted
