"""What a leak inside parts that a file fixed is mended by: rows left out of training, or another deal."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.clean.clean_make import job_key
from pages.data.rows.explore_filter import CLEAN_TAB, open_tab, show_in_table
from pages.people.edits import FieldEdit
from pages.shared.session import act
from store.config.data.filters import Filter
from store.documents.data.split import SplitCounts
from store.documents.tables.dataset import Dataset
from store.documents.tables.job_order import SplitFields

RANDOM = (
    "Equal rows and near duplicates stay on one side. Figures can't be compared with those of others who use"
    " the parts of the file."
)


def show_mending(dataset: Dataset, dealt: SplitCounts, edit: FieldEdit, settings: SplitFields) -> None:
    """A button for each way, and one that shows the rows."""
    rows, listed = dealt["leaking_rows"], dealt["leaking"]
    dataset_id = dataset["dataset_id"]
    key = f"leaks-{dataset_id}"
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-ways"):
        st.button(
            f"Leave {plural(rows, 'training row')} out",
            icon=":material/person_remove:",
            key=f"{key}-drop",
            disabled=len(listed) < rows,
            help="Makes a new version without the training rows that repeat a held-out one; the parts stay.",
            on_click=_leave_out,
            args=(dataset_id, listed),
        )
        at_random = st.button("Deal at random", icon=":material/shuffle:", key=f"{key}-deal", help=RANDOM)
        st.button(
            "Show these rows",
            icon=":material/filter_alt:",
            type="tertiary",
            key=f"{key}-show",
            on_click=show_in_table,
            args=(dataset_id, Filter(row_ids=listed)),
        )
    if len(listed) < rows:
        st.caption(
            f"Too many to list: the first {len(listed):,} of {plural(rows, 'training row')} are shown."
        )
    typed = {**settings, "split_by": "random", "split_column": None}
    if at_random and edit.save("set_split", {"dataset": dataset_id}, typed, "The rows are dealt at random."):
        st.rerun()


def _leave_out(dataset_id: str, rows: list[int]) -> None:
    """Start the new version, and turn to where its progress is shown."""
    step = {"step": "filter", "where": {"row_ids": rows}, "action": "drop"}
    made = act("clean", {"dataset": dataset_id, "name": "", "recipe": {"steps": [step]}})
    if made is not None:
        st.session_state[job_key(dataset_id)] = made["job_id"]
        open_tab(dataset_id, CLEAN_TAB)
