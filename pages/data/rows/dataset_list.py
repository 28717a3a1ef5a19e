"""The list of data sets, a page at a time, and the way back to it."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.people import activity_reads
from pages.shared import quantities, reads
from pages.shared.session import may, plain
from store.catalog.formats import FORMATS
from store.documents.tables.dataset import Dataset

PAGE = 20
EMPTY = """
There is no data set yet. Import a file with prompts and answers, texts with labels, conversations or plain
text; or run the sample experiment from the overview, which brings its own.
"""


def back_to_list() -> None:
    """A way back to all data sets."""
    if st.button("All data sets", type="tertiary", icon=":material/arrow_back:", key="datasets-back"):
        st.switch_page("pages/data/data.py")


def show_list() -> None:
    """All data sets, newest first, searched by name."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("What data is there?", anchor=False, width="content")
        if may("work") and st.button(
            "Import a data set", type="primary", icon=":material/upload_file:", key="import-open"
        ):
            st.switch_page("pages/data/data.py", query_params={"view": "import"})
    datasets = reads.datasets()
    if not datasets:
        st.markdown(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        search = st.text_input(
            "Search",
            key="datasets-search",
            type="search",
            live="300ms",
            placeholder="Search by name",
            label_visibility="collapsed",
            icon=":material/search:",
        )
        mine = activity_reads.mine_alone("dataset", "datasets_mine")
    wanted = (search or "").strip().lower()
    matching = [
        row for row in datasets if wanted in row["name"].lower() and (not mine or row["created_by"] == mine)
    ]
    pages = max(1, -(-len(matching) // PAGE))
    slot = st.container(gap="xsmall")
    page = st.pagination(pages, key=f"datasets-page-{wanted}-{mine}") if pages > 1 else 1
    with slot:
        total = plural(len(datasets), "data set")
        st.caption(f"{len(matching):,} of {total}" if wanted or mine else total)
        for row in matching[(page - 1) * PAGE : page * PAGE]:
            _line(row)


def _line(row: Dataset) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None):
            if st.button(f"**{plain(row['name'])}**", type="tertiary", key=f"open-{row['dataset_id']}"):
                st.switch_page("pages/data/data.py", query_params={"dataset": row["dataset_id"]})
            st.caption(_words(row))
        if may("work"):
            st.page_link(
                "pages/launch/launch.py",
                label="Fine-tune",
                icon=":material/rocket_launch:",
                query_params={"dataset": row["dataset_id"]},
            )


def _words(row: Dataset) -> str:
    parts = [plural(row["row_count"], "row")]
    parts += [f"{row['skipped_count']:,} skipped"] if row["skipped_count"] else []
    parts += [f"{row['duplicate_count']:,} repeated"] if row["duplicate_count"] else []
    maker = activity_reads.maker(row["created_by"])
    by = [f"by {plain(maker)}"] if maker else []
    return " · ".join([*parts, FORMATS[row["format"]].title, *by, quantities.ago(row["created_at"])])
