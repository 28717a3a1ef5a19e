"""Checkpoint measurements of a run, live during training: forgetting of prose and questions, and the task
metric.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import plotly.graph_objects as go
import pyarrow as pa
import streamlit as st

from engine.evaluation.training_curve.run_curve import METRIC_WORDS
from engine.evaluation.verdicts.forgetting import THRESHOLDS
from pages.runs import forgetting_charts
from pages.shared import display, run_queries
from pages.shared.charts import (
    PLOT,
    BoundedPoint,
    ChartLine,
    add_line,
    build_empty_figure,
    error_bars,
    get_steps,
    get_values,
)
from pages.shared.palette import BASE, BUSY, VALIDATION
from pages.shared.session import escape_markdown
from store.core import formatting
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.evaluation.forgetting_schemas import (
    CategoryMatrix,
    ChoiceForgetting,
    ColourLimits,
    Forgetting,
    ForgettingCurve,
)
from store.evaluation.verdict_schemas import MetricPoint, Overfitting
from store.runs.schemas import Run


def draw_checkpoint_curves(run: Run, forgetting: Forgetting | None) -> None:
    """Draw the forgetting curve and the category heat map by checkpoint, or why there are none.

    forgetting: the `forgetting` part of the verdict, or None before there is one.
    """
    if run.config.get("probes") is False or run.config.get("task") == "classification":
        return  # stated by the caller
    st.markdown("**Forgetting by checkpoint**")
    counted = run_queries.read_metric_summaries(run.run_id).get("probe/prose/loss")
    if not counted:
        st.caption(_explain_no_curve(run))
        return
    steps, probes, cells = run_queries.read_forgetting_curve(
        run.run_id, counted.count, run.status not in ALIVE
    )
    if not probes:
        st.caption(_explain_no_base(run, steps))
        return
    kept = run.verdict.stopped.restored_step if run.verdict else None
    for probe in probes:
        if probe.probe == "prose" or probe.probe.startswith("data/"):
            _draw_rise(probe, forgetting, kept)
    if cells:
        asked = forgetting.choices if forgetting else []
        _draw_cells(run, cells, asked[0] if asked else None, kept, steps)
    spent, trained = run.facts.get("probe_seconds"), run.facts.get("train_seconds")
    if spent and trained:
        share = 100 * spent / trained
        st.caption(f"Probes between steps took {spent:.0f} s, {share:.0f}% of the time in training.")


def _draw_rise(course: ForgettingCurve, forgetting: Forgetting | None, kept: int | None) -> None:
    name = course.probe
    end = _get_kept_model_estimate(forgetting, name)
    what, item = ("plain prose", "passage") if name == "prose" else (name.removeprefix("data/"), "row")
    shares = course.kind == "choices"
    if end and shares:  # accuracy change with the sign reversed
        end = replace(end, value=-end.value, low=_negate(end.high), high=_negate(end.low))
    levels = THRESHOLDS.share if shares else THRESHOLDS.nats
    limits = ColourLimits(amber=levels.amber, red=levels.red)
    figure = forgetting_charts.plot_loss_rise(course, end, kept, limits, what)
    st.plotly_chart(figure, key=f"course-{name}", config=PLOT, alt=f"Forgetting of {what} by step")
    most = max(point.n for point in course.points)
    note = (
        f"95% intervals over {formatting.plural(most, item)}; colored points are significantly beyond that"
        " line."
    )
    if end:
        note += f" The diamond is the final model, on {formatting.plural(end.n, item)}."
    st.caption(f"{_describe_onset(course, limits, what)} {note}")


def _get_kept_model_estimate(forgetting: Forgetting | None, probe: str) -> Estimate | None:
    """Return the forgetting of the kept model on the probe, or None."""
    if not forgetting:
        return None
    changes = {text.probe: text.change for text in forgetting.texts}
    changes |= {choices.probe: choices.change for choices in forgetting.choices}
    return changes.get(probe)


def _negate(value: float | None) -> float | None:
    return None if value is None else -value


def _describe_onset(course: ForgettingCurve, limits: ColourLimits, what: str) -> str:
    """Describe from which step on it significantly exceeds a threshold."""
    for limit, step in ((limits.red, course.red_since), (limits.amber, course.amber_since)):
        if step is not None:
            return f"Significantly above {limit:g} {course.unit} on {what} from step {step:,}."
    return f"Not significantly over {limits.amber:g} {course.unit} on {what}."


def _draw_cells(
    run: Run, cells: CategoryMatrix, end: ChoiceForgetting | None, kept: int | None, steps: int
) -> None:
    columns = forgetting_charts.build_heatmap_columns(cells, end, kept)
    if len(columns) < 2 or cells.steps == [kept]:  # the kept model may be the one checkpoint already measured
        st.caption(_explain_single_checkpoint(run, cells))
        return
    st.markdown("**Questions by category and checkpoint**, change of accuracy in percentage points")
    figure = forgetting_charts.plot_heatmap(columns)
    alt = "Change of accuracy by category and checkpoint"
    st.plotly_chart(figure, key="course-cells", config={"displayModeBar": False}, alt=alt)
    whole = cells.totals[0].n
    fewest, most = (pick(cell.n for cell in cells.cells) for pick in (min, max))
    each = f"{most} of each" if fewest == most else f"{fewest} to {most} of a"
    note = (
        "Strong color and a number: significant change, Holm-corrected over all cells (over the steps for"
        f" the first row). Pale without a number: can't be distinguished from noise. During training {whole}"
        f" questions are used, {each} category"
    )
    if end:
        note += f"; the final model answers all {end.n:,}, with its cells corrected separately"
    note += "."
    if steps > len(cells.steps):
        note += f" {len(cells.steps)} of {steps} checkpoints are shown."
    st.caption(note)


def _explain_no_curve(run: Run) -> str:
    share = float(run.config.get("probe_share") or 0)
    if run.status in ALIVE:
        return (
            f"Nothing was asked yet. Probes may take {share:.0%} of the time in training, and wait for the"
            " first validation at which it has paid for them."
        )
    return (
        "No probe was paid for while it trained: they may take"
        f" {share:.0%} of the time in training, and it ended before. Raise probe_share to see the course of a"
        " run as short as this."
    )


def _explain_no_base(run: Run, steps: int) -> str:
    if run.status in ALIVE:
        return (
            f"Questions were asked at {formatting.plural(steps, 'checkpoint')}. The base model, against which"
            " they count, is asked at the end, as this method changes it from the first step on; with"
            " max_forgetting it is asked before."
        )
    return "The base model was not measured: the run ended before."


def _explain_single_checkpoint(run: Run, cells: CategoryMatrix) -> str:
    asked = formatting.plural(cells.totals[0].n, "question") if cells.totals else "no question"
    step = cells.steps[0]
    return (
        f"A map of categories by checkpoint needs two checkpoints; {asked} could be asked at step {step:,}"
        " alone. Probes wait until training has paid for them: raise probe_share, or evaluations in a longer"
        " run."
    )


FRESH_SECONDS = 10  # seconds for which a live run's curve is cached
NOTES = {
    "label": "A row is right where answering greedily gives its label, to the last token.",
    "tokens": "Tokens of the answers that are the model's first choice.",
    "accuracy": "Rows whose class is right; step 0 is always the most frequent class.",
    "pairs": "Pairs in which the chosen answer gained on the rejected one.",
}


def draw_metric(run: Run, shape: Overfitting | None) -> None:
    """Draw loss and metric over the same steps, and a sentence if they diverge."""
    st.markdown("**Metric and loss**")
    kind = run.facts.get("task_metric")
    if not kind:
        waits = (
            "The curve begins with the first validation."
            if run.status in ALIVE
            else "Not recorded in this run."
        )
        st.caption(waits)
        return
    summaries = run_queries.read_metric_summaries(run.run_id)
    counted = summaries["eval/loss"].count if "eval/loss" in summaries else 0
    moment = int(time.time() // FRESH_SECONDS) if run.status in ALIVE else 0
    points = run_queries.read_metric_curve(run.run_id, kind, counted, moment)
    if len(points) < 2:
        st.caption("The curve is drawn from the second validation on.")
        return
    _draw_divergence(run, shape)
    loss = run_queries.read_live_curve(run.run_id, "eval/loss")
    answers = run.facts.get("live_metric")
    answered: list[MetricPoint] = []
    if answers and answers["key"] in summaries:
        count = summaries[answers["key"]].count
        answered = run_queries.read_metric_curve(run.run_id, "answers", count, moment) if count else []
    name = answers["words"] if answers else ""
    figure = plot_metric(loss, points, METRIC_WORDS[kind], answered, name, display.get_loss_axis(run.config))
    if kind == "accuracy" and points[0].step == 0:
        _add_baseline(figure, points)
    alt = f"Validation loss and {METRIC_WORDS[kind]} by step"
    st.plotly_chart(figure, key="metric-beside-loss", config=PLOT, alt=alt)
    st.caption(_describe_basis(run, kind, points, answered))


def _draw_divergence(run: Run, shape: Overfitting | None) -> None:
    """Draw the verdict's sentence on divergence; before the verdict, the warning if there is one."""
    parted = shape.parting if shape else None
    sentence = parted.sentence if parted else ""
    if not shape:
        warnings = (a.message for a in run_queries.list_alerts(run.run_id) if a.kind == "parting")
        sentence = next(warnings, "")
    if sentence:
        st.markdown(f":orange[:material/call_split:] {escape_markdown(sentence)}")
    elif shape:
        st.markdown("These rows show no divergence of loss and metric.")


