"""The rows that are marked or found on the map: how many, the first of them, what can be done with them."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.explore import explore_actions
from pages.data.rows import explore_filter, explore_reads, map_reads
from pages.shared.common_start import differing
from pages.shared.session import plain
from store.config.filters import Filter
from store.queries.data.explore import DatasetTable, filter_json

FIRST = 8  # marked rows that are shown


def show_rows(
    rows: DatasetTable,
    where: Filter,
    count: int,
    how: str,
    key: str,
    stamp: str,
    unmark: Callable[[], None] | None = None,
) -> bool:
    """`count` rows that the filter means, `how` they came to be meant; whether the page must turn to them."""
    dataset_id = rows.dataset["dataset_id"]
    text = filter_json(where)
    st.markdown(f"**{plural(count, 'row')} {plain(how)}**")
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
        if unmark:
            st.button(
                "Unmark",
                icon=":material/deselect:",
                type="tertiary",
                key=f"{key}-unmark-{dataset_id}",
                on_click=unmark,
            )
    if count:
        _first(rows, text, count, stamp)
    return turn


def _first(rows: DatasetTable, text: str, count: int, stamp: str) -> None:
    """The first rows of the filter."""
    dataset_id = rows.dataset["dataset_id"]
    column = map_reads.text_column(rows)
    names = ("label", "cluster", column) if "label" in rows.columns else ("cluster", column)
    first = explore_reads.page(dataset_id, text, names, "row_id", False, FIRST, 0, stamp)
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
