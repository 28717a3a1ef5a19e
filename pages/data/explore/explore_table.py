"""The rows of a data set: searched, filtered, sorted, a page at a time; one opened as a conversation.

Rows come a page at a time from the store, so that a million rows are as quick to open as ten.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.explore import explore_filter_bar, explore_histograms
from pages.data.explore.explore_actions import show_actions
from pages.data.explore.explore_row import show_opened
from pages.data.explore.explore_sql import show_sql
from pages.data.rows import explore_filter, explore_reads
from pages.shared.common_start import Cell, differing
from pages.shared.session import guarded, may, plain, show_error
from store.catalog.languages import readable
from store.config.data.filters import Filter
from store.contract.errors import ConfigError
from store.documents.tables.dataset import Dataset
from store.queries.data.explore import DatasetTable, TableColumn, TablePage, filter_json

PAGE = 20
ALONE = 880  # pixels of a text that is the only column


@st.fragment
def show_rows(dataset: Dataset) -> None:
    """A page of rows, or the one that the link names; drawn alone when something in it is clicked."""
    with guarded():
        _rows(dataset)


def _rows(dataset: Dataset) -> None:
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
    explore_filter_bar.show_search(rows, where)
    explore_filter_bar.show_chips(dataset_id, where)
    bar = st.container(horizontal=True, gap="small", key=f"rows-actions-{dataset_id}")
    strip = st.container()
    with guarded():
        row_count = _page(rows, where)
        with bar:
            explore_filter_bar.show_adder(rows, where)
            explore_histograms.show_columns(rows)
            show_actions(rows, where, row_count)
        with strip, guarded():
            explore_histograms.show_strip(rows, where)
    if not may("work"):
        return
    with st.expander(
        "Ask in SQL", icon=":material/database:", key=f"sql-open-{dataset_id}", on_change="rerun"
    ) as box:
        if box.open:
            show_sql(rows)


def _page(rows: DatasetTable, where: Filter) -> int:
    """A page of the rows that the filter means; how many there are in all."""
    dataset_id, stamp = rows.dataset["dataset_id"], explore_reads.stamp(rows)
    sort = explore_histograms.sorting(rows, where)
    names = explore_histograms.shown_columns(rows, where, sort.column)
    text = filter_json(where)
    row_count, first = explore_reads.find(dataset_id, text, sort, PAGE, stamp)
    pages = max(1, -(-row_count // PAGE))
    slot = st.container(gap="xsmall")
    key = f"rows-page-{dataset_id}-{text}-{sort.column}-{sort.descending}"
    page = st.pagination(pages, key=key) if pages > 1 else 1
    offset = (page - 1) * PAGE
    if page == 1:
        cells = explore_reads.cells(dataset_id, tuple(first), names, stamp)
    else:
        part = TablePage(names, sort, PAGE, offset)
        cells = explore_reads.page(dataset_id, text, part, stamp)
    with slot:
        total = rows.dataset["row_count"]
        if not cells:
            st.caption("No row is like that." if where else "There is no row.")
            return row_count
        of = f"{row_count:,}, filtered from {total:,}" if where else f"{total:,}"
        by = rows.columns[sort.column]
        order = "" if by.name == "row_id" else f", sorted by {explore_filter.label(by).lower()}"
        st.caption(
            f"Rows {offset + 1:,} to {offset + len(cells):,} of {of}{plain(order)}. Select one to open it."
        )
        _table(rows, cells, names, f"rows-table-{dataset_id}-{page}-{hash(key) & 0xFFFFFF:x}")
    return row_count


def _table(rows: DatasetTable, cells: list[Cell], names: tuple[str, ...], key: str) -> None:
    texts = {
        name: explore_filter.label(rows.columns[name]) for name in names if rows.columns[name].type == "text"
    }
    shortened, sentence = differing(cells, texts)
    if sentence:
        st.caption(plain(sentence))
    readable_cells = [
        {"row": cell["row_id"]} | {name: readable(name, cell.get(name)) for name in names}
        for cell in shortened
    ]
    event = st.dataframe(
        readable_cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=("row", *names),
        column_config={
            "row": st.column_config.NumberColumn("Row", width="small", format="localized"),
            **{name: _config(rows.columns[name], alone=len(names) == 1) for name in names},
        },
        height="content",
        alt="Rows of the data set",
    )
    if event.selection.rows:
        explore_filter.open_row(cells[event.selection.rows[0]]["row_id"])
        st.rerun()


def _config(column: TableColumn, alone: bool) -> Any:
    """`alone`: no other column needs room, which would else be dealt out to the row's number too."""
    title = explore_filter.label(column)
    means = column.means or None
    if column.type == "flag":
        return st.column_config.CheckboxColumn(title, width="small", help=means)
    if column.type in ("number", "group"):
        number_format = "percent" if column.unit == "share" else "localized"
        return st.column_config.NumberColumn(title, width="small", format=number_format, help=means)
    if column.type == "text":
        return st.column_config.TextColumn(title, width=ALONE if alone else "large", help=means)
    return st.column_config.TextColumn(title, width="medium", help=means)
