"""Counts of true and predicted classes, and the F1 averages that follow from them. Pure, light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """The cells that occur: `truth`, `predicted` (indices of classes) and `count`, of `classes` classes."""

    truth: Counts
    predicted: Counts
    count: Counts
    classes: int

    @classmethod
    def of(cls, truth: Any, predicted: Any, classes: int) -> Confusion:
        """Count pairs of one index a row. Raises ValueError for lengths that differ, or no row at all."""
        true, guess = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
        if true.shape != guess.shape or not len(true):
            raise ValueError(f"{len(true)} true and {len(guess)} predicted labels are not one a row each.")
        cells, count = np.unique(true * classes + guess, return_counts=True)
        return cls(cells // classes, cells % classes, count.astype(np.int64), classes)

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.count.sum())

    def sums(self, count: Floats | Counts | None = None) -> tuple[Any, Any, Any]:
        """Of each class: rows right, rows of it, rows predicted as it; for counts [draws, cells] too."""
        counts = np.atleast_2d(self.count if count is None else count)
        right = counts * (self.truth == self.predicted)
        return (
            _sum_by_group(right, self.truth, self.classes),
            _sum_by_group(counts, self.truth, self.classes),
            _sum_by_group(counts, self.predicted, self.classes),
        )


def _sum_by_group(counts: Any, group: Counts, groups: int) -> Any:
    """Sums of the columns of `counts` [draws, cells] by group: [draws, groups]."""
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((len(counts), groups), counts.dtype)
    sums[:, present] = np.add.reduceat(counts[:, order], starts, axis=1)
    return sums


def compute_f1_averages(right: Any, support: Any, predicted: Any) -> tuple[Floats, Floats]:
    """Macro and weighted F1 of each draw; arrays [draws, classes] as `Confusion.sums` gives them."""
    below = support + predicted
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(below > 0, 2 * right / below, np.nan)
        macro = np.nanmean(f1, axis=1)
        weighted = np.nansum(f1 * support, axis=1) / support.sum(axis=1)
    return macro, weighted
