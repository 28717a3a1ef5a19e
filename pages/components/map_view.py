"""The map: which kinds of rows are there, where do labels and flags lie, and which rows are alike?

A point is a row; what is marked with a box or a lasso can be looked at, dropped or kept, and stays marked
while the colours change. Beside it stands how diverse the set is; below it which labels look wrong, and
which answers are hard.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import explore_filter, explore_reads, map_reads
from pages.components.difficulty_view import show_difficulty
from pages.components.diversity_view import show_diversity
from pages.components.labels_view import show_labels
from pages.components.map_chart import map_chart
from pages.components.map_marked import show_marked
from pages.components.map_selection import Marks, marks_of
from pages.components.measure_group import measurable, show_missing
from pages.components.session import guarded
from pages.components.traces import PLOT
from store.explore import Rows

MAP = {**PLOT, "modeBarButtonsToRemove": ["autoScale2d"]}
PLACE = {"x", "y", "row_id", "line"}


def show_map(dataset: dict[str, Any]) -> None:
    """Map and diversity, then labels, then difficulty."""
    rows = explore_reads.rows(dataset["dataset_id"])
    if "map" in rows.measured:
        wide, narrow = st.columns([5, 2], gap="medium")
        with wide, guarded():
            _map(dataset["dataset_id"])
        with narrow, guarded():
            show_diversity(rows)
    else:
        show_missing(
            dataset,
            "map",
            "Draw the map",
            "The map lays rows of like meaning side by side, names the topics, finds prompts that begin alike"
            " and measures how diverse the set is. 10,000 rows take about 20 seconds.",
        )
    possible = measurable(dataset)
    if "labels" in possible:
        st.subheader("Are the labels right?", anchor=False)
        with guarded():
            show_labels(dataset, rows)
    if "difficulty" in possible:
        st.subheader("Which answers are hard?", anchor=False)
        with guarded():
            show_difficulty(dataset, rows)


@st.fragment
def _map(dataset_id: str) -> None:
    rows = explore_reads.rows(dataset_id)
    stamp = explore_reads.stamp(rows)
    kept = f"map-marks-{dataset_id}"
    marks: Marks = st.session_state.get(kept, Marks())
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        choices = _choices(rows)
        color = st.selectbox(
            "Colour by",
            choices,
            format_func=lambda name: explore_filter.label(rows.known[name]),
            key=f"map-colour-{dataset_id}",
            width=280,
        )
        named = st.toggle("Names of topics", value=True, key=f"map-names-{dataset_id}")
    points = map_reads.points(dataset_id, color, stamp)
    chart = f"map-chart-{dataset_id}"
    st.plotly_chart(
        map_chart(points, rows.known[color], marks, names=named),
        key=chart,
        on_select=lambda: _marked(chart, kept),
        selection_mode=("box", "lasso"),
        config=MAP,
        alt=f"Map of the rows, coloured by {rows.known[color].title}",
    )
    total = rows.dataset["row_count"]
    shown = (
        f"{points.num_rows:,} of {total:,} rows drawn" if points.num_rows < total else plural(total, "row")
    )
    st.caption(f"{shown}. Near means alike; distances between clusters mean nothing. Drag a box or a lasso.")
    if marks:
        show_marked(rows, marks, kept, stamp)


def _choices(rows: Rows) -> list[str]:
    """Columns to colour by, topics first, then labels, then what was measured."""
    usable = [
        name
        for name, column in rows.known.items()
        if column.type != "text" and name not in PLACE and not name.startswith("source.")
    ]
    first = [name for name in ("cluster", "label", "template", "language") if name in usable]
    return [*first, *(name for name in usable if name not in first)]


def _marked(chart: str, kept: str) -> None:
    """Keep what was marked; a chart that is drawn anew tells of nothing, which does not take it away."""
    marks = marks_of(st.session_state[chart]["selection"])
    if marks:
        st.session_state[kept] = marks
