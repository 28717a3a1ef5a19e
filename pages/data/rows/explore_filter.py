"""The filter of a data set's page: one for the table, the map and the cleaning, kept in the link.

`?filter=` holds it as compact JSON, so that it can be sent to a colleague. A selection of thousands of rows
does not fit into a link: it is kept in the session, and saved as a slice to be shared.
"""

from __future__ import annotations

import json

import streamlit as st

from store.config.data.filters import Condition, Filter
from store.contract.errors import ConfigError
from store.queries.data.explore import TableColumn, filter_json

SUMMARY_TAB = ":material/troubleshoot: Summary"
ROWS_TAB = ":material/table_rows: Rows"
CLEAN_TAB = ":material/cleaning_services: Clean"
SPLIT_TAB = ":material/call_split: Split"
LINKED = 4000  # characters of a filter that a link takes


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


def open_row(number: int | None) -> None:
    """Make the link name a row, or none."""
    if number is None:
        st.query_params.pop("row", None)
    else:
        st.query_params["row"] = str(number)


def open_tab(dataset_id: str, title: str) -> None:
    """Turn to a tab of the data set's page; for callbacks, and before the tabs are drawn."""
    st.session_state[tabs_key(dataset_id)] = title


def tabs_key(dataset_id: str) -> str:
    """Where the session keeps which tab of a data set's page is open."""
    return f"dataset-tabs-{dataset_id}"


def toggled(where: Filter, condition: Condition) -> Filter:
    """The filter after a click on a bar: with the bar's condition in place of another that a bar of the
    same column made, or without it where it was there."""
    others = [existing for existing in where.conditions if not _same_bar_row(existing, condition)]
    if condition not in where.conditions:
        others.append(condition)
    return where.model_copy(update={"conditions": others})


def holds(where: Filter, condition: Condition) -> bool:
    """Whether the bar of this condition is chosen."""
    return condition in where.conditions


def label(column: TableColumn) -> str:
    """A column's name for people; that of the file's columns says so."""
    return f"{column.title} (file)" if column.name.startswith("source.") else column.title


def _same_bar_row(condition: Condition, other: Condition) -> bool:
    return condition.column == other.column and condition.op in ("is", "between") and condition.op == other.op


def too_long_for_a_link(dataset_id: str) -> bool:
    """Whether the session alone holds the filter."""
    return _key(dataset_id) in st.session_state


def _key(dataset_id: str) -> str:
    return f"filter-{dataset_id}"
