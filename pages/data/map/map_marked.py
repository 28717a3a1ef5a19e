"""The rows that are marked or found on the map: how many, the first of them, what can be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.explore import explore_actions
from pages.data.rows import explore_filter, explore_reads, map_reads
from pages.shared.common_start import differing
from pages.shared.session import plain
from store.config.data.filters import Filter
from store.queries.data.explore import DatasetTable, TablePage, filter_json

FIRST = 8  # marked rows that are shown


@dataclass(frozen=True)
class RowSelection:
    """Rows that were marked or searched for. count: how many the filter means; how: what made it, in words;
    key: the place's own, for widgets; unmark: takes the marks away, where there are some."""

    where: Filter
    count: int
    how: str
    key: str
    unmark: Callable[[], None] | None = None


def show_rows(rows: DatasetTable, selection: RowSelection) -> bool:
    """What was selected, and the first rows of it; whether the page must turn to them."""
    dataset_id = rows.dataset["dataset_id"]
    where, count, key = selection.where, selection.count, selection.key
    st.markdown(f"**{plural(count, 'row')} {plain(selection.how)}**")
    with st.container(horizontal=True, gap="small"):
        turn = bool(count) and st.button(
            "Filter the table to these",
            icon=":material/filter_alt:",
            type="primary",
            key=f"{key}-filter-{dataset_id}",
            on_click=explore_filter.show_in_table,
            args=(dataset_id, where),
        )
        explore_actions.show_actions(rows, where, count)
        if selection.unmark:
            st.button(
                "Unmark",
                icon=":material/deselect:",
                type="tertiary",
                key=f"{key}-unmark-{dataset_id}",
                on_click=selection.unmark,
            )
    if count:
        _first(rows, where, count)
    return turn


def _first(rows: DatasetTable, where: Filter, count: int) -> None:
    """The first rows of the filter."""
    dataset_id = rows.dataset["dataset_id"]
    column = map_reads.text_column(rows)
    names = ("label", "cluster", column) if "label" in rows.columns else ("cluster", column)
    part = TablePage(names, limit=FIRST)
    first = explore_reads.page(dataset_id, filter_json(where), part, explore_reads.stamp(rows))
    first, alike = differing(first, {column: "Text"})
    if alike:
        st.caption(plain(alike))
    st.dataframe(
        first,
        hide_index=True,
        column_order=("row_id", *names),
        column_config={
            "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
            "label": st.column_config.TextColumn("Label", width="small"),
            "cluster": st.column_config.TextColumn("Topic", width="small"),
            column: st.column_config.TextColumn("Text", width="large"),
        },
        alt="The first of these rows",
    )
    if count > FIRST:
        st.caption(f"The first {FIRST} of {count:,}.")