def _describe_basis(
    run: Run, kind: str, points: Sequence[MetricPoint], answered: Sequence[MetricPoint]
) -> str:
    rows = formatting.plural(points[-1].n, "pair" if kind == "pairs" else "validation row")
    basis = f"{NOTES[kind]} 95% intervals over {rows}."
    answers = run.facts.get("live_metric")
    if answers and answered:
        given = formatting.plural(len(answered), "validation")
        basis += (
            f" {escape_markdown(answers['words'])}: answers to {answered[-1].n} of them, generated at {given}"
        )
        basis += ", whenever training had paid for it."
        if any(point.low is None for point in answered):
            basis += " Where all of them score alike there is no interval, and nothing is certain."
    elif answers:
        basis += (
            f" {escape_markdown(answers['words'])} of generated answers was not paid for by so"
            " short a training."
        )
    return basis


def plot_metric(
    loss: pa.Table,
    points: Sequence[MetricPoint],
    name: str,
    answered: Sequence[MetricPoint],
    answers_name: str,
    axis: str,
) -> go.Figure:
    """Plot validation loss above and the metric with its intervals below, on a common step axis."""
    figure = build_empty_figure(f"Validation loss and {name}", axis, 440)
    line = ChartLine("Validation loss", VALIDATION, 2.4, markers=loss.num_rows <= 60)
    add_line(figure, get_steps(loss), get_values(loss, "value"), line)
    _add_points(figure, points, name[:1].upper() + name[1:], BUSY)
    if answered:
        _add_points(figure, answered, f"{answers_name} of answers", "#9467bd")
    highest = max(p.value if p.high is None else p.high for p in [*points, *answered])
    top = 1.08 * max(0.05, highest)
    under = {"domain": [0.0, 0.44], "anchor": "x", "title": {"text": "Share right"}, "range": [0, top]}
    grid = figure.layout.yaxis.gridcolor
    figure.update_layout(
        yaxis={"domain": [0.54, 1.0]},
        yaxis2={**under, "gridcolor": grid, "zeroline": False, "automargin": True},
        xaxis={"anchor": "y2"},
        legend={"y": -0.18, "yanchor": "top"},  # on a phone three names take three lines
        margin={"t": 40, "b": 44},
    )
    return figure


def _add_baseline(figure: go.Figure, points: Sequence[MetricPoint]) -> None:
    """Add the accuracy of always predicting the most frequent class, which is the value at step 0."""
    ends, level = [points[0].step, points[-1].step], points[0].value
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


def _format_point(point: MetricPoint) -> str:
    if point.low is None and point.n > 1:
        return f"{display.format_number(100 * point.value, 1)}%, n {point.n}, all alike"
    return f"{display.format_estimate(point, scale=100, sign=False)}%, n {point.n}"


def _add_points(figure: go.Figure, points: Sequence[MetricPoint], name: str, color: str) -> None:
    intervals = [
        BoundedPoint(
            p.step,
            p.value,
            p.value if p.low is None else p.low,
            p.value if p.high is None else p.high,
            p.n,
        )
        for p in points
    ]
    figure.add_trace(
        go.Scatter(
            x=[p.step for p in points],
            y=[p.value for p in points],
            yaxis="y2",
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"size": 6, "color": color},
            error_y=error_bars(intervals, color, 1.6),
            text=[_format_point(p) for p in points],
            hovertemplate="%{text}",
        )
    )  # fmt: skip
