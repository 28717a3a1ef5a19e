"""The tab Curves of the Compare page: a chart of each metric that the chosen runs logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.comparison.differences import build_run_labels
from pages.comparison.run_selection import draw_empty, find_existing_runs, pick_runs
from pages.shared import run_queries
from pages.shared.curves.curves import DrawnMetric, describe_metric, draw_curves, label_run
from pages.shared.session import live, show_errors, watch_engine
from store.core.job_kinds import ALIVE
from store.jobs.schemas import MetricSummary

FIRST = ("eval/loss", "train/loss")  # the charts at the top
BASE_LEVEL = "eval/loss"  # whose value at step 0 is the base model's
Summaries = Mapping[str, Mapping[str, MetricSummary]]  # by run and metric


def draw_run_curves() -> None:
    """Draw the selection of runs and their curves."""
    st.title("Curves", anchor=False)
    picked = pick_runs()
    if not picked:
        draw_empty("Select one or more runs to see their curves.")
        return
    runs = find_existing_runs(picked)
    alive = any(run.status in ALIVE for run in runs)
    # A live run may log a metric that it had not; the curves themselves ask by themselves.
    live("10s" if alive else None)(_draw_charts)(tuple(run.run_id for run in runs), alive)


def _draw_charts(run_ids: tuple[str, ...], alive: bool) -> None:
    with show_errors():
        watch_engine()
        runs = find_existing_runs(list(run_ids))
        metrics = list_metrics(run_ids, run_queries.read_summaries_of_runs(run_ids))
        if not metrics:
            st.caption("None of these runs has logged a metric yet. Curves appear after the first steps.")
            return
        labels = build_run_labels(runs)
        drawn = [label_run(run, labels[run.run_id]) for run in runs]
        draw_curves(drawn, metrics, key="compare-curves", alive=alive)


def list_metrics(run_ids: Sequence[str], summaries: Summaries) -> list[DrawnMetric]:
    """Return a chart of each metric, the losses first, then by name."""
    names = {name for of_run in summaries.values() for name in of_run}
    ordered = [*(name for name in FIRST if name in names), *sorted(names.difference(FIRST))]
    return [_describe(name, run_ids, summaries) for name in ordered]


def _describe(name: str, run_ids: Sequence[str], summaries: Summaries) -> DrawnMetric:
    logged = [run_id for run_id in run_ids if name in summaries.get(run_id, {})]
    level = None
    if name == BASE_LEVEL:
        level = find_common_base_loss([summaries[run_id][name] for run_id in logged])
    return describe_metric(name, logged, level)


def find_common_base_loss(summaries: Sequence[MetricSummary]) -> float | None:
    """Return the base model's loss if all these runs share it, else None."""
    levels = [s.first_value for s in summaries if s.first_step == 0 and s.first_value is not None]
    if len(levels) < len(summaries) or not levels or max(levels) - min(levels) > 1e-3 * abs(levels[0]):
        return None
    return float(levels[0])
