"""The map as a pure figure: one point per row, coloured by a column, selected rows outlined.

Texts are escaped because Plotly interprets some HTML. The axes have no unit and are hidden: only proximity is
meaningful in such a projection.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from pages.data.similarity.map_points import MapMarks, is_inside
from pages.shared.charts import choose_scatter_type, shorten_name
from pages.shared.palette import BAD, BASE, BUSY, RUNS, TRAIN, VALIDATION
from store.core.languages import format_column_value
from store.core.schemas import JsonObject
from store.data.exploration import TableColumn

MAX_COLORS = 8  # values with a colour of their own; the others are grey
NAMED = 14  # maximum number of topic names on the map
NAME_WIDTH = 0.36  # share of the map's width taken by a name on a phone
LINES = 4  # lines of a row's text in its tooltip
HEIGHT = 560
_LINE = re.compile(r"\S.{0,59}(?= |$)|\S{60}")  # ten times as fast as textwrap; every point has a text
SCALE = [[0.0, BUSY], [0.5, TRAIN], [1.0, BAD]]  # mid-tones, visible on white and dark


@dataclass(frozen=True)
class MapStyle:
    """The style of the map.

    color: the column to colour by; values: values of a category with a colour of their own (none: the most
    frequent); search: text searched for; names: show topic names; picks: the mouse picks a row instead of
    marking rows; stamp: identifies the measurements.
    """

    color: str = ""
    values: tuple[str, ...] = ()
    search: str = ""
    names: bool = True
    picks: bool = False
    stamp: str = ""


def plot_map(
    points: pa.Table, column: TableColumn, marks: MapMarks, look: MapStyle, matching: np.ndarray | None = None
) -> go.Figure:
    """Plot the map.

    points: row_id, x, y, value (of the column), topic, text (the start of the row). `matching`: row_ids found
    by a search; other rows are drawn faint. Without a search, rows outside the marks are drawn faint.
    """
    x, y = (points[name].to_numpy().astype(float) for name in ("x", "y"))
    values = points["value"].to_pylist()
    figure = go.Figure()
    hover = [_format_hover(row, value, column) for row, value in zip(points.to_pylist(), values, strict=True)]
    size = 7 if len(x) < 1_500 else 5 if len(x) < 6_000 else 4
    marker: JsonObject = {"size": size, "opacity": 0.75, "line": {"width": 0}}
    if column.type == "number":
        marker |= _build_color_scale(values, column)
    else:
        colors, legend = _compute_colors(values, column, look.values)
        marker["color"] = colors
        _add_legend(figure, legend)
    row_ids = points["row_id"].to_numpy()
    selected = None
    if matching is not None:
        selected = np.flatnonzero(np.isin(row_ids, matching)).tolist()
    elif marks and not look.picks:
        selected = np.flatnonzero(is_inside(marks, x, y)).tolist()
    figure.add_trace(
        choose_scatter_type(len(x))(
            x=x, y=y, mode="markers", marker=marker, hovertext=hover, hoverinfo="text", showlegend=False,
            customdata=row_ids,
            selectedpoints=selected, unselected={"marker": {"opacity": 0.15}},
            # search results are also larger, because in dark mode faint and full points look too similar
            selected={"marker": {"opacity": 0.9, "size": size + 3 if matching is not None else size}},
        )
    )  # fmt: skip
    if look.names:
        _add_topic_names(figure, points["topic"].to_pylist(), x, y)
    if not look.picks:
        _draw_marks(figure, marks)
    _hide_axes(figure, column, "pan" if look.picks else "select")
    return figure


def _format_hover(row: Mapping[str, Any], value: Any, column: TableColumn) -> str:
    lines = _LINE.findall(" ".join((row["text"] or "(empty)").split())) or ["(no text)"]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1].rstrip()} …"]
    text = html.escape("\n".join(line.rstrip() for line in lines)).replace("\n", "<br>")
    of_column = html.escape(f"{column.title}: {shorten_name(_format_value(value, column), 60)}")
    return f"<b>Row {row['row_id']:,}</b><br>{text}<br>{of_column}"


def _format_value(value: Any, column: TableColumn) -> str:
    if isinstance(value, float):
        return f"{100 * value:.0f}%" if column.unit == "share" else f"{value:,.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return str(format_column_value(column.name, value)) or "(empty)"


def _build_color_scale(values: list[Any], column: TableColumn) -> JsonObject:
    """Build a colour scale from the 2nd to the 98th percentile, so that outliers do not compress it."""
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    finite = numbers[np.isfinite(numbers)]
    low, high = np.percentile(finite, [2, 98]) if len(finite) else (0.0, 1.0)
    unit = f" ({column.unit})" if column.unit not in ("", column.title.lower()) else ""
    title = html.escape(f"{column.title}{unit}")
    return {
        "color": numbers,
        "colorscale": SCALE,
        "cmin": float(low),
        "cmax": float(high if high > low else low + 1),
        "colorbar": {"title": {"text": title, "side": "top"}, "orientation": "h", "y": -0.02,
                     "yanchor": "top",
                     "thickness": 10, "len": 0.7, "x": 0, "xanchor": "left"},
    }  # fmt: skip


def _compute_colors(
    values: list[Any], column: TableColumn, chosen: tuple[str, ...]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return each row's colour, and the legend; `chosen`: values of a category with their own colours."""
    if column.type == "flag":
        named_values: list[tuple[Any, str, str]] = [(True, "yes", BAD), (False, "no", VALIDATION)]
        words = values
    elif column.type == "group":
        words = [value is not None for value in values]
        named_values = [(True, "in a group", BAD), (False, "alone", VALIDATION)]
    else:
        words = values
        frequent = [value for value, _ in Counter(v for v in values if v is not None).most_common()]
        own = [value for value in frequent if str(value) in chosen] if chosen else frequent[:MAX_COLORS]
        named_values = [
            (value, html.escape(shorten_name(_format_value(value, column), 34)), RUNS[i])
            for i, value in enumerate(own)
        ]
    colors = {value: color for value, _, color in named_values}
    row_colors = [colors.get(word, BASE) for word in words]
    present = set(words)
    legend = [(name, color) for value, name, color in named_values if value in present]
    others = len({word for word in present if word not in colors and word is not None})
    if others:
        legend.append((f"{others:,} others", BASE))
    if None in present:
        legend.append(("none" if not others else "or none", BASE))
    return row_colors, legend


