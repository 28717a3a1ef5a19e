"""Which rows of a data set are meant: all, or those of a saved slice, with its meaning in words."""

from __future__ import annotations

import streamlit as st

from pages.people.owner_words import owner_words
from pages.shared import reads
from pages.shared.session import current_person, plain
from store.config.data.filters import Filter
from store.words.recipe_words import words


def draw_slice_choice(dataset_id: str, key: str) -> Filter | None:
    """The choice; None for all rows. Where there is no slice yet, how one is made."""
    slices = {row["slice_id"]: row for row in reads.slices(dataset_id, current_person()["person_id"])}
    if not slices:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(
                "Of all rows. To take some alone, filter the rows of the data set and save the filter as a"
                " slice: it can be chosen here then.",
                width="content",
            )
            st.page_link(
                "pages/data/data.py",
                label="Filter its rows",
                icon=":material/filter_alt:",
                query_params={"dataset": dataset_id, "filter": "{}"},  # which opens its rows
                width="content",
            )
        return None
    chosen = st.selectbox(
        "Of these rows",
        ["", *slices],
        format_func=lambda own: (
            " · ".join([slices[own]["name"], *owner_words(slices[own])]) if own else "All rows"
        ),
        key=f"{key}.{dataset_id}",
        help="A slice is a filter that was saved under a name on the page of the data set.",
    )
    if not chosen:
        return None
    where = Filter.parse(slices[chosen]["filter"])
    st.caption(f":material/filter_alt: Only rows where {plain(words(where))}.")
    return where
