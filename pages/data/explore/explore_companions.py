"""The rows that belong to an opened one: near and exact duplicates, and rows with its prompt."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.rows import explore_reads
from pages.data.rows.explore_filter import change, open_row
from pages.shared import reads
from pages.shared.word_diff import against
from store.config.filters import Condition, Filter
from store.queries.data.explore import Rows

TOGETHER = 6  # rows of a duplicate group that are drawn side by side
GROUPED = {"near_group": "Near duplicates", "exact_group": "Exact duplicates", "prompt_group": "Same prompt"}


def show_companions(rows: Rows, row: dict[str, Any]) -> None:
    """The rows of the same group, side by side with the words that differ marked."""
    dataset_id, stamp = rows.dataset["dataset_id"], explore_reads.stamp(rows)
    drawn: set[int] = {row["row_id"]}
    for column, title in GROUPED.items():
        if column not in rows.known:
            continue
        total, ids = explore_reads.companions(dataset_id, column, row["row_id"], TOGETHER + 1, stamp)
        others = [row_id for row_id in ids if row_id not in drawn][:TOGETHER]
        if not others:
            continue
        drawn |= set(others)
        shown = f", the first {len(others)} of them" if total - 1 > len(others) else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{title}: {total - 1:,} more{shown}**")
            value = explore_reads.signals_of(dataset_id, row["row_id"], stamp)[column]
            alike = Filter(conditions=[Condition(column=column, op="is", value=value)])
            label = f"Show all {total:,} in the table"
            st.button(label, type="tertiary", key=f"row-{column}", on_click=change, args=(dataset_id, alike))
        with st.grid("auto", min_column_width=300) as grid:
            for row_id in others:
                other = reads.dataset_row(dataset_id, row_id)[0]
                with grid.cell(), st.container(border=True):
                    name = f"Row {row_id:,}"
                    st.button(
                        name, type="tertiary", key=f"row-{column}-{row_id}", on_click=open_row, args=(row_id,)
                    )
                    st.html(against(row["text"], other["text"]))