def _add_legend(figure: go.Figure, legend: list[tuple[str, str]]) -> None:
    """Add an empty trace per legend entry, because points of all colours form one trace."""
    for name, color in legend:
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", name=name, marker={"color": color, "size": 9})
        )


def _add_topic_names(figure: go.Figure, topics: list[str | None], x: np.ndarray, y: np.ndarray) -> None:
    """Add the names of the largest topics (first two words) at the median of their rows."""
    labels = np.array([topic or "" for topic in topics])
    placed: list[tuple[float, float]] = []
    wide = NAME_WIDTH * float(np.ptp(x)) if len(x) else 0.0
    for topic, _ in Counter(topic for topic in topics if topic).most_common():
        rows = np.flatnonzero(labels == topic)
        center = (float(np.median(x[rows])), float(np.median(y[rows])))
        if len(placed) == NAMED:
            break
        if all(abs(center[0] - px) > wide or abs(center[1] - py) > 0.9 for px, py in placed):
            placed.append(center)
            figure.add_annotation(
                x=center[0], y=center[1], text=html.escape(", ".join(topic.split(", ")[:2])), showarrow=False,
                font={"size": 11, "color": "white"}, bgcolor="rgba(55,65,70,0.72)", borderpad=2,
            )  # fmt: skip


def _draw_marks(figure: go.Figure, marks: MapMarks) -> None:
    line = {"color": BASE, "width": 2, "dash": "dot"}
    for (left, bottom), (right, top) in marks.boxes:
        figure.add_shape(type="rect", x0=left, y0=bottom, x1=right, y1=top, line=line)
    for corners in marks.lassos:
        path = "M " + " L ".join(f"{px:.5f},{py:.5f}" for px, py in corners) + " Z"
        figure.add_shape(type="path", path=path, line=line)


def _hide_axes(figure: go.Figure, column: TableColumn, drag: str) -> None:
    bare = {"visible": False, "zeroline": False}
    figure.update_xaxes(**bare)
    figure.update_yaxes(**bare)
    figure.update_layout(
        height=HEIGHT,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        dragmode=drag,
        uirevision="kept",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": BASE, "activecolor": VALIDATION},
        showlegend=column.type != "number",
        legend={"orientation": "h", "x": 0, "y": -0.01, "yanchor": "top", "font": {"size": 12}},
        hoverlabel={"align": "left"},
    )
