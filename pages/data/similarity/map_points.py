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

Corners = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class MapMarks:
    """Boxes as two opposite corners, lassos as all of their corners."""

    boxes: tuple[Corners, ...] = ()
    lassos: tuple[Corners, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.lassos)

    @property
    def one_box(self) -> bool:
        return len(self.boxes) == 1 and not self.lassos


def parse_marks(selection: Mapping[str, Any]) -> MapMarks:
    """Parse the marks from the selection reported by Streamlit."""
    boxes = tuple(((min(b["x"]), min(b["y"])), (max(b["x"]), max(b["y"]))) for b in selection.get("box", []))
    lassos = tuple(tuple(zip(m["x"], m["y"], strict=True)) for m in selection.get("lasso", []))
    return MapMarks(boxes, tuple(corners for corners in lassos if len(corners) >= 3))


def is_inside(marks: MapMarks, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points are inside any mark, bool [points]; a box excludes its upper edges."""
    mask = np.zeros(len(x), bool)
    for (left, bottom), (right, top) in marks.boxes:
        mask |= (x >= left) & (x < right) & (y >= bottom) & (y < top)
    for corners in marks.lassos:
        mask |= _is_in_polygon(corners, x, y)
    return mask


def _is_in_polygon(corners: Sequence[tuple[float, float]], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points are inside a polygon: a ray to the right crosses its outline an odd number of
    times.
    """
    mask = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            mask ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return mask


def build_filter(marks: MapMarks, row_ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> Filter:
    """Build the filter of the rows inside the marks. row_ids, x, y: of every row.

    A single box becomes two conditions, which fit into a link; anything else becomes a list of rows.
    """
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


ALL = 2**31  # more rows than any data set has


@cached(dataset_queries.CACHE_SECONDS, max_entries=16, spinner="Drawing the map …")
def read_points(dataset_id: str, column: str, stamp: str) -> pa.Table:
    """Read row_id, x, y, topic, text and value (of the column) of the drawn rows; always the same rows."""
    rows = dataset_queries.build_table(dataset_id)
    return exploration.map_points(get_client(), rows, find_text_column(rows), column)


@cached(dataset_queries.CACHE_SECONDS, max_entries=32)
def list_values(dataset_id: str, column: str, stamp: str) -> list[str]:
    """List the values of a category, most frequent first."""
    return exploration.map_values(get_client(), dataset_queries.build_table(dataset_id), column)


@cached(dataset_queries.CACHE_SECONDS, max_entries=16, spinner="Searching …")
def find_matching_rows(dataset_id: str, search: str, stamp: str) -> np.ndarray:
    """Find the row_id of every row that contains the text, drawn or not, int64."""
    rows, where = dataset_queries.build_table(dataset_id), Filter(search=search.strip())
    return np.array(exploration.row_ids(get_client(), rows, where, limit=ALL), dtype=np.int64)


def find_text_column(rows: DatasetTable) -> str:
    """Return the column shown as text: the prompt of labeled rows, whose label has a column of its own."""
    return "prompt" if {"label", "prompt"} <= rows.columns.keys() else "text"


@cached(dataset_queries.CACHE_SECONDS, max_entries=4)
def read_positions(dataset_id: str, stamp: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read row_id, x and y of every row."""
    table = exploration.map_places(get_client(), dataset_queries.build_table(dataset_id))
    return table["row_id"].to_numpy(), table["x"].to_numpy(), table["y"].to_numpy()


def filter_marked_rows(dataset_id: str, marks: MapMarks, stamp: str) -> Filter:
    """Build the filter of the rows inside the marks, drawn or not."""
    if marks.one_box:
        nothing = np.zeros(0)
        return build_filter(marks, nothing, nothing, nothing)
    return build_filter(marks, *read_positions(dataset_id, stamp))
