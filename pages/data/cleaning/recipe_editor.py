"""Editor of a draft recipe: steps can be moved, changed and removed; the options of a step are a form
generated from the step's model.
"""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Union, cast, get_args, get_origin

import streamlit as st
from pydantic.fields import FieldInfo

from pages.data.cleaning import draft
from pages.data.cleaning.draft import RowEdit, StepDocument
from pages.shared import cached_queries
from pages.shared.session import escape_markdown
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
    fields: FilterFields = {
        "search": st.text_input("Contains the words", document.get("search", ""), key=f"{key}-search"),
        "regex": st.text_input("Matches the pattern (RE2)", document.get("regex", ""), key=f"{key}-regex"),
    }
    initial: list[ConditionFields] = [*document.get("conditions", []), {}]
    conditions = [_draw_condition(start, f"{key}-{i}", columns) for i, start in enumerate(initial)]
    fields["conditions"] = [condition for condition in conditions if condition]
    fields["expression"] = st.text_input(
        "Is true (SQL)",
        document.get("expression", ""),
        key=f"{key}-expression",
        placeholder="answer_words < 3 AND language = 'en'",
    )
    if (chosen := document.get("row_ids")) is not None:
        st.caption(f"And one of {len(chosen):,} rows that were selected.")
        fields["row_ids"] = chosen
    used = {name: value for name, value in fields.items() if value or name == "row_ids"}
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


# The entered document may be invalid; the step's model validates it, and the error is shown in the form.
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
MAX_INTEGER = 2**53 - 1  # largest integer that a browser represents exactly


def draw_step_fields(
    step: str, document: StepDocument, key: str, columns: Sequence[str], dataset: Dataset
) -> StepDocument:
    """Draw every option of a step, filled from `document`, and return the entered values.

    columns: the columns a filter may use. dataset: the version that the recipe starts from.
    """
    step_document: StepDocument = {"step": step}
    for name, described in draft.STEPS[step].model_fields.items():
        if name in ("step", "edits", "called"):
            continue
        start = document.get(
            name, None if described.is_required() else described.get_default(call_default_factory=True)
        )
        value = _draw_field(name, described, start, f"{key}-{name}", columns, dataset)
        if value is not None:
            step_document[name] = value
    if step == "edit_rows":
        step_document["edits"] = _draw_row_edits(document.get("edits", []), key)
    return step_document


def _draw_field(
    name: str, described: FieldInfo, value: Any, key: str, columns: Sequence[str], dataset: Dataset
) -> Any:
    label, help_text = LABELS.get(name, draft.format_step_name(name)), described.description
    kind = _strip_optional(described.annotation)
    if kind is Filter:
        return draw_filter_fields(value or FilterFields(), key, columns)
    if name == "kinds":
        names = {kind: draft.format_step_name(kind) for kind in PII_KINDS}
        return st.multiselect(label, PII_KINDS, value, key=key, help=help_text, format_func=names.__getitem__)
    if name in ("dataset", "column", "model"):
        return _draw_choice(label, _list_choices(name, columns, dataset), value, key, help_text)
    if get_origin(kind) is Literal:
        options = get_args(kind)
        at = options.index(value) if value in options else 0
        return st.selectbox(label, options, at, key=key, help=help_text, format_func=_format_option)
    if get_origin(kind) is list:
        options = get_args(get_args(kind)[0])
        return st.multiselect(label, options, value, key=key, help=help_text, format_func=_format_option)
    if kind is bool:
        return st.toggle(label, bool(value), key=key, help=help_text)
    if kind in (int, float):
        return _draw_number(label, kind, value, key, help_text)
    if get_origin(kind) is dict:
        lines = "\n".join(f"{role}: {column}" for role, column in (value or {}).items())
        return _parse_pairs(st.text_area(label, lines, key=key, help=help_text) or "")
    return st.text_input(label, value or "", key=key, help=help_text)


def _strip_optional(annotation: Any) -> Any:
    """Return the type without None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _format_option(option: str) -> str:
    return option if option.isupper() else draft.format_step_name(option)


def _draw_number(label: str, kind: type, value: Any, key: str, help_text: str | None) -> int | float | None:
    """Draw a number input; an empty field means the step's default."""
    if kind is int:
        start = None if value is None else int(value)
        return st.number_input(
            label, 0, MAX_INTEGER, start, 1, key=key, help=help_text, placeholder="automatic"
        )
    start_at = None if value is None else float(value)
    return st.number_input(label, 0.0, 1.0, start_at, 0.05, "%.2f", key=key, help=help_text)


def _draw_choice(label: str, options: list[str], value: Any, key: str, help_text: str | None) -> str | None:
    if value and value not in options:
        options = [value, *options]
    at = options.index(value) if value in options else None
    return st.selectbox(label, options, at, key=key, help=help_text, accept_new_options=True)


def _list_choices(name: str, columns: Sequence[str], dataset: Dataset) -> list[str]:
    if name == "dataset":
        return [row.name for row in cached_queries.list_datasets() if row.dataset_id != dataset.dataset_id]
    if name == "model":
        return [model.name for model in cached_queries.list_models()]
    return list(columns)


def _parse_pairs(text: str) -> dict[str, str]:
    split = (line.partition(":") for line in text.splitlines() if line.strip())
    return {role.strip(): column.strip() for role, _, column in split}


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
        document = draw_step_fields(name, step, f"step-{dataset_id}-{index}-{name}", columns, dataset)
        with st.container(horizontal=True):
            label = "Add" if index == NEW else "Apply"
            applied = st.form_submit_button(label, icon=":material/check:")
            closed = st.form_submit_button("Cancel", type="tertiary")
    if closed:
        _close_step(dataset_id)
        st.rerun()
    if not applied:
        return
    if name == EDIT_ROWS_STEP and not document["edits"]:
        _remove_step(dataset_id, index)
        st.rerun()
    steps, wrong = draft.validate_steps([document])
    if wrong:
        st.error(escape_markdown(wrong.replace(f"steps.0.{name}.", "").replace("steps.0.", "")))
        return
    if index == NEW:
        draft.append_steps(dataset_id, steps)
    else:
        draft.replace_step(dataset_id, index, steps[0])
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
