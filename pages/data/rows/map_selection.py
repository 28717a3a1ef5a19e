"""What is marked on the map: boxes and lassos in the map's own coordinates, and the rows that lie inside.

The marks are kept, not the points: they hold for rows that are not drawn, and outlive a change of colours.
One box is two conditions, which fit into a link; anything else is a list of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from store.config.data.filters import Condition, Filter

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


def marks_of(selection: Mapping[str, Any]) -> MapMarks:
    """The marks of a chart's selection as Streamlit tells it."""
    boxes = tuple(((min(b["x"]), min(b["y"])), (max(b["x"]), max(b["y"]))) for b in selection.get("box", []))
    lassos = tuple(tuple(zip(m["x"], m["y"], strict=True)) for m in selection.get("lasso", []))
    return MapMarks(boxes, tuple(corners for corners in lassos if len(corners) >= 3))


def inside(marks: MapMarks, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie in any of the marks, bool [points]; a box has its lower edges and not its upper."""
    mask = np.zeros(len(x), bool)
    for (left, bottom), (right, top) in marks.boxes:
        mask |= (x >= left) & (x < right) & (y >= bottom) & (y < top)
    for corners in marks.lassos:
        mask |= _in_polygon(corners, x, y)
    return mask


def _in_polygon(corners: Sequence[tuple[float, float]], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By how often a ray to the right crosses the outline: an odd number of times from inside."""
    mask = np.zeros(len(x), bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            mask ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return mask


def filter_of(marks: MapMarks, row_ids: np.ndarray, x: np.ndarray, y: np.ndarray) -> Filter:
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
    return Filter(row_ids=[int(i) for i in row_ids[inside(marks, x, y)]])
