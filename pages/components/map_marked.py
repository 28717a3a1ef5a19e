"""The rows that are marked on the map: how many, the first of them, and what can be done with them."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import explore_actions, explore_filter, explore_reads, map_reads
from pages.components.common_start import differing
from pages.components.map_selection import Marks
from pages.components.session import plain
from store.explore import Rows, filter_json

FIRST = 8  # marked rows that are shown


def show_marked(rows: Rows, marks: Marks, kept: str, stamp: str) -> None:
    """`kept`: where the session keeps the marks."""
    dataset_id = rows.dataset["dataset_id"]
    where = map_reads.marked(dataset_id, marks, stamp)
    text = filter_json(where)
    found = explore_reads.count(dataset_id, text, stamp)
    st.markdown(f"**{plural(found, 'row')} marked**")
    with st.container(horizontal=True, gap="small"):
        if found and st.button(
            "Filter the table to these",
            icon=":material/filter_alt:",
            type="primary",
            key=f"map-filter-{dataset_id}",
            on_click=explore_filter.show_in_table,
            args=(dataset_id, where),
        ):
            st.rerun()
        explore_actions.show_actions(rows, where, found)
        st.button(
            "Unmark",
            icon=":material/deselect:",
            type="tertiary",
            key=f"map-unmark-{dataset_id}",
            on_click=lambda: st.session_state.pop(kept, None),
        )
    said = map_reads.text_column(rows)
    names = ("label", "cluster", said) if "label" in rows.known else ("cluster", said)
    first = explore_reads.page(dataset_id, text, names, "row_id", False, FIRST, 0, stamp)
    first, alike = differing(first, {said: "Text"})
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
            said: st.column_config.TextColumn("Text", width="large"),
        },
        alt="The first of the marked rows",
    )
    if found > FIRST:
        st.caption(f"The first {FIRST} of {found:,}.")
