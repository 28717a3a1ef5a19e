"""Curves of several runs laid over each other, by optimiser step or by tokens seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import streamlit as st

from pages.compare.compare_evidence import labels
from pages.run_parts import run_reads
from pages.shared import charts, wording
from pages.shared.session import plain
from pages.shared.traces import PLOT
from store.documents.figures.metric import MetricSummary
from store.documents.tables.run import Run

MAIN = ("eval/loss", "train/loss")
AXES = {"Optimiser step": "step", "Tokens seen": "tokens"}


def draw_curves(runs: Sequence[Run]) -> None:
    """One chart of the chosen metric; runs that never logged it are named."""
    summaries = {run["run_id"]: run_reads.summaries(run["run_id"]) for run in runs}
    names = sorted(set().union(*summaries.values()), key=lambda name: (name not in MAIN, name))
    if not names:
        st.caption("None of these runs has measured anything yet.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Metric",
            names,
            key="compare-metric",
            format_func=lambda name: wording.quantity(name).title,
            width=280,
            bind="query-params",
        )
        axis = st.segmented_control("Along", list(AXES), default="Optimiser step", key="compare-axis")
    by_tokens = AXES[axis or "Optimiser step"] == "tokens"
    measured = [run for run in runs if name in summaries[run["run_id"]]]
    title, run_labels = wording.quantity(name), labels(runs)
    curves = [
        _curve(run, name, summaries[run["run_id"]], run_labels[run["run_id"]], by_tokens) for run in measured
    ]
    level = (
        common_level([summaries[run["run_id"]].get("eval/loss") for run in measured])
        if name == "eval/loss"
        else None
    )
    figure = charts.compare_chart(
        curves, title, base_level=level, x_title="Tokens seen" if by_tokens else "Optimiser step"
    )
    alt = f"{title.title} of {len(measured)} runs by {axis or 'step'}"
    st.plotly_chart(figure, key=f"compare-{name}-{by_tokens}", config=PLOT, alt=alt)
    silent = [run_labels[run["run_id"]] for run in runs if run not in measured]
    if silent:
        st.caption(f"Not measured by: {plain(', '.join(silent))}.")


def _curve(
    run: Run, name: str, summaries: dict[str, MetricSummary], label: str, by_tokens: bool
) -> charts.Curve:
    table = _table(run["run_id"], name, summaries)
    if not by_tokens or "train/tokens_seen" not in summaries:
        return charts.Curve(label, run["number"], table)
    seen = _table(run["run_id"], "train/tokens_seen", summaries)
    return charts.Curve(label, run["number"], table, tokens_at(table, seen))


def _table(run_id: str, name: str, summaries: dict[str, MetricSummary]) -> pa.Table:
    return run_reads.curve(run_id, name, summaries[name]["count"], summaries[name]["sum"])


def tokens_at(table: pa.Table, seen: pa.Table) -> list[float]:
    """Tokens seen at the steps of a curve, between logged steps in proportion; none at step 0."""
    steps = np.concatenate([[0], seen["step"].to_numpy()])
    tokens = np.concatenate([[0.0], seen["value"].to_numpy()])
    return [float(x) for x in np.interp(table["step"].to_numpy(), steps, tokens)]


def common_level(summaries: Sequence[MetricSummary | None]) -> float | None:
    """The loss of the base model where all these runs started from the same; else None."""
    levels = [
        s["first_value"] for s in summaries if s and s["first_step"] == 0 and s["first_value"] is not None
    ]
    if len(levels) < len(summaries) or not levels or max(levels) - min(levels) > 1e-3 * abs(levels[0]):
        return None
    return float(levels[0])
