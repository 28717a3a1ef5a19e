"""The draft recipe of a data set: a list of step documents in the session, including one step per manual edit
of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NotRequired, TypedDict, get_args

import streamlit as st

from pages.data.explore.row_filter import CLEAN_TAB, open_tab
from pages.shared import cached_queries
from pages.shared.session import escape_markdown, show_errors
from pages.shared.text_display import NAMES
from store.core.config import Config
from store.core.errors import ConfigError
from store.core.row_schemas import Message
from store.core.schemas import ConfigDocument
from store.data import cleaning as recipes
from store.data import cleaning_text
from store.data.schemas import CanonicalRow, Dataset

StepDocument = ConfigDocument  # `step` (the kind) and the options of that kind as entered in its form

# step name -> its model
STEPS: dict[str, type[Config]] = {
    model.model_fields["step"].default: model for model in get_args(get_args(recipes.Step)[0])
}

STEP_NAMES = {
    "fix_encoding": "Fix broken characters",
    "normalise": "Normalize the text",
    "strip": "Strip white space, HTML, boilerplate",
    "map_columns": "Read other columns",
    "filter": "Filter rows",
    "drop_duplicates": "Drop duplicates",
    "redact": "Redact personal data and secrets",
    "cap_length": "Cap the length",
    "balance": "Balance a column",
    "sample": "Take a sample",
    "label_errors": "Mend label errors",
    "mix": "Mix in another data set",
    "add_rows": "Add rows of another data set, keep the split",
    "edit_rows": "Edit rows by hand",
}


def build_session_key(dataset_id: str) -> str:
    """Return the session key of the draft."""
    return f"recipe-{dataset_id}"


def get_steps(dataset_id: str) -> list[StepDocument]:
    """Return the steps of the draft in order."""
    draft: list[StepDocument] = st.session_state.get(build_session_key(dataset_id), [])
    return list(draft)


def set_steps(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Replace the steps of the draft."""
    st.session_state[build_session_key(dataset_id)] = list(documents)


