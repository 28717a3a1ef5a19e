"""The map: which kinds of rows are there, where do labels and flags lie, and which rows are alike?

A point is a row; what is marked with a box or a lasso, or found by a word, can be looked at, dropped or kept,
and stays marked while the colours change; a row that is picked shows those that mean the same. Beside it
stands how diverse the set is; below it which labels look wrong, and which answers are hard.
"""

from __future__ import annotations

import streamlit as st
from plotly.graph_objects import Figure

from engine.diagnostics.phrasing import plural
from pages.data.map.diversity_view import show_difficulty, show_diversity
from pages.data.map.labels_view import show_labels
from pages.data.map.map_chart import COLOURED, MapStyle, map_chart
from pages.data.map.map_kept import Kept
from pages.data.map.map_marked import RowSelection, show_rows
from pages.data.rows import explore_filter, explore_reads, map_reads
from pages.data.rows.map_selection import MapMarks
from pages.data.rows.measure_group import measurable, show_missing
from pages.data.rows.neighbours_view import show_neighbours
from pages.shared.session import guarded
from pages.shared.traces import PLOT, short
from store.catalog.languages import readable
from store.config.data.filters import SOURCE, Filter
from store.documents.tables.dataset import Dataset
from store.queries.data.explore import DatasetTable, filter_json

MAP = {**PLOT, "modeBarButtonsToRemove": ["autoScale2d"]}
MOUSE = {"mark": ":material/select: Mark rows", "pick": ":material/ads_click: Pick a row"}
PLACE = {"x", "y", "row_id", "line"}


def show_map(dataset: Dataset) -> None:
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
    look = _look(rows, stamp)
    kept = Kept(dataset_id)
    marks = kept.drawn(look)
    points = map_reads.points(dataset_id, look.color, stamp)
    matching = map_reads.matching(dataset_id, look.search, stamp) if look.search.strip() else None
    st.plotly_chart(
        _figure(dataset_id, look, marks),
        key=kept.chart,
        on_select=kept.take,
        selection_mode="points" if look.picks else ("box", "lasso"),
        config=MAP,
        alt=f"Map of the rows, coloured by {rows.columns[look.color].title}",
    )
    total = rows.dataset["row_count"]
    drawn = (
        f"{points.num_rows:,} of {total:,} rows drawn" if points.num_rows < total else plural(total, "row")
    )
    how = "Click a point for the rows that mean the same." if look.picks else "Drag a box or a lasso."
    st.caption(f"{drawn}. Near means alike; distances between clusters mean nothing. {how}")
    if matching is not None:
        where = Filter(search=look.search.strip())
        searched = f'with "{look.search.strip()}"'
        if show_rows(rows, RowSelection(where, len(matching), searched, "map-search")):
            st.rerun()
    if kept.marks and not look.picks:
        where = map_reads.marked(dataset_id, kept.marks, stamp)
        count = explore_reads.count(dataset_id, filter_json(where), stamp)
        if show_rows(rows, RowSelection(where, count, "marked", "map-marked", kept.forget)):
            st.rerun()
    if look.picks and kept.point is not None:
        show_neighbours(rows, kept.point, "map-nearest")


@st.cache_resource(ttl=explore_reads.KEPT, max_entries=16, show_spinner="Drawing the map …")
def _figure(dataset_id: str, look: MapStyle, marks: MapMarks) -> Figure:
    """The chart; made once for a look, since marking rows leaves it as it is."""
    rows = explore_reads.rows(dataset_id)
    points = map_reads.points(dataset_id, look.color, look.stamp)
    matching = map_reads.matching(dataset_id, look.search, look.stamp) if look.search.strip() else None
    return map_chart(points, rows.columns[look.color], marks, look, matching)


def _look(rows: DatasetTable, stamp: str) -> MapStyle:
    """What is coloured how: the controls over the map."""
    dataset_id = rows.dataset["dataset_id"]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        color = st.selectbox(
            "Colour by",
            _choices(rows),
            format_func=lambda name: explore_filter.label(rows.columns[name]),
            key=f"map-colour-{dataset_id}",
            width=180,
        )
        values: list[str] = []
        if rows.columns[color].type == "category":
            values = st.multiselect(
                "Only these",
                map_reads.values(dataset_id, color, stamp),
                max_selections=COLOURED,
                placeholder=f"The {COLOURED} most frequent",
                help="Up to eight values with a colour of their own; type to find one. All others are grey.",
                format_func=lambda value: short(str(readable(color, value)) or "(empty)", 40),
                key=f"map-values-{dataset_id}-{color}",
                width=210,
            )
        search = st.text_input(
            "Find", key=f"map-search-{dataset_id}", placeholder="a word or a phrase", width=160
        )
        mouse = st.segmented_control(
            "Mouse",
            MOUSE,
            format_func=MOUSE.__getitem__,
            default="mark",
            required=True,
            key=f"map-mouse-{dataset_id}",
        )
        named = st.toggle("Topic names", value=True, key=f"map-names-{dataset_id}")
    return MapStyle(color, tuple(values), search, named, mouse == "pick", stamp)


def _choices(rows: DatasetTable) -> list[str]:
    """Columns to colour by: topics first, then labels, what was measured, and the file's own."""
    # the file's column of the label is the label
    left = PLACE | {f"{SOURCE}{name}" for name in rows.dataset["columns"].values()}
    usable = [name for name, column in rows.columns.items() if column.type != "text" and name not in left]
    first = [name for name in ("cluster", "label", "template", "language") if name in usable]
    return [*first, *(name for name in usable if name not in first)]
