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

# The recipe that is being written for one data set: a list of step documents in the session.
#
# Any screen may append to it (`add`); the order is the order in which the steps run. A step that is there
# already is not added twice, and redactions are one step, so that a row is redacted once.

StepDocument = ConfigDocument  # `step`, its kind, and the options of that kind as its form says them

# name of a step -> its model
STEPS: dict[str, type[Config]] = {
    model.model_fields["step"].default: model for model in get_args(get_args(recipes.Step)[0])
}

STEP_NAMES = {
    "fix_encoding": "Fix broken characters",
    "normalise": "Normalise the text",
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
    "add_rows": "Add rows of another data set, keep the deal",
    "edit_rows": "Edit rows by hand",
}


def build_session_key(dataset_id: str) -> str:
    """Where the draft lies in the session."""
    return f"recipe-{dataset_id}"


def get_steps(dataset_id: str) -> list[StepDocument]:
    """The steps of the draft in their order."""
    draft: list[StepDocument] = st.session_state.get(build_session_key(dataset_id), [])
    return list(draft)


def set_steps(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Make these the steps of the draft."""
    st.session_state[build_session_key(dataset_id)] = list(documents)


def append_steps(dataset_id: str, documents: Iterable[StepDocument]) -> None:
    """Append steps, each unless the draft has it; kinds to redact join the redaction that is there."""
    draft = get_steps(dataset_id)
    for document in documents:
        if _has_step(draft, document):
            continue
        at = next((i for i, step in enumerate(draft) if _can_merge(step, document)), None)
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
    """Whether the draft has all of these steps."""
    draft = get_steps(dataset_id)
    return all(_has_step(draft, document) for document in documents)


def remove_step(dataset_id: str, index: int) -> None:
    """Take one step out."""
    set_steps(dataset_id, [step for i, step in enumerate(get_steps(dataset_id)) if i != index])


def move_step(dataset_id: str, index: int, by: int) -> None:
    """Move one step up (-1) or down (1); at the ends it stays."""
    draft = get_steps(dataset_id)
    to = min(max(index + by, 0), len(draft) - 1)
    draft.insert(to, draft.pop(index))
    set_steps(dataset_id, draft)


def replace_step(dataset_id: str, index: int, document: StepDocument) -> None:
    """Put another document in the place of one step."""
    draft = get_steps(dataset_id)
    draft[index] = document
    set_steps(dataset_id, draft)


def validate_steps(documents: list[StepDocument]) -> tuple[list[StepDocument], str]:
    """The steps as a recipe that runs would say them, in full, or none and what is wrong."""
    try:
        parsed = recipes.Recipe.parse({"steps": documents})
    except ConfigError as error:
        return [], str(error)
    return parsed.model_dump(exclude_none=True)["steps"], ""


def describe_step(document: StepDocument) -> str:
    """A step in plain words; its name where its options are not valid yet."""
    try:
        (step,) = recipes.Recipe.parse({"steps": [document]}).steps
    except ConfigError:
        return format_step_name(str(document.get("step", "")))
    return cleaning_text.describe_step(step)


def format_step_name(step: str) -> str:
    """What a kind of step is called; a word of another kind without its underscores."""
    return STEP_NAMES.get(step) or step.replace("_", " ").capitalize()


def _has_step(draft: list[StepDocument], document: StepDocument) -> bool:
    if document["step"] == "redact":
        kinds = {kind for step in draft if step["step"] == "redact" for kind in step.get("kinds", [])}
        return set(document["kinds"]) <= kinds
    return _fill_defaults(document) in [_fill_defaults(step) for step in draft]


def _fill_defaults(document: StepDocument) -> StepDocument:
    """With the defaults filled in, so that two ways of saying a step are one."""
    full_steps, _ = validate_steps([document])
    return full_steps[0] if full_steps else document


def _can_merge(step: StepDocument, document: StepDocument) -> bool:
    return step["step"] == document["step"] and document["step"] in ("redact", "edit_rows")


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
        last = dataset.row_count - 1
        if last < 0:
            st.caption("There is no row to edit.")
            return
        row_id = st.number_input(f"Row (0 to {last:,})", 0, last, 0, key=f"edit-row-{dataset.dataset_id}")
        with show_errors():
            _draw_editor(dataset.dataset_id, int(row_id))


def show_row_edit(dataset_id: str, row_id: int) -> None:
    """The same beside a row that is open: the edit joins the recipe of the data set."""
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
            st.rerun()  # the rows are drawn alone, and the tabs are around them


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
        st.caption("This is how the row stands in the data: there is nothing to change.")
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


def _find_row_edit(dataset_id: str, row_id: int) -> RowEdit | None:
    """What the recipe says of this row so far."""
    edits: list[RowEdit] = [
        edit
        for step in get_steps(dataset_id)
        if step["step"] == "edit_rows"
        for edit in step["edits"]
        if edit["row_id"] == row_id
    ]
    return edits[-1] if edits else None