def append_steps(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Append steps that the draft does not contain yet.

    Kinds to redact and row edits are merged into an existing step, so that a row is redacted only once.
    """
    draft = get_steps(dataset_id)
    for document in documents:
        if _has_step(draft, document):
            continue
        same = (i for i, step in enumerate(draft) if step["step"] == document["step"])
        at = next(same, None) if document["step"] in ("redact", "edit_rows") else None
        if at is None:
            draft.append(document)
        elif document["step"] == "redact":
            draft[at] = {**draft[at], "kinds": [*draft[at]["kinds"], *document["kinds"]]}
        else:
            edited = {edit["row_id"] for edit in document["edits"]}
            others = [edit for edit in draft[at]["edits"] if edit["row_id"] not in edited]
            draft[at] = {**draft[at], "edits": [*others, *document["edits"]]}
    set_steps(dataset_id, draft)


def has_steps(dataset_id: str, documents: Iterable[StepDocument]) -> bool:
    """Whether the draft contains all of these steps."""
    draft = get_steps(dataset_id)
    return all(_has_step(draft, document) for document in documents)


def remove_step(dataset_id: str, index: int) -> None:
    """Remove one step."""
    set_steps(dataset_id, [step for i, step in enumerate(get_steps(dataset_id)) if i != index])


def move_step(dataset_id: str, index: int, by: int) -> None:
    """Move one step up (-1) or down (1); the first and last steps stay in place."""
    draft = get_steps(dataset_id)
    to = min(max(index + by, 0), len(draft) - 1)
    draft.insert(to, draft.pop(index))
    set_steps(dataset_id, draft)


def replace_step(dataset_id: str, index: int, document: StepDocument) -> None:
    """Replace one step by another document."""
    draft = get_steps(dataset_id)
    draft[index] = document
    set_steps(dataset_id, draft)


def validate_steps(documents: list[StepDocument]) -> tuple[list[StepDocument], str]:
    """Validate the steps; return them with all options filled in, or an empty list and the error message."""
    try:
        parsed = recipes.Recipe.parse({"steps": documents})
    except ConfigError as error:
        return [], str(error)
    return parsed.model_dump(exclude_none=True)["steps"], ""


def describe_step(document: StepDocument) -> str:
    """Describe a step in plain words; return its name if its options are not valid yet."""
    try:
        (step,) = recipes.Recipe.parse({"steps": [document]}).steps
    except ConfigError:
        return format_step_name(str(document.get("step", "")))
    return cleaning_text.describe_step(step)


def format_step_name(step: str) -> str:
    """Return the title of a kind of step; any other name is written without underscores."""
    return STEP_NAMES.get(step) or step.replace("_", " ").capitalize()


def _has_step(draft: list[StepDocument], document: StepDocument) -> bool:
    if document["step"] == "redact":
        kinds = {kind for step in draft if step["step"] == "redact" for kind in step.get("kinds", [])}
        return set(document["kinds"]) <= kinds
    return _fill_defaults(document) in [_fill_defaults(step) for step in draft]


def _fill_defaults(document: StepDocument) -> StepDocument:
    """Fill in the defaults, so that equivalent steps compare equal."""
    full_steps, _ = validate_steps([document])
    return full_steps[0] if full_steps else document


class RowEdit(TypedDict):
    """A manual edit of a row in the recipe."""

    row_id: int
    messages: NotRequired[list[Message]]
    text: NotRequired[str]
    label: NotRequired[str]


def show_row_editor(dataset: Dataset) -> None:
    """Draw a collapsed editor for any row."""
    with st.expander(
        "Edit one row by hand", icon=":material/edit_note:", on_change="rerun", key="clean-edit"
    ) as box:
        if not box.open:
            return
        last = dataset.row_count - 1
        if last < 0:
            st.caption("No row to edit.")
            return
        row_id = st.number_input(f"Row (0 to {last:,})", 0, last, 0, key=f"edit-row-{dataset.dataset_id}")
        with show_errors():
            _draw_editor(dataset.dataset_id, int(row_id))


def show_row_edit(dataset_id: str, row_id: int) -> None:
    """Draw the editor beside an open row; the edit is added to the data set's recipe."""
    with st.expander("Edit this row", icon=":material/edit_note:", on_change="rerun", key="row-edit") as box:
        if not box.open:
            return
        with show_errors():
            _draw_editor(dataset_id, row_id)
        if _find_row_edit(dataset_id, row_id) and st.button(
            "Go to the recipe",
            icon=":material/cleaning_services:",
            key="row-edit-recipe",
            on_click=open_tab,
            args=(dataset_id, CLEAN_TAB),
        ):
            st.rerun()  # the rows are a fragment, and the tabs are outside it


def _draw_editor(dataset_id: str, row_id: int) -> None:
    (row,) = cached_queries.read_dataset_row(dataset_id, row_id)
    edited = _find_row_edit(dataset_id, row_id)
    so_far: RowEdit = edited or {"row_id": row_id}
    turns = so_far.get("messages") or row["messages"] or []
    with st.form(f"edit-{dataset_id}-{row_id}", border=False):
        messages: list[Message] = [
            {
                "role": turn["role"],
                "content": _draw_text_area(NAMES.get(turn["role"], turn["role"]), turn["content"], i),
            }
            for i, turn in enumerate(turns)
        ]
        text = None if turns else _draw_text_area("Text", so_far.get("text") or row["text"] or "", 0)
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
    edit = build_row_edit(row, messages, text, label)
    if len(edit) == 1:
        st.caption("The row already has these values: nothing to change.")
        return
    steps, wrong = validate_steps([{"step": "edit_rows", "edits": [edit]}])
    if wrong:
        st.error(escape_markdown(wrong), icon=":material/error:")
        return
    append_steps(dataset_id, steps)
    st.rerun()


def _draw_text_area(title: str, content: str, index: int) -> str:
    height = min(320, 70 + 24 * (content.count("\n") + len(content) // 90))
    return st.text_area(title, content, height=height, key=f"edit-turn-{index}-{hash(content)}") or ""


def build_row_edit(
    row: CanonicalRow, messages: list[Message], text: str | None, label: str | None
) -> RowEdit:
    """Build the edit of a row: its number and the fields that differ from the present row."""
    edit: RowEdit = {"row_id": row["row_id"]}
    was = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"] or []]
    if messages and messages != was:
        edit["messages"] = messages
    if text is not None and text != row["text"]:
        edit["text"] = text
    if label is not None and label != row["label"]:
        edit["label"] = label
    return edit


def _find_row_edit(dataset_id: str, row_id: int) -> RowEdit | None:
    """Return the recipe's present edit of this row, or None."""
    edits: list[RowEdit] = [
        edit
        for step in get_steps(dataset_id)
        if step["step"] == "edit_rows"
        for edit in step["edits"]
        if edit["row_id"] == row_id
    ]
    return edits[-1] if edits else None
