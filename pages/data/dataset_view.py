"""One data set: its card, then a tab for each thing that can be done with its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import streamlit as st

from pages.data.clean.clean_view import show_clean
from pages.data.dataset_split import show_split
from pages.data.explore.explore_card import show_card, wants_cleaning
from pages.data.explore.explore_table import show_rows
from pages.data.map.map_view import show_map
from pages.data.rendering_view import show_rendering
from pages.data.rows.dataset_facts import show_facts, show_skipped
from pages.data.rows.dataset_list import back_to_list
from pages.data.rows.explore_filter import CLEAN_TAB, ROWS_TAB, SPLIT_TAB, SUMMARY_TAB, open_tab, tabs_key
from pages.data.versions.versions_view import show_versions
from pages.people.activity_lines import draw_last
from pages.people.edits import FieldEdit
from pages.shared.session import act, guarded, may, plain
from store.documents.tables.dataset import Dataset

Tab = tuple[str, Callable[[Dataset], None]]


def show_dataset(dataset: Dataset) -> None:
    """The page of one data set."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(plain(dataset["name"]), anchor=False, width="content")
        likely: Literal["primary", "secondary"] = "secondary" if wants_cleaning(dataset) else "primary"
        if may("work") and st.button("Fine-tune on this", type=likely, icon=":material/rocket_launch:"):
            st.switch_page("pages/launch/launch.py", query_params={"dataset": dataset["dataset_id"]})
    back_to_list()
    show_facts(dataset)
    _show_round(dataset)
    key = tabs_key(dataset["dataset_id"])
    if key not in st.session_state and {"row", "filter"} & set(st.query_params):
        open_tab(dataset["dataset_id"], ROWS_TAB)  # the link leads to rows
    if st.query_params.pop("tab", "") == "split":
        open_tab(dataset["dataset_id"], SPLIT_TAB)
    tabs: tuple[Tab, ...] = (
        (SUMMARY_TAB, show_card),
        (ROWS_TAB, show_rows),
        (":material/scatter_plot: Map", show_map),
        (CLEAN_TAB, show_clean),
        (":material/visibility: How the model sees it", show_rendering),
        (":material/account_tree: Versions", show_versions),
        (SPLIT_TAB, show_split),
        (f":material/block: Skipped ({dataset['skipped_count']:,})", show_skipped),
        (":material/settings: Name and removal", _settings),
    )
    titles = [title for title, _ in tabs]
    opened = st.tabs(titles, key=key, on_change="rerun")
    for tab, (_, draw) in zip(opened, tabs, strict=True):
        if tab.open:
            with tab, guarded():
                draw(dataset)


def _show_round(dataset: Dataset) -> None:
    """Of rows that people's ratings made: of which round, and whose ratings were left out."""
    source = dataset["source"]
    if "round" not in source or "round_ratings" not in source:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(plain(f"Made of a rating round: {source['round_ratings']}."), width="content")
        st.page_link(
            "pages/rating/rating.py",
            label="The round",
            icon=":material/rate_review:",
            query_params={"round": source["round"]},
        )


def _settings(dataset: Dataset) -> None:
    dataset_id = dataset["dataset_id"]
    edit = FieldEdit(f"rename-{dataset_id}", {"name": dataset["name"]})
    with st.form(f"rename-{dataset_id}", border=False):
        name = st.text_input("Name", edit.seen["name"], max_chars=80, key=edit.widget_key("name"))
        renamed = st.form_submit_button("Rename", icon=":material/edit:")
    typed = {"name": (name or "").strip()}
    mine = edit.take_mine({"name": "Name"}, typed)
    body, changed = {"dataset": dataset_id}, bool(edit.changed(typed))
    if (renamed or mine) and changed and edit.save("rename_dataset", body, typed, "Renamed."):
        st.rerun()
    st.space("small")
    draw_last("dataset", dataset_id)
    st.space("small")
    st.markdown("**Remove this data set**")
    st.caption(
        "Its rows are deleted from this machine, with what was said of them. That is refused while a run uses"
        " them."
    )
    sure = st.checkbox("I want to delete it for good", key=f"delete-sure-{dataset_id}")
    pressed = st.button("Delete", icon=":material/delete:", disabled=not sure, key=f"delete-{dataset_id}")
    if pressed and act("delete_dataset", {"dataset": dataset_id}, "The data set is deleted.") is not None:
        st.switch_page("pages/data/data.py")
