"""Charts as pure functions (tables in, Plotly figures out; no Streamlit, no engine), and the parts they are
made of.

Train and validation have the same two colours everywhere, and a run keeps the colour of its number.
Backgrounds are transparent and all inks are mid-tones, so that a figure works in light and dark. Non-finite
values are marked where they occurred.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from pages.shared.display import find_quantity
from pages.shared.palette import (
    BAD,
    BASE,
    GRID,
    TRAIN,
    VALIDATION,
    WHITE_TEXT_BACKGROUNDS,
)
from store.core.schemas import JsonObject
from store.evaluation.verdict_schemas import Overfitting

# `uirevision` never changes, so that the zoom of a live chart survives every refresh.

# Config of st.plotly_chart: no logo, and no buttons without effect.
PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
PILL = {"font": {"color": "white", "size": 12}, "borderpad": 3}  # a label that stays readable over lines
SMOOTHED_FROM = 40  # points; with fewer a raw curve is readable
MAX_SVG_POINTS = 5_000  # a map with this many points is redrawn in 0.25 s


def smooth(values: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """Exponential moving average, unbiased at its start; values that are not finite are skipped."""
    out, total, norm = np.full(len(values), np.nan), 0.0, 0.0
    for index, value in enumerate(values):
        if np.isfinite(value):
            total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
            out[index] = total / norm
    return out


def add_level(figure: go.Figure, level: float, text: str) -> None:
    """Add the base model's level: the same dashed grey line on every chart."""
    figure.add_hline(
        y=level,
        line={"dash": "dash", "color": BASE, "width": 1.6},
        annotation={"text": text, "font": {"color": BASE, "size": 12}, "yanchor": "bottom"},
        annotation_position="top right",
    )


