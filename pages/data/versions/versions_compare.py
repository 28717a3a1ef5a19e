"""Two versions row by row: how many rows differ, and how; one opened shows its changed words."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.versions import versions_reads
from pages.data.versions.versions_rows import show_table
from pages.shared import figures, quantities
from store.config.recipe import FATES

Document = dict[str, Any]
PAGE = 20
WORDS = {
    "kept": "The same",
    "changed": "Changed",
    "dropped": "Only in the first",
    "added": "Only in the second",
}
BADGES = {
    "kept": ":green-badge[:material/check: The same]",
    "dropped": ":red-badge[:material/remove: Only in the first]",
    "added": ":blue-badge[:material/add: Only in the second]",
}


def show_compare(dataset: Document, family: list[Document]) -> None:
    """Choose two versions of the family; the version before this one and this one at first."""
    names = {version["dataset_id"]: version["name"] for version in family}
    ids = list(names)
    here = dataset["dataset_id"]
    start = dataset["parent_id"] if dataset["parent_id"] in names else here
    end = here if start != here else next(other for other in ids if other != here)
    first_at, second_at = st.columns(2)
    key = f"versions-{here}"
    with first_at:
        first = st.selectbox(
            "First", ids, ids.index(start), format_func=names.__getitem__, key=f"{key}-first"
        )
    with second_at:
        second = st.selectbox(
            "Second", ids, ids.index(end), format_func=names.__getitem__, key=f"{key}-second"
        )
    if first == second:
        st.caption("Choose two different versions.")
        return
    fate = st.segmented_control(
        "Rows", FATES, format_func=WORDS.__getitem__, key=f"{key}-fate", label_visibility="collapsed"
    )
    page_key = f"{key}-page-{first}-{second}-{fate}"
    offset = PAGE * (st.session_state.get(page_key, 1) - 1)
    found = versions_reads.compare(first, second, fate, PAGE, offset)
    st.html(figures.facts(_facts(found["counts"])))
    if not found["rows"]:
        st.caption("No row differs." if fate is None else "There is no such row.")
        return
    last = offset + len(found["rows"])
    st.caption(f"{offset + 1:,} to {last:,} of {plural(found['total'], 'row')}. Select one to read it.")
    rows = [row | {"first": row["row_id"], "second": row["other_row_id"]} for row in found["rows"]]
    show_table(
        rows, WORDS, f"{page_key}-table-{offset}", ("First", "Second"), (names[first], names[second]), BADGES
    )
    if found["total"] > PAGE:
        st.pagination(-(-found["total"] // PAGE), key=page_key)


def _facts(counts: dict[str, int]) -> list[tuple[str, str, str]]:
    """Shares are of the version that has the rows."""
    first = counts["kept"] + counts["changed"] + counts["dropped"]
    second = counts["kept"] + counts["changed"] + counts["added"]
    return [
        (title, f"{counts[fate]:,}", f"{quantities.share(counts[fate], n)} of {n:,} rows")
        for fate, title, n in ((f, WORDS[f], second if f == "added" else first) for f in FATES)
    ]
