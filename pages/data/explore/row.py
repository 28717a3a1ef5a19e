"""Details of one row: the conversation, its signals, its duplicates side by side, and similar rows."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.data import dataset_queries
from pages.data.cleaning.draft import show_row_edit
from pages.data.explore import row_filter
from pages.data.explore.row_filter import open_row, set_filter
from pages.data.similarity import map_points
from pages.people import activity_feed
from pages.shared import cached_queries, meters
from pages.shared.display import format_count
from pages.shared.session import escape_markdown, show_errors
from pages.shared.text_display import mark_difference, shorten, show_row
from store.core.languages import format_column_value
from store.data.exploration import DatasetTable, format_filter_json
from store.data.filters import Condition, Filter
from store.data.schemas import CanonicalRow
from store.data.signals import GROUPS, Signal
from store.people.activity import format_row_key

SIMILAR_ROWS = 12


def show_similar_rows(rows: DatasetTable, row_id: int, key: str) -> None:
    """Draw the nearest rows, with a button that shows them in the table; `key`: prefix of the widget keys."""
    dataset_id, text = rows.dataset.dataset_id, map_points.find_text_column(rows)
    with show_errors(), st.spinner("Looking for rows that mean the same …", show_time=True):
        nearest = dataset_queries.find_similar_rows(rows.dataset.fingerprint, row_id, SIMILAR_ROWS).neighbours
        if not nearest:
            st.caption(f"Row {row_id:,} has no word to go by.")
            return
        ids = tuple(other for other, _ in nearest)
        names = ("label", text) if "label" in rows.columns else (text,)
        cells = dataset_queries.read_cells(dataset_id, ids, names, dataset_queries.measurement_stamp(rows))
        st.markdown(f"**Nearest to row {row_id:,} in meaning**")
        st.dataframe(
            [cell | {"similarity": cosine} for cell, (_, cosine) in zip(cells, nearest, strict=True)],
            hide_index=True,
            column_order=("similarity", "row_id", *names),
            column_config={
                "similarity": st.column_config.ProgressColumn(
                    "Alike", format="%.2f", min_value=0.0, max_value=1.0, width="small",
                    help="Cosine similarity of the two rows' embeddings; 1 means the same meaning",
                ),
                "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
                "label": st.column_config.TextColumn("Label", width="small"),
                text: st.column_config.TextColumn("Text", width="large"),
            },
            alt=f"The rows nearest to row {row_id}",
        )  # fmt: skip
        if st.button(
            "Show them in the table",
            icon=":material/filter_alt:",
            key=f"{key}-table",
            on_click=row_filter.show_in_table,
            args=(dataset_id, Filter(row_ids=[row_id, *ids])),
        ):
            st.rerun()  # the map is a fragment, and the tabs are outside it


SHOWN_GROUP_ROWS = 6  # rows of a duplicate group drawn side by side
GROUP_TITLES = {
    "near_group": "Near duplicates",
    "exact_group": "Exact duplicates",
    "prompt_group": "Same prompt",
}


def show_group_rows(rows: DatasetTable, row: CanonicalRow) -> None:
    """Draw the rows of the same group side by side, with differing words marked."""
    dataset_id, stamp = rows.dataset.dataset_id, dataset_queries.measurement_stamp(rows)
    drawn: set[int] = {row["row_id"]}
    for column, title in GROUP_TITLES.items():
        if column not in rows.columns:
            continue
        total, ids = dataset_queries.find_group_rows(
            dataset_id, column, row["row_id"], SHOWN_GROUP_ROWS + 1, stamp
        )
        others = [row_id for row_id in ids if row_id not in drawn][:SHOWN_GROUP_ROWS]
        if not others:
            continue
        drawn |= set(others)
        limit_note = f", the first {len(others)} of them" if total - 1 > len(others) else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{title}: {total - 1:,} more{limit_note}**")
            value = dataset_queries.read_row_signals(dataset_id, row["row_id"], stamp)[column]
            alike = Filter(conditions=[Condition(column=column, op="is", value=value)])
            label = f"Show all {total:,} in the table"
            st.button(
                label, type="tertiary", key=f"row-{column}", on_click=set_filter, args=(dataset_id, alike)
            )
        with st.grid("auto", min_column_width=300) as grid:
            for row_id in others:
                other = cached_queries.read_dataset_row(dataset_id, row_id)[0]
                with grid.cell(), st.container(border=True):
                    name = f"Row {row_id:,}"
                    st.button(
                        name, type="tertiary", key=f"row-{column}-{row_id}", on_click=open_row, args=(row_id,)
                    )
                    st.html(mark_difference(row["text"], other["text"]))


PLACE = ("x", "y")  # coordinates are meaningless without the map


def show_open_row(rows: DatasetTable, where: Filter, asked: str) -> None:
    """Draw the row named in the link; `asked` is the value in the link."""
    dataset, total = rows.dataset, rows.dataset.row_count
    number = int(asked) if asked.isdigit() and len(asked) < 19 else -1
    here = 0 <= number < total
    _draw_row_navigation(rows, where, number, here)
    dataset_rows = cached_queries.read_dataset_row(dataset.dataset_id, number) if here else []
    if not dataset_rows:
        st.warning(
            f"Row {escape_markdown(asked)} does not exist in this data set.", icon=":material/search_off:"
        )
        return
    row = dataset_rows[0]
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**Model input**")
        show_row(row)
        show_row_edit(dataset.dataset_id, number)
    with right:
        _draw_signals(rows, number)
        with st.expander(f"Source row (line {row['line']:,})", icon=":material/code:"):
            text = json.dumps(row["source"], ensure_ascii=False, indent=2)
            st.code(shorten(text, 20_000), "json", wrap_lines=True)
    show_group_rows(rows, row)
    _draw_similar_rows(rows, number)
    activity_feed.draw_comments("row", format_row_key(dataset.dataset_id, number))


def _draw_similar_rows(rows: DatasetTable, number: int) -> None:
    """Draw rows with the same meaning: by default if the map was measured, else on request, as it takes a
    while.
    """
    asked = f"row-nearest-{rows.dataset.dataset_id}"
    if st.toggle("Rows that mean the same", value="map" in rows.measured, key=asked):
        show_similar_rows(rows, number, "row-nearest")


def _draw_row_navigation(rows: DatasetTable, where: Filter, number: int, here: bool) -> None:
    """Draw buttons to the table and to the previous and next rows, within the filter if there is one."""
    dataset_id, total = rows.dataset.dataset_id, rows.dataset.row_count
    if where and here:
        text, stamp = format_filter_json(where), dataset_queries.measurement_stamp(rows)
        before = dataset_queries.find_adjacent_row(dataset_id, text, number, False, stamp)
        after = dataset_queries.find_adjacent_row(dataset_id, text, number, True, stamp)
    else:
        before = number - 1 if number > 0 else None
        after = number + 1 if number + 1 < total else None
    with st.container(horizontal=True, vertical_alignment="center"):
        back = "Rows of the filter" if where else "All rows"
        for label, icon, target, key, off in (
            (back, ":material/table_rows:", None, "row-close", False),
            ("Previous", ":material/chevron_left:", before, "row-previous", before is None),
            ("Next", ":material/chevron_right:", after, "row-next", after is None),
        ):
            st.button(label, icon=icon, disabled=off, on_click=open_row, args=(target,), key=key)
        st.caption(f"Row {number:,} of {total:,}, counted from 0")


def _draw_signals(rows: DatasetTable, number: int) -> None:
    """Draw the measured signals by group, with the meaning of those outside their healthy range."""
    values = dataset_queries.read_row_signals(
        rows.dataset.dataset_id, number, dataset_queries.measurement_stamp(rows)
    )
    if not rows.measured:
        st.caption("Nothing was measured of these rows yet.")
    for name in GROUPS:
        if name not in rows.measured:
            continue
        signal_values = [
            (signal, values.get(signal.column))
            for signal in GROUPS[name].signals
            if signal.column not in PLACE
        ]
        facts = [
            (s.title, format_signal(s, v), s.outside if _is_outside_band(s, v) else "")
            for s, v in signal_values
            if _is_worth_showing(s, v)
        ]
        clear = [s.title for s, v in signal_values if v is False or (v == 0 and s.unit == "found")]
        st.markdown(f"**{GROUPS[name].title}**")
        if facts:
            st.html(meters.render_facts(facts))
        if clear:
            st.caption(f"Not found: {', '.join(clear)}.")


def _is_worth_showing(signal: Signal, value: Any) -> bool:
    """Whether a value is shown as a figure of its own."""
    if value is None or value is False:
        return False
    return not (signal.unit == "found" and value == 0)


def _is_outside_band(signal: Signal, value: Any) -> bool:
    high = signal.healthy[1] if signal.healthy else None
    if signal.type == "number" and signal.unit != "found":
        return high is not None and value > high
    return signal.healthy is not None


def format_signal(signal: Signal, value: Any) -> str:
    """Format the value of a signal."""
    if value is None:
        return "–"
    if signal.type == "flag":
        return "yes" if value else "no"
    if signal.type == "group":
        return f"group of row {value:,}"
    if signal.type == "category":
        return shorten(str(format_column_value(signal.column, value)), 80) or "(empty)"
    if signal.unit == "share":
        return f"{100 * value:.0f}%"
    text = format_count(value) if float(value).is_integer() else f"{value:.2f}"
    unit_in_title = signal.unit in ("", "found", "ratio") or signal.unit in signal.title.lower()
    return text if unit_in_title else f"{text} {signal.unit}"
