"""Editor of a draft recipe: steps can be moved, changed and removed; the options of a step are a form
generated from the step's model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict, cast, get_args

import streamlit as st

from pages.data.cleaning import draft
from pages.data.cleaning.draft import RowEdit, StepDocument
from pages.shared import cached_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown
from store.core.config import Config
from store.core.model_fields import FieldDisplay, read_kind
from store.data.cleaning import PII_KINDS
from store.data.filters import Filter, Op
from store.data.schemas import Dataset
from store.data.signals import SIGNALS

OPS: tuple[str, ...] = get_args(Op)
WITHOUT_VALUE = ("is empty", "is not empty")


class ConditionFields(TypedDict, total=False):
    """A condition on a column (`store.data.filters.Condition`)."""

    column: str
    op: str
    value: Any  # depends on the operator: text, number, boolean or list


class FilterFields(TypedDict, total=False):
    """A filter (`store.data.filters.Filter`); unused parts are missing."""

    search: str
    regex: str
    conditions: list[ConditionFields]
    expression: str
    row_ids: list[int] | None


def draw_filter_fields(document: FilterFields, key: str, columns: Sequence[str]) -> FilterFields:
    """Draw the fields of a filter and return their values.

    The fields are filled from `document`, with room for one more condition.
    """
    form = ModelForm(Filter, f"{key}-", document)
    form.draw_field("search", label="Contains the words")
    form.draw_field("regex", label="Matches the pattern (RE2)")
    initial: list[ConditionFields] = [*document.get("conditions", []), {}]
    conditions = [_draw_condition(start, f"{key}-{i}", columns) for i, start in enumerate(initial)]
    form.put(conditions=[condition for condition in conditions if condition])
    example = FieldDisplay(example="answer_words < 3 AND language = 'en'")
    form.draw_field("expression", label="Is true (SQL)", display=example)
    if (chosen := document.get("row_ids")) is not None:
        st.caption(f"And one of {len(chosen):,} rows that were selected.")
        form.put(row_ids=chosen)
    used = {name: value for name, value in form.values.items() if value or name == "row_ids"}
    return cast(FilterFields, used)  # without empty parts


def _draw_condition(initial: ConditionFields, key: str, columns: Sequence[str]) -> ConditionFields | None:
    """Draw one condition; None if its column is empty."""
    chosen = initial.get("column")
    options = list(columns) if chosen in columns or not chosen else [chosen, *columns]
    column = st.selectbox(
        "Column",
        options,
        options.index(chosen) if chosen else None,
        key=f"{key}-column",
        format_func=_format_column,
        placeholder="Add a condition",
    )
    op_at, value_at = st.columns(2)
    with op_at:
        op = st.selectbox("Is", OPS, OPS.index(initial.get("op", "is")), key=f"{key}-op")
    with value_at:
        text = st.text_input("Value", _format_value(initial), key=f"{key}-value", placeholder="none")
    if not column:
        return None
    condition: ConditionFields = {"column": column, "op": op}
    return condition if op in WITHOUT_VALUE else {**condition, "value": _parse_value(text or "")}


def _format_column(column: str) -> str:
    return SIGNALS[column].title if column in SIGNALS else column


def _format_value(condition: ConditionFields) -> str:
    value = condition.get("value")
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _parse_value(text: str) -> Any:
    """Parse a number, true, false or a list from JSON; other text is returned as it is, no text as None."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


# Fields have plain labels, with the field's description as help.

LABELS = {
    "unicode": "Unicode form",
    "white_space": "Tidy white space",
    "html": "Remove HTML",
    "boilerplate": "Remove boilerplate",
    "kind": "Which duplicates",
    "keep": "Row to keep",
    "kinds": "What to redact",
    "most": "At most",
    "by": "Chosen",
    "dataset": "Rows of",
    "parts": "Which of its parts",
    "run": "Keep the split of the run",
    "share": "Share of the whole (0 to 1)",
    "where": "Rows",
    "threshold": "Similarity for near duplicates (0.5 to 1)",
    "columns": "Columns, one a line (role: column)",
}


def draw_step_fields(
    step: str, document: StepDocument, key: str, columns: Sequence[str], dataset: Dataset
) -> ModelForm[Config]:
    """Draw every option of a step, filled from `document`, and return the form.

    columns: the columns a filter may use. dataset: the version that the recipe starts from.
    """
    form = ModelForm(draft.STEPS[step], f"{key}-", document)
    for name, described in form.model.model_fields.items():
        label = LABELS.get(name, draft.format_step_name(name))
        if name == "where":
            form.put(where=draw_filter_fields(document.get(name) or FilterFields(), f"{key}-{name}", columns))
        elif name == "columns":
            lines = "\n".join(f"{role}: {column}" for role, column in document.get(name, {}).items())
            pairs = st.text_area(label, lines, key=f"{key}-{name}", help=described.description) or ""
            split = (line.partition(":") for line in pairs.splitlines() if line.strip())
            form.put(columns={role.strip(): column.strip() for role, _, column in split})
        elif name not in ("step", "edits", "called"):
            listed = read_kind(described.annotation).choices
            choices = {option: _format_option(option) for option in listed} if listed else None
            form.draw_field(name, choices=_list_choices(name, columns, dataset) or choices, label=label)
    if step == EDIT_ROWS_STEP:
        form.put(edits=_draw_row_edits(document.get("edits", []), key))
    # an empty field means the default of the step
    form.values = {name: value for name, value in form.values.items() if value not in (None, "")}
    return form


