"""What the map reads: the points that are drawn, and the places of all rows for what is marked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import streamlit as st

from pages.data.rows import explore_reads
from pages.data.rows.map_selection import MapMarks, filter_of
from pages.shared.session import client, remembered
from store.config.data.filters import Filter, quoted
from store.queries.data.explore import DatasetTable

DRAWN = 20_000  # points: a browser moves so many without delay
TEXT = 240  # characters of a row that hovering shows
CHOSEN_FROM = 2_000  # values to choose from; a list of more is searched by nobody


@remembered
@st.cache_data(ttl=explore_reads.KEPT, max_entries=16, show_spinner="Drawing the map …")
def points(dataset_id: str, column: str, stamp: str) -> pa.Table:
    """row_id, x, y, topic, text and value (of the column) of at most `DRAWN` rows, always the same."""
    rows = explore_reads.rows(dataset_id)
    text = text_column(rows)
    relation, files = rows.relation(["x", "y", "cluster", text, column], TEXT)
    sql = (
        f"SELECT row_id, x, y, cluster AS topic, {text} AS text, {quoted(column)} AS value FROM ({relation})"
        f" ORDER BY hash(row_id), row_id LIMIT {DRAWN}"
    )
    return client().query(sql, files)


@remembered
@st.cache_data(ttl=explore_reads.KEPT, max_entries=32, show_spinner=False)
def values(dataset_id: str, column: str, stamp: str) -> list[str]:
    """The values of a category, the most frequent first."""
    relation, files = explore_reads.rows(dataset_id).relation([column])
    name = quoted(column)
    sql = (
        f"SELECT {name}::VARCHAR AS value FROM ({relation}) WHERE {name} IS NOT NULL"
        f" GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {CHOSEN_FROM}"
    )
    listed: list[str] = client().query(sql, files)["value"].to_pylist()
    return listed


@remembered
@st.cache_data(ttl=explore_reads.KEPT, max_entries=16, show_spinner="Searching …")
def matching(dataset_id: str, search: str, stamp: str) -> np.ndarray:
    """row_id of every row that has the text, drawn or not, int64."""
    rows, where = explore_reads.rows(dataset_id), Filter(search=search.strip())
    relation, files = rows.relation(rows.needed(where))
    condition, params = rows.condition(where)
    table = client().query(f"SELECT row_id FROM ({relation}) WHERE {condition}", [*files, *params])
    return table["row_id"].to_numpy()


def text_column(rows: DatasetTable) -> str:
    """What a row says: of a labelled one the prompt, for the label has a column of its own."""
    return "prompt" if {"label", "prompt"} <= rows.columns.keys() else "text"


@remembered
@st.cache_data(ttl=explore_reads.KEPT, max_entries=4, show_spinner=False)
def places(dataset_id: str, stamp: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """row_id, x and y of every row."""
    relation, files = explore_reads.rows(dataset_id).relation(["x", "y"])
    table = client().query(f"SELECT row_id, x, y FROM ({relation})", files)
    return table["row_id"].to_numpy(), table["x"].to_numpy(), table["y"].to_numpy()


def marked(dataset_id: str, marks: MapMarks, stamp: str) -> Filter:
    """The rows inside the marks, drawn or not, as a filter."""
    if marks.one_box:
        nothing = np.zeros(0)
        return filter_of(marks, nothing, nothing, nothing)
    return filter_of(marks, *places(dataset_id, stamp))
