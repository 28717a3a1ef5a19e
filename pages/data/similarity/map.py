"""The map of a data set: clusters of rows, and where labels and flags lie.

Each point is a row. Rows selected with a box, a lasso or a search can be inspected, dropped or kept, and stay
selected when the colouring changes. The chart is not redrawn during a selection, because a redraw would
discard the browser's selection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st
from plotly.graph_objects import Figure

from pages.data import dataset_queries, slices
from pages.data.explore import row_filter
from pages.data.explore.row import show_similar_rows
from pages.data.measurements import list_measurable_groups, show_missing_measurement
from pages.data.similarity import map_points
from pages.data.similarity.diversity import show_difficulty, show_diversity, show_labels
from pages.data.similarity.map_chart import MAX_COLORS, MapStyle, plot_map
from pages.data.similarity.map_points import MapMarks, parse_marks
from pages.shared.charts import PLOT, shorten_name
from pages.shared.session import escape_markdown, show_errors
from pages.shared.text_display import trim_common_start
from store.core.formatting import plural
from store.core.languages import format_column_value
from store.data.exploration import DatasetTable, TablePage, format_filter_json
from store.data.filters import SOURCE, Filter
from store.data.schemas import Dataset

FIRST = 8  # marked rows shown


@dataclass(frozen=True)
class RowSelection:
    """Rows that were marked or searched for.

    count: number of matching rows; how: the origin of the selection, in words; key: prefix of the widget
    keys; unmark: removes the marks, if there are any.
    """

    where: Filter
    count: int
    how: str
    key: str
    unmark: Callable[[], None] | None = None


def show_rows(rows: DatasetTable, selection: RowSelection) -> bool:
    """Draw the selected rows; return whether the page must open the table."""
    dataset_id = rows.dataset.dataset_id
    where, count, key = selection.where, selection.count, selection.key
    st.markdown(f"**{plural(count, 'row')} {escape_markdown(selection.how)}**")
    with st.container(horizontal=True, gap="small"):
        turn = bool(count) and st.button(
            "Filter the table to these",
            icon=":material/filter_alt:",
            type="primary",
            key=f"{key}-filter-{dataset_id}",
            on_click=row_filter.show_in_table,
            args=(dataset_id, where),
        )
        slices.show_actions(rows, where, count)
        if selection.unmark:
            st.button(
                "Unmark",
                icon=":material/deselect:",
                type="tertiary",
                key=f"{key}-unmark-{dataset_id}",
                on_click=selection.unmark,
            )
    if count:
        _draw_first_rows(rows, where, count)
    return turn


def _draw_first_rows(rows: DatasetTable, where: Filter, count: int) -> None:
    """Draw the first matching rows."""
    dataset_id = rows.dataset.dataset_id
    column = map_points.find_text_column(rows)
    names = ("label", "cluster", column) if "label" in rows.columns else ("cluster", column)
    part = TablePage(names, limit=FIRST)
    first = dataset_queries.read_page(
        dataset_id, format_filter_json(where), part, dataset_queries.measurement_stamp(rows)
    )
    first, alike = trim_common_start(first, {column: "Text"})
    if alike:
        st.caption(escape_markdown(alike))
    st.dataframe(
        first,
        hide_index=True,
        column_order=("row_id", *names),
        column_config={
            "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
            "label": st.column_config.TextColumn("Label", width="small"),
            "cluster": st.column_config.TextColumn("Topic", width="small"),
            column: st.column_config.TextColumn("Text", width="large"),
        },
        alt="The first of these rows",
    )
    if count > FIRST:
        st.caption(f"The first {FIRST} of {count:,}.")


class StoredMarks:
    """The marks of one data set's map and the last clicked point, in the session.

    The chart is drawn with the marks at the time its style last changed and stays unchanged while rows are
    marked on it: redrawing would lose the browser's own selection and transfer twenty thousand points again.
    """

    def __init__(self, dataset_id: str) -> None:
        self._dataset_id = dataset_id

    @property
    def chart(self) -> str:
        """The key of the chart. It changes with `forget`, so that the browser's selection is cleared too."""
        return self._name(f"chart-{self._get('charts', 0)}")

    @property
    def marks(self) -> MapMarks:
        """The present boxes and lassos."""
        marks: MapMarks = self._get("marks", MapMarks())
        return marks

    @property
    def point(self) -> int | None:
        """The row of the last clicked point, or None."""
        point: int | None = self._get("point", None)
        return point

    def drawn(self, look: MapStyle) -> MapMarks:
        """The marks that a chart of this style is drawn with."""
        if self._get("look", None) != look:
            self._set(look=look, drawn=self.marks)
        drawn: MapMarks = self._get("drawn", MapMarks())
        return drawn

    def take(self) -> None:
        """Store what was marked or clicked.

        A redrawn chart reports an empty selection, which does not remove anything.
        """
        selection = st.session_state[self.chart]["selection"]
        points = selection.get("points", [])
        if marks := parse_marks(selection):
            self._set(marks=marks)
        elif len(points) == 1:
            self._set(point=int(points[0]["customdata"]))

    def forget(self) -> None:
        """Remove all marks."""
        self._set(marks=MapMarks(), drawn=MapMarks(), charts=self._get("charts", 0) + 1)

    def _name(self, part: str) -> str:
        return f"map-{part}-{self._dataset_id}"

    def _get(self, part: str, otherwise: Any) -> Any:
        return st.session_state.get(self._name(part), otherwise)

    def _set(self, **parts: Any) -> None:
        for part, value in parts.items():
            st.session_state[self._name(part)] = value