def build_empty_figure(title: str, y_title: str, height: int, x_title: str = "Optimizer step") -> go.Figure:
    """A figure with title, axes, legend and margins, and no traces."""
    axis: JsonObject = {"gridcolor": GRID, "zeroline": False, "automargin": True}
    x_name, y_name = ({"text": text, "standoff": 12} for text in (x_title, y_title))
    layout = {
        "title": {
            "text": title,
            "x": 0,
            "xanchor": "left",
            "y": 0.98,
            "yanchor": "top",
            "font": {"size": 15},
        },
        "height": height,
        "margin": {"l": 64, "r": 12, "t": 62, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "x unified",
        "uirevision": "kept",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": BASE, "activecolor": VALIDATION},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {**axis, "title": x_name, "showgrid": False},
        "yaxis": {**axis, "title": y_name},
    }
    return go.Figure(layout=layout)  # `update_layout` takes ten times as long


def set_whole_step_ticks(figure: go.Figure, tables: Sequence[pa.Table]) -> None:
    """Use integer ticks on the axis of a run with few steps."""
    last = max((int(get_steps(table).max()) for table in tables if table.num_rows), default=0)
    if last <= 10:
        figure.update_xaxes(dtick=1)


def add_training(figure: go.Figure, train: pa.Table) -> None:
    """Add the training loss: raw points faint and their moving average bold, if there are too many points to
    read.
    """
    add_band(figure, train, TRAIN)
    steps, values = get_steps(train), get_values(train, "mean" if is_bucketed(train) else "value")
    if len(values) < SMOOTHED_FROM:
        add_line(figure, steps, values, ChartLine("Training", TRAIN, 2, markers=len(steps) <= 30))
        return
    add_line(figure, steps, values, ChartLine("Training, each step", TRAIN, 1, opacity=0.35, legend=False))
    add_line(figure, steps, smooth(values), ChartLine("Training (moving average)", TRAIN, 2.2))


@dataclass(frozen=True)
class ChartLine:
    """Style of a line. markers: draw its points too if there are few; legend: list it in the legend."""

    name: str
    color: str
    width: float
    markers: bool = False
    dash: str = "solid"
    opacity: float = 1
    legend: bool = True


def choose_scatter_type(count: int) -> type[go.Scatter | go.Scattergl]:
    """Choose WebGL for many points, where SVG would slow down the page.

    SVG is used for fewer points, because a browser without a graphics card, or with too many pages open,
    refuses WebGL and with it the whole chart.
    """
    trace: type[go.Scatter | go.Scattergl] = go.Scattergl if count > MAX_SVG_POINTS else go.Scatter
    return trace


def add_line(figure: go.Figure, x: np.ndarray, y: np.ndarray, line: ChartLine) -> None:
    """Add one line."""
    figure.add_trace(
        choose_scatter_type(len(x))(
            x=x,
            y=y,
            name=line.name,
            mode="lines+markers" if line.markers else "lines",
            line={"color": line.color, "width": line.width, "dash": line.dash},
            marker={"size": 6, "color": line.color},
            opacity=line.opacity,
            showlegend=line.legend,
            hovertemplate="%{y:.4g}",
            connectgaps=False,
        )
    )


def add_band(figure: go.Figure, table: pa.Table, color: str) -> None:
    """Add a band from the minimum to the maximum of each bucket, if buckets hold more than one point."""
    if not is_bucketed(table):
        return
    steps, low, high = get_steps(table), get_values(table, "min"), get_values(table, "max")
    finite = np.isfinite(low) & np.isfinite(high)
    figure.add_trace(
        go.Scatter(
            x=np.concatenate([steps[finite], steps[finite][::-1]]),
            y=np.concatenate([high[finite], low[finite][::-1]]),
            fill="toself",
            fillcolor=color,
            opacity=0.14,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            name="smallest to largest",
        )
    )


def add_nonfinite(figure: go.Figure, tables: Sequence[pa.Table]) -> None:
    """Add a red cross at the top for every bucket with non-finite values."""
    marks: dict[int, int] = {}
    for table in tables:
        for step, bad in zip(table["step"].to_pylist(), table["nonfinite"].to_pylist(), strict=True):
            if bad:
                marks[step] = marks.get(step, 0) + bad
    if not marks:
        return
    figure.add_trace(
        go.Scatter(
            x=list(marks),
            y=[0.98] * len(marks),
            yaxis="y2",
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": BAD},
            name="Not a finite number",
            customdata=list(marks.values()),
            hovertemplate="%{customdata} not finite",
        )
    )
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def add_best(figure: go.Figure, step: int, loss: float, level: float | None = None) -> None:
    """Add a ring around the best validation, with its loss on the side away from the base model's level,
    whose label is on its line.
    """
    figure.add_trace(
        go.Scatter(
            x=[step],
            y=[loss],
            mode="markers",
            marker={"symbol": "circle-open", "size": 15, "color": VALIDATION, "line": {"width": 3}},
            name="Best step",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    text, shift = f"best {loss:.3f} at step {step:,}", -24 if level is None or loss <= level else 24
    pill = PILL | {"bgcolor": WHITE_TEXT_BACKGROUNDS[VALIDATION]}
    figure.add_annotation(x=step, y=loss, text=text, showarrow=False, yshift=shift, **pill)


def add_onset(figure: go.Figure, shape: Overfitting | None, steps: Iterable[int]) -> None:
    """Shade the steps since the onset of overfitting or divergence, up to the last of `steps`. Nothing is
    drawn if there is neither.
    """
    if not shape or shape.since_step is None:
        return
    since, last = shape.since_step, shape.last_step
    diverged = shape.state == "diverged"
    end = int(max([since, *steps])) if diverged or last is None else last
    name = "diverged" if diverged else "overfits"
    figure.add_vrect(
        x0=since, x1=end, fillcolor=BAD, opacity=0.08, line_width=0, layer="below",
        annotation={"text": name, "bgcolor": WHITE_TEXT_BACKGROUNDS[BAD], "yanchor": "bottom", **PILL},
        annotation_position="bottom left",
    )  # fmt: skip


def is_bucketed(table: pa.Table) -> bool:
    """Whether any row represents more than one point."""
    return any(count > 1 for count in table["count"].to_pylist())


def get_steps(table: pa.Table) -> np.ndarray:
    """The steps, int64 [rows]."""
    steps: np.ndarray = table["step"].to_numpy()
    return steps


def get_values(table: pa.Table, column: str) -> np.ndarray:
    """A column as float64 [rows]; null (nothing finite in the bucket) as NaN."""
    values: np.ndarray = table[column].to_numpy().astype(np.float64)  # null becomes NaN
    return values


def shorten_name(name: str, length: int = 28) -> str:
    """A name for Plotly: its markup is escaped, and a long name is shortened in the middle."""
    if len(name) > length:
        name = f"{name[: length // 2]}…{name[-(length // 2 - 1) :]}"
    return html.escape(name, quote=False)


class BoundedPoint(NamedTuple):
    """A value at a step or another position, with both ends of its interval over `n` rows."""

    x: float
    value: float
    low: float
    high: float
    n: int
    why: None = None  # why there is no interval


def build_bounded_point(
    x: float, value: float | None, low: float | None, high: float | None, n: int
) -> BoundedPoint | None:
    """The point, or None if the value or an end of its interval is missing."""
    if value is None or low is None or high is None:
        return None
    return BoundedPoint(x, value, low, high, n)


def error_bars(points: Sequence[BoundedPoint], color: str, thickness: float = 2) -> JsonObject:
    """The intervals as error bars of Plotly."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": thickness,
        "width": 0,
        "color": color,
        "array": [point.high - point.value for point in points],
        "arrayminus": [point.value - point.low for point in points],
    }


# The tables of the charts below have the columns of `store.jobs.metric_points.curve`: step, first_step,
# value, min, max, mean, count, nonfinite, one row per bucket.


@dataclass(frozen=True)
class LossMarks:
    """Marks on a loss chart: the base model's level, the best step, and the onset of overfitting or
    divergence from the `overfitting` part of a verdict.
    """

    base_level: float | None = None
    base_name: str = "Base model"
    best_step: int | None = None
    shape: Overfitting | None = None


NO_MARKS = LossMarks()


def plot_losses(
    train: pa.Table,
    validation: pa.Table,
    marks: LossMarks = NO_MARKS,
    *,
    axis: str = "",
) -> go.Figure:
    """Training and validation loss on one chart, with marks."""
    loss = find_quantity("eval/loss")
    figure = build_empty_figure("Training and validation loss", axis or loss.axis, height=380)
    add_training(figure, train)
    steps, values = get_steps(validation), get_values(validation, "value")
    add_line(figure, steps, values, ChartLine("Validation", VALIDATION, 2.6, markers=len(steps) <= 60))
    add_nonfinite(figure, [train, validation])
    set_whole_step_ticks(figure, [train, validation])
    if marks.base_level is not None:
        add_level(figure, marks.base_level, f"{marks.base_name} {marks.base_level:.3f}")
    if marks.best_step is not None and marks.best_step in steps:
        best = float(values[list(steps).index(marks.best_step)])
        add_best(figure, marks.best_step, best, marks.base_level)
    add_onset(figure, marks.shape, [*get_steps(train), *steps])
    return figure


def plot_line(table: pa.Table, name: str, *, color: str = VALIDATION) -> go.Figure:
    """One metric of one run, with the extremes of each bucket as a faint band."""
    what = find_quantity(name)
    figure = build_empty_figure(what.title, what.axis, height=240)
    figure.update_layout(showlegend=False, margin={"t": 40})
    add_band(figure, table, color)
    column = "mean" if is_bucketed(table) else "value"
    steps, values = get_steps(table), get_values(table, column)
    add_line(figure, steps, values, ChartLine(what.title, color, 2, markers=len(steps) <= 12))
    add_nonfinite(figure, [table])
    set_whole_step_ticks(figure, [table])
    if name == "train/learning_rate":
        figure.update_yaxes(exponentformat="e", tickformat=".1e")
    elif len(values) and np.nanmin(values, initial=np.inf) >= 0:
        figure.update_yaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class IntervalRow:
    """One row of an interval chart: a value and, if there is one, its interval."""

    name: str
    value: float
    low: float | None
    high: float | None
    color: str


def plot_intervals(
    estimates: Sequence[IntervalRow],
    axis: str,
    *,
    height: int | None = None,
    level: float = 0,
) -> go.Figure:
    """Estimates with intervals against 0 or another level, one below another, the first at the top."""
    figure = build_empty_figure("", "", height or 70 + 34 * len(estimates), x_title=axis)
    names = [shorten_name(row.name) for row in estimates]
    # Positions are numbers: as categories, equal names would coincide and "0.1" would be read as a number.
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
