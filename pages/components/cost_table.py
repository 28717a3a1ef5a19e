"""The runs of the plot as a table: the same figures, each with its interval and n, to be sorted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.components.cost_chart import STATUSES
from pages.components.cost_points import MEASURES, Point, cost_of

KEY = "cost-table"


def draw_table(found: Sequence[Point], measure: str, on_pick: Callable[[str], None]) -> None:
    """A line a run, best gain first; a click on one picks it."""
    order = sorted(found, key=lambda point: -point.gain["value"])
    ids = [point.row["run_id"] for point in order]
    st.dataframe(
        [line(point, measure) for point in order],
        hide_index=True,
        column_config={
            "Learning rate": st.column_config.NumberColumn(format="%.2g"),
            "Gain ↑": st.column_config.NumberColumn(format="%.3f", help="Nats a token on held-out rows"),
            **{
                f"{what.title} ↓": st.column_config.NumberColumn(format="%.3f", help=what.axis)
                for what in MEASURES.values()
            },
        },
        on_select=lambda: _picked(ids, on_pick),
        selection_mode="single-row",
        key=KEY,
        alt="Gain and forgetting of each run",
    )


def _picked(ids: Sequence[str], on_pick: Callable[[str], None]) -> None:
    rows = st.session_state[KEY]["selection"]["rows"]
    on_pick(ids[rows[0]] if rows else "")


def line(point: Point, measure: str) -> dict[str, Any]:
    """Of one run, with the figure that the plot shows first."""
    row = point.row
    cells: dict[str, Any] = {
        "Run": point.label,
        "Place": STATUSES[point.status],
        "Method": point.method,
        "Learning rate": row["learning_rate"],
        "Gain ↑": point.gain["value"],
        "95% (gain)": _bounds(point.gain),
        "n (rows)": point.gain["n"],
    }
    for name in (measure, *(other for other in MEASURES if other != measure)):
        what, cost = MEASURES[name], cost_of(row, name)
        cells[f"{what.title} ↓"] = cost["value"] if cost else None
        cells[f"95% ({what.title.lower()})"] = _bounds(cost) if cost else "–"
        cells[f"n ({what.items}s)"] = cost["n"] if cost else None
    return cells


def _bounds(estimate: Any) -> str:
    return phrasing.interval(estimate["low"], estimate["high"])
