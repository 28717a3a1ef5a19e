"""The tab "Versions": the tree that recipes grew, what became of every row, and two versions side by side."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.clean.clean_preview import steps_list
from pages.data.rows.fate_counts import changes, rows_before
from pages.data.versions import versions_reads
from pages.data.versions.versions_rows import show_compare, show_fates
from pages.data.versions.versions_sankey import sankey
from pages.run_parts.chips import status_badge
from pages.shared import brand, quantities
from pages.shared.session import guarded, plain
from store.documents.data.fates import Fates
from store.documents.tables.dataset import Dataset, RunOfDataset, Version

RUNS_SHOWN = 4


def show_versions(dataset: Dataset) -> None:
    """The family of one data set, and how this version came to be."""
    family = versions_reads.tree(dataset["dataset_id"])
    st.caption(
        "A recipe never changes a version: it makes a new one."
        if len(family) > 1
        else "This is the only version. A recipe of the tab Clean makes the next one."
    )
    for version in family:
        _version(version, version["dataset_id"] == dataset["dataset_id"])
    if dataset["recipe"] and dataset["fates"]:
        with guarded():
            _made_by_recipe(dataset, dataset["fates"])
    if len(family) > 1:
        st.subheader("Compare two versions", anchor=False)
        with guarded():
            show_compare(dataset, family)


def _version(version: Version, here: bool) -> None:
    """One line of the tree: name, rows, how it was made, and the runs that use it."""
    depth = min(version["depth"], 6)
    with st.container(horizontal=True, gap=None, key=f"version-{version['dataset_id']}"):
        if depth:
            st.space(24 * depth)
            st.markdown(":gray[:material/subdirectory_arrow_right:]", width="content")
        with st.container(border=True, gap=None):
            _named(version, here)
            facts = [plural(version["row_count"], "row"), quantities.ago(version["created_at"])]
            if fates := version["fates"]:
                facts += changes(fates)
            st.caption(" · ".join(facts))
            if version["titles"]:
                st.caption(plain("; ".join(version["titles"])))
            _runs(version["runs"])


def _named(version: Version, here: bool) -> None:
    if here:
        st.markdown(f"**{plain(version['name'])}** :blue-badge[this version]")
        return
    st.page_link(
        "pages/data/data.py",
        label=f"**{plain(version['name'])}**",
        query_params={"dataset": version["dataset_id"]},
    )


def _runs(runs: list[RunOfDataset]) -> None:
    if not runs:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for run in runs[:RUNS_SHOWN]:
            st.page_link(
                "pages/run/run.py",
                label=f"{plain(run['name'])} {status_badge(run['status'])}",
                icon=":material/show_chart:",
                query_params={"run": run["run_id"]},
            )
        if len(runs) > RUNS_SHOWN:
            st.caption(f"{RUNS_SHOWN} of {len(runs):,} runs that use it")


def _made_by_recipe(dataset: Dataset, fates: Fates) -> None:
    st.subheader("What became of every row", anchor=False)
    new = f"{dataset['row_count']:,} new rows on the right"
    st.caption(f"{rows_before(fates):,} old rows on the left, {new}; steps go by their numbers.")
    st.plotly_chart(
        sankey(fates, brand.PAPER if st.context.theme.type == "dark" else brand.INK),
        key=f"sankey-{dataset['dataset_id']}",
        config={"displayModeBar": False},
        alt="Rows of the old version through each step to the new version",
    )
    steps_list(fates["steps"])
    show_fates(dataset["dataset_id"], fates["steps"])
