"""The tab "Summary": what lies outside its healthy band, what is in the data, what was not measured yet."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.explore.explore_contents import contents
from pages.data.rows import clean_reads, explore_filter
from pages.data.rows.explore_figures import Figure, judged
from pages.data.rows.measure_group import measurable, show_measuring
from pages.shared import figures
from pages.shared.session import act

FIRST = 8  # tiles that are shown before the fold
COLORS = {"bad": figures.RED, "warn": figures.AMBER, "good": figures.TEAL}
STATES = {"bad": "serious", "warn": "worth a look", "good": "healthy"}
NEEDS = {
    "tokenizer": "Needs a model's tokenizer; best chosen under How the model sees it",
    "model": "Needs a model and some minutes",
    "labels": "Needs labels; takes seconds to minutes",
    "embeddings": "Takes seconds to minutes",
}


def show_card(dataset: dict[str, Any]) -> None:
    """What is wrong first, then what is in it, then what can still be measured."""
    measured = clean_reads.signals(dataset["fingerprint"])
    jobs = clean_reads.measuring(dataset["dataset_id"])
    if jobs:
        show_measuring(dataset["dataset_id"], len(jobs))
    tiles = judged(dataset, measured)
    outside = [tile for tile in tiles if tile.state != "good"]
    inside = [tile for tile in tiles if tile.state == "good"]
    if outside:
        whose = "its" if len(outside) == 1 else "their"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plural(len(outside), 'figure')} outside {whose} healthy band**", width="content")
            st.button(
                "Clean it",
                type="primary" if any(tile.state == "bad" for tile in outside) else "secondary",
                icon=":material/cleaning_services:",
                key=f"card-clean-{dataset['dataset_id']}",
                on_click=explore_filter.open_tab,
                args=(dataset["dataset_id"], explore_filter.CLEAN_TAB),
            )
        _tiles(dataset["dataset_id"], outside)
    elif inside:
        st.markdown(
            f":green[:material/check_circle:] All {plural(len(inside), 'figure')} lie in their healthy bands."
        )
    if inside:
        with st.expander(f"{plural(len(inside), 'figure')} inside the healthy band", icon=":material/check:"):
            st.html(figures.grid(_tile(tile) for tile in inside))
    if found := contents(dataset, measured):
        st.markdown("**What is in it**")
        st.html(figures.facts(found))
    _offer(dataset, measured, {job["config"]["group"] for job in jobs})


def wants_cleaning(dataset: dict[str, Any]) -> bool:
    """Whether a figure is bad enough that cleaning is the likelier next step than training."""
    return any(tile.state == "bad" for tile in judged(dataset, clean_reads.signals(dataset["fingerprint"])))


def _tiles(dataset_id: str, tiles: list[Figure]) -> None:
    key = f"card-more-{dataset_id}"
    whole = st.session_state.get(key, False)
    shown = tiles if whole else tiles[:FIRST]
    with st.grid("auto", min_column_width=230, gap="small") as grid:
        for place, tile in enumerate(shown):
            with grid.cell(), st.container(border=True, height="stretch", gap=None):
                st.html(figures.STYLE + _tile(tile))
                if tile.where is not None:
                    rows = "Show these rows" if tile.rows is None else f"Show {plural(tile.rows, 'row')}"
                    st.button(
                        rows,
                        type="tertiary",
                        icon=":material/filter_alt:",
                        key=f"card-{dataset_id}-{place}",
                        on_click=explore_filter.show_in_table,
                        args=(dataset_id, tile.where),
                    )
    if len(tiles) > FIRST:
        st.toggle(f"Show all {len(tiles)}", key=key)


def _tile(tile: Figure) -> str:
    """Title, value in the colour of its state, what it rests on, its band, and what it means."""
    color = COLORS[tile.state]
    dot = f"<span style='color:{color}' title='{STATES[tile.state]}'>●</span>"
    means = f"<div class='tb-note'>{html.escape(tile.means)}</div>" if tile.means else ""
    return (
        f"<div><div class='tb-name'>{dot} {html.escape(tile.title)}</div>"
        f"<div class='tb-value'>{html.escape(tile.value)}"
        f" <span class='tb-note' style='font-weight:400'>{html.escape(tile.note)}</span></div>"
        f"<div class='tb-note'>{html.escape(tile.band)}</div>{means}</div>"
    )


def _offer(dataset: dict[str, Any], measured: dict[str, dict[str, Any]], busy: set[str]) -> None:
    """A button for each group of signals that neither was measured nor is being measured."""
    left = [
        group
        for name, group in measurable(dataset).items()
        if name not in busy and (name not in measured or measured[name]["outdated"])
    ]
    if not left:
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Not measured:", width="content")
        for group in left:
            old = group.name in measured
            pressed = st.button(
                f"{group.title} again" if old else group.title,
                icon=":material/straighten:",
                key=f"profile-{dataset['dataset_id']}-{group.name}",
                help="Measured by an older version" if old else NEEDS.get(group.needs, "Takes seconds"),
            )
            body = {"dataset": dataset["dataset_id"], "group": group.name}
            if pressed and act("profile", body, f"{group.title} will be measured.") is not None:
                st.rerun()
