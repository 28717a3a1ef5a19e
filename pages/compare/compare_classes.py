"""Runs that classify, compared by how many of the same rows they get right: in pairs, row by row.

A head and a model that answers in words have losses of different kinds; that a row is right is the same for
both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.comparison.comparison import pairs
from engine.diagnostics.statistics.flips import paired_change
from engine.diagnostics.statistics.statistics import Interval
from pages.run_parts import run_reads
from pages.shared.session import plain
from store.contract.errors import QueryError
from store.documents.tables.run import Run
from store.documents.verdicts.classification import Classification
from store.queries.runs.runs import settings_of

RUNS = ("first", "second")


def draw_class_evidence(runs: Sequence[Run], names: dict[str, str]) -> None:
    """A sentence for each run against the one that is right on the most rows; nothing for fewer than two."""
    judged = [run for run in runs if run["verdict"] and run["verdict"]["classification"]]
    if len(judged) < 2:
        return
    best = max(judged, key=_accuracy)
    others = sorted((run for run in judged if run is not best), key=_accuracy, reverse=True)
    with st.container(border=True):
        st.markdown("**Which is right on more rows?**")
        for other in others:
            interval, sentence = _compared(best, other, names, pairs(len(judged)))
            separated = interval is not None and (interval.above or interval.below)
            icon = ":material/check_circle:" if separated else ":material/help:"
            if interval is not None and settings_of(best) == settings_of(other):
                icon, sentence = ":material/casino:", _luck(best, other, names, interval)
            icon = ":material/block:" if interval is None else icon
            st.markdown(f"{icon} {plain(sentence)}")
        if len(others) > 1:
            st.caption(
                "Any of them could have come out best: intervals are widened for all"
                f" {pairs(len(judged))} pairs (Bonferroni)."
            )


def _accuracy(run: Run) -> float:
    return float(_classification(run)["models"]["tuned"]["accuracy"]["value"])


def _classification(run: Run) -> Classification:
    """Of a run that classified held-out rows, as all do that are compared here."""
    classification = run["verdict"] and run["verdict"]["classification"]
    if not classification:
        raise ValueError(f"{run['run_id']} did not classify rows")
    return classification


def _compared(best: Run, other: Run, names: dict[str, str], comparisons: int) -> tuple[Interval | None, str]:
    first, second = names[best["run_id"]], names[other["run_id"]]
    split = _classification(best)["split"]
    if best["data_fingerprint"] != other["data_fingerprint"]:
        return None, f"{first} and {second} can't be compared: they were trained on different data."
    if split != _classification(other)["split"]:
        return (
            None,
            f"{first} and {second} can't be compared: one was judged on test rows, one on validation.",
        )
    interval = paired(best["run_id"], other["run_id"], split, 1 - 0.05 / comparisons)
    if interval is None:
        return None, f"{first} and {second} can't be compared: they share no row that both classified."
    return interval, sentence(first, second, interval)


def _luck(best: Run, other: Run, names: dict[str, str], gap: Interval) -> str:
    """Of two runs of the same settings: which model is right more often says nothing of them."""
    points = phrasing.number(abs(100 * gap.value), 1)
    first, second = names[best["run_id"]], names[other["run_id"]]
    return (
        f"{first} and {second} differ in nothing but their seed and lie {points}"
        f" points of accuracy apart on {phrasing.plural(gap.n, 'held-out row')}: that is luck, not a better"
        " setting."
    )


def sentence(first: str, second: str, gap: Interval) -> str:
    """The comparison in plain words; `gap` is the share of rows by which the first is more often right."""
    rows = phrasing.plural(gap.n, "held-out row")
    if gap.low is None or gap.high is None:
        return f"{first} and {second} can't be told apart on one row."
    places = phrasing.decimals(100 * gap.low, 100 * gap.high, default=1)
    bounds = phrasing.interval(100 * gap.low, 100 * gap.high, places)
    if not gap.above and not gap.below:
        return f"{first} and {second} can't be told apart on {rows} ({bounds} points of accuracy)."
    amount = phrasing.number(abs(100 * gap.value), places)
    if gap.below:
        first, second = second, first
        bounds = phrasing.interval(-100 * gap.high, -100 * gap.low, places)
    return f"{first} is right more often than {second} by {amount} points on {rows} ({bounds})."


@st.cache_data(ttl=600, max_entries=128, show_spinner="Comparing row by row …")
def paired(first: str, second: str, split: str, confidence: float) -> Interval | None:
    """By what share of their shared rows the first is more often right; None without such rows."""
    try:
        rows = run_reads.shared_classes(first, second, split)
    except QueryError:
        return None
    if not rows.num_rows:
        return None
    first_right, second_right = (np.asarray(rows[f"{run}_right"].to_pylist(), float) for run in RUNS)
    lost, won = int((first_right < second_right).sum()), int((first_right > second_right).sum())
    return paired_change(lost, won, rows.num_rows, confidence=confidence)
