"""One row changed by hand: its turns or its text, and its label; the change becomes a step of the recipe."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import streamlit as st

from pages.data.rows import clean_draft
from pages.data.rows.explore_filter import CLEAN_TAB, open_tab
from pages.shared import reads
from pages.shared.conversation import NAMES
from pages.shared.session import guarded, plain
from store.documents.data.row import Message
from store.documents.tables.dataset import CanonicalRow, Dataset


class RowEdit(TypedDict):
    """What the recipe changes of a row by hand."""

    row_id: int
    messages: NotRequired[list[Message]]
    text: NotRequired[str]
    label: NotRequired[str]


def show_row_editor(dataset: Dataset) -> None:
    """Folded away until somebody wants to edit a row."""
    with st.expander(
        "Edit one row by hand", icon=":material/edit_note:", on_change="rerun", key="clean-edit"
    ) as box:
        if not box.open:
            return
        last = dataset["row_count"] - 1
        if last < 0:
            st.caption("There is no row to edit.")
            return
        row_id = st.number_input(f"Row (0 to {last:,})", 0, last, 0, key=f"edit-row-{dataset['dataset_id']}")
        with guarded():
            _editor(dataset["dataset_id"], int(row_id))


def show_edit_here(dataset_id: str, row_id: int) -> None:
    """The same beside a row that is open: the edit joins the recipe of the data set."""
    with st.expander("Edit this row", icon=":material/edit_note:", on_change="rerun", key="row-edit") as box:
        if not box.open:
            return
        with guarded():
            _editor(dataset_id, row_id)
        if _edited(dataset_id, row_id) and st.button(
            "Go to the recipe",
            icon=":material/cleaning_services:",
            key="row-edit-recipe",
            on_click=open_tab,
            args=(dataset_id, CLEAN_TAB),
        ):
            st.rerun()  # the rows are drawn alone, and the tabs are around them


def _editor(dataset_id: str, row_id: int) -> None:
    (row,) = reads.dataset_row(dataset_id, row_id)
    edited = _edited(dataset_id, row_id)
    so_far: RowEdit = edited or {"row_id": row_id}
    turns = so_far.get("messages") or row["messages"] or []
    with st.form(f"edit-{dataset_id}-{row_id}", border=False):
        messages: list[Message] = [
            {
                "role": turn["role"],
                "content": _area(NAMES.get(turn["role"], turn["role"]), turn["content"], i),
            }
            for i, turn in enumerate(turns)
        ]
        text = None if turns else _area("Text", so_far.get("text") or row["text"] or "", 0)
        present_label = so_far.get("label") or row["label"]
        label = (
            None
            if row["label"] is None
            else st.text_input("Label", present_label, key=f"edit-label-{row_id}")
        )
        pressed = st.form_submit_button("Add this edit to the recipe", icon=":material/add:")
    if edited:
        st.caption("The recipe changes this row already; this is how. Its options can take that out.")
    if not pressed:
        return
    edit = changes(row, messages, text, label)
    if len(edit) == 1:
        st.caption("This is how the row stands in the data: there is nothing to change.")
        return
    steps, wrong = clean_draft.check([{"step": "edit_rows", "edits": [edit]}])
    if wrong:
        st.error(plain(wrong), icon=":material/error:")
        return
    clean_draft.add(dataset_id, steps)
    st.rerun()


def _area(title: str, content: str, index: int) -> str:
    height = min(320, 70 + 24 * (content.count("\n") + len(content) // 90))
    return st.text_area(title, content, height=height, key=f"edit-turn-{index}-{hash(content)}") or ""


def changes(row: CanonicalRow, messages: list[Message], text: str | None, label: str | None) -> RowEdit:
    """The edit of a row: what differs from the row as it is, and its number."""
    edit: RowEdit = {"row_id": row["row_id"]}
    was = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"] or []]
    if messages and messages != was:
        edit["messages"] = messages
    if text is not None and text != row["text"]:
        edit["text"] = text
    if label is not None and label != row["label"]:
        edit["label"] = label
    return edit


def _edited(dataset_id: str, row_id: int) -> RowEdit | None:
    """What the recipe says of this row so far."""
    edits: list[RowEdit] = [
        edit
        for step in clean_draft.steps(dataset_id)
        if step["step"] == "edit_rows"
        for edit in step["edits"]
        if edit["row_id"] == row_id
    ]
    return edits[-1] if edits else None
