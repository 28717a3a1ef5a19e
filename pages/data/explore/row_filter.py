"""The row filter of a data set, shared by table, map and cleaning, and the bar that shows and edits it.

The link holds it as compact JSON (`?filter=`), so that it can be shared. A selection of thousands of rows
does not fit into a link: it is kept in the session, and can be shared as a slice.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.shared.session import escape_markdown
from store.core.errors import ConfigError
from store.core.languages import SPOKEN, format_column_value
from store.core.row_schemas import SignalFigure
from store.data.cleaning_text import describe_filter
from store.data.exploration import DatasetTable, TableColumn, format_filter_json
from store.data.filters import Condition, Filter

SUMMARY_TAB = ":material/troubleshoot: Summary"
ROWS_TAB = ":material/table_rows: Rows"
CLEAN_TAB = ":material/cleaning_services: Clean"
SPLIT_TAB = ":material/call_split: Split"
MAX_LINK_CHARACTERS = 4000  # maximum length of a filter in a link


def read_filter(dataset_id: str) -> Filter:
    """Return the present filter. Raises ConfigError (field filter) if the link's filter cannot be parsed."""
    text = st.query_params.get("filter")
    if text is None:
        kept: Filter | None = st.session_state.get(_key(dataset_id))
        return kept or Filter()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError("The filter in this link is not whole.", field="filter") from error
    return Filter.parse(document)


def set_filter(dataset_id: str, where: Filter) -> None:
    """Set the filter and close the open row. An empty filter is removed from the link."""
    st.session_state.pop(_key(dataset_id), None)
    st.query_params.pop("row", None)
    text = format_filter_json(where)
    if text and len(text) <= MAX_LINK_CHARACTERS:
        st.query_params["filter"] = text
        return
    st.query_params.pop("filter", None)
    if text:
        st.session_state[_key(dataset_id)] = where


def show_in_table(dataset_id: str, where: Filter) -> None:
    """Set the filter and open the Rows tab, from anywhere on the page."""
    set_filter(dataset_id, where)
    open_tab(dataset_id, ROWS_TAB)


def open_row(number: int | None) -> None:
    """Write the number of a row to the link, or remove it."""
    if number is None:
        st.query_params.pop("row", None)
    else:
        st.query_params["row"] = str(number)


def open_tab(dataset_id: str, title: str) -> None:
    """Open a tab of the data set's page. Call it in a callback, or before the tabs are drawn."""
    st.session_state[tabs_key(dataset_id)] = title


def tabs_key(dataset_id: str) -> str:
    """Return the session key of the open tab of a data set's page."""
    return f"dataset-tabs-{dataset_id}"


def toggle_condition(where: Filter, condition: Condition) -> Filter:
    """Return the filter after a click on a bar.

    The bar's condition replaces that of another bar of the same column; if it is already set, it is removed.
    """
    facet = (condition.column, condition.op) if condition.op in ("is", "between") else None
    others = [existing for existing in where.conditions if (existing.column, existing.op) != facet]
    if condition not in where.conditions:
        others.append(condition)
    return where.model_copy(update={"conditions": others})


def has_condition(where: Filter, condition: Condition) -> bool:
    """Whether the bar with this condition is selected."""
    return condition in where.conditions


def format_column(column: TableColumn) -> str:
    """Return the displayed name of a column; columns of the file are marked."""
    return f"{column.title} (file)" if column.name.startswith("source.") else column.title


def is_too_long_for_link(dataset_id: str) -> bool:
    """Whether the filter is only in the session."""
    return _key(dataset_id) in st.session_state


def _key(dataset_id: str) -> str:
    return f"filter-{dataset_id}"


OPS: dict[str, tuple[str, ...]] = {
    "number": (">", ">=", "<", "<=", "between", "is", "is not", "is empty", "is not empty"),
    "flag": ("is",),
    "category": ("is", "is not", "contains", "matches", "is empty", "is not empty"),
    "group": ("is not empty", "is empty", "is"),
    "text": ("contains", "matches", "is", "is not", "is empty", "is not empty"),
}


