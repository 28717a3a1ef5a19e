"""The rows of a data set: searched, filtered, sorted, a page at a time; one opened as a conversation.

Rows come a page at a time from the store, so that a million rows are as quick to open as ten.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components import explore_filter, explore_histograms, explore_reads
from pages.components.explore_actions import show_actions
from pages.components.explore_row import open_row, show_opened
from pages.components.explore_sql import show_sql
from pages.components.session import guarded, plain, show_error
from store.errors import ConfigError
from store.explore import Column, Rows, filter_json
from store.filters import Filter

PAGE = 20


def show_rows(dataset: dict[str, Any]) -> None:
    """A page of rows, or the one that the link names."""
    dataset_id = dataset["dataset_id"]
    rows = explore_reads.rows(dataset_id)
    try:
        where = explore_filter.current(dataset_id)
        rows.condition(where)
    except ConfigError as error:
        show_error(error)
        st.button("Remove the filter", on_click=explore_filter.change, args=(dataset_id, Filter()))
        return
    if (opened := st.query_params.get("row")) is not None:
        show_opened(rows, where, opened)
        return
    _search(rows, where)
    explore_filter.show_chips(dataset_id, where)
    bar = st.container(horizontal=True, gap="small", key=f"rows-actions-{dataset_id}")
    strip = st.container()
    with guarded():
        found = _page(rows, where)
        with bar:
            explore_filter.show_adder(rows, where)
            _columns(rows)
            show_actions(rows, where, found)
        with strip, guarded():
            explore_histograms.show_strip(rows, where)
    with st.expander(
        "Ask in SQL", icon=":material/database:", key=f"sql-open-{dataset_id}", on_change="rerun"
    ) as box:
        if box.open:
            show_sql(rows)


def _search(rows: Rows, where: Filter) -> None:
    """The search box, which follows the filter wherever that is changed."""
    dataset_id = rows.dataset["dataset_id"]
    text_key, regex_key = f"rows-search-{dataset_id}", f"rows-regex-{dataset_id}"
    if where.search or where.regex:
        st.session_state[regex_key] = bool(where.regex)
    st.session_state[text_key] = where.regex or where.search

    def searched() -> None:
        typed = (st.session_state[text_key] or "").strip()
        regex = bool(st.session_state.get(regex_key))
        changed = {"search": "" if regex else typed, "regex": typed if regex else ""}
        explore_filter.change(dataset_id, where.model_copy(update=changed))

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text_input(
            "Search",
            key=text_key,
            type="search",
            live="400ms",
            placeholder="Search in the text",
            label_visibility="collapsed",
            icon=":material/search:",
            on_change=searched,
        )
        st.toggle(
            "Regex",
            key=regex_key,
            on_change=searched,
            help="An RE2 regular expression, found anywhere in the text; (?i) at its start ignores case",
        )


def _columns(rows: Rows) -> None:
    """Which columns the table shows, which histograms, and the order of the rows."""
    dataset_id = rows.dataset["dataset_id"]
    kept: dict[str, Any] = {"persist_state": "session"}

    def title(name: str) -> str:
        return explore_filter.label(rows.known[name])

    with st.popover("Columns", icon=":material/view_column:"):
        names = [name for name in rows.known if name != "row_id"]
        key = f"rows-columns-{dataset_id}"
        st.multiselect("Columns", names, default=_default(rows), format_func=title, key=key, **kept)
        names, key = explore_histograms.countable(rows), f"strip-columns-{dataset_id}"
        unasked = "The most telling ones"
        st.multiselect("Histograms", names, format_func=title, placeholder=unasked, key=key, **kept)
        st.selectbox("Sort by", list(rows.known), format_func=title, key=f"rows-order-{dataset_id}", **kept)
        st.toggle("Largest first", key=f"rows-descending-{dataset_id}", **kept)


def _default(rows: Rows) -> list[str]:
    """What a row is: its text, or prompt and answer; the label is the answer where there is one."""
    if "prompt" not in rows.known:
        return [name for name in ("text", "label") if name in rows.known]
    return ["prompt", "label" if "label" in rows.known else "answer"]


def _page(rows: Rows, where: Filter) -> int:
    """A page of the rows that the filter means; how many there are in all."""
    dataset_id, stamp = rows.dataset["dataset_id"], explore_reads.stamp(rows)
    order, descending = _sorting(rows, where)
    chosen = st.session_state.get(f"rows-columns-{dataset_id}") or _default(rows)
    shown = dict.fromkeys([*chosen, *(c.column for c in where.conditions), order])
    names = tuple(name for name in shown if name in rows.known and name != "row_id")
    text = filter_json(where)
    found, first = explore_reads.find(dataset_id, text, order, descending, PAGE, stamp)
    pages = max(1, -(-found // PAGE))
    slot = st.container(gap="xsmall")
    key = f"rows-page-{dataset_id}-{text}-{order}-{descending}"
    page = st.pagination(pages, key=key) if pages > 1 else 1
    offset = (page - 1) * PAGE
    if page == 1:
        cells = explore_reads.cells(dataset_id, tuple(first), names, stamp)
    else:
        cells = explore_reads.page(dataset_id, text, names, order, descending, PAGE, offset, stamp)
    with slot:
        total = rows.dataset["row_count"]
        if not cells:
            st.caption("No row is like that." if where else "There is no row.")
            return found
        of = f"{found:,}, filtered from {total:,}" if where else f"{total:,}"
        sort = "" if order == "row_id" else f", sorted by {explore_filter.label(rows.known[order]).lower()}"
        st.caption(
            f"Rows {offset + 1:,} to {offset + len(cells):,} of {of}{plain(sort)}. Select one to open it."
        )
        _table(rows, cells, names, f"rows-table-{dataset_id}-{page}-{hash(key) & 0xFFFFFF:x}")
    return found


def _sorting(rows: Rows, where: Filter) -> tuple[str, bool]:
    """The column to sort by and whether the largest come first, as chosen; rows of a filter on a group stand
    together unasked."""
    dataset_id = rows.dataset["dataset_id"]
    order = st.session_state.get(f"rows-order-{dataset_id}") or "row_id"
    groups = [c.column for c in where.conditions if rows.known[c.column].type == "group"]
    if order not in rows.known or (order == "row_id" and groups):
        order = groups[0] if groups else "row_id"
    return order, bool(st.session_state.get(f"rows-descending-{dataset_id}"))


def _table(rows: Rows, cells: list[dict[str, Any]], names: tuple[str, ...], key: str) -> None:
    shown = [{"row": cell["row_id"]} | {name: cell.get(name) for name in names} for cell in cells]
    event = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=("row", *names),
        column_config={
            "row": st.column_config.NumberColumn("Row", width="small", format="localized"),
            **{name: _config(rows.known[name]) for name in names},
        },
        height="content",
        alt="Rows of the data set",
    )
    if event.selection.rows:
        open_row(cells[event.selection.rows[0]]["row_id"])
        st.rerun()


def _config(column: Column) -> Any:
    title = explore_filter.label(column)
    means = column.means or None
    if column.type == "flag":
        return st.column_config.CheckboxColumn(title, width="small", help=means)
    if column.type in ("number", "group"):
        shown = "percent" if column.unit == "share" else "localized"
        return st.column_config.NumberColumn(title, width="small", format=shown, help=means)
    if column.type == "text":
        return st.column_config.TextColumn(title, width="large", help=means)
    return st.column_config.TextColumn(title, width="medium", help=means)
