"""Panels beside the map: diversity, labels that are probably wrong, and answers that are hard for the base
model.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import streamlit as st

from pages.data import dataset_queries
from pages.data.cleaning import draft
from pages.data.explore import row_filter
from pages.data.explore.histograms import plot_histogram
from pages.data.measurements import (
    DIVERSITY_KINDS,
    DiversityKind,
    classify_figure,
    describe_band,
    describe_random_half,
    format_value,
    list_set_figures,
    show_missing_measurement,
)
from pages.shared import meters
from pages.shared.display import format_count, format_share
from pages.shared.session import escape_markdown
from pages.shared.text_display import trim_common_start
from store.core.formatting import format_number, plural
from store.core.row_schemas import SetFigure, SignalFigure, SignalOptions
from store.data.exploration import DatasetTable, Sort, TablePage, format_filter_json
from store.data.filters import Condition, Filter
from store.data.schemas import Dataset
from store.data.signals import SIGNALS


def show_diversity(rows: DatasetTable) -> None:
    """Draw what a random half of the rows would keep, then the figures."""
    set_figures = list_set_figures(rows.measured["map"].figures)
    st.markdown("**Diversity**")
    duplicates: SignalFigure | None = None
    if "duplicates" in rows.measured:
        duplicates = rows.measured["duplicates"].figures.get("near_group")
    near = duplicates if duplicates and "extra" in duplicates else None
    if sentence := describe_random_half(set_figures, near):
        st.markdown(sentence)
    st.html(
        meters.STYLE
        + "".join(
            render_tile(kind, set_figures[kind.name]) for kind in DIVERSITY_KINDS if kind.name in set_figures
        )
    )


def render_tile(kind: DiversityKind, figure: SetFigure) -> str:
    """Render a figure as HTML: title, value, interval and n, healthy range, and meaning of a deviation."""
    value = figure["value"]
    if value is None:
        text, state, note = "–", "", "too few rows"
    else:
        text = format_value(kind, value)
        state, note = classify_figure(kind, value)
        low, high = figure.get("low"), figure.get("high")
        if low is not None and high is not None:
            ends = (format_number(kind.scale * end, kind.places) for end in (low, high))
            text += f" ({' to '.join(ends)})"
    rests = f"n = {format_count(figure['n'])} {figure.get('unit', 'rows')}"
    color = {"good": meters.TEAL, "warn": meters.AMBER}.get(state)
    dot = f"<span style='color:{color}' title='{state}'>●</span> " if color else ""
    note_of = f" “{figure['template']}” {rests}" if figure.get("template") else f" {rests}"
    means = ". ".join(part for part in (kind.means, describe_band(kind)) if part)
    return (
        "<div style='margin-bottom:.7rem'>"
        f"<div class='tb-name'>{dot}{html.escape(kind.title)}</div>"
        f"<div class='tb-value'>{html.escape(text)}"
        f"<span class='tb-note' style='font-weight:400'>{html.escape(note_of)}</span></div>"
        f"<div class='tb-note'>{html.escape(means)}</div>"
        + (f"<div class='tb-note'><b>{html.escape(note)}</b></div>" if note else "")
        + "</div>"
    )


SHOWN_ENDS = 5  # rows at each end
MEASURED_ROWS = Filter(conditions=[Condition(column="ifd", op="is not empty")])
HARD_ROWS = Filter(conditions=[Condition(column="ifd", op=">=", value=1)])
CONFIG = {"displayModeBar": False}


def show_difficulty(dataset: Dataset, rows: DatasetTable) -> None:
    """Draw a button to measure, or the distribution and the hardest and easiest rows."""
    if "difficulty" not in rows.measured:
        show_missing_measurement(
            dataset,
            "difficulty",
            "Measure difficulty",
            "Loss of the base model on each answer with its prompt and without: at a difficulty of 1 or"
            " more, the prompt does not help. Without a GPU a sample of 200 rows is used, which takes some"
            " minutes.",
        )
        return
    measured = rows.measured["difficulty"]
    set_figures = list_set_figures(measured.figures)
    st.markdown(_describe_diversity(set_figures, measured.options, rows.dataset.row_count))
    dataset_id, stamp = dataset.dataset_id, dataset_queries.measurement_stamp(rows)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        spread = dataset_queries.compute_histograms(dataset_id, ("ifd",), "", stamp)["ifd"]
        st.plotly_chart(
            plot_histogram(spread), config=CONFIG, key=f"ifd-{dataset_id}", alt="Spread of difficulty"
        )
        st.caption(
            "How unlikely the answer is with its prompt, against without: below 1 the prompt helps.",
            help="Perplexity with the prompt over that without: instruction-following difficulty (IFD)",
        )
        if set_figures["hard"]["value"]:
            st.button(
                "Show the hard ones in the table",
                icon=":material/filter_alt:",
                key=f"ifd-filter-{dataset_id}",
                on_click=row_filter.show_in_table,
                args=(dataset_id, HARD_ROWS),
            )
    with right:
        for title, descending in (("Hardest", True), ("Easiest", False)):
            _draw_rows(dataset_id, title, Sort("ifd", descending), stamp)


def _describe_diversity(set_figures: Mapping[str, SetFigure], options: SignalOptions, total: int) -> str:
    hard, unmeasured = set_figures["hard"], set_figures["unmeasured"]
    model = escape_markdown(str(options.get("model", "the base model")))
    of = f"{plural(hard['n'], 'row')} of {total:,}" if hard["n"] < total else plural(total, "row")
    sentence = f"Measured with {model} on {of}."
    low, high = hard.get("low"), hard.get("high")
    if hard["value"] is not None and low is not None and high is not None:
        bounds = f"{format_share(low, 1)} to {format_share(high, 1)}"
        sentence += (
            f" For **{format_share(hard['value'], 1)}** ({bounds}) the prompt does not help with the answer."
        )
    if unmeasured["value"]:
        sentence += (
            f" {plural(int(unmeasured['value']), 'drawn row')} had no answer within the model's length."
        )
    return sentence


def _draw_rows(dataset_id: str, title: str, sort: Sort, stamp: str) -> None:
    names = ("ifd", "answer_loss", "prompt", "answer")
    part = TablePage(names, sort, limit=SHOWN_ENDS)
    cells = dataset_queries.read_page(dataset_id, format_filter_json(MEASURED_ROWS), part, stamp)
    cells, alike = trim_common_start(cells, {"prompt": "Prompt", "answer": "Answer"})
    if alike:
        st.caption(escape_markdown(alike))
    st.dataframe(
        cells,
        hide_index=True,
        column_order=("ifd", "prompt", "answer", "answer_loss", "row_id"),
        column_config={
            "ifd": st.column_config.NumberColumn(f"{title}", format="%.2f", help=SIGNALS["ifd"].means),
            "prompt": st.column_config.TextColumn("Prompt", width="medium"),
            "answer": st.column_config.TextColumn("Answer", width="medium"),
            "answer_loss": st.column_config.NumberColumn(
                "Loss", format="%.2f", help="Nats a token, given the prompt"
            ),
            "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
        },
        alt=f"{title} answers",
    )


SHOWN_SUSPECTS = 12
SUSPECT_ROWS = Filter(conditions=[Condition(column="label_suspect", op="is", value=True)])
STEPS = {
    "suggested": ("Take the suggested labels", ":material/auto_fix_high:"),
    "drop": ("Drop the suspected rows", ":material/delete_sweep:"),
}


def show_labels(dataset: Dataset, rows: DatasetTable) -> None:
    """Draw a button to measure, or the suspected label errors."""
    if "labels" not in rows.measured:
        show_missing_measurement(
            dataset,
            "labels",
            "Look for wrong labels",
            "Predicts each row's label from the other rows (out of fold) and ranks rows whose own label"
            " looks wrong. 10,000 rows take about 20 seconds.",
        )
        return
    set_figures = list_set_figures(rows.measured["labels"].figures)
    suspects = set_figures["confused"]["n"]
    st.markdown(_describe_suspects(set_figures, suspects))
    if not suspects:
        return
    dataset_id = dataset.dataset_id
    _draw_fix_buttons(dataset_id, suspects)
    wide, narrow = st.columns([5, 3], gap="medium")
    with wide:
        _draw_suspects(dataset_id, rows, suspects)
    with narrow:
        _draw_confused_labels(set_figures["confused"])


def _describe_suspects(set_figures: Mapping[str, SetFigure], suspects: int) -> str:
    accuracy, unjudged = set_figures["accuracy"], set_figures["unjudged"]
    sentence = (
        f"**{plural(suspects, 'suspected label error')}** in {accuracy['n']:,} rows"
        f" ({format_share(suspects, accuracy['n'])}; up to 3% is healthy)."
    )
    if accuracy["value"] is not None:
        sentence += (
            f" The other rows suggest the given label for {format_share(accuracy['value'], 1)} of the rows;"
            " where that is low, suspects are less sure."
        )
    if unjudged["value"]:
        parts = []
        if unjudged["without_label"]:
            parts.append(f"{unjudged['without_label']:,} without a label")
        if unjudged["rare_labels"]:
            rare = ", ".join(str(name) for name in unjudged["examples"][:5])
            parts.append(
                f"those of {plural(unjudged['rare_labels'], 'label')} too rare to judge"
                f" ({escape_markdown(rare)})"
            )
        sentence += f" Not judged: {plural(int(unjudged['value']), 'row')}, {' and '.join(parts)}."
    return sentence


def _draw_fix_buttons(dataset_id: str, suspects: int) -> None:
    with st.container(horizontal=True, gap="small"):
        st.button(
            f"Show the {suspects:,} in the table",
            icon=":material/filter_alt:",
            key=f"labels-filter-{dataset_id}",
            on_click=row_filter.show_in_table,
            args=(dataset_id, SUSPECT_ROWS),
        )
        for action, (title, icon) in STEPS.items():
            step = {"step": "label_errors", "action": action}
            added = draft.has_steps(dataset_id, [step])
            pressed = st.button(
                "In the recipe" if added else title,
                icon=":material/check:" if added else icon,
                key=f"labels-{action}-{dataset_id}",
                disabled=added,
                help="Adds a step to the recipe on the Clean tab",
            )
            if pressed:
                draft.append_steps(dataset_id, [step])
                st.toast("It is in the recipe under Clean.", icon=":material/check:")
                st.rerun()


def _draw_suspects(dataset_id: str, rows: DatasetTable, suspects: int) -> None:
    names = ("label_rank", "label", "label_suggested", "label_confidence", "prompt")
    part = TablePage(names, Sort("label_rank"), limit=SHOWN_SUSPECTS)
    first = dataset_queries.read_page(
        dataset_id, format_filter_json(SUSPECT_ROWS), part, dataset_queries.measurement_stamp(rows)
    )
    st.dataframe(
        first,
        hide_index=True,
        column_order=("prompt", "label", "label_suggested", "label_confidence", "row_id"),
        column_config={
            "prompt": st.column_config.TextColumn("Text", width=210),
            "label": st.column_config.TextColumn("Given", width=130),
            "label_suggested": st.column_config.TextColumn("Suggested", width=130),
            "label_confidence": st.column_config.NumberColumn(
                "Sure",
                width=60,
                format="percent",
                help="How sure the other rows are of the given label (its out-of-fold probability)",
            ),
            "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
        },
        alt="The most suspicious labels",
    )
    if suspects > SHOWN_SUSPECTS:
        st.caption(f"The {SHOWN_SUSPECTS} most suspicious of {suspects:,}.")


def _draw_confused_labels(confused: SetFigure) -> None:
    st.dataframe(
        [{"Rows": rows, "Given": given, "Suggested": other} for given, other, rows in confused["pairs"]],
        hide_index=True,
        column_config={
            "Rows": st.column_config.NumberColumn(width=50, format="localized"),
            "Given": st.column_config.TextColumn(width=130),
            "Suggested": st.column_config.TextColumn(width=130),
        },
        alt="Labels that are mixed up",
    )
    st.caption(f"Labels that are mixed up: {confused['value']:,} of the {confused['n']:,} suspects.")
