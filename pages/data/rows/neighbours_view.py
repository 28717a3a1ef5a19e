"""Rows that mean nearly what one row means: what a search for words misses, and other labels beside them."""

from __future__ import annotations

import streamlit as st

from pages.data.rows import asks, explore_filter, explore_reads, map_reads
from pages.shared.session import guarded
from store.config.data.filters import Filter
from store.queries.data.explore import DatasetTable

COUNT = 12


def show_neighbours(rows: DatasetTable, row_id: int, key: str) -> None:
    """The nearest rows, and a way to all of them in the table; `key` is the place's own."""
    dataset_id, text = rows.dataset["dataset_id"], map_reads.text_column(rows)
    with guarded(), st.spinner("Looking for rows that mean the same …", show_time=True):
        nearest = asks.neighbours(rows.dataset["fingerprint"], row_id, COUNT)["neighbours"]
        if not nearest:
            st.caption(f"Row {row_id:,} has no word to go by.")
            return
        ids = tuple(other for other, _ in nearest)
        names = ("label", text) if "label" in rows.columns else (text,)
        cells = explore_reads.cells(dataset_id, ids, names, explore_reads.stamp(rows))
        st.markdown(f"**Nearest to row {row_id:,} in meaning**")
        st.dataframe(
            [cell | {"similarity": cosine} for cell, (_, cosine) in zip(cells, nearest, strict=True)],
            hide_index=True,
            column_order=("similarity", "row_id", *names),
            column_config={
                "similarity": st.column_config.ProgressColumn(
                    "Alike", format="%.2f", min_value=0.0, max_value=1.0, width="small",
                    help="Cosine of the two rows' vectors: 1 where they mean the same",
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
            on_click=explore_filter.show_in_table,
            args=(dataset_id, Filter(row_ids=[row_id, *ids])),
        ):
            st.rerun()  # the map is drawn alone, and the tabs are around it
