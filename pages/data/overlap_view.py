"""Is any of this data set in that one? Equal rows, near duplicates and equal prompts of two data sets."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import asks
from pages.data.rows.explore_filter import show_in_table
from pages.shared import figures, reads
from pages.shared.quantities import share
from pages.shared.session import guarded, plain
from pages.shared.word_diff import pair
from store.config.data.filters import Filter
from store.documents.data.overlap import Overlap
from store.documents.tables.dataset import Dataset

SHOWN = 6  # pairs that are drawn side by side


def show_overlap(dataset: Dataset) -> None:
    """Another data set to choose, and what both have."""
    others = {
        row["dataset_id"]: row for row in reads.datasets() if row["fingerprint"] != dataset["fingerprint"]
    }
    st.subheader("Is any of this in another data set?", anchor=False)
    if not others:
        st.caption("There is no other data set to compare with.")
        return
    key = f"overlap-{dataset['dataset_id']}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("The other", list(others), format_func=lambda i: others[i]["name"], key=key)
        if st.button("Compare", icon=":material/compare_arrows:", key=f"{key}-button"):
            st.session_state[f"{key}-asked"] = chosen
    asked = st.session_state.get(f"{key}-asked")
    if asked in others:
        with guarded(), st.spinner("Comparing every row …", show_time=True):
            overlap = asks.overlap(dataset["fingerprint"], others[asked]["fingerprint"])
            _answer(dataset, others[asked], overlap)


def _answer(dataset: Dataset, other: Dataset, overlap: Overlap) -> None:
    name, total = plain(other["name"]), overlap["rows"]
    if not (overlap["exact"] or overlap["near"] or overlap["same_prompt"]):
        st.success(f"None of the {plural(total, 'row')} is in {name}.", icon=":material/check_circle:")
        return
    counted = (
        ("Equal rows", overlap["exact"]),
        ("Near duplicates", overlap["near"]),
        ("Same prompt", overlap["same_prompt"]),
    )
    of = f"of {plural(total, 'row')}"
    st.html(figures.facts([(title, f"{rows:,}", f"{share(rows, total)} {of}") for title, rows in counted]))
    st.caption(f"Rows of this data set that {name} ({plural(overlap['other_rows'], 'row')}) has too.")
    examples = overlap["examples"]
    if not examples:
        return
    ids = overlap["row_ids"]
    meant = sum(rows for _, rows in counted)
    all_of = "all" if len(ids) == meant else f"the first {len(ids):,} of"
    st.button(
        f"Show {all_of} {plural(meant, 'row')} in the table",
        key="overlap-show",
        icon=":material/filter_alt:",
        on_click=show_in_table,
        args=(dataset["dataset_id"], Filter(row_ids=ids)),
    )
    for place, (ours, theirs, similarity) in enumerate(examples[:SHOWN]):
        _pair(dataset, other, ours, theirs, similarity, place)
    if len(examples) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(examples):,} examples are drawn.")


def _pair(dataset: Dataset, other: Dataset, ours: int, theirs: int, similarity: float, place: int) -> None:
    first = reads.dataset_row(dataset["dataset_id"], ours)[0]
    second = reads.dataset_row(other["dataset_id"], theirs)[0]
    with st.container(border=True, key=f"overlap-pair-{place}"):
        theirs_title = f"Row {theirs:,} of {other['name']}, {100 * similarity:.0f}% alike"
        st.html(pair(first, second, (f"Row {ours:,} here", theirs_title)))
