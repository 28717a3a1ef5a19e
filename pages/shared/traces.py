"""The parts that charts are made of: an empty figure, lines, bands, marks.

Every ink is a mid-tone and every background transparent, so that a figure is right in light and in dark;
`uirevision` never changes, so that a zoom survives each refresh of a live chart.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from pages.shared.palette import BAD, BASE, GRID, TRAIN, UNDER_WHITE, VALIDATION
from store.documents.verdicts.overfitting import Overfitting

# What st.plotly_chart takes as config: no logo, and no buttons that do nothing here.
PLOT = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}
PILL = {"font": {"color": "white", "size": 12}, "borderpad": 3}  # a label that lines may run behind
SMOOTHED_FROM = 40  # points: below that a raw curve is readable
MAX_SVG_POINTS = 5_000  # a map of so many is drawn anew in 0.25 s


def smoothed(values: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """Exponential moving average, unbiased at its start; values that are not finite are skipped."""
    out, total, norm = np.full(len(values), np.nan), 0.0, 0.0
    for index, value in enumerate(values):
        if np.isfinite(value):
            total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
            out[index] = total / norm
    return out


def add_level(figure: go.Figure, level: float, text: str) -> None:
    """The base model's level: the same dashed grey line on every chart."""
    figure.add_hline(
        y=level,
        line={"dash": "dash", "color": BASE, "width": 1.6},
        annotation={"text": text, "font": {"color": BASE, "size": 12}, "yanchor": "bottom"},
        annotation_position="top right",
    )


def empty_figure(title: str, y_title: str, height: int, x_title: str = "Optimiser step") -> go.Figure:
    """Title, axes, legend and margins; nothing is drawn yet."""
    axis: dict[str, Any] = {"gridcolor": GRID, "zeroline": False, "automargin": True}
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


def whole_steps(figure: go.Figure, tables: Sequence[pa.Table]) -> None:
    """No half steps on the axis of a run that has made few."""
    last = max((int(steps_of(table).max()) for table in tables if table.num_rows), default=0)
    if last <= 10:
        figure.update_xaxes(dtick=1)


def add_training(figure: go.Figure, train: pa.Table) -> None:
    """Raw points faint and their moving average bold, once there are too many to read."""
    add_band(figure, train, TRAIN)
    steps, values = steps_of(train), values_of(train, "mean" if is_bucketed(train) else "value")
    if len(values) < SMOOTHED_FROM:
        add_line(figure, steps, values, ChartLine("Training", TRAIN, 2, markers=len(steps) <= 30))
        return
    add_line(figure, steps, values, ChartLine("Training, each step", TRAIN, 1, opacity=0.35, legend=False))
    add_line(figure, steps, smoothed(values), ChartLine("Training (moving average)", TRAIN, 2.2))


@dataclass(frozen=True)
class ChartLine:
    """How a line is drawn. markers: its points too, where there are few; legend: with its name there."""

    name: str
    color: str
    width: float
    markers: bool = False
    dash: str = "solid"
    opacity: float = 1
    legend: bool = True


def scatter_type(count: int) -> type[go.Scatter | go.Scattergl]:
    """By WebGL where so many points would make a page slow. Not for fewer: a browser without a graphics card,
    or with too many pages open, refuses WebGL, and the whole chart with it."""
    return go.Scattergl if count > MAX_SVG_POINTS else go.Scatter


def add_line(figure: go.Figure, x: np.ndarray, y: np.ndarray, line: ChartLine) -> None:
    """One line."""
    figure.add_trace(
        scatter_type(len(x))(
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
    """From the smallest to the largest value of each bucket, where buckets hold more than a point."""
    if not is_bucketed(table):
        return
    steps, low, high = steps_of(table), values_of(table, "min"), values_of(table, "max")
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
    """A red cross at the top for every bucket with values that are not finite."""
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
    """A ring around the best validation, with its loss, on the side of it that is away from the base model's
    level, whose name stands on its line."""
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
    pill = PILL | {"bgcolor": UNDER_WHITE[VALIDATION]}
    figure.add_annotation(x=step, y=loss, text=text, showarrow=False, yshift=shift, **pill)


def add_onset(figure: go.Figure, shape: Overfitting | None, steps: Iterable[int]) -> None:
    """A shade over the steps since which it overfits, as far as that was measured, or since which training
    diverged, up to the last of `steps`; nothing where the course went neither way."""
    if not shape or shape["since_step"] is None:
        return
    since, last = shape["since_step"], shape["last_step"]
    diverged = shape["state"] == "diverged"
    end = int(max([since, *steps])) if diverged or last is None else last
    name = "diverged" if diverged else "overfits"
    figure.add_vrect(
        x0=since, x1=end, fillcolor=BAD, opacity=0.08, line_width=0, layer="below",
        annotation={"text": name, "bgcolor": UNDER_WHITE[BAD], "yanchor": "bottom", **PILL},
        annotation_position="bottom left",
    )  # fmt: skip


def is_bucketed(table: pa.Table) -> bool:
    """Whether some row stands for more than one point."""
    return any(count > 1 for count in table["count"].to_pylist())


def steps_of(table: pa.Table) -> np.ndarray:
    """The steps, int64 [rows]."""
    return table["step"].to_numpy()


def values_of(table: pa.Table, column: str) -> np.ndarray:
    """A column as float64 [rows]; null (nothing finite in the bucket) as NaN."""
    return table[column].to_numpy().astype(np.float64)  # null becomes NaN


def short(name: str, length: int = 28) -> str:
    """A name as Plotly may show it: its markup is text, and it is cut in the middle, never at its end."""
    if len(name) > length:
        name = f"{name[: length // 2]}…{name[-(length // 2 - 1) :]}"
    return html.escape(name, quote=False)
