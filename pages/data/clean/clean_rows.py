"""The rows that a finding means, in a dialog: one by one, or the rows of a group side by side.

Within a group every row is held against the first, with the words marked in which they differ: whoever looks
at near duplicates wants to see how near they are.
"""

from __future__ import annotations

import json
from itertools import groupby

import streamlit as st

from engine.diagnostics.data.findings import Finding
from engine.diagnostics.phrasing import plural
from pages.data.explore.explore_row import signal_text
from pages.data.rows import explore_reads
from pages.data.rows.explore_filter import ROWS_TAB, open_row, open_tab, show_in_table
from pages.data.rows.explore_reads import ValuedRow
from pages.shared import word_diff
from pages.shared.conversation import show_row
from pages.shared.session import guarded, plain
from store.catalog.signals import SIGNALS
from store.config.data.filters import Filter
from store.documents.tables.dataset import Dataset

PAGE = 20
LONGEST = 800  # characters of a turn; what is left off is said


def show_found(dataset: Dataset, finding: Finding) -> None:
    """Open the dialog over the page."""
    column = finding.column
    together = column if SIGNALS[column].type == "group" else "prompt_group" if column == "conflict" else ""

    def rows() -> None:
        with guarded():
            _rows(dataset, finding, together)

    st.dialog(finding.title.replace("[", "(").replace("]", ")"), width="large")(rows)()


def _rows(dataset: Dataset, finding: Finding, together: str) -> None:
    where = json.dumps(finding.where)
    key = f"found-page-{finding.column}"
    offset = PAGE * (st.session_state.get(key, 1) - 1)
    total, rows = explore_reads.whole_rows(
        dataset["dataset_id"], where, together, finding.column, PAGE, offset
    )
    if not rows:
        st.caption("No row is meant any more: the rows were measured anew.")
        return
    note = ", group by group; the words that differ from the first are marked" if together else ""
    st.caption(f"{offset + 1:,} to {offset + len(rows):,} of {plural(total, 'row')}{note}.")
    if st.button(
        "Open in the table",
        icon=":material/filter_alt:",
        key=f"found-table-{finding.column}",
        on_click=show_in_table,
        args=(dataset["dataset_id"], Filter.parse(finding.where)),
    ):
        st.rerun()
    if together:
        for _, group in groupby(rows, lambda row: row["group"]):
            _group(dataset, list(group))
    else:
        for row in rows:
            _single(dataset, row, finding)
    if total > PAGE:
        st.pagination(-(-total // PAGE), key=key)


def _group(dataset: Dataset, rows: list[ValuedRow]) -> None:
    first = rows[0]
    with st.container(border=True, gap="small"):
        if len(rows) == 1:
            st.caption(f"Row {first['row_id']:,}; the rest of its group is on the page before or after.")
            st.html(word_diff.pair(None, first, ("", f"Row {first['row_id']:,}")))
        for other in rows[1:]:
            titles = (f"Row {first['row_id']:,}", f"Row {other['row_id']:,}")
            st.html(word_diff.pair(first, other, titles))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            for row in rows[:2]:
                _edit_button(dataset, row["row_id"])


def _single(dataset: Dataset, row: ValuedRow, finding: Finding) -> None:
    signal = SIGNALS[finding.column]
    value = row["value"]
    measured = "" if signal.type == "flag" or value is None else f": {signal_text(signal, value)}"
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(plain(f"Row {row['row_id']:,}{measured and f' · {signal.title}{measured}'}"))
            _edit_button(dataset, row["row_id"])
        show_row(row, LONGEST)


def _edit_button(dataset: Dataset, row_id: int) -> None:
    """Opens the row where it can be edited."""
    pressed = st.button(
        f"Edit row {row_id:,}",
        icon=":material/edit_note:",
        type="tertiary",
        key=f"found-edit-{row_id}",
        on_click=_open_to_edit,
        args=(dataset["dataset_id"], row_id),
    )
    if pressed:
        st.rerun()


def _open_to_edit(dataset_id: str, row_id: int) -> None:
    open_row(row_id)
    open_tab(dataset_id, ROWS_TAB)
    st.session_state["row-edit"] = True
