"""The tab "Summary": what lies outside its healthy band, what is in the data, what was not measured yet.

What is in a data set, as far as it was measured: languages, lengths, tokens, topics, diversity.

Pure functions over what was counted at the import and measured since; no row is read.
"""

from __future__ import annotations

import html
from collections.abc import Callable

import streamlit as st

from engine.diagnostics.phrasing import percent, plural
from pages.data.rows import clean_reads, diversity_kinds, explore_filter
from pages.data.rows.diversity_kinds import KINDS, of_set
from pages.data.rows.explore_figures import Measurements, Tile, figure_of, judged
from pages.data.rows.measure_group import measurable, show_measuring
from pages.shared import figures
from pages.shared.quantities import count
from pages.shared.session import act, may
from store.catalog.languages import language_name
from store.documents.data.signal_figures import CategoryFigure, NumberFigure
from store.documents.tables.dataset import Dataset

SHOWN = ("vendi", "top_template")  # of the figures of diversity
FREQUENT = 4  # values of a category that are named
A_KIND = 0.1  # share of the rows from which several answers to a prompt are what the data is made of
Fact = tuple[str, str, str]


def contents(dataset: Dataset, measured: Measurements) -> list[Fact]:
    """What is in the data, as far as it was measured: languages, lengths, tokens, diversity."""
    facts: list[Fact] = []
    languages = figure_of(measured, "text", "language")
    if languages and "values" in languages:
        facts.append(_top("Languages", languages, language_name))
    answers = figure_of(measured, "text", "answer_words")
    if answers and "median" in answers and not dataset["stats"]["label_count"]:  # else it is a label
        whole = dataset["kind"] == "text"
        facts += _spread("Words of a row" if whole else "Length of an answer", answers, "word")
    references = figure_of(measured, "duplicates", "references")
    if references and "flagged" in references and references["flagged"] > A_KIND * references["n"]:
        share = percent(references["flagged"] / references["n"])
        note = "share a prompt with other right answers; splits keep them together"
        facts.append(("Several references", f"{share} of the rows", note))
    tokens = figure_of(measured, "tokens", "tokens")
    if tokens and "mean" in tokens and tokens["mean"] is not None:
        total = tokens["mean"] * dataset["row_count"]
        about = "" if tokens["n"] == dataset["row_count"] else "about "
        median = f"median {tokens['median']:,.0f} of {plural(tokens['n'], 'row')}"
        note = f"{median}; 5% are over {tokens['p95']:,.0f}"
        model = measured["tokens"]["options"].get("model", "")
        facts.append(("Tokens", f"{about}{count(round(total))}", f"{note}; {model}" if model else note))
    topics = figure_of(measured, "map", "cluster")
    if topics and "values" in topics:
        facts.append(_top("Topics", topics))
    return [*facts, *_diversity(measured)]


def _top(title: str, figure: CategoryFigure, name: Callable[[str], str] = str) -> Fact:
    """The most frequent values of a category with their shares."""
    named = [(name(value), rows) for value, rows in figure["values"].items() if value]
    if not named:
        return title, "not known", f"of {plural(figure['n'], 'row')}"
    first, rows = named[0]
    rest = "; ".join(f"{value} {percent(n / figure['n'])}" for value, n in named[1:FREQUENT])
    note = f"of {plural(figure['n'], 'row')}" + (f"; {rest}" if rest else "")
    unknown = figure["values"].get("", 0)
    left = figure["distinct"] - bool(unknown) - FREQUENT
    more = f"; {left:,} more" if left > 0 else ""
    more += f"; {percent(unknown / figure['n'])} not known" if unknown else ""
    return title, f"{first} {percent(rows / figure['n'])}", note + more


def _spread(title: str, figure: NumberFigure, noun: str) -> list[Fact]:
    if figure["median"] is None:
        return []
    note = f"median of {plural(figure['n'], 'row')}; 5% are over {figure['p95']:,.0f}"
    return [(title, plural(round(figure["median"]), noun), note)]


def _diversity(measured: Measurements) -> list[Fact]:
    """How diverse the set is, once the map was drawn; more of it stands beside the map."""
    set_figures = of_set(measured["map"]["figures"] if "map" in measured else {})
    facts = []
    for kind in KINDS:
        figure = set_figures.get(kind.name)
        if kind.name in SHOWN and figure and figure["value"] is not None:
            value = diversity_kinds.value_text(kind, figure["value"])
            rests = f"n = {figure['n']:,} {figure.get('unit', 'rows')}"
            outside = diversity_kinds.judged(kind, figure["value"])[1]
            facts.append((kind.title, value, f"{(outside or kind.means).rstrip('.')}; {rests}"))
    return facts


FIRST = 8  # tiles that are shown before the fold
COLORS = {"bad": figures.RED, "warn": figures.AMBER, "good": figures.TEAL}
STATES = {"bad": "serious", "warn": "worth a look", "good": "healthy"}
NEEDS = {
    "tokenizer": "Needs a model's tokenizer; best chosen under How the model sees it",
    "model": "Needs a model and some minutes",
    "labels": "Needs labels; takes seconds to minutes",
    "embeddings": "Takes seconds to minutes",
}


def show_card(dataset: Dataset) -> None:
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
    if facts := contents(dataset, measured):
        st.markdown("**What is in it**")
        st.html(figures.facts(facts))
    _offer(dataset, measured, {job["config"]["group"] for job in jobs})


def wants_cleaning(dataset: Dataset) -> bool:
    """Whether a figure is bad enough that cleaning is the likelier next step than training."""
    return any(tile.state == "bad" for tile in judged(dataset, clean_reads.signals(dataset["fingerprint"])))


def _tiles(dataset_id: str, tiles: list[Tile]) -> None:
    key = f"card-more-{dataset_id}"
    whole = st.session_state.get(key, False)
    drawn = tiles if whole else tiles[:FIRST]
    with st.grid("auto", min_column_width=230, gap="small") as grid:
        for place, tile in enumerate(drawn):
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


def _tile(tile: Tile) -> str:
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


def _offer(dataset: Dataset, measured: Measurements, busy: set[str]) -> None:
    """A button for each group of signals that neither was measured nor is being measured."""
    left = [
        group
        for name, group in measurable(dataset).items()
        if name not in busy and (name not in measured or measured[name]["outdated"])
    ]
    if not left or not may("work"):
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