def _list_choices(name: str, columns: Sequence[str], dataset: Dataset) -> dict[str, str]:
    """Return values and titles of an option that its model leaves open; empty for any other."""
    if name == "kinds":
        return {kind: draft.format_step_name(kind) for kind in PII_KINDS}
    if name == "dataset":
        names = [row.name for row in cached_queries.list_datasets() if row.dataset_id != dataset.dataset_id]
    elif name == "model":
        names = [model.name for model in cached_queries.list_models()]
    else:
        names = list(columns) if name == "column" else []
    return {name: name for name in names}


def _format_option(option: str) -> str:
    return option if option.isupper() else draft.format_step_name(option)


def _draw_row_edits(edits: list[RowEdit], key: str) -> list[RowEdit]:
    """Draw the rows edited by hand, each of which can be removed; to change an edit, edit the row again."""
    st.caption("Edit the row again to change its text.")
    options = [edit["row_id"] for edit in edits]
    kept = st.multiselect("Edited rows", options, options, key=f"{key}-edits", format_func="Row {:,}".format)
    return [edit for edit in edits if edit["row_id"] in kept]


NEW = -1  # index of a step that is not in the recipe yet
EDIT_ROWS_STEP = "edit_rows"


def show_recipe(dataset: Dataset, columns: list[str]) -> None:
    """Draw the list of steps, the form of the open step, and "Add a step"."""
    dataset_id = dataset.dataset_id
    steps = draft.get_steps(dataset_id)
    st.subheader("Recipe", anchor="recipe")
    if not steps:
        st.caption("No steps yet. Use the button of a finding, or add a step.")
    opened = st.session_state.get(_open_key(dataset_id))
    for index, step in enumerate(steps):
        _draw_step(dataset_id, index, step, len(steps))
        if opened and opened[0] == index:
            _draw_step_form(dataset, index, step, columns)
    if opened and opened[0] == NEW:
        _draw_step_form(dataset, NEW, {"step": opened[1]}, columns)
    st.selectbox(
        "Add a step",
        [name for name in draft.STEPS if name != EDIT_ROWS_STEP],
        None,
        format_func=draft.format_step_name,
        placeholder="Add a step",
        label_visibility="collapsed",
        key=_add_key(dataset_id),
        on_change=_add_step,
        args=(dataset_id,),
    )


def _draw_step(dataset_id: str, index: int, step: StepDocument, count: int) -> None:
    with st.container(border=True, key=f"step-{dataset_id}-{index}", gap="xsmall"):
        st.markdown(f"{index + 1}. {escape_markdown(draft.describe_step(step))}")
        with st.container(horizontal=True, gap="small"):
            for name, by, icon, end in (
                ("up", -1, ":material/arrow_upward:", index == 0),
                ("down", 1, ":material/arrow_downward:", index == count - 1),
            ):
                st.button(
                    f"Move {name}",
                    icon=icon,
                    type="tertiary",
                    disabled=end,
                    key=f"step-{name}-{index}",
                    on_click=_move_step,
                    args=(dataset_id, index, by),
                )
            st.button(
                "Options",
                icon=":material/tune:",
                type="tertiary",
                disabled=len(draft.STEPS[step["step"]].model_fields) == 1,
                key=f"step-options-{index}",
                on_click=_open_step,
                args=(dataset_id, index, step["step"]),
            )
            st.button(
                "Remove",
                icon=":material/close:",
                type="tertiary",
                key=f"step-remove-{index}",
                on_click=_remove_step,
                args=(dataset_id, index),
            )


def _draw_step_form(dataset: Dataset, index: int, step: StepDocument, columns: list[str]) -> None:
    dataset_id, name = dataset.dataset_id, step["step"]
    model = draft.STEPS[name]
    with st.form(f"step-form-{dataset_id}-{index}-{name}"):
        st.markdown(f"**{draft.format_step_name(name)}**")
        st.caption((model.__doc__ or "").strip())
        form = draw_step_fields(name, step, f"step-{dataset_id}-{index}-{name}", columns, dataset)
        with st.container(horizontal=True):
            label = "Add" if index == NEW else "Apply"
            applied = st.form_submit_button(label, icon=":material/check:")
            closed = st.form_submit_button("Cancel", type="tertiary")
    if closed:
        _close_step(dataset_id)
        st.rerun()
    if not applied:
        return
    if name == EDIT_ROWS_STEP and not form.values["edits"]:
        _remove_step(dataset_id, index)
        st.rerun()
    parsed = form.parse()
    if parsed is None:
        return
    document = parsed.model_dump(exclude_none=True)
    if index == NEW:
        draft.append_steps(dataset_id, [document])
    else:
        draft.replace_step(dataset_id, index, document)
    _close_step(dataset_id)
    st.rerun()


def _add_step(dataset_id: str) -> None:
    """Callback of the select box: add a step without options, open the form of any other step."""
    name = st.session_state[_add_key(dataset_id)]
    st.session_state[_add_key(dataset_id)] = None
    if name is None:
        return
    if len(draft.STEPS[name].model_fields) == 1:
        draft.append_steps(dataset_id, [{"step": name}])
    else:
        _open_step(dataset_id, NEW, name)


def _open_step(dataset_id: str, index: int, name: str) -> None:
    st.session_state[_open_key(dataset_id)] = (index, name)


def _close_step(dataset_id: str) -> None:
    st.session_state.pop(_open_key(dataset_id), None)


def _move_step(dataset_id: str, index: int, by: int) -> None:
    _close_step(dataset_id)
    draft.move_step(dataset_id, index, by)


def _remove_step(dataset_id: str, index: int) -> None:
    _close_step(dataset_id)
    draft.remove_step(dataset_id, index)


def _open_key(dataset_id: str) -> str:
    return f"clean-open-{dataset_id}"


def _add_key(dataset_id: str) -> str:
    return f"clean-add-{dataset_id}"
