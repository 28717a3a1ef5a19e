"""Runs of the plot held against each other on the rows and items that both were measured on, as Compare does.

Gains of two runs on the same rows, and what they forgot of the same probe, are told apart in pairs: their own
intervals overlap far more often than their difference holds 0.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import streamlit as st
from numpy.typing import NDArray

from engine.diagnostics.comparison import comparison, pareto
from engine.diagnostics.forgetting import probe_scores
from engine.diagnostics.statistics.flips import paired_change
from engine.diagnostics.statistics.statistics import Interval
from pages.compare.tradeoff.cost_points import MEASURES
from pages.shared.session import client
from store.contract.errors import QueryError
from store.documents.tables.run import RunCosts
from store.queries.rows import probe_rows as stored_probes
from store.queries.rows import row_losses

PROBES = {"prose": probe_scores.PROSE, "answers": probe_scores.CHOICES, "kl": probe_scores.OWN_SAMPLES}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredItems:
    """What a run was measured on: items in order, of each its tokens and a value (summed nats, or whether it
    was right)."""

    items: NDArray[np.generic]
    tokens: Array
    values: Array


class RunPairs:
    """The differences of two runs of the plot, in gain and in what `measure` says that they forgot."""

    def __init__(self, rows: Sequence[RunCosts], measure: str) -> None:
        self.measure, self.rows = measure, {row["run_id"]: row for row in rows}
        self.differences: dict[tuple[str, str, pareto.Axis], Interval | None] = {}

    @functools.cached_property
    def losses(self) -> Mapping[tuple[str, ...], MeasuredItems]:
        """(run, part of the split) -> its held-out rows."""
        return _losses(tuple(self.rows))

    @functools.cached_property
    def probed(self) -> Mapping[str, MeasuredItems]:
        """Run -> what it made of the probe."""
        return _probed(tuple(self.rows), PROBES[self.measure]) if self.measure in PROBES else {}

    def __call__(self, run: str, other: str, axis: pareto.Axis) -> Interval | None:
        """Gain (more is better) or forgetting (less is better) of `one` minus that of `other`, in the units
        of the plot."""
        if (run, other, axis) not in self.differences:
            compare = self._gain if axis == "gain" else self._forgetting
            self.differences[run, other, axis] = compare(run, other)
        return self.differences[run, other, axis]

    def _gain(self, first: str, second: str) -> Interval | None:
        here, there = self.rows[first], self.rows[second]
        if not here["data_fingerprint"] or here["data_fingerprint"] != there["data_fingerprint"]:
            return None
        gains = (here["gain"], there["gain"])
        splits = [gain["split"] if gain and "split" in gain else "" for gain in gains]
        if splits[0] != splits[1]:
            return None
        shared = _shared(self.losses.get((first, splits[0])), self.losses.get((second, splits[1])))
        return (
            comparison.difference(first, second, comparison.SharedRows(*shared)).interval if shared else None
        )

    def _forgetting(self, run: str, other: str) -> Interval | None:
        shared = _shared(self.probed.get(run), self.probed.get(other))
        if shared is None:
            return None
        first, second, tokens = shared
        if self.measure != "answers":  # the lower loss forgot less
            return comparison.difference(other, run, comparison.SharedRows(second, first, tokens)).interval
        more_lost = paired_change(int((first > second).sum()), int((second > first).sum()), len(first))
        return _scaled(more_lost, abs(MEASURES[self.measure].scale))


def _scaled(interval: Interval, by: float) -> Interval:
    low, high, se = (None if x is None else by * x for x in (interval.low, interval.high, interval.se))
    return Interval(by * interval.value, low, high, interval.n, se, why=interval.why)


def _shared(run: MeasuredItems | None, other: MeasuredItems | None) -> tuple[Array, Array, Array] | None:
    """Values of both and tokens, of what both were measured on; None where that is nothing, or was counted in
    other tokens."""
    if run is None or other is None:
        return None
    _, here, there = np.intersect1d(run.items, other.items, assume_unique=True, return_indices=True)
    if not len(here) or not np.array_equal(run.tokens[here], other.tokens[there]):
        return None
    first, second = run.values[here], other.values[there]
    return (first, second, run.tokens[here]) if np.isfinite(first + second).all() else None


@st.cache_resource(ttl=600, max_entries=8, show_spinner=False)
def pairs_of(run_ids: tuple[str, ...], measure: str, _rows: Sequence[RunCosts]) -> RunPairs:
    """The pairs of these runs; what was told apart once is kept."""
    return RunPairs(_rows, measure)


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing row by row …")
def _losses(run_ids: tuple[str, ...]) -> dict[tuple[str, ...], MeasuredItems]:
    """(run, part of the split) -> its held-out rows; runs whose file is gone are left out."""
    try:
        table = row_losses.of_runs(client(), run_ids)
    except QueryError:
        return {}
    return dict(_measured(table, ("run_id", "split"), "row_id", "tuned_loss"))


@st.cache_data(ttl=600, max_entries=8, show_spinner="Comparing item by item …")
def _probed(run_ids: tuple[str, ...], probe: str) -> dict[str, MeasuredItems]:
    """Run -> what it made of the probe; runs whose file is gone are left out."""
    try:
        table = stored_probes.of_runs(client(), run_ids, probe)
    except QueryError:
        return {}
    value = "correct" if probe == probe_scores.CHOICES else "loss_sum"
    return {run: measured for (run,), measured in _measured(table, ("run_id",), "item", value)}


def _measured(
    table: pa.Table, keys: Sequence[str], item: str, value: str
) -> Iterator[tuple[tuple[str, ...], MeasuredItems]]:
    """What stands under each value of the keys."""
    if not table.num_rows:
        return
    items = np.array(table[item].to_pylist())
    tokens, values = (table[name].to_numpy().astype(np.float64) for name in ("tokens", value))
    groups, group_of = np.unique(
        np.array([table[key].to_pylist() for key in keys], str), axis=1, return_inverse=True
    )
    order = np.argsort(group_of.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(group_of.ravel()[order], prepend=-1))
    for group, rows in zip(groups.T, np.split(order, starts[1:]), strict=True):
        yield tuple(map(str, group)), MeasuredItems(items[rows], tokens[rows], values[rows])
