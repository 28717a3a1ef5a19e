"""The task's metric beside the loss while a run trains: what counts, and where the two part."""

from __future__ import annotations

import time
from collections.abc import Sequence

import plotly.graph_objects as go
import pyarrow as pa
import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.course.task_metric_course import WORDS
from pages.run_parts import run_reads
from pages.run_parts.bounded_points import BoundedPoint, error_bars
from pages.shared import wording
from pages.shared.palette import BASE, BUSY, VALIDATION
from pages.shared.session import plain
from pages.shared.traces import PLOT, ChartLine, add_line, empty_figure, steps_of, values_of
from store.contract.states import ALIVE
from store.documents.tables.run import Run
from store.documents.verdicts.overfitting import MetricPoint, Overfitting

FRESH = 10  # seconds that what a live run has kept is taken for all that it has
NOTES = {
    "label": "A row is right where answering greedily gives its label, to the last token.",
    "tokens": "Tokens of the answers that are the model's first choice.",
    "accuracy": "Rows whose class is right; step 0 is always the most frequent class.",
    "pairs": "Pairs in which the chosen answer gained on the rejected one.",
}


def draw_metric(run: Run, shape: Overfitting | None) -> None:
    """Loss and metric over the same steps, and a sentence where they part."""
    st.markdown("**Does what counts follow the loss?**")
    kind = run["facts"].get("task_metric")
    if not kind:
        waits = "It begins with the first validation." if run["status"] in ALIVE else "Not kept in this run."
        st.caption(waits)
        return
    summaries = run_reads.summaries(run["run_id"])
    counted = summaries["eval/loss"]["count"] if "eval/loss" in summaries else 0
    moment = int(time.time() // FRESH) if run["status"] in ALIVE else 0
    points = run_reads.metric_course(run["run_id"], kind, counted, moment)
    if len(points) < 2:
        st.caption("It is drawn from the second validation on.")
        return
    _draw_parting(run, shape)
    loss = run_reads.live_curve(run["run_id"], "eval/loss")
    answers = run["facts"].get("live_metric")
    answered: list[MetricPoint] = []
    if answers and answers["key"] in summaries:
        count = summaries[answers["key"]]["count"]
        answered = run_reads.metric_course(run["run_id"], "answers", count, moment) if count else []
    name = answers["words"] if answers else ""
    figure = metric_chart(loss, points, WORDS[kind], answered, name, wording.loss_axis(run["config"]))
    if kind == "accuracy" and points[0]["step"] == 0:
        _add_baseline(figure, points)
    alt = f"Validation loss and {WORDS[kind]} by step"
    st.plotly_chart(figure, key="metric-beside-loss", config=PLOT, alt=alt)
    st.caption(_basis(run, kind, points, answered))


def _draw_parting(run: Run, shape: Overfitting | None) -> None:
    """What the verdict says of it; before, what was sure enough for a warning."""
    parted = shape and shape["parting"]
    sentence = parted["sentence"] if parted else ""
    if not shape:
        warnings = (a["message"] for a in run_reads.alerts(run["run_id"]) if a["kind"] == "parting")
        sentence = next(warnings, "")
    if sentence:
        st.markdown(f":orange[:material/call_split:] {plain(sentence)}")
    elif shape:
        st.markdown("Loss and metric do not part, as far as these rows can tell.")


def _basis(run: Run, kind: str, points: Sequence[MetricPoint], answered: Sequence[MetricPoint]) -> str:
    rows = phrasing.plural(points[-1]["n"], "pair" if kind == "pairs" else "validation row")
    basis = f"{NOTES[kind]} 95% intervals over {rows}."
    answers = run["facts"].get("live_metric")
    if answers and answered:
        given = phrasing.plural(len(answered), "validation")
        basis += f" {plain(answers['words'])}: answers to {answered[-1]['n']} of them, generated at {given}"
        basis += ", whenever training had paid for it."
        if any(point["low"] is None for point in answered):
            basis += " Where all of them score alike there is no interval, and nothing is certain."
    elif answers:
        basis += f" {plain(answers['words'])} of generated answers was not paid for by so short a training."
    return basis


def metric_chart(
    loss: pa.Table,
    points: Sequence[MetricPoint],
    name: str,
    answered: Sequence[MetricPoint],
    answers_name: str,
    axis: str,
) -> go.Figure:
    """Validation loss above, the metric with its intervals below, over one axis of steps."""
    figure = empty_figure(f"Validation loss and {name}", axis, 440)
    line = ChartLine("Validation loss", VALIDATION, 2.4, markers=loss.num_rows <= 60)
    add_line(figure, steps_of(loss), values_of(loss, "value"), line)
    _add_points(figure, points, name[:1].upper() + name[1:], BUSY)
    if answered:
        _add_points(figure, answered, f"{answers_name} of answers", "#9467bd")
    highest = max(p["value"] if p["high"] is None else p["high"] for p in [*points, *answered])
    top = 1.08 * max(0.05, highest)
    under = {"domain": [0.0, 0.44], "anchor": "x", "title": {"text": "Share right"}, "range": [0, top]}
    grid = figure.layout.yaxis.gridcolor
    figure.update_layout(
        yaxis={"domain": [0.54, 1.0]},
        yaxis2={**under, "gridcolor": grid, "zeroline": False, "automargin": True},
        xaxis={"anchor": "y2"},
        legend={"y": -0.18, "yanchor": "top"},  # three names are three lines on a phone
        margin={"t": 40, "b": 44},
    )
    return figure


def _add_baseline(figure: go.Figure, points: Sequence[MetricPoint]) -> None:
    """The share that is right by always the most frequent class, which step 0 is."""
    ends, level = [points[0]["step"], points[-1]["step"]], points[0]["value"]
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=[level, level],
            yaxis="y2",
            name="Always the most frequent class",
            mode="lines",
            line={"color": BASE, "width": 1.6, "dash": "dash"},
            hoverinfo="skip",
        )
    )


def _point_text(point: MetricPoint) -> str:
    if point["low"] is None and point["n"] > 1:
        return f"{wording.number(100 * point['value'], 1)}%, n {point['n']}, all alike"
    return f"{wording.estimate(dict(point), scale=100, sign=False)}%, n {point['n']}"


def _add_points(figure: go.Figure, points: Sequence[MetricPoint], name: str, color: str) -> None:
    intervals = [
        BoundedPoint(
            p["step"],
            p["value"],
            p["value"] if p["low"] is None else p["low"],
            p["value"] if p["high"] is None else p["high"],
            p["n"],
        )
        for p in points
    ]
    figure.add_trace(
        go.Scatter(
            x=[p["step"] for p in points],
            y=[p["value"] for p in points],
            yaxis="y2",
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"size": 6, "color": color},
            error_y=error_bars(intervals, color, 1.6),
            text=[_point_text(p) for p in points],
            hovertemplate="%{text}",
        )
    )  # fmt: skip
