"""A filter as fields of a form: words, a pattern, conditions on columns, SQL; a document of
store.config.data.filters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypedDict, cast, get_args

import streamlit as st

from store.catalog.signals import SIGNALS
from store.config.data.filters import Op

OPS: tuple[str, ...] = get_args(Op)
WITHOUT_VALUE = ("is empty", "is not empty")


class ConditionFields(TypedDict, total=False):
    """A condition on a column (`store.config.data.filters.Condition`)."""

    column: str
    op: str
    value: Any  # by the operator: a text, a number, true or false, a list


class FilterFields(TypedDict, total=False):
    """A filter (`store.config.data.filters.Filter`); parts that are not used are missing."""

    search: str
    regex: str
    conditions: list[ConditionFields]
    expression: str
    row_ids: list[int] | None


def filter_fields(document: FilterFields, key: str, columns: Sequence[str]) -> FilterFields:
    """Draw the fields, filled from `document`, with room for one more condition; what they say now."""
    fields: FilterFields = {
        "search": st.text_input("Contains the words", document.get("search", ""), key=f"{key}-search"),
        "regex": st.text_input("Matches the pattern (RE2)", document.get("regex", ""), key=f"{key}-regex"),
    }
    initial: list[ConditionFields] = [*document.get("conditions", []), {}]
    conditions = [_condition(start, f"{key}-{i}", columns) for i, start in enumerate(initial)]
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
    return cast(FilterFields, used)  # the same without what is empty


def _condition(initial: ConditionFields, key: str, columns: Sequence[str]) -> ConditionFields | None:
    """One condition; none where its column is empty."""
    chosen = initial.get("column")
    options = list(columns) if chosen in columns or not chosen else [chosen, *columns]
    column = st.selectbox(
        "Column",
        options,
        options.index(chosen) if chosen else None,
        key=f"{key}-column",
        format_func=_column_words,
        placeholder="Add a condition",
    )
    op_at, value_at = st.columns(2)
    with op_at:
        op = st.selectbox("Is", OPS, OPS.index(initial.get("op", "is")), key=f"{key}-op")
    with value_at:
        text = st.text_input("Value", _as_text(initial), key=f"{key}-value", placeholder="none")
    if not column:
        return None
    condition: ConditionFields = {"column": column, "op": op}
    return condition if op in WITHOUT_VALUE else {**condition, "value": _as_value(text or "")}


def _column_words(column: str) -> str:
    return SIGNALS[column].title if column in SIGNALS else column


def _as_text(condition: ConditionFields) -> str:
    value = condition.get("value")
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _as_value(text: str) -> Any:
    """A number, true, false or a list where it is written as one; no text is no value; else the text."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