MAP = {**PLOT, "modeBarButtonsToRemove": ["autoScale2d"]}
MOUSE_MODES = {"mark": ":material/select: Mark rows", "pick": ":material/ads_click: Pick a row"}
POINT_COLUMNS = {"x", "y", "row_id", "line"}


def show_map(dataset: Dataset) -> None:
    """Draw map and diversity, then label errors, then difficulty."""
    rows = dataset_queries.build_table(dataset.dataset_id)
    if "map" in rows.measured:
        wide, narrow = st.columns([5, 2], gap="medium")
        with wide, show_errors():
            _draw_map(dataset.dataset_id)
        with narrow, show_errors():
            show_diversity(rows)
    else:
        show_missing_measurement(
            dataset,
            "map",
            "Draw the map",
            "The map lays rows of like meaning side by side, names the topics, finds prompts that begin alike"
            " and measures how diverse the set is. 10,000 rows take about 20 seconds.",
        )
    possible = list_measurable_groups(dataset)
    if "labels" in possible:
        st.subheader("Label errors", anchor=False)
        with show_errors():
            show_labels(dataset, rows)
    if "difficulty" in possible:
        st.subheader("Difficulty", anchor=False)
        with show_errors():
            show_difficulty(dataset, rows)


@st.fragment
def _draw_map(dataset_id: str) -> None:
    rows = dataset_queries.build_table(dataset_id)
    stamp = dataset_queries.measurement_stamp(rows)
    look = _choose_map_style(rows, stamp)
    kept = StoredMarks(dataset_id)
    marks = kept.drawn(look)
    points = map_points.read_points(dataset_id, look.color, stamp)
    matching = map_points.find_matching_rows(dataset_id, look.search, stamp) if look.search.strip() else None
    st.plotly_chart(
        _build_figure(dataset_id, look, marks),
        key=kept.chart,
        on_select=kept.take,
        selection_mode="points" if look.picks else ("box", "lasso"),
        config=MAP,
        alt=f"Map of the rows, colored by {rows.columns[look.color].title}",
    )
    total = rows.dataset.row_count
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
        where = map_points.filter_marked_rows(dataset_id, kept.marks, stamp)
        count = dataset_queries.count_rows(dataset_id, format_filter_json(where), stamp)
        if show_rows(rows, RowSelection(where, count, "marked", "map-marked", kept.forget)):
            st.rerun()
    if look.picks and kept.point is not None:
        show_similar_rows(rows, kept.point, "map-nearest")


@st.cache_resource(ttl=dataset_queries.CACHE_SECONDS, max_entries=16, show_spinner="Drawing the map …")
def _build_figure(dataset_id: str, look: MapStyle, marks: MapMarks) -> Figure:
    """Build the chart once per style, because marking rows does not change it."""
    rows = dataset_queries.build_table(dataset_id)
    points = map_points.read_points(dataset_id, look.color, look.stamp)
    matching = (
        map_points.find_matching_rows(dataset_id, look.search, look.stamp) if look.search.strip() else None
    )
    return plot_map(points, rows.columns[look.color], marks, look, matching)


def _choose_map_style(rows: DatasetTable, stamp: str) -> MapStyle:
    """Draw the controls above the map and return the chosen style."""
    dataset_id = rows.dataset.dataset_id
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        color = st.selectbox(
            "Color by",
            _list_color_columns(rows),
            format_func=lambda name: row_filter.format_column(rows.columns[name]),
            key=f"map-colour-{dataset_id}",
            width=180,
        )
        values: list[str] = []
        if rows.columns[color].type == "category":
            values = st.multiselect(
                "Only these",
                map_points.list_values(dataset_id, color, stamp),
                max_selections=MAX_COLORS,
                placeholder=f"The {MAX_COLORS} most frequent",
                help="Up to eight values with their own color; type to find one. All others are grey.",
                format_func=lambda value: shorten_name(
                    str(format_column_value(color, value)) or "(empty)", 40
                ),
                key=f"map-values-{dataset_id}-{color}",
                width=210,
            )
        search = st.text_input(
            "Find", key=f"map-search-{dataset_id}", placeholder="a word or a phrase", width=160
        )
        mouse = st.segmented_control(
            "Mouse",
            MOUSE_MODES,
            format_func=MOUSE_MODES.__getitem__,
            default="mark",
            required=True,
            key=f"map-mouse-{dataset_id}",
        )
        named = st.toggle("Topic names", value=True, key=f"map-names-{dataset_id}")
    return MapStyle(color, tuple(values), search, named, mouse == "pick", stamp)


def _list_color_columns(rows: DatasetTable) -> list[str]:
    """Columns to colour by: topics and labels first, then measured signals and columns of the file."""
    # the file's label column is the same as "label"
    left = POINT_COLUMNS | {f"{SOURCE}{name}" for name in rows.dataset.columns.values()}
    usable = [name for name, column in rows.columns.items() if column.type != "text" and name not in left]
    first = [name for name in ("cluster", "label", "template", "language") if name in usable]
    return [*first, *(name for name in usable if name not in first)]
