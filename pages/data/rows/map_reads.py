"""What the map reads: the points that are drawn, and the places of all rows for what is marked."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pages.data.rows import explore_reads
from pages.data.rows.map_selection import MapMarks, filter_of
from pages.shared.session import client, kept_for
from store.config.data.filters import Filter
from store.queries.data import explore, map_points
from store.queries.data.explore import DatasetTable

ALL = 2**31  # rows: more than a data set has


@kept_for(explore_reads.KEPT, most=16, spinner="Drawing the map …")
def points(dataset_id: str, column: str, stamp: str) -> pa.Table:
    """row_id, x, y, topic, text and value (of the column) of the rows that are drawn, always the same."""
    rows = explore_reads.rows(dataset_id)
    return map_points.points(client(), rows, text_column(rows), column)


@kept_for(explore_reads.KEPT, most=32)
def values(dataset_id: str, column: str, stamp: str) -> list[str]:
    """The values of a category, the most frequent first."""
    return map_points.values(client(), explore_reads.rows(dataset_id), column)


@kept_for(explore_reads.KEPT, most=16, spinner="Searching …")
def matching(dataset_id: str, search: str, stamp: str) -> np.ndarray:
    """row_id of every row that has the text, drawn or not, int64."""
    rows, where = explore_reads.rows(dataset_id), Filter(search=search.strip())
    return np.array(explore.row_ids(client(), rows, where, limit=ALL), dtype=np.int64)


def text_column(rows: DatasetTable) -> str:
    """What a row says: of a labelled one the prompt, for the label has a column of its own."""
    return "prompt" if {"label", "prompt"} <= rows.columns.keys() else "text"


@kept_for(explore_reads.KEPT, most=4)
def places(dataset_id: str, stamp: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """row_id, x and y of every row."""
    table = map_points.places(client(), explore_reads.rows(dataset_id))
    return table["row_id"].to_numpy(), table["x"].to_numpy(), table["y"].to_numpy()


def marked(dataset_id: str, marks: MapMarks, stamp: str) -> Filter:
    """The rows inside the marks, drawn or not, as a filter."""
    if marks.one_box:
        nothing = np.zeros(0)
        return filter_of(marks, nothing, nothing, nothing)
    return filter_of(marks, *places(dataset_id, stamp))
