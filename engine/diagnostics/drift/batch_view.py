"""How a window of values differs from the reference: a description, beside the tests that raise alarms.

What stands here is looked at for one chosen window, so that its levels hold for one look and not for
watching. Values come as counts by bin, as the store keeps them for any number of requests. PSI (the
population stability index, over tenths of the reference) has no level of its own; what luck alone would reach
is (1/n + 1/m) times the 95% quantile of chi-squared (Yurdakul 2018). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from engine.diagnostics.statistics.combined import difference
from engine.diagnostics.statistics.statistics import Interval, wilson_interval

TENTHS = 10
LEAST = 20  # values on either side
KS_LEVEL = 1.358  # sqrt(-ln(0.05 / 2) / 2)

Counts = Mapping[int, int] | Mapping[str, int]  # by bin, or by name
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DriftView:
    """reference, window: values on either side. psi and ks with what luck alone reaches in 95 of 100 windows.
    moved: by which bin, or name, a larger share of the window has it, first the one that changed most."""

    reference: int
    window: int
    psi: float
    psi_by_luck: float
    ks: float | None  # of a category there is none
    ks_by_luck: float | None
    reference_median: float | None  # in bins
    window_median: float | None
    moved: tuple[tuple[str, Interval], ...]


def view(reference: Counts, window: Counts) -> DriftView | None:
    """Of counts by bin (numbers), or by name. None where a side has fewer than LEAST values."""
    n, m = sum(reference.values()), sum(window.values())
    if min(n, m) < LEAST:
        return None
    keys: list[int | str] = sorted({*reference, *window}, key=lambda key: (isinstance(key, str), key))
    here: dict[int | str, int] = dict(reference.items())
    there: dict[int | str, int] = dict(window.items())
    first = np.array([here.get(key, 0) for key in keys], np.float64)
    second = np.array([there.get(key, 0) for key in keys], np.float64)
    categories = isinstance(keys[0], str)
    cells = np.vstack([first, second]) if categories else _tenths(first, second)
    degrees = max(1, cells.shape[1] - 1)
    luck = (1 / n + 1 / m) * float(special.chdtri(degrees, 0.05))
    ks = None if categories else float(np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max())
    return DriftView(
        reference=n,
        window=m,
        psi=_psi(cells),
        psi_by_luck=luck,
        ks=ks,
        ks_by_luck=None if categories else KS_LEVEL * math.sqrt(1 / n + 1 / m),
        reference_median=None if categories else _median(keys, first),
        window_median=None if categories else _median(keys, second),
        moved=_moved([str(key) for key in keys], first, second) if categories else (),
    )


def _tenths(first: Floats, second: Floats) -> Floats:
    """Both sides by the tenths of the reference [2, cells]; a bin that many values share isn't cut."""
    before = (np.cumsum(first) - first / 2) / first.sum()
    cell = np.minimum((before * TENTHS).astype(int), TENTHS - 1)
    cells = np.array([np.bincount(cell, side, TENTHS) for side in (first, second)], np.float64)
    used: Floats = cells[:, cells.sum(axis=0) > 0]
    return used


def _psi(cells: Floats) -> float:
    """Half a value is added to each cell, so that an empty one is no infinite distance."""
    shares = (cells + 0.5) / (cells + 0.5).sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _median(keys: list[int | str], counts: Floats) -> float:
    return float(keys[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))])


def _moved(names: list[str], first: Floats, second: Floats) -> tuple[tuple[str, Interval], ...]:
    """The change of each name's share, with its interval, the largest first."""
    n, m = int(first.sum()), int(second.sum())
    changes = [
        (name, difference(wilson_interval(int(there), m), wilson_interval(int(here), n)))
        for name, here, there in zip(names, first, second, strict=True)
    ]
    return tuple(sorted(changes, key=lambda change: -abs(change[1].value)))
