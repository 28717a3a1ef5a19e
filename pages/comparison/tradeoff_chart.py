"""The trade-off plot: one point per run, intervals on both axes, the Pareto front, and runs of one family."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from pages.comparison.tradeoff_points import (
    InterpolationPoint,
    PlotPoint,
    Point,
    find_measure,
    format_rate,
    get_color_limits,
    get_cost,
)
from pages.shared import display
from pages.shared.charts import build_empty_figure, shorten_name
from pages.shared.palette import BAD, BASE, RUNS, get_run_color
from store.core.figure_schemas import Estimate, Gain
from store.evaluation.forgetting_schemas import ColourLimits
from store.runs.schemas import MeasuredMix, RunCosts

AMBER = "#d97a1a"
COLORS = {"run": "Run", "rate": "Learning rate", "method": "Method"}
SCALE = [[0, "#3d86d6"], [0.5, "#a56bd0"], [1, "#d6456b"]]  # mid-tones, distinguishable without red and green
STATUSES = {
    "front": "On the front",
    "alike": "Not distinguishable from the front",
    "dominated": "Behind the front",
}
SYMBOLS = {"front": "circle", "alike": "circle-open", "dominated": "circle"}
FAINT = 0.38  # opacity of runs behind the front
MARKER_SIZES = (11.0, 26.0)  # marker sizes, from no distance to the largest
MAX_NUMBERED_POINTS = 40  # with more points numbers are unreadable
EDGE = 0.15  # share of the width at the right where a phone would cut off numbers
AXIS_PADDING = 1.4  # minimum right end of the axis, as a multiple of the amber threshold
MAX_ERROR_BARS = 80  # with more points only intervals of the front are drawn


def plot_tradeoff(
    points: Sequence[Point],
    measure: str,
    color: str,
    selected: str = "",
    add: Callable[[go.Figure], None] = lambda figure: None,
) -> go.Figure:
    """Plot gain against forgetting.

    `color`: a key of COLORS; `selected`: the run marked with a ring; `add`: draws traces below the runs.
    """
    figure = build_axes(points, measure)
    right = compute_cost_range(points, measure)[1]
    _add_front(figure, points, right)
    add_error_bars(
        figure, points if len(points) <= MAX_ERROR_BARS else [p for p in points if p.status == "front"]
    )
    add(figure)
    _add_runs(figure, points, color, selected, measure)
    for status, title in STATUSES.items():
        if any(p.status == status for p in points):
            _add_legend_entries(figure, title, BASE, status)
    if color == "method":
        for method, ink in dict(
            zip((p.method for p in points), compute_colors(points, color)[0], strict=True)
        ).items():
            _add_legend_entries(figure, html.escape(method), ink, "front")
    return figure


def build_axes(points: Sequence[PlotPoint], measure: str, height: int = 520) -> go.Figure:
    """Build both axes with room for the points, the base model, and the thresholds of forgetting."""
    figure = build_empty_figure(
        "", "Gain on held-out rows (nats a token)", height, x_title=find_measure(measure).axis
    )
    figure.update_layout(
        hovermode="closest", dragmode="pan", clickmode="event+select", margin={"t": 40, "b": 50}
    )
    (left, right), (bottom, top) = compute_cost_range(points, measure), compute_axis_range(points, "gain")
    _add_bands(figure, get_color_limits(measure), right)
    figure.add_hline(y=0, line={"dash": "dash", "color": BASE, "width": 1.4}, layer="below")
    base = {"symbol": "diamond", "size": 10, "color": BASE}  # neither gained nor forgot
    figure.add_trace(
        go.Scatter(x=[0], y=[0], mode="markers", marker=base, name="Base model", hoverinfo="name")
    )
    figure.update_xaxes(range=[left, right], showgrid=True)
    figure.update_yaxes(range=[bottom, top])
    figure.add_annotation(
        x=0, y=1, xref="paper", yref="paper", text="↖ better", showarrow=False, xanchor="left", yanchor="top",
        xshift=6, yshift=-4, font={"color": BASE, "size": 13},
    )  # fmt: skip
    return figure


def compute_axis_range(points: Sequence[PlotPoint], axis: Literal["gain", "cost"]) -> tuple[float, float]:
    """Compute the range of an axis: all values and 0 with padding, and intervals unless they are wider."""
    estimates = [point.gain if axis == "gain" else point.cost for point in points]
    values = [0.0, *(e.value for e in estimates)]
    ends = [end for e in estimates for end in (e.low, e.high) if end is not None and math.isfinite(end)]
    reach = (max(values) - min(values)) or max([0.1, *map(abs, ends)])
    low = max(min([*values, *ends]), min(values) - reach)
    high = min(max([*values, *ends]), max(values) + reach)
    room = 0.07 * (high - low)
    return low - room, high + room


def compute_cost_range(points: Sequence[PlotPoint], measure: str) -> tuple[float, float]:
    """Compute the range of the forgetting axis, like `compute_axis_range`.

    It always includes the amber threshold on both sides, because otherwise noise would fill the width and
    look like a trade-off.
    """
    low, high = compute_axis_range(points, "cost")
    levels = get_color_limits(measure)
    if not levels:
        return low, high
    matters = levels.amber
    return min(low, -matters), max(high, AXIS_PADDING * matters)


def _add_bands(figure: go.Figure, levels: ColourLimits | None, right: float) -> None:
    """Add amber and red bands from their thresholds on, if they are in view."""
    if not levels:
        return
    bands = (
        (levels.amber, levels.red, AMBER, "forgot some"),
        (levels.red, right, BAD, "forgot much"),
    )
    for start, end, color, label in bands:
        if start >= right:
            continue
        band = {"fillcolor": color, "opacity": 0.1, "line_width": 0, "layer": "below"}
        figure.add_vrect(x0=start, x1=min(end, right), **band)
        figure.add_annotation(
            x=start, y=0, yref="paper", text=f"{label}, from {start:g}", showarrow=False, textangle=-90,
            xanchor="left", yanchor="bottom", font={"color": color, "size": 12},
        )  # fmt: skip


def _add_front(figure: go.Figure, points: Sequence[Point], right: float) -> None:
    """Add the front: the highest gain for at most a given forgetting, over all runs."""
    best = sorted((p for p in points if p.status == "front"), key=lambda p: (p.cost.value, p.gain.value))
    if not best or len({p.row.dataset_id for p in points}) > 1:  # each data set has its own front
        return
    x = [*(p.cost.value for p in best), right]
    y = [*(p.gain.value for p in best), best[-1].gain.value]
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", name="Front", hoverinfo="skip", showlegend=False,
            line={"shape": "hv", "color": BASE, "width": 2.4},
        )
    )  # fmt: skip


def add_error_bars(figure: go.Figure, points: Sequence[PlotPoint]) -> None:
    """Add both intervals of each point, below the points."""
    bounded = [p for p in points if p.gain.low is not None and p.cost.low is not None]
    quiet = {"size": 1, "color": BASE, "opacity": 0}
    look = {"mode": "markers", "marker": quiet, "hoverinfo": "skip", "showlegend": False}
    figure.add_trace(
        go.Scatter(
            x=[p.cost.value for p in bounded],
            y=[p.gain.value for p in bounded],
            name="Intervals",
            error_x=_error_bars([p.cost for p in bounded]),
            error_y=_error_bars([p.gain for p in bounded]),
            **look,
        )
    )


def _error_bars(estimates: Sequence[Estimate | Gain]) -> dict[str, Any]:
    """Build error bars of these estimates."""
    more, less = (
        [0.0 if end is None else abs(end - value) for value, end in ends]
        for ends in (
            [(e.value, e.high) for e in estimates],
            [(e.value, e.low) for e in estimates],
        )
    )
    ink = {"width": 0, "thickness": 1.4, "color": "rgba(127,140,146,0.75)"}
    return {"type": "data", "symmetric": False, "array": more, "arrayminus": less, **ink}


def _add_runs(figure: go.Figure, points: Sequence[Point], color: str, selected: str, measure: str) -> None:
    inks, bar = compute_colors(points, color)
    marker: dict[str, Any] = {
        "size": compute_marker_sizes(points), "color": inks, "symbol": [SYMBOLS[p.status] for p in points],
        "opacity": [get_opacity(p.status) for p in points], **bar,
        "line": {"width": [2.6 if p.status == "alike" else 0 for p in points], "color": inks,
            **{key: bar[key] for key in ("colorscale", "cmin", "cmax") if key in bar}},
    }  # fmt: skip
    numbered = len(points) <= MAX_NUMBERED_POINTS
    left, right = figure.layout.xaxis.range
    edge = right - EDGE * (right - left)
    figure.add_trace(
        go.Scatter(
            x=[p.cost.value for p in points],
            y=[p.gain.value for p in points],
            mode="markers+text" if numbered else "markers",
            text=[f"#{p.row.number}" for p in points] if numbered else None,
            textposition=["top left" if p.cost.value > edge else "top right" for p in points],
            textfont={"size": 12, "color": BASE},
            marker=marker,
            name="Runs",
            showlegend=False,
            customdata=[[p.row.run_id] for p in points],
            hovertext=[format_hover(p, measure) for p in points],
            hovertemplate="%{hovertext}<extra></extra>",
            unselected={"marker": {"opacity": 1}},  # a click marks its run without fading others
        )
    )
    ringed = [p for p in points if p.row.run_id == selected]
    if ringed:
        ring = {
            "symbol": "circle-open",
            "size": MARKER_SIZES[1] + 8,
            "color": get_run_color(ringed[0].row.number),
        }
        figure.add_trace(
            go.Scatter(
                x=[ringed[0].cost.value], y=[ringed[0].gain.value], mode="markers", name="Selected",
                marker={**ring, "line": {"width": 3}}, hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip


def compute_colors(points: Sequence[Point], color: str) -> tuple[list[Any], dict[str, Any]]:
    """Return a colour per point, or a number per point and its colour scale."""
    if color == "method":
        order = list(dict.fromkeys(p.method for p in sorted(points, key=lambda p: p.method)))
        return [RUNS[order.index(p.method) % len(RUNS)] for p in points], {}
    rates = sorted({p.rate for p in points if p.rate})
    if color != "rate" or len(rates) < 2:
        return [get_run_color(p.row.number) for p in points], {}
    low, high = math.log10(rates[0]), math.log10(rates[-1])
    ticks = rates if len(rates) <= 3 else [rates[0], rates[len(rates) // 2], rates[-1]]
    bar = {
        "title": {"text": "Rate", "side": "top"}, "tickvals": [math.log10(t) for t in ticks],
        "ticktext": [f"{t:.0e}".replace("e-0", "e-") if t < 1e-3 else f"{t:g}" for t in ticks],
        "thickness": 10, "len": 0.6, "x": 1, "xanchor": "left", "y": 0.5,
    }  # fmt: skip
    scale = {"colorscale": SCALE, "cmin": low, "cmax": high, "colorbar": bar}
    return [math.log10(p.rate) if p.rate else low for p in points], scale


def compute_marker_sizes(points: Sequence[Point]) -> list[float]:
    """Compute marker sizes with areas growing with the distance from the base model; smallest if not
    measured.
    """
    distances = [max(0.0, p.row.kl.value or 0.0) if p.row.kl else 0.0 for p in points]
    most = max(distances, default=0.0)
    low, high = MARKER_SIZES
    return [low + (high - low) * math.sqrt(d / most) if most else low for d in distances]


def _add_legend_entries(figure: go.Figure, title: str, ink: str, status: str) -> None:
    line = {"width": 2.6 if status == "alike" else 0, "color": ink}
    marker = {
        "symbol": SYMBOLS[status],
        "size": 11,
        "color": ink,
        "opacity": get_opacity(status),
        "line": line,
    }
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=title, marker=marker))


def get_opacity(status: str) -> float:
    """Return the opacity of a marker; runs behind the front are faint."""
    return FAINT if status == "dominated" else 1


def describe_method(row: RunCosts) -> str:
    """Describe briefly how the model was made."""
    return f"interpolated at α {row.alpha:g}" if row.alpha else f"learning rate {format_rate(row)}"


def format_hover(point: Point, measure: str) -> str:
    """Format the tooltip of a run."""
    what, row = find_measure(measure), point.row
    lines = [
        f"<b>{shorten_name(row.name, 48)}</b> #{row.number}",
        f"{html.escape(point.method)}, {describe_method(row)}",
        f"Gain {display.format_estimate(point.gain)} nats a token, n {point.gain.n:,}",
        f"{what.title} {display.format_estimate(point.cost)} {what.unit}, n {point.cost.n:,}",
    ]
    if row.kl and measure != "kl":
        lines.append(
            f"Distance from the base model {display.format_estimate(row.kl, sign=False)} nats a token"
        )
    return "<br>".join([*lines, STATUSES[point.status]])


KINDS = {"parents": "Parent to child", "mixes": "Interpolations"}
LINE = "rgba(127,140,146,0.9)"


def find_parent_links(runs: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Return pairs of parent and child if both are drawn."""
    by_id = {point.row.run_id: point for point in runs}
    pairs = ((by_id.get(point.row.parent or ""), point) for point in runs)
    return [(parent, child) for parent, child in pairs if parent is not None and parent is not child]


