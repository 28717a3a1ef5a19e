"""Rows that belong together, as an array that names for each row the first row of its group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Keys (uint64) that come batch by batch, in one array."""
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def group_of(values: np.ndarray) -> np.ndarray:
    """For each place the first place that has the same value, int64."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def join(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`groups` (int64, any member of the group for each place) with those of `first` and `second` made one,
    pair by pair; each group of the answer is named by its smallest member."""
    count = len(groups)
    ends = np.concatenate([np.arange(count), first]), np.concatenate([groups, second])
    graph = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(count, count))
    number, component_of = connected_components(graph, directed=False)
    smallest = np.full(number, count, dtype=np.int64)
    np.minimum.at(smallest, component_of, np.arange(count))
    return smallest[component_of]


def largest(groups: np.ndarray) -> int:
    """Rows of the largest group."""
    return int(np.bincount(groups).max()) if len(groups) else 0
