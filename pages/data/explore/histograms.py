"""Small histograms above the table: all rows in grey, filtered rows on top. Clicking a bar filters by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from pages.data import dataset_queries
from pages.data.explore import row_filter
from pages.data.explore.row_filter import format_column
from pages.shared.charts import shorten_name
from pages.shared.display import format_count, format_share
from pages.shared.palette import BASE, GRID, TRAIN, VALIDATION
from pages.shared.session import escape_markdown
from store.core.formatting import plural
from store.core.languages import format_column_value
from store.core.row_schemas import SignalFigure
from store.data.exploration import DatasetTable, Sort, format_filter_json
from store.data.filters import Condition, Filter
from store.data.histogram import Bar, Histogram
from store.data.signals import GROUPS, Signal

SHOWN = 8  # values shown per category
ROW = 20  # pixels per value
NAMED = 17  # characters of a value's name, because a phone shows two charts side by side
MIN_BAR_WIDTH = 30  # pixels left for the bars beside long names
HEIGHT = 170
NAMES = {True: "yes", False: "no", "": "(empty)"}


def plot_histogram(histogram: Histogram, chosen: frozenset[int] = frozenset()) -> go.Figure:
    """Plot a histogram. `chosen`: indices of the bars selected by the filter."""
    bars = histogram.bars if histogram.ordered else histogram.bars[:SHOWN]
    figure = go.Figure()
    edge = [TRAIN if i in chosen else "rgba(0,0,0,0)" for i in range(len(bars))]
    line = {"color": edge, "width": 2}
    places = list(range(len(bars)))
    hover = [f"{_format_bar_name(histogram, bar)}<br>{_format_bar_count(bar)}" for bar in bars]
    top = max((bar.rows for bar in bars), default=1) or 1
    for values, color in (
        ([bar.rows for bar in bars], "rgba(127,140,146,0.35)"),
        ([bar.hits for bar in bars], VALIDATION),
    ):
        _add_bars(figure, histogram.ordered, places, values, {"color": color, "line": line})
    _add_bars(figure, histogram.ordered, places, [top] * len(bars), {"color": "rgba(0,0,0,0.001)"}, hover)
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
        figure.update_xaxes(**fixed, showgrid=False, **_build_ticks(bars))
    else:
        names = [f"{shorten_name(_format_bar_name(histogram, bar), NAMED)}" for bar in bars]
        figure.update_yaxes(**fixed, showgrid=False, tickvals=places, ticktext=names, autorange="reversed")
        figure.update_xaxes(**fixed, showgrid=True, gridcolor=GRID, nticks=3, tickangle=0, tickformat="~s")
        height = max(90, 34 + ROW * len(bars))
        figure.update_layout(height=height, font={"color": BASE}, minreducedwidth=MIN_BAR_WIDTH)
    return figure


def _add_bars(
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


def _build_ticks(bars: tuple[Bar, ...]) -> dict[str, object]:
    """Build about four ticks, at the left edges of bars."""
    edges = [bar.low for bar in bars] + ([bars[-1].high] if bars else [])
    step = max(1, -(-len(edges) // 5))
    width = edges[1] - edges[0] if len(edges) > 1 else 1.0
    even = len(edges) > 2 and abs(edges[-1] - edges[-2] - width) < 1e-9 * max(1.0, abs(edges[-1]))
    begin = -round(edges[0] / width) % step if even else 0  # puts the ticks at round numbers
    labelled = list(range(begin, len(edges), step))
    return {
        "tickvals": [place - 0.5 for place in labelled],
        "ticktext": [format_edge(edges[i]) for i in labelled],
    }


def format_edge(value: float) -> str:
    """Format the edge of a bar: "1,500", "0.25"."""
    return format_count(value) if float(value).is_integer() else f"{value:g}"


def _format_bar_name(histogram: Histogram, bar: Bar) -> str:
    if histogram.ordered:
        whole = bar.low.is_integer() and bar.high == bar.low + 1
        return format_edge(bar.low) if whole else f"{format_edge(bar.low)} to below {format_edge(bar.high)}"
    if histogram.column.type == "group":
        return f"group of row {bar.value:,}"
    return NAMES.get(value := format_column_value(histogram.column.name, bar.value), str(value))


def _format_bar_count(bar: Bar) -> str:
    rows = plural(bar.rows, "row")
    if bar.hits == bar.rows:
        return rows
    return f"{bar.hits:,} of {rows} ({format_share(bar.hits, bar.rows)}) are in the filter"


def describe_omitted_values(histogram: Histogram) -> str:
    """Describe what the chart does not show; "" if it shows everything."""
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


FIRST = 4  # charts shown by default
PREFERRED_COLUMNS = (
    "label",
    "language",
    "characters",
    "answer_characters",
    "near_group",
    "cluster",
    "tokens",
)
CONFIG = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False, "doubleClick": False}


def show_histograms(rows: DatasetTable, where: Filter) -> None:
    """Draw the chosen histograms side by side."""
    dataset_id = rows.dataset.dataset_id
    names = choose_histogram_columns(rows, where)
    if not names:
        st.caption("Histograms appear once something was measured, or choose a column under Columns.")
        return
    with st.spinner("Counting …"):
        stamp = dataset_queries.measurement_stamp(rows)
        histograms = dataset_queries.compute_histograms(
            dataset_id, tuple(names), format_filter_json(where), stamp
        )
    with st.grid(4, min_column_width=155, gap="small", key=f"strip-{dataset_id}") as grid:
        for name in names:
            with grid.cell():
                _draw_histogram(dataset_id, where, histograms[name])


def choose_histogram_columns(rows: DatasetTable, where: Filter) -> list[str]:
    """Return the columns whose histograms are shown: the chosen ones, or else the most informative ones.

    Columns of the filter are always included, so that a click can be undone on the same chart.
    """
    key = f"strip-columns-{rows.dataset.dataset_id}"
    asked = [name for name in st.session_state.get(key, []) if name in rows.columns]
    filtered = [
        c.column for c in where.conditions if c.column in rows.columns and _can_histogram(rows, c.column)
    ]
    if asked:
        return list(dict.fromkeys([*asked, *filtered]))
    liked = find_informative_columns(rows)
    more = [name for name in dict.fromkeys(filtered) if name not in liked]
    return [*liked[: max(1, FIRST - len(more))], *more]


def find_informative_columns(rows: DatasetTable) -> list[str]:
    """Return the most informative columns: preferred columns, and those outside their healthy range."""
    outside = [
        signal.column
        for name, measured in rows.measured.items()
        for signal in GROUPS[name].signals
        if signal.healthy and signal.type != "group" and _is_outside_band(signal, measured.figures)
    ]
    same = {"answer_characters"} if rows.dataset.kind == "text" else set()  # plain text has no answer
    liked = [
        name
        for name in PREFERRED_COLUMNS
        if name in rows.columns.keys() - same and _has_several_values(rows, name)
    ]
    return list(dict.fromkeys([*liked[:3], *outside[:2], *liked[3:]]))[:FIRST]


def _is_outside_band(signal: Signal, figures: Mapping[str, SignalFigure]) -> bool:
    figure = figures.get(signal.column)
    if figure is None:
        return False
    if "flagged" in figure:
        return figure["flagged"] > 0
    return "positive" in figure and figure["positive"] > 0 and signal.unit == "found"


def _has_several_values(rows: DatasetTable, name: str) -> bool:
    """Whether the column has more than one value, as far as the measurements tell."""
    for measured in rows.measured.values():
        figure: SignalFigure | None = measured.figures.get(name)
        if figure is None:
            continue
        if "groups" in figure:
            return figure["groups"] > 0
        if "distinct" in figure:
            return figure["distinct"] > 1
        return "min" in figure and figure["min"] != figure["max"]
    return name == "label"


def _can_histogram(rows: DatasetTable, name: str) -> bool:
    return rows.columns[name].type != "text"


def list_histogram_columns(rows: DatasetTable) -> list[str]:
    """Return the columns that can have a histogram."""
    return [name for name in rows.columns if _can_histogram(rows, name)]


def _draw_histogram(dataset_id: str, where: Filter, histogram: Histogram) -> None:
    conditions = [histogram.condition(bar) for bar in histogram.bars]
    marked = frozenset(
        i for i, condition in enumerate(conditions) if row_filter.has_condition(where, condition)
    )
    column = histogram.column
    unit_in_title = column.unit in ("", "found", "share") or column.unit in column.title.lower()
    unit = "" if unit_in_title else f" ({column.unit})"
    st.markdown(
        f"**{escape_markdown(row_filter.format_column(column))}**{escape_markdown(unit)}",
        help=column.means or None,
    )
    if not any(bar.rows for bar in histogram.bars):
        st.caption("No row has a value.")
        return
    # A chart keeps its selection, so clicking a selected bar would have no effect. The key therefore changes
    # with the filter on the chart's own column. Under any other filter the chart stays and its bars are
    # updated.
    own = Filter(conditions=[c for c in where.conditions if c.column == column.name])
    key = f"histogram-{dataset_id}-{column.name}-{hash(format_filter_json(own)) & 0xFFFFFF:x}"
    st.plotly_chart(
        plot_histogram(histogram, marked),
        key=key,
        on_select=lambda: _handle_bar_click(dataset_id, key, where, conditions),
        selection_mode="points",
        config=CONFIG,
        theme="streamlit",
        alt=f"How the rows are spread over {histogram.column.title}",
    )
    if note := describe_omitted_values(histogram):
        st.caption(escape_markdown(note))


def _handle_bar_click(dataset_id: str, key: str, where: Filter, conditions: list[Condition]) -> None:
    points = st.session_state[key]["selection"]["points"]
    if points:
        row_filter.set_filter(
            dataset_id, row_filter.toggle_condition(where, conditions[points[0]["point_index"]])
        )


def show_columns(rows: DatasetTable) -> None:
    """Draw the choice of table columns, histograms and sort order."""
    dataset_id = rows.dataset.dataset_id
    kept: dict[str, Any] = {"persist_state": "session"}

    def title(name: str) -> str:
        return format_column(rows.columns[name])

    with st.popover("Columns", icon=":material/view_column:"):
        names = [name for name in rows.columns if name != "row_id"]
        key = f"rows-columns-{dataset_id}"
        st.multiselect(
            "Columns", names, default=choose_default_columns(rows), format_func=title, key=key, **kept
        )
        names, key = list_histogram_columns(rows), f"strip-columns-{dataset_id}"
        unasked = "The most telling ones"
        st.multiselect("Histograms", names, format_func=title, placeholder=unasked, key=key, **kept)
        st.selectbox("Sort by", list(rows.columns), format_func=title, key=f"rows-order-{dataset_id}", **kept)
        st.toggle("Largest first", key=f"rows-descending-{dataset_id}", **kept)


def choose_default_columns(rows: DatasetTable) -> list[str]:
    """Return the columns shown by default: the text, or prompt and answer; the label replaces the answer."""
    if "prompt" not in rows.columns:
        return [name for name in ("text", "label") if name in rows.columns]
    return ["prompt", "label" if "label" in rows.columns else "answer"]


def list_shown_columns(rows: DatasetTable, where: Filter, order: str) -> tuple[str, ...]:
    """Return the chosen columns, those of the filter and the sort column, without repetition."""
    chosen = st.session_state.get(f"rows-columns-{rows.dataset.dataset_id}") or choose_default_columns(rows)
    wanted = dict.fromkeys([*chosen, *(c.column for c in where.conditions), order])
    return tuple(name for name in wanted if name in rows.columns and name != "row_id")


def get_sort_order(rows: DatasetTable, where: Filter) -> Sort:
    """Return the chosen sort order. Under a filter on a group, rows are sorted by group by default."""
    dataset_id = rows.dataset.dataset_id
    order = st.session_state.get(f"rows-order-{dataset_id}") or "row_id"
    groups = [c.column for c in where.conditions if rows.columns[c.column].type == "group"]
    if order not in rows.columns or (order == "row_id" and groups):
        order = groups[0] if groups else "row_id"
    return Sort(order, bool(st.session_state.get(f"rows-descending-{dataset_id}")))