def build_interpolation_points(
    runs: Sequence[Point], shares: Sequence[MeasuredMix], measure: str
) -> dict[str, list[InterpolationPoint]]:
    """Build the points of scored interpolations of the drawn runs by run, from the tuned end on."""
    by_id = {point.row.run_id: point for point in runs}
    families: dict[str, list[InterpolationPoint]] = {}
    for row in sorted(shares, key=lambda row: -row.alpha):
        run, gain, cost = by_id.get(row.run_id), row.gain, get_cost(row, measure)
        if run is None or cost is None or not gain or not 0 < row.alpha < 1:
            continue
        mix = InterpolationPoint(row.run_id, run.row.number, run.row.name, row.alpha, gain, cost)
        families.setdefault(row.run_id, []).append(mix)
    return families


def add_links(figure: go.Figure, runs: Sequence[Point]) -> None:
    """Add dotted lines with an arrow from each parent to its children, as one trace."""
    x: list[float | None] = []
    y: list[float | None] = []
    sizes: list[int] = []
    for parent, child in find_parent_links(runs):
        ends = [(p.cost.value, p.gain.value) for p in (parent, child)]
        middle = tuple(sum(pair) / 2 for pair in zip(*ends, strict=True))
        for place, size in ((ends[0], 0), (middle, 13), (ends[1], 0)):
            x.append(place[0])
            y.append(place[1])
            sizes.append(size)
        x.append(None)
        y.append(None)
        sizes.append(0)
    if not x:
        return
    marker: dict[str, Any] = {"symbol": "arrow", "angleref": "previous", "size": sizes, "color": LINE}
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines+markers", marker=marker, line={"color": LINE, "width": 1.3, "dash": "dot"},
            hoverinfo="skip", name="From its parent", showlegend=True,
        )
    )  # fmt: skip