def show_search(rows: DatasetTable, where: Filter) -> None:
    """Draw the search box, which follows changes of the filter made elsewhere."""
    dataset_id = rows.dataset.dataset_id
    text_key, regex_key = f"rows-search-{dataset_id}", f"rows-regex-{dataset_id}"
    if where.search or where.regex:
        st.session_state[regex_key] = bool(where.regex)
    st.session_state[text_key] = where.regex or where.search

    def searched() -> None:
        typed = (st.session_state[text_key] or "").strip()
        regex = bool(st.session_state.get(regex_key))
        changed = {"search": "" if regex else typed, "regex": typed if regex else ""}
        set_filter(dataset_id, where.model_copy(update=changed))

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text_input(
            "Search",
            key=text_key,
            type="search",
            live="400ms",
            placeholder="Search in the text",
            label_visibility="collapsed",
            icon=":material/search:",
            on_change=searched,
        )
        st.toggle(
            "Regex",
            key=regex_key,
            on_change=searched,
            help="An RE2 regular expression, found anywhere in the text; (?i) at its start ignores case",
        )


def show_chips(dataset_id: str, where: Filter) -> None:
    """Draw each part of the filter as a button that removes it."""
    parts = _split_filter(where)
    if not parts:
        return
    with st.container(horizontal=True, gap="xsmall", key=f"filter-chips-{dataset_id}"):
        for place, (text, rest) in enumerate(parts):
            st.button(
                escape_markdown(text),
                icon=":material/close:",
                key=f"filter-chip-{dataset_id}-{place}",
                on_click=set_filter,
                args=(dataset_id, rest),
                help="Take this part of the filter away",
            )
        if len(parts) > 1:
            st.button(
                "Clear all",
                type="tertiary",
                key=f"filter-clear-{dataset_id}",
                on_click=set_filter,
                args=(dataset_id, Filter()),
            )
    if is_too_long_for_link(dataset_id):
        st.caption("This selection is too long for a link. Save it as a slice to share it.")


def _split_filter(where: Filter) -> list[tuple[str, Filter]]:
    """Return each part of the filter in words, with the filter without it."""
    parts = []
    for field in ("search", "regex", "expression", "row_ids"):
        empty = None if field == "row_ids" else ""
        value = getattr(where, field)
        if value is not None and value != "":
            parts.append((describe_filter(Filter(**{field: value})), where.model_copy(update={field: empty})))
    for place, condition in enumerate(where.conditions):
        rest = [other for at, other in enumerate(where.conditions) if at != place]
        parts.append(
            (describe_filter(Filter(conditions=[condition])), where.model_copy(update={"conditions": rest}))
        )
    return parts


def show_condition_form(rows: DatasetTable, where: Filter) -> None:
    """Draw a form to add a condition: column, operator and value."""
    dataset_id = rows.dataset.dataset_id
    key = f"filter-add-{dataset_id}"
    with st.popover("Filter", icon=":material/filter_alt:"):
        names = list(rows.columns)
        name = st.selectbox(
            "Column", names, format_func=lambda n: format_column(rows.columns[n]), key=f"{key}-column"
        )
        column = rows.columns[name]
        op = st.selectbox("Condition", OPS[column.type], key=f"{key}-op-{column.type}")
        value = _draw_value_input(rows, column, op, key)
        if column.means:
            st.caption(escape_markdown(column.means))
        pressed = st.button("Add", type="primary", key=f"{key}-button", icon=":material/add:")
    if pressed:
        condition = Condition(column=name, op=op, value=value)
        added = where.model_copy(update={"conditions": [*where.conditions, condition]})
        added.where({each.name: each.type for each in rows.columns.values()})
        set_filter(dataset_id, added)
        st.rerun()


def _draw_value_input(rows: DatasetTable, column: TableColumn, op: str, key: str) -> Any:
    """Draw the input of the value to compare with, by the column's type."""
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
    if column.name == SPOKEN and op in ("is", "is not"):
        spoken: SignalFigure = rows.measured["text"].figures[SPOKEN]
        languages = list(spoken["values"]) if "values" in spoken else []
        return st.selectbox(
            "Value", languages, format_func=_format_language, key=f"{key}-language", accept_new_options=True
        )
    return st.text_input("Value", key=f"{key}-text")


def _format_language(code: str) -> str:
    return str(format_column_value(SPOKEN, code))
