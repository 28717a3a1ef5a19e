"""Runs of the plot held against each other on the rows and items that both were measured on, as Compare does.

Gains of two runs on the same rows, and what they forgot of the same probe, are told apart in pairs: their own
intervals overlap far more often than their difference holds 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import streamlit as st
from numpy.typing import NDArray

from engine.diagnostics import comparison, probes
from engine.diagnostics.flips import paired_change
from engine.diagnostics.statistics import Interval
from pages.components.cost_points import Row
from pages.components.session import client
from store import probes as stored_probes
from store import row_losses
from store.errors import QueryError

PROBES = {"prose": probes.PROSE, "answers": probes.CHOICES, "kl": probes.OWN_SAMPLES}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What a run was measured on: items in order, of each its tokens and a value (summed nats, or whether it
    was right)."""

    items: NDArray[np.generic]
    tokens: Array
    values: Array


class Pairs:
    """The differences of two runs of the plot, in gain and in what `measure` says that they forgot."""

    def __init__(self, rows: Sequence[Row], measure: str) -> None:
        self.measure, self.rows = measure, {row["run_id"]: row for row in rows}
        ids = tuple(self.rows)
        self.losses, self.probed = _losses(ids), _probed(ids, PROBES[measure]) if measure in PROBES else {}

    def __call__(self, one: str, other: str) -> Mapping[str, Interval]:
        """`gain` (more is better) and `forgetting` (less is better) of `one` minus `other`."""
        found = {"gain": self._gain(one, other), "forgetting": self._forgetting(one, other)}
        return {axis: interval for axis, interval in found.items() if interval is not None}

    def _gain(self, one: str, other: str) -> Interval | None:
        here, there = self.rows[one], self.rows[other]
        if not here["data_fingerprint"] or here["data_fingerprint"] != there["data_fingerprint"]:
            return None
        parts = [(run, self.rows[run]["gain"].get("split")) for run in (one, other)]
        if parts[0][1] != parts[1][1]:
            return None
        shared = _shared(*(self.losses.get(part) for part in parts))
        return comparison.difference(one, other, *shared).interval if shared else None

    def _forgetting(self, one: str, other: str) -> Interval | None:
        shared = _shared(self.probed.get(one), self.probed.get(other))
        if shared is None:
            return None
        first, second, tokens = shared
        if self.measure != "answers":  # the lower loss forgot less
            return comparison.difference(other, one, second, first, tokens).interval
        return paired_change(int((first > second).sum()), int((second > first).sum()), len(first))


def _shared(one: Measured | None, other: Measured | None) -> tuple[Array, Array, Array] | None:
    """Values of both and tokens, of what both were measured on; None where that is nothing, or was counted in
    other tokens."""
    if one is None or other is None:
        return None
    _, here, there = np.intersect1d(one.items, other.items, assume_unique=True, return_indices=True)
    if not len(here) or not np.array_equal(one.tokens[here], other.tokens[there]):
        return None
    first, second = one.values[here], other.values[there]
    return (first, second, one.tokens[here]) if np.isfinite(first + second).all() else None


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing row by row …")
def _losses(run_ids: tuple[str, ...]) -> dict[tuple[str, str], Measured]:
    """(run, part of the split) -> its held-out rows; runs whose file is gone are left out."""
    found: dict[tuple[str, str], Measured] = {}
    for table in _tables(run_ids, lambda ids: row_losses.of_runs(client(), ids)):
        runs, parts = _texts(table, "run_id"), _texts(table, "split")
        for run in np.unique(runs):
            for part in np.unique(parts[runs == run]):
                chosen = (runs == run) & (parts == part)
                found[str(run), str(part)] = _measured(table, chosen, "row_id", "tuned_loss")
    return found


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing item by item …")
def _probed(run_ids: tuple[str, ...], probe: str) -> dict[str, Measured]:
    """Run -> what it made of the probe; runs whose file is gone are left out."""
    value = "correct" if probe == probes.CHOICES else "loss_sum"
    found: dict[str, Measured] = {}
    for table in _tables(run_ids, lambda ids: stored_probes.of_runs(client(), ids, probe)):
        runs = _texts(table, "run_id")
        found |= {str(run): _measured(table, runs == run, "item", value) for run in np.unique(runs)}
    return found


def _tables(run_ids: Sequence[str], ask: Callable[[Sequence[str]], pa.Table]) -> list[pa.Table]:
    """Of all runs at once; one by one where the file of some run is gone."""
    try:
        return [ask(run_ids)]
    except QueryError:
        if len(run_ids) == 1:
            return []
        return [table for run_id in run_ids for table in _tables((run_id,), ask)]


def _texts(table: pa.Table, name: str) -> NDArray[np.str_]:
    return np.array(table[name].to_pylist(), dtype=str)


def _measured(table: pa.Table, chosen: NDArray[np.bool_], item: str, value: str) -> Measured:
    rows = table.filter(pa.array(chosen))
    numbers = (np.array(rows[name].to_pylist(), np.float64) for name in ("tokens", value))
    return Measured(np.array(rows[item].to_pylist()), *numbers)