def add_interpolations(
    figure: go.Figure, runs: Sequence[Point], shares: Sequence[MeasuredMix], measure: str
) -> int:
    """Add the interpolations between each run and the base model; return their number.

    These models were scored without training. They are one trace on thin lines, however many runs there are.
    """
    families = build_interpolation_points(runs, shares, measure)
    if not families:
        return 0
    _add_interpolation_lines(figure, runs, families)
    every = [point for points in families.values() for point in points]
    inks = [get_run_color(point.number) for point in every]
    figure.add_trace(
        go.Scatter(
            x=[p.cost.value for p in every],
            y=[p.gain.value for p in every],
            mode="markers",
            marker={
                "symbol": "diamond-open",
                "size": 9,
                "color": inks,
                "line": {"width": 1.6, "color": inks},
            },
            customdata=[[p.run_id] for p in every],
            hovertext=[format_interpolation_hover(p, measure) for p in every],
            hovertemplate="%{hovertext}<extra></extra>",
            name="Interpolations",
            showlegend=False,
            unselected={"marker": {"opacity": 1}},
        )
    )
    mark = {"symbol": "diamond-open", "size": 9, "color": BASE, "line": {"width": 1.6, "color": BASE}}
    figure.add_trace(
        go.Scatter(x=[None], y=[None], mode="markers", name="Interpolated with the base", marker=mark)
    )
    return len(every)


