"""The runs of the plot as a table: the same figures, each with its interval and n, to be sorted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.compare.tradeoff.cost_chart import STATUSES
from pages.compare.tradeoff.cost_points import MEASURES, Point, Row, cost_of

KEY = "cost-table"


def draw_table(found: Sequence[Point], measure: str, on_pick: Callable[[str], None]) -> None:
    """A line a run, best gain first; a click on one picks it."""
    order = sorted(found, key=lambda point: -point.gain["value"])
    ids = [point.row["run_id"] for point in order]
    st.dataframe(
        [line(point, measure) for point in order],
        hide_index=True,
        column_config={
            "Run": st.column_config.TextColumn(width=150, pinned=True),
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
        "Gain ↑": point.gain["value"],  # at once, as a phone shows the first two or three columns
        "95% (gain)": _bounds(point.gain),
        "n (rows)": point.gain["n"],
    }
    cells |= _forgetting(row, measure)
    cells |= {
        "Place": STATUSES[point.status],
        "Method": point.method,
        "Learning rate": row["learning_rate"],
    }
    for other in MEASURES:
        if other != measure:
            cells |= _forgetting(row, other)
    return cells


def _forgetting(row: Row, measure: str) -> dict[str, Any]:
    what, cost = MEASURES[measure], cost_of(row, measure)
    return {
        f"{what.title} ↓": cost["value"] if cost else None,
        f"95% ({what.title.lower()})": _bounds(cost) if cost else "–",
        f"n ({what.items}s)": cost["n"] if cost else None,
    }


def _bounds(estimate: Any) -> str:
    return phrasing.interval(estimate["low"], estimate["high"])
