"""A strip of small histograms over the table: click a bar and the rows are filtered by it, again to undo.

Which columns the table of rows shows, which histograms stand over it, and how the rows are sorted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.data.rows import explore_filter, explore_reads
from pages.data.rows.explore_charts import histogram_chart, left_off
from pages.data.rows.explore_filter import label
from pages.shared.session import plain
from store.catalog.signals import GROUPS, Signal
from store.config.data.filters import Condition, Filter
from store.documents.data.signal_figures import SignalFigure
from store.queries.data.explore import DatasetTable, Sort, filter_json
from store.queries.data.histogram import Histogram

FIRST = 4  # charts that are shown unasked
LIKED = ("label", "language", "characters", "answer_characters", "near_group", "cluster", "tokens")
CONFIG = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False, "doubleClick": False}


def show_strip(rows: DatasetTable, where: Filter) -> None:
    """The chosen histograms side by side."""
    dataset_id = rows.dataset["dataset_id"]
    names = chosen(rows, where)
    if not names:
        st.caption("Histograms appear once something was measured, or choose a column under Columns.")
        return
    with st.spinner("Counting …"):
        stamp = explore_reads.stamp(rows)
        histograms = explore_reads.facets(dataset_id, tuple(names), filter_json(where), stamp)
    with st.grid(4, min_column_width=155, gap="small", key=f"strip-{dataset_id}") as grid:
        for name in names:
            with grid.cell():
                _chart(dataset_id, where, histograms[name])


def chosen(rows: DatasetTable, where: Filter) -> list[str]:
    """The columns whose histograms are shown: those asked for, else the most telling ones; those of the
    filter are always among them, so that a click can be undone where it was made."""
    key = f"strip-columns-{rows.dataset['dataset_id']}"
    asked = [name for name in st.session_state.get(key, []) if name in rows.columns]
    filtered = [c.column for c in where.conditions if c.column in rows.columns and _countable(rows, c.column)]
    if asked:
        return list(dict.fromkeys([*asked, *filtered]))
    liked = telling(rows)
    more = [name for name in dict.fromkeys(filtered) if name not in liked]
    return [*liked[: max(1, FIRST - len(more))], *more]


def telling(rows: DatasetTable) -> list[str]:
    """The few columns that say most: what lies outside its band first, then what people ask for."""
    outside = [
        signal.column
        for name, measured in rows.measured.items()
        for signal in GROUPS[name].signals
        if signal.healthy and signal.type != "group" and _is_outside(signal, measured["figures"])
    ]
    same = {"answer_characters"} if rows.dataset["kind"] == "text" else set()  # a text has no answer apart
    liked = [name for name in LIKED if name in rows.columns.keys() - same and _varies(rows, name)]
    return list(dict.fromkeys([*liked[:3], *outside[:2], *liked[3:]]))[:FIRST]


def _is_outside(signal: Signal, figures: Mapping[str, SignalFigure]) -> bool:
    figure = figures.get(signal.column)
    if figure is None:
        return False
    if "flagged" in figure:
        return figure["flagged"] > 0
    return "positive" in figure and figure["positive"] > 0 and signal.unit == "found"


def _varies(rows: DatasetTable, name: str) -> bool:
    """Whether the column has more than one value, as far as that is known without a look."""
    for measured in rows.measured.values():
        figure: SignalFigure | None = measured["figures"].get(name)
        if figure is None:
            continue
        if "groups" in figure:
            return figure["groups"] > 0
        if "distinct" in figure:
            return figure["distinct"] > 1
        return "min" in figure and figure["min"] != figure["max"]
    return name == "label"


def _countable(rows: DatasetTable, name: str) -> bool:
    return rows.columns[name].type != "text"


def countable(rows: DatasetTable) -> list[str]:
    """Columns that a histogram can be made of."""
    return [name for name in rows.columns if _countable(rows, name)]


def _chart(dataset_id: str, where: Filter, histogram: Histogram) -> None:
    conditions = [histogram.condition(bar) for bar in histogram.bars]
    marked = frozenset(i for i, condition in enumerate(conditions) if explore_filter.holds(where, condition))
    column = histogram.column
    unit_in_title = column.unit in ("", "found", "share") or column.unit in column.title.lower()
    unit = "" if unit_in_title else f" ({column.unit})"
    st.markdown(f"**{plain(explore_filter.label(column))}**{plain(unit)}", help=column.means or None)
    if not any(bar.rows for bar in histogram.bars):
        st.caption("No row has a value.")
        return
    # A chart keeps its selection, and a click on what is selected would undo nothing: with another filter on
    # its own column it gets another key. Under any other filter it stays in place, and its bars move.
    own = Filter(conditions=[c for c in where.conditions if c.column == column.name])
    key = f"histogram-{dataset_id}-{column.name}-{hash(filter_json(own)) & 0xFFFFFF:x}"
    st.plotly_chart(
        histogram_chart(histogram, marked),
        key=key,
        on_select=lambda: _clicked(dataset_id, key, where, conditions),
        selection_mode="points",
        config=CONFIG,
        theme="streamlit",
        alt=f"How the rows are spread over {histogram.column.title}",
    )
    if note := left_off(histogram):
        st.caption(plain(note))


def _clicked(dataset_id: str, key: str, where: Filter, conditions: list[Condition]) -> None:
    points = st.session_state[key]["selection"]["points"]
    if points:
        explore_filter.change(dataset_id, explore_filter.toggled(where, conditions[points[0]["point_index"]]))


def show_columns(rows: DatasetTable) -> None:
    """Which columns the table shows, which histograms, and the order of the rows."""
    dataset_id = rows.dataset["dataset_id"]
    kept: dict[str, Any] = {"persist_state": "session"}

    def title(name: str) -> str:
        return label(rows.columns[name])

    with st.popover("Columns", icon=":material/view_column:"):
        names = [name for name in rows.columns if name != "row_id"]
        key = f"rows-columns-{dataset_id}"
        st.multiselect("Columns", names, default=default_columns(rows), format_func=title, key=key, **kept)
        names, key = countable(rows), f"strip-columns-{dataset_id}"
        unasked = "The most telling ones"
        st.multiselect("Histograms", names, format_func=title, placeholder=unasked, key=key, **kept)
        st.selectbox("Sort by", list(rows.columns), format_func=title, key=f"rows-order-{dataset_id}", **kept)
        st.toggle("Largest first", key=f"rows-descending-{dataset_id}", **kept)


def default_columns(rows: DatasetTable) -> list[str]:
    """What a row is: its text, or prompt and answer; the label is the answer where there is one."""
    if "prompt" not in rows.columns:
        return [name for name in ("text", "label") if name in rows.columns]
    return ["prompt", "label" if "label" in rows.columns else "answer"]


def shown_columns(rows: DatasetTable, where: Filter, order: str) -> tuple[str, ...]:
    """The columns that were chosen, those of the filter and the one that sorts, each once."""
    chosen = st.session_state.get(f"rows-columns-{rows.dataset['dataset_id']}") or default_columns(rows)
    wanted = dict.fromkeys([*chosen, *(c.column for c in where.conditions), order])
    return tuple(name for name in wanted if name in rows.columns and name != "row_id")


def sorting(rows: DatasetTable, where: Filter) -> Sort:
    """The column to sort by and whether the largest come first, as chosen; rows of a filter on a group stand
    together unasked."""
    dataset_id = rows.dataset["dataset_id"]
    order = st.session_state.get(f"rows-order-{dataset_id}") or "row_id"
    groups = [c.column for c in where.conditions if rows.columns[c.column].type == "group"]
    if order not in rows.columns or (order == "row_id" and groups):
        order = groups[0] if groups else "row_id"
    return Sort(order, bool(st.session_state.get(f"rows-descending-{dataset_id}")))
