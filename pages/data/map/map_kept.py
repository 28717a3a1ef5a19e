"""What the session keeps of a map: what is marked, and which point was clicked.

The chart is drawn with the marks that there were when its look last changed, and is left alone while rows are
marked on it: a chart that is drawn anew loses the browser's own selection, and twenty thousand points would
travel again.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.map.map_chart import MapStyle
from pages.data.rows.map_selection import MapMarks, marks_of


class Kept:
    """The marks of one data set's map, in the session."""

    def __init__(self, dataset_id: str) -> None:
        self._dataset_id = dataset_id

    @property
    def chart(self) -> str:
        """The key of the chart; another one after `forget`, so that the browser forgets too."""
        return self._name(f"chart-{self._get('charts', 0)}")

    @property
    def marks(self) -> MapMarks:
        """Boxes and lassos."""
        marks: MapMarks = self._get("marks", MapMarks())
        return marks

    @property
    def point(self) -> int | None:
        """The row of the point that was clicked last."""
        point: int | None = self._get("point", None)
        return point

    def drawn(self, look: MapStyle) -> MapMarks:
        """The marks that the chart of this look is drawn with."""
        if self._get("look", None) != look:
            self._set(look=look, drawn=self.marks)
        drawn: MapMarks = self._get("drawn", MapMarks())
        return drawn

    def take(self) -> None:
        """Keep what was marked or clicked; a chart that is drawn anew tells of nothing, which takes nothing
        away."""
        selection = st.session_state[self.chart]["selection"]
        points = selection.get("points", [])
        if marks := marks_of(selection):
            self._set(marks=marks)
        elif len(points) == 1:
            self._set(point=int(points[0]["customdata"]))

    def forget(self) -> None:
        """Nothing is marked any more."""
        self._set(marks=MapMarks(), drawn=MapMarks(), charts=self._get("charts", 0) + 1)

    def _name(self, part: str) -> str:
        return f"map-{part}-{self._dataset_id}"

    def _get(self, part: str, otherwise: Any) -> Any:
        return st.session_state.get(self._name(part), otherwise)

    def _set(self, **parts: Any) -> None:
        for part, value in parts.items():
            st.session_state[self._name(part)] = value
