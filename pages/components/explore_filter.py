"""The filter of a data set's page: one for the table, the map and the cleaning, kept in the link.

`?filter=` holds it as compact JSON, so that it can be sent to a colleague. A selection of thousands of rows
does not fit into a link: it is kept in the session, and saved as a slice to be shared.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.components.session import plain
from store.errors import ConfigError
from store.explore import Column, Rows, filter_json
from store.filters import Condition, Filter
from store.recipe_words import words

SUMMARY_TAB = ":material/troubleshoot: Summary"
ROWS_TAB = ":material/table_rows: Rows"
CLEAN_TAB = ":material/cleaning_services: Clean"
LINKED = 4000  # characters of a filter that a link takes
OPS: dict[str, tuple[str, ...]] = {
    "number": (">", ">=", "<", "<=", "between", "is", "is not", "is empty", "is not empty"),
    "flag": ("is",),
    "category": ("is", "is not", "contains", "matches", "is empty", "is not empty"),
    "group": ("is not empty", "is empty", "is"),
    "text": ("contains", "matches", "is", "is not", "is empty", "is not empty"),
}


def current(dataset_id: str) -> Filter:
    """The filter that is set. Raises ConfigError (field filter) where that of the link can't be read."""
    text = st.query_params.get("filter")
    if text is None:
        kept: Filter | None = st.session_state.get(_key(dataset_id))
        return kept or Filter()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError("The filter in this link is not whole.", field="filter") from error
    return Filter.parse(document)


def change(dataset_id: str, where: Filter) -> None:
    """Set the filter; the open row is closed. An empty one takes it out of the link."""
    st.session_state.pop(_key(dataset_id), None)
    st.query_params.pop("row", None)
    text = filter_json(where)
    if text and len(text) <= LINKED:
        st.query_params["filter"] = text
        return
    st.query_params.pop("filter", None)
    if text:
        st.session_state[_key(dataset_id)] = where


def show_in_table(dataset_id: str, where: Filter) -> None:
    """Set the filter and turn to the rows, from wherever on the page."""
    change(dataset_id, where)
    open_tab(dataset_id, ROWS_TAB)


def open_tab(dataset_id: str, title: str) -> None:
    """Turn to a tab of the data set's page; for callbacks, and before the tabs are drawn."""
    st.session_state[tabs_key(dataset_id)] = title


def tabs_key(dataset_id: str) -> str:
    """Where the session keeps which tab of a data set's page is open."""
    return f"dataset-tabs-{dataset_id}"


def toggled(where: Filter, condition: Condition) -> Filter:
    """The filter after a click on a bar: with the bar's condition in place of another that a bar of the
    same column made, or without it where it was there."""
    others = [one for one in where.conditions if not _same_bar_row(one, condition)]
    if condition not in where.conditions:
        others.append(condition)
    return where.model_copy(update={"conditions": others})


def holds(where: Filter, condition: Condition) -> bool:
    """Whether the bar of this condition is chosen."""
    return condition in where.conditions


def show_chips(dataset_id: str, where: Filter) -> None:
    """Each part of the filter as a button that takes it away."""
    parts = _parts(where)
    if not parts:
        return
    with st.container(horizontal=True, gap="xsmall", key=f"filter-chips-{dataset_id}"):
        for place, (text, rest) in enumerate(parts):
            st.button(
                plain(text),
                icon=":material/close:",
                key=f"filter-chip-{dataset_id}-{place}",
                on_click=change,
                args=(dataset_id, rest),
                help="Take this part of the filter away",
            )
        if len(parts) > 1:
            st.button(
                "Clear all",
                type="tertiary",
                key=f"filter-clear-{dataset_id}",
                on_click=change,
                args=(dataset_id, Filter()),
            )
    if st.session_state.get(_key(dataset_id)):
        st.caption("This selection is too long for a link. Save it as a slice to share it.")


def _parts(where: Filter) -> list[tuple[str, Filter]]:
    """Each part of the filter in words, and the filter without it."""
    found = []
    for field in ("search", "regex", "expression", "row_ids"):
        empty = None if field == "row_ids" else ""
        value = getattr(where, field)
        if value is not None and value != "":
            found.append((words(Filter(**{field: value})), where.model_copy(update={field: empty})))
    for place, condition in enumerate(where.conditions):
        rest = [one for at, one in enumerate(where.conditions) if at != place]
        found.append((words(Filter(conditions=[condition])), where.model_copy(update={"conditions": rest})))
    return found


def show_adder(rows: Rows, where: Filter) -> None:
    """Column, operator and value of one more condition."""
    dataset_id = rows.dataset["dataset_id"]
    key = f"filter-add-{dataset_id}"
    with st.popover("Filter", icon=":material/filter_alt:"):
        names = list(rows.known)
        name = st.selectbox("Column", names, format_func=lambda n: label(rows.known[n]), key=f"{key}-column")
        column = rows.known[name]
        op = st.selectbox("Condition", OPS[column.type], key=f"{key}-op-{column.type}")
        value = _value(column, op, key)
        if column.means:
            st.caption(plain(column.means))
        pressed = st.button("Add", type="primary", key=f"{key}-button", icon=":material/add:")
    if pressed:
        condition = Condition(column=name, op=op, value=value)
        added = where.model_copy(update={"conditions": [*where.conditions, condition]})
        added.where({each.name: each.type for each in rows.known.values()})
        change(dataset_id, added)
        st.rerun()


def _value(column: Column, op: str, key: str) -> Any:
    """What the column is compared with, asked for as its type has it."""
    if op in ("is empty", "is not empty"):
        return None
    if column.type == "flag":
        return st.segmented_control("Value", ["yes", "no"], default="yes", key=f"{key}-flag") != "no"
    if column.type == "number" and op == "between":
        low, high = st.columns(2)
        first = low.number_input("From", value=0.0, format="%g", key=f"{key}-low")
        return [first, high.number_input("To below", value=1.0, format="%g", key=f"{key}-high")]
    if column.type in ("number", "group"):
        number = st.number_input("Value", value=0.0, format="%g", key=f"{key}-number")
        return int(number) if float(number).is_integer() else number
    return st.text_input("Value", key=f"{key}-text")


def label(column: Column) -> str:
    """A column's name for people; that of the file's columns says so."""
    return f"{column.title} (file)" if column.name.startswith("source.") else column.title


def _same_bar_row(one: Condition, other: Condition) -> bool:
    return one.column == other.column and one.op in ("is", "between") and one.op == other.op


def _key(dataset_id: str) -> str:
    return f"filter-{dataset_id}"
