"""Small histograms as pure figures: all rows in grey, those of the filter on top, a bar as wide as a click.

Over each bar lies an invisible one of full height, so that a bar of three rows among a million can be hit.
"""

from __future__ import annotations

import plotly.graph_objects as go

from engine.diagnostics.phrasing import plural
from pages.shared.palette import BASE, GRID, TRAIN, VALIDATION
from pages.shared.quantities import count, share
from pages.shared.traces import short
from store.catalog.languages import readable
from store.queries.data.histogram import Bar, Histogram

SHOWN = 8  # values of a category in a small chart
ROW = 20  # pixels of a value
NAMED = 17  # characters of a value's name: two charts stand side by side on a phone
NARROWEST = 30  # pixels that are left to the bars beside long names
HEIGHT = 170
NAMES = {True: "yes", False: "no", "": "(empty)"}


def histogram_chart(histogram: Histogram, chosen: frozenset[int] = frozenset()) -> go.Figure:
    """`chosen`: places of the bars that the filter names."""
    bars = histogram.bars if histogram.ordered else histogram.bars[:SHOWN]
    figure = go.Figure()
    edge = [TRAIN if i in chosen else "rgba(0,0,0,0)" for i in range(len(bars))]
    line = {"color": edge, "width": 2}
    places = list(range(len(bars)))
    hover = [f"{_name(histogram, bar)}<br>{_of(bar)}" for bar in bars]
    top = max((bar.rows for bar in bars), default=1) or 1
    for values, color in (
        ([bar.rows for bar in bars], "rgba(127,140,146,0.35)"),
        ([bar.hits for bar in bars], VALIDATION),
    ):
        _add(figure, histogram.ordered, places, values, {"color": color, "line": line})
    _add(figure, histogram.ordered, places, [top] * len(bars), {"color": "rgba(0,0,0,0.001)"}, hover)
    figure.update_layout(
        barmode="overlay",
        bargap=0.08,
        height=HEIGHT,
        margin={"l": 4, "r": 8, "t": 4, "b": 4},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        dragmode=False,
        hovermode="closest",
    )
    fixed = {"fixedrange": True, "zeroline": False, "automargin": True}
    if histogram.ordered:
        figure.update_yaxes(**fixed, showgrid=True, gridcolor=GRID, nticks=3, tickformat="~s")
        figure.update_xaxes(**fixed, showgrid=False, **_ticks(bars))
    else:
        names = [f"{short(_name(histogram, bar), NAMED)}" for bar in bars]
        figure.update_yaxes(**fixed, showgrid=False, tickvals=places, ticktext=names, autorange="reversed")
        figure.update_xaxes(**fixed, showgrid=True, gridcolor=GRID, nticks=3, tickangle=0, tickformat="~s")
        height = max(90, 34 + ROW * len(bars))
        figure.update_layout(height=height, font={"color": BASE}, minreducedwidth=NARROWEST)
    return figure


def _add(
    figure: go.Figure,
    upright: bool,
    places: list[int],
    values: list[int],
    marker: dict[str, object],
    hover: list[str] | None = None,
) -> None:
    x, y = (places, values) if upright else (values, places)
    figure.add_trace(
        go.Bar(
            x=x,
            y=y,
            orientation="v" if upright else "h",
            marker=marker,
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>" if hover else None,
            hoverinfo=None if hover else "skip",
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
        )
    )


def _ticks(bars: tuple[Bar, ...]) -> dict[str, object]:
    """About four edges, written under the bars' left sides."""
    edges = [bar.low for bar in bars] + ([bars[-1].high] if bars else [])
    step = max(1, -(-len(edges) // 5))
    width = edges[1] - edges[0] if len(edges) > 1 else 1.0
    even = len(edges) > 2 and abs(edges[-1] - edges[-2] - width) < 1e-9 * max(1.0, abs(edges[-1]))
    begin = -round(edges[0] / width) % step if even else 0  # so that they are written at round numbers
    labelled = list(range(begin, len(edges), step))
    return {
        "tickvals": [place - 0.5 for place in labelled],
        "ticktext": [edge_text(edges[i]) for i in labelled],
    }


def edge_text(value: float) -> str:
    """An edge of a bar: "1,500", "0.25"."""
    return count(value) if float(value).is_integer() else f"{value:g}"


def _name(histogram: Histogram, bar: Bar) -> str:
    if histogram.ordered:
        whole = bar.low.is_integer() and bar.high == bar.low + 1
        return edge_text(bar.low) if whole else f"{edge_text(bar.low)} to below {edge_text(bar.high)}"
    if histogram.column.type == "group":
        return f"group of row {bar.value:,}"
    return NAMES.get(value := readable(histogram.column.name, bar.value), str(value))


def _of(bar: Bar) -> str:
    rows = plural(bar.rows, "row")
    if bar.hits == bar.rows:
        return rows
    return f"{bar.hits:,} of {rows} ({share(bar.hits, bar.rows)}) are in the filter"


def left_off(histogram: Histogram) -> str:
    """What the chart does not show, in words; empty where it shows everything."""
    parts = []
    if not histogram.ordered:
        hidden = histogram.bars[SHOWN:]
        values = len(hidden) + histogram.others_values
        rows = sum(bar.rows for bar in hidden) + histogram.others[0]
        if values:
            noun = "other group" if histogram.column.type == "group" else "other value"
            parts.append(f"{plural(rows, 'row')} with {plural(values, noun)}")
    if histogram.missing[0]:
        what = "alone" if histogram.column.type == "group" else "without a value"
        parts.append(f"{histogram.missing[0]:,} {what}")
    return ", ".join(parts)