def _add_interpolation_lines(
    figure: go.Figure, runs: Sequence[Point], families: Mapping[str, list[InterpolationPoint]]
) -> None:
    """Add thin lines through the interpolations."""
    by_id: Mapping[str, Point] = {point.row.run_id: point for point in runs}
    x: list[float | None] = []
    y: list[float | None] = []
    for run_id, points in families.items():
        way: list[PlotPoint] = [by_id[run_id], *points]
        x += [*(p.cost.value for p in way), 0.0, None]
        y += [*(p.gain.value for p in way), 0.0, None]
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": LINE, "width": 1}, hoverinfo="skip", showlegend=False,
            name="To the base",
        )
    )  # fmt: skip


def format_interpolation_hover(point: InterpolationPoint, measure: str) -> str:
    """Format the tooltip of an interpolation."""
    what, alpha, cost = find_measure(measure), point.alpha, point.cost
    title = "The tuned model, α 1" if alpha == 1 else f"α {alpha:g}"
    return "<br>".join(
        [
            f"<b>{title}</b> of {html.escape(point.label)}",
            f"Gain {display.format_estimate(point.gain)} nats a token, n {point.gain.n:,}",
            f"{html.escape(what.title)} {display.format_estimate(cost)} {what.unit}, n {cost.n:,}",
        ]
    )
