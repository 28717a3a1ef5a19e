"""Every row of the version before and what became of it: a table to search, a page at a time."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import versions_reads
from pages.components.clean_preview import FATES, show_example
from pages.components.session import plain

Document = dict[str, Any]
PAGE = 50
SHOWN = 300  # characters of a text that a cell holds


def show_fates(dataset: Document) -> None:
    """Search, fate and step choose; a selected row is opened with its changed words marked."""
    dataset_id = dataset["dataset_id"]
    fate, step, search = _chosen(dataset_id, dataset["fates"]["steps"])
    slot = st.container()
    asked = f"{fate}-{step}-{search}"
    offset = PAGE * (st.session_state.get(f"fates-page-{dataset_id}-{asked}", 1) - 1)
    found = versions_reads.fates(dataset_id, fate, step, search, PAGE, offset)
    pages = max(1, -(-found["total"] // PAGE))
    if pages > 1:
        st.pagination(pages, key=f"fates-page-{dataset_id}-{asked}")
    with slot:
        if not found["rows"]:
            st.caption("No row has that fate. Choose another, or search for less.")
            return
        last = offset + len(found["rows"])
        st.caption(f"{offset + 1:,} to {last:,} of {plural(found['total'], 'row')}. Select one to open it.")
        _table(dataset_id, found["rows"])


def _chosen(dataset_id: str, steps: list[Document]) -> tuple[Any, int | None, str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        fate = st.segmented_control(
            "Fate",
            list(FATES),
            format_func=lambda fate: FATES[fate][1],
            key=f"fates-fate-{dataset_id}",
            label_visibility="collapsed",
        )
        step = st.selectbox(
            "Step",
            range(len(steps)),
            None,
            format_func=lambda index: f"{index + 1}. {steps[index]['title']}",
            placeholder="Any step",
            label_visibility="collapsed",
            key=f"fates-step-{dataset_id}",
            width=260,
        )
        search = st.text_input(
            "Search",
            type="search",
            live="400ms",
            placeholder="Search in text and reason",
            label_visibility="collapsed",
            icon=":material/search:",
            key=f"fates-search-{dataset_id}",
            width=260,
        )
    return fate, step, (search or "").strip()


def _table(dataset_id: str, rows: list[Document]) -> None:
    cells = [
        {
            "old": row["parent_row_id"],
            "new": row["row_id"],
            "fate": FATES[row["fate"]][1],
            "reason": row["reason"] or "",
            "text": (row["before"] or row["after"] or "")[:SHOWN],
        }
        for row in rows
    ]
    event = st.dataframe(
        cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"fates-table-{dataset_id}",
        column_config={
            "old": st.column_config.NumberColumn("Old row", width="small", format="localized"),
            "new": st.column_config.NumberColumn("New row", width="small", format="localized"),
            "fate": st.column_config.TextColumn("Fate", width="small"),
            "reason": st.column_config.TextColumn("Why", width="medium"),
            "text": st.column_config.TextColumn("Text", width="large"),
        },
        height=min(420, 35 * (len(cells) + 1) + 3),
        alt="What became of every row",
    )
    for at in event.selection.rows[:1]:
        row = rows[at]
        opened = {**row, "row_id": row["parent_row_id"]}
        for side in ("before", "after"):
            opened[side] = None if row[side] is None else {"text": row[side]}
        if row["fate"] == "dropped":
            st.caption(plain(f"Dropped by step {(row['step'] or 0) + 1}."))
        show_example(opened)
