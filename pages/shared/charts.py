"""Charts as pure functions: tables in, Plotly figures out, no Streamlit and no engine.

Training and validation have the same two colours everywhere, the base model's level is always the same
dashed line, and a run keeps the colour that its number picks. Backgrounds are transparent and every ink
is a mid-tone, so that one figure is right in light and in dark. A value that is not finite is marked
where it happened, never dropped. `uirevision` never changes: a zoom survives each refresh.

A `Curve` table is what `store.queries.metrics.curve` gives: step, first_step, value, min, max, mean, count,
nonfinite, one row a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from pages.shared.palette import BASE, VALIDATION, run_color, run_dash
from pages.shared.traces import (
    ChartLine,
    add_band,
    add_best,
    add_level,
    add_line,
    add_nonfinite,
    add_onset,
    add_training,
    empty_figure,
    is_bucketed,
    short,
    steps_of,
    values_of,
    whole_steps,
)
from pages.shared.wording import Quantity, quantity
from store.documents.verdicts.overfitting import Overfitting

COMPARED_HEIGHT = 420
LEGEND_LINE = 20  # px that a name takes in the legend
NAMES_WITH_ROOM = 5  # names that fit below a chart of the usual height


@dataclass(frozen=True)
class Curve:
    """One run's curve on a chart of several. `x` replaces the step axis where it is given."""

    name: str
    number: int
    table: pa.Table
    x: Sequence[float] | None = None


@dataclass(frozen=True)
class LossMarks:
    """What is marked on a chart of losses: the base model's level by its name, the best step, and by
    the `overfitting` part of a verdict the steps since which the course went wrong."""

    base_level: float | None = None
    base_name: str = "Base model"
    best_step: int | None = None
    shape: Overfitting | None = None


NOTHING_MARKED = LossMarks()


def loss_chart(
    train: pa.Table,
    validation: pa.Table,
    marks: LossMarks = NOTHING_MARKED,
    *,
    axis: str = "",
) -> go.Figure:
    """Training and validation loss on one chart, with its marks."""
    loss = quantity("eval/loss")
    figure = empty_figure("Training and validation loss", axis or loss.axis, height=380)
    add_training(figure, train)
    steps, values = steps_of(validation), values_of(validation, "value")
    add_line(figure, steps, values, ChartLine("Validation", VALIDATION, 2.6, markers=len(steps) <= 60))
    add_nonfinite(figure, [train, validation])
    whole_steps(figure, [train, validation])
    if marks.base_level is not None:
        add_level(figure, marks.base_level, f"{marks.base_name} {marks.base_level:.3f}")
    if marks.best_step is not None and marks.best_step in steps:
        best = float(values[list(steps).index(marks.best_step)])
        add_best(figure, marks.best_step, best, marks.base_level)
    add_onset(figure, marks.shape, [*steps_of(train), *steps])
    return figure


def line_chart(table: pa.Table, name: str, *, color: str = VALIDATION) -> go.Figure:
    """One metric of one run, its buckets' extremes as a faint band."""
    what = quantity(name)
    figure = empty_figure(what.title, what.axis, height=240)
    figure.update_layout(showlegend=False, margin={"t": 40})
    add_band(figure, table, color)
    column = "mean" if is_bucketed(table) else "value"
    steps, values = steps_of(table), values_of(table, column)
    add_line(figure, steps, values, ChartLine(what.title, color, 2, markers=len(steps) <= 12))
    add_nonfinite(figure, [table])
    whole_steps(figure, [table])
    if name == "train/learning_rate":
        figure.update_yaxes(exponentformat="e", tickformat=".1e")
    elif len(values) and np.nanmin(values, initial=np.inf) >= 0:
        figure.update_yaxes(rangemode="tozero")
    return figure


def compare_chart(
    curves: Sequence[Curve],
    what: Quantity,
    *,
    base_level: float | None = None,
    x_title: str = "Optimiser step",
) -> go.Figure:
    """The same metric of several runs, each in its own colour; one base level where all share it."""
    figure = empty_figure(what.title, what.axis, height=COMPARED_HEIGHT, x_title=x_title)
    for curve in curves:
        column = "mean" if is_bucketed(curve.table) else "value"
        x = np.asarray(curve.x, float) if curve.x is not None else steps_of(curve.table)
        color = run_color(curve.number)
        if curve.x is None:
            add_band(figure, curve.table, color)
        line = ChartLine(short(curve.name), color, 2.2, markers=len(x) <= 40, dash=run_dash(curve.number))
        add_line(figure, x, values_of(curve.table, column), line)
    add_nonfinite(figure, [curve.table for curve in curves if curve.x is None])
    # Below, where any number of names has room on any width. On a phone each has a line of its own: many make
    # the figure higher, or else they would press the curves flat and the last of them be cut off.
    figure.update_layout(
        height=COMPARED_HEIGHT + LEGEND_LINE * max(0, len(curves) - NAMES_WITH_ROOM),
        legend={"y": -0.2, "yanchor": "top"},
        margin={"t": 40},
    )
    if base_level is not None:
        add_level(figure, base_level, f"Base model {base_level:.3f}")
    return figure


@dataclass(frozen=True)
class IntervalRow:
    """One row of an interval chart: a value, and its interval where there is one."""

    name: str
    value: float
    low: float | None
    high: float | None
    color: str


def interval_chart(
    estimates: Sequence[IntervalRow],
    axis: str,
    *,
    height: int | None = None,
    level: float = 0,
) -> go.Figure:
    """Estimates with their intervals against 0, or another level, one under another, the first at the top."""
    figure = empty_figure("", "", height or 70 + 34 * len(estimates), x_title=axis)
    names = [short(row.name) for row in estimates]
    # Places are numbers: names would be categories, of which equal ones fall together and "0.1" is a number.
    for place, row in enumerate(estimates):
        low, high = (row.value, row.value) if row.low is None or row.high is None else (row.low, row.high)
        reach = {"array": [high - row.value], "arrayminus": [row.value - low], "symmetric": False}
        figure.add_trace(
            go.Scatter(
                x=[row.value],
                y=[place],
                error_x={"type": "data", **reach, "thickness": 3.5, "width": 0, "color": row.color},
                mode="markers",
                marker={"size": 9, "color": row.color},
                hovertemplate=f"%{{x:.4f}} ({low:.4f} to {high:.4f})<extra>{names[place]}</extra>",
                showlegend=False,
            )
        )
    figure.add_vline(x=level, line={"dash": "dash", "color": BASE, "width": 1.5})
    figure.update_yaxes(showgrid=False, automargin=True, title=None, showticklabels=len(estimates) > 1)
    last = len(names) - 0.5
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[last, -0.5], zeroline=False)
    figure.update_xaxes(rangemode="normal")
    figure.update_layout(hovermode="closest", margin={"l": 12, "t": 8, "b": 44})
    return figure
