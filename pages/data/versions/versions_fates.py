"""Every row of the version before and what became of it: a table to search, a page at a time."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.clean.clean_preview import FATES
from pages.data.versions import versions_reads
from pages.data.versions.versions_rows import show_table

Document = dict[str, Any]
PAGE = 20


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
        _table(dataset_id, found["rows"], f"{asked}-{offset}")


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


def _table(dataset_id: str, rows: list[Document], key: str) -> None:
    shown = [
        {
            **row,
            "first": row["parent_row_id"],
            "second": row["row_id"],
            "before": _content(row["before"]),
            "after": _content(row["after"]),
        }
        for row in rows
    ]
    words = {fate: word for fate, (_, word) in FATES.items()}
    opened = show_table(shown, words, f"fates-table-{dataset_id}-{key}")
    if opened and opened["fate"] == "dropped":
        st.caption(f"Dropped by step {(opened['step'] or 0) + 1}.")


def _content(text: str | None) -> Document | None:
    return None if text is None else {"text": text}
