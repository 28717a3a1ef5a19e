"""Points of the map and the current selection, as boxes and lassos in map coordinates.

The shapes are stored rather than the points, so that a selection also covers rows that are not drawn and
survives a change of colouring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pages.data import dataset_queries
from pages.shared.session import cached, get_client
from store.data import exploration
from store.data.exploration import DatasetTable
from store.data.filters import Condition, Filter

# What is marked on the map: boxes and lassos in the map's own coordinates, and the rows that lie inside.
#
# The marks are kept, not the points: they hold for rows that are not drawn, and outlive a change of colours.
# One box is two conditions, which fit into a link; anything else is a list of rows.

Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class MapMarks:
    """Boxes by two opposite corners, lassos by all of theirs."""

    boxes: tuple[Corners, ...] = ()
    lassos: tuple[Corners, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.lassos)

    @property
    def one_box(self) -> bool:
        return len(self.boxes) == 1 and not self.lassos


def parse_marks(selection: Mapping[str, Any]) -> MapMarks:
    """The marks of a chart's selection as Streamlit tells it."""
    boxes = tuple(((min(b["x"]), min(b["y"])), (max(b["x"]), max(b["y"]))) for b in selection.get("box", []))
    lassos = tuple(tuple(zip(m["x"], m["y"], strict=True)) for m in selection.get("lasso", []))
    return MapMarks(boxes, tuple(corners for corners in lassos if len(corners) >= 3))


def is_inside(marks: MapMarks, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie in any of the marks, bool [points]; a box has its lower edges and not its upper."""
    mask = np.zeros(len(x), bool)
    for (left, bottom), (right, top) in marks.boxes:
        mask |= (x >= left) & (x < right) & (y >= bottom) & (y < top)
    for corners in marks.lassos:
        mask |= _is_in_polygon(corners, x, y)
    return mask


def _is_in_polygon(corners: Sequence[tuple[float, float]], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By how often a ray to the right crosses the outline: an odd number of times from inside."""
    mask = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            mask ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return mask


def build_filter(marks: MapMarks, row_ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> Filter:
    """The rows inside, as a filter. row_ids, x, y: of every row."""
    if marks.one_box:
        (left, bottom), (right, top) = marks.boxes[0]
        sides = (("x", left, right), ("y", bottom, top))
        return Filter(
            conditions=[
                Condition(column=name, op="between", value=[round(low, 4), round(high, 4)])
                for name, low, high in sides
            ]
        )
    return Filter(row_ids=[int(i) for i in row_ids[is_inside(marks, x, y)]])


ALL = 2**31  # rows: more than a data set has


@cached(dataset_queries.CACHE_SECONDS, most=16, spinner="Drawing the map …")
def read_points(dataset_id: str, column: str, stamp: str) -> pa.Table:
    """row_id, x, y, topic, text and value (of the column) of the rows that are drawn, always the same."""
    rows = dataset_queries.build_table(dataset_id)
    return exploration.map_points(get_client(), rows, find_text_column(rows), column)


@cached(dataset_queries.CACHE_SECONDS, most=32)
def list_values(dataset_id: str, column: str, stamp: str) -> list[str]:
    """The values of a category, the most frequent first."""
    return exploration.map_values(get_client(), dataset_queries.build_table(dataset_id), column)


@cached(dataset_queries.CACHE_SECONDS, most=16, spinner="Searching …")
def find_matching_rows(dataset_id: str, search: str, stamp: str) -> np.ndarray:
    """row_id of every row that has the text, drawn or not, int64."""
    rows, where = dataset_queries.build_table(dataset_id), Filter(search=search.strip())
    return np.array(exploration.row_ids(get_client(), rows, where, limit=ALL), dtype=np.int64)


def find_text_column(rows: DatasetTable) -> str:
    """What a row says: of a labelled one the prompt, for the label has a column of its own."""
    return "prompt" if {"label", "prompt"} <= rows.columns.keys() else "text"


@cached(dataset_queries.CACHE_SECONDS, most=4)
def read_positions(dataset_id: str, stamp: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """row_id, x and y of every row."""
    table = exploration.map_places(get_client(), dataset_queries.build_table(dataset_id))
    return table["row_id"].to_numpy(), table["x"].to_numpy(), table["y"].to_numpy()


def filter_marked_rows(dataset_id: str, marks: MapMarks, stamp: str) -> Filter:
    """The rows inside the marks, drawn or not, as a filter."""
    if marks.one_box:
        nothing = np.zeros(0)
        return build_filter(marks, nothing, nothing, nothing)
    return build_filter(marks, *read_positions(dataset_id, stamp))
