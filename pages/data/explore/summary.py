"""The Summary tab: figures of the data set outside their recommended range, its contents, and what has not
been measured.

Figures come from the counts of the import and from measurements; no row is read. Whether a signal is outside
its range is decided only in `engine.evaluation.verdicts.data_findings`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import streamlit as st

from engine.evaluation.verdicts.data_findings import find_findings
from pages.data import dataset_queries, measurements
from pages.data.explore import row_filter
from pages.data.measurements import (
    DIVERSITY_KINDS,
    list_measurable_groups,
    list_set_figures,
    show_measurement_progress,
)
from pages.shared import meters
from pages.shared.display import format_count, format_share
from pages.shared.session import has_right, send_command
from store.core.formatting import format_number, format_percent_at_limit, percent, plural
from store.core.languages import get_language_name
from store.core.row_schemas import CategoryFigure, SignalFigure
from store.data.filters import Condition, Filter
from store.data.schemas import Dataset, SignalRow
from store.data.signals import GROUPS, SIGNALS, Signal

LARGEST, MAJORITY = 0.8, 0.5  # maximum healthy share of a label among two labels, and among more
FINDING_STATES = {"serious": "bad", "notable": "warn", "minor": "warn", "look": "warn"}

Measurements = Mapping[str, SignalRow]  # by signal group


@dataclass(frozen=True)
class Tile:
    """A figure as a tile.

    state: "" (no healthy range), good, warn, bad. where: filter of the rows concerned; rows: their number.
    """

    title: str
    value: str
    note: str
    band: str = ""
    state: str = ""
    means: str = ""
    where: Filter | None = None
    rows: int | None = None


def build_signal_tiles(dataset: Dataset, measured: Measurements) -> list[Tile]:
    """Build tiles of the measured signals with a healthy range: first those outside, most serious on top."""
    dataset_findings = find_findings(dataset.row_count, measured, GROUPS)
    outside = {finding.column: finding for finding in dataset_findings}
    tiles = []
    for finding in dataset_findings:
        signal = SIGNALS[finding.column]
        tiles.append(
            Tile(
                signal.title,
                _format_value(signal, _build_figure(measured, finding.column)),
                finding.measure
                if finding.share is None
                else f"{finding.rows:,} of {finding.measure.split(' of ', 1)[1]}",
                describe_healthy_band(signal),
                FINDING_STATES[finding.severity],
                finding.why,
                Filter.parse(finding.where),
                _count_filtered_rows(signal, _build_figure(measured, finding.column)),
            )
        )
    if labels := _build_label_tile(dataset):
        tiles.append(labels)
    for name in GROUPS:
        for signal in GROUPS[name].signals if name in measured else ():
            figures = measured[name].figures.get(signal.column)
            if signal.healthy and figures and figures["n"] and signal.column not in outside:
                note = f"of {plural(figures['n'], 'row')}"
                tiles.append(
                    Tile(
                        signal.title,
                        _format_value(signal, figures),
                        note,
                        describe_healthy_band(signal),
                        "good",
                        signal.means,
                    )
                )
    return sorted(tiles, key=lambda tile: ["bad", "warn", "good"].index(tile.state))


def find_figure(measured: Measurements, group: str, column: str) -> SignalFigure | None:
    """Return the figure of a column, or None if it was not measured."""
    return measured[group].figures.get(column) if group in measured else None


def _build_figure(measured: Measurements, column: str) -> SignalFigure:
    return next(m.figures[column] for m in measured.values() if column in m.figures)


def _format_value(signal: Signal, figure: SignalFigure) -> str:
    """Format the share of rows found by the signal, or the median."""
    found_count = count_found_rows(signal, figure)
    limit = (signal.healthy or (None, None))[1]
    if found_count is not None:
        return format_percent_at_limit(found_count / figure["n"], limit)
    if "median" not in figure or figure["median"] is None:
        return "–"
    if signal.unit == "share":
        return format_percent_at_limit(figure["median"], limit)
    return format_number(figure["median"], 2)


def count_found_rows(signal: Signal, figure: SignalFigure) -> int | None:
    """Number of rows found by a signal (of each group, beyond the first); None for a number judged by its
    median.
    """
    if "flagged" in figure:
        return figure["flagged"]
    if "extra" in figure:
        return figure["extra"]
    return figure["positive"] if signal.unit == "found" and "positive" in figure else None


def _count_filtered_rows(signal: Signal, figure: SignalFigure) -> int | None:
    """Number of rows that match the filter of a finding; for groups this includes the first row of each."""
    return figure["rows"] if "rows" in figure else count_found_rows(signal, figure)


def describe_healthy_band(signal: Signal) -> str:
    """Describe the healthy range so that it is not mistaken for the value: "at most 10% is healthy"."""
    low, high = signal.healthy or (None, None)
    if high == 0:
        return "none is healthy"
    counted = signal.type in ("flag", "group") or signal.unit in ("found", "share")
    ends = [None if x is None else percent(x) if counted else f"{x:g}" for x in (low, high)]
    what = "" if signal.type in ("flag", "group") or signal.unit == "found" else "a median of "
    if ends[0] is not None and ends[1] is not None:
        return f"{what}{ends[0]} to {ends[1]} is healthy"
    return f"{what}{'at least' if ends[1] is None else 'at most'} {ends[0] or ends[1]} is healthy"


def _build_label_tile(dataset: Dataset) -> Tile | None:
    """Build the tile of the balance of labels, or None if there are fewer than two."""
    stats = dataset.stats
    distinct, total = stats.get("label_count") or 0, dataset.row_count
    if distinct < 2 or not stats.get("labels"):
        return None
    name, rows = next(iter(stats["labels"].items()))
    most = LARGEST if distinct == 2 else MAJORITY
    return Tile(
        "Largest label",
        format_share(rows, total),
        f"{rows:,} of {plural(total, 'row')}: {name[:60]}",
        f"at most {most:.0%} is healthy",
        "warn" if rows / total > most else "good",
        "One label dominates; accuracy alone will overstate the quality of the model.",
        Filter(conditions=[Condition(column="label", op="is", value=name)]),
        rows,
    )


SHOWN = ("vendi", "top_template")  # diversity figures shown here
FREQUENT = 4  # values named per category
MIN_KIND_SHARE = 0.1  # share of rows from which several answers per prompt are typical of the data
Fact = tuple[str, str, str]


def list_content_facts(dataset: Dataset, measured: Measurements) -> list[Fact]:
    """List the measured contents of the data: languages, lengths, tokens, topics, diversity."""
    facts: list[Fact] = []
    languages = find_figure(measured, "text", "language")
    if languages and "values" in languages:
        facts.append(_build_top_values_fact("Languages", languages, get_language_name))
    answers = find_figure(measured, "text", "answer_words")
    labelled = dataset.stats.get("label_count")  # then the answers are labels
    if answers and "median" in answers and answers["median"] is not None and not labelled:
        title = "Words of a row" if dataset.kind == "text" else "Length of an answer"
        note = f"median of {plural(answers['n'], 'row')}; 5% are over {answers['p95']:,.0f}"
        facts.append((title, plural(round(answers["median"]), "word"), note))
    references = find_figure(measured, "duplicates", "references")
    if references and "flagged" in references and references["flagged"] > MIN_KIND_SHARE * references["n"]:
        share = percent(references["flagged"] / references["n"])
        note = "share a prompt with other correct answers; splits keep them together"
        facts.append(("Several references", f"{share} of the rows", note))
    tokens = find_figure(measured, "tokens", "tokens")
    if tokens and "mean" in tokens and tokens["mean"] is not None:
        total = tokens["mean"] * dataset.row_count
        about = "" if tokens["n"] == dataset.row_count else "about "
        median = f"median {tokens['median']:,.0f} of {plural(tokens['n'], 'row')}"
        note = f"{median}; 5% are over {tokens['p95']:,.0f}"
        model = measured["tokens"].options.get("model", "")
        facts.append(
            ("Tokens", f"{about}{format_count(round(total))}", f"{note}; {model}" if model else note)
        )
    topics = find_figure(measured, "map", "cluster")
    if topics and "values" in topics:
        facts.append(_build_top_values_fact("Topics", topics))
    return [*facts, *_list_diversity_facts(measured)]


def _build_top_values_fact(title: str, figure: CategoryFigure, name: Callable[[str], str] = str) -> Fact:
    """Build a fact of the most frequent values of a category and their shares."""
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


def _list_diversity_facts(measured: Measurements) -> list[Fact]:
    """List a few diversity figures if the map was measured; the others are shown beside the map."""
    set_figures = list_set_figures(measured["map"].figures if "map" in measured else {})
    facts = []
    for kind in DIVERSITY_KINDS:
        figure = set_figures.get(kind.name)
        if kind.name in SHOWN and figure and figure["value"] is not None:
            value = measurements.format_value(kind, figure["value"])
            rests = f"n = {figure['n']:,} {figure.get('unit', 'rows')}"
            outside = measurements.classify_figure(kind, figure["value"])[1]
            facts.append((kind.title, value, f"{(outside or kind.means).rstrip('.')}; {rests}"))
    return facts


FIRST = 8  # tiles shown before "Show all"
COLORS = {"bad": meters.RED, "warn": meters.AMBER, "good": meters.TEAL}
STATE_TITLES = {"bad": "serious", "warn": "worth a look", "good": "healthy"}
NEEDS = {
    "tokenizer": "Needs a model's tokenizer; best chosen under How the model sees it",
    "model": "Needs a model and some minutes",
    "labels": "Needs labels; takes seconds to minutes",
    "embeddings": "Takes seconds to minutes",
}


def show_card(dataset: Dataset) -> None:
    """Draw figures outside their healthy range, then the contents, then what can still be measured."""
    jobs = dataset_queries.list_measurement_jobs(dataset.dataset_id)
    measured = dataset_queries.read_signals(dataset.fingerprint)
    if jobs:
        show_measurement_progress(dataset.dataset_id, len(jobs))
    tiles = build_signal_tiles(dataset, measured)
    outside = [tile for tile in tiles if tile.state != "good"]
    inside = [tile for tile in tiles if tile.state == "good"]
    if outside:
        whose = "its" if len(outside) == 1 else "their"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{plural(len(outside), 'figure')} outside {whose} healthy range**", width="content"
            )
            st.button(
                "Clean it",
                type="primary" if any(tile.state == "bad" for tile in outside) else "secondary",
                icon=":material/cleaning_services:",
                key=f"card-clean-{dataset.dataset_id}",
                on_click=row_filter.open_tab,
                args=(dataset.dataset_id, row_filter.CLEAN_TAB),
            )
        _draw_tiles(dataset.dataset_id, outside)
    elif inside:
        st.markdown(
            f":green[:material/check_circle:] All {plural(len(inside), 'figure')} are in their healthy range."
        )
    if inside:
        with st.expander(f"{plural(len(inside), 'figure')} in their healthy range", icon=":material/check:"):
            st.html(meters.render_grid(_render_tile(tile) for tile in inside))
    if facts := list_content_facts(dataset, measured):
        st.markdown("**Contents**")
        st.html(meters.render_facts(facts))
    _draw_measurement_buttons(dataset, measured, {job.config["group"] for job in jobs})


def needs_cleaning(dataset: Dataset) -> bool:
    """Whether a figure is so far outside that cleaning is a more likely next step than training."""
    return any(
        tile.state == "bad"
        for tile in build_signal_tiles(dataset, dataset_queries.read_signals(dataset.fingerprint))
    )


def _draw_tiles(dataset_id: str, tiles: list[Tile]) -> None:
    key = f"card-more-{dataset_id}"
    whole = st.session_state.get(key, False)
    drawn = tiles if whole else tiles[:FIRST]
    with st.grid("auto", min_column_width=230, gap="small") as grid:
        for place, tile in enumerate(drawn):
            with grid.cell(), st.container(border=True, height="stretch", gap=None):
                st.html(meters.STYLE + _render_tile(tile))
                if tile.where is not None:
                    rows = "Show these rows" if tile.rows is None else f"Show {plural(tile.rows, 'row')}"
                    st.button(
                        rows,
                        type="tertiary",
                        icon=":material/filter_alt:",
                        key=f"card-{dataset_id}-{place}",
                        on_click=row_filter.show_in_table,
                        args=(dataset_id, tile.where),
                    )
    if len(tiles) > FIRST:
        st.toggle(f"Show all {len(tiles)}", key=key)


def _render_tile(tile: Tile) -> str:
    """Render a tile as HTML: title, value coloured by state, basis, healthy range, and meaning."""
    color = COLORS[tile.state]
    dot = f"<span style='color:{color}' title='{STATE_TITLES[tile.state]}'>●</span>"
    means = f"<div class='tb-note'>{html.escape(tile.means)}</div>" if tile.means else ""
    return (
        f"<div><div class='tb-name'>{dot} {html.escape(tile.title)}</div>"
        f"<div class='tb-value'>{html.escape(tile.value)}"
        f" <span class='tb-note' style='font-weight:400'>{html.escape(tile.note)}</span></div>"
        f"<div class='tb-note'>{html.escape(tile.band)}</div>{means}</div>"
    )


def _draw_measurement_buttons(dataset: Dataset, measured: Measurements, busy: set[str]) -> None:
    """Draw a button for each signal group that is neither measured nor being measured."""
    left = [
        group
        for name, group in list_measurable_groups(dataset).items()
        if name not in busy and (name not in measured or measured[name].outdated)
    ]
    if not left or not has_right("work"):
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Not measured:", width="content")
        for group in left:
            old = group.name in measured
            pressed = st.button(
                f"{group.title} again" if old else group.title,
                icon=":material/straighten:",
                key=f"profile-{dataset.dataset_id}-{group.name}",
                help="Measured by an older version" if old else NEEDS.get(group.needs, "Takes seconds"),
            )
            body = {"dataset": dataset.dataset_id, "group": group.name}
            if pressed and send_command("profile", body, f"{group.title} will be measured.") is not None:
                st.rerun()
