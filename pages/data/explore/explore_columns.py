"""Which columns the table of rows shows, which histograms stand over it, and how the rows are sorted."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.explore import explore_histograms
from pages.data.rows.explore_filter import label
from store.config.filters import Filter
from store.queries.data.explore import Rows


def show_columns(rows: Rows) -> None:
    """Which columns the table shows, which histograms, and the order of the rows."""
    dataset_id = rows.dataset["dataset_id"]
    kept: dict[str, Any] = {"persist_state": "session"}

    def title(name: str) -> str:
        return label(rows.known[name])

    with st.popover("Columns", icon=":material/view_column:"):
        names = [name for name in rows.known if name != "row_id"]
        key = f"rows-columns-{dataset_id}"
        st.multiselect("Columns", names, default=default_columns(rows), format_func=title, key=key, **kept)
        names, key = explore_histograms.countable(rows), f"strip-columns-{dataset_id}"
        unasked = "The most telling ones"
        st.multiselect("Histograms", names, format_func=title, placeholder=unasked, key=key, **kept)
        st.selectbox("Sort by", list(rows.known), format_func=title, key=f"rows-order-{dataset_id}", **kept)
        st.toggle("Largest first", key=f"rows-descending-{dataset_id}", **kept)


def default_columns(rows: Rows) -> list[str]:
    """What a row is: its text, or prompt and answer; the label is the answer where there is one."""
    if "prompt" not in rows.known:
        return [name for name in ("text", "label") if name in rows.known]
    return ["prompt", "label" if "label" in rows.known else "answer"]


def shown_columns(rows: Rows, where: Filter, order: str) -> tuple[str, ...]:
    """The columns that were chosen, those of the filter and the one that sorts, each once."""
    chosen = st.session_state.get(f"rows-columns-{rows.dataset['dataset_id']}") or default_columns(rows)
    wanted = dict.fromkeys([*chosen, *(c.column for c in where.conditions), order])
    return tuple(name for name in wanted if name in rows.known and name != "row_id")


def sorting(rows: Rows, where: Filter) -> tuple[str, bool]:
    """The column to sort by and whether the largest come first, as chosen; rows of a filter on a group stand
    together unasked."""
    dataset_id = rows.dataset["dataset_id"]
    order = st.session_state.get(f"rows-order-{dataset_id}") or "row_id"
    groups = [c.column for c in where.conditions if rows.known[c.column].type == "group"]
    if order not in rows.known or (order == "row_id" and groups):
        order = groups[0] if groups else "row_id"
    return order, bool(st.session_state.get(f"rows-descending-{dataset_id}"))
