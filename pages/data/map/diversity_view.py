"""How diverse a data set is, beside its map: each figure with what it rests on, and its band.

Which answers are hard for the base model: how the difficulty is spread, and the rows at both ends.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import streamlit as st

from engine.diagnostics.phrasing import number, plural
from pages.data.rows import explore_filter, explore_reads
from pages.data.rows.diversity_kinds import (
    KINDS,
    DiversityKind,
    band,
    half_sentence,
    judged,
    of_set,
    value_text,
)
from pages.data.rows.explore_charts import histogram_chart
from pages.data.rows.measure_group import show_missing
from pages.shared import figures
from pages.shared.common_start import differing
from pages.shared.quantities import count, share
from pages.shared.session import plain
from store.catalog.signals import SIGNALS
from store.config.data.filters import Condition, Filter
from store.documents.data.signal_figures import SetFigure, SignalFigure, SignalOptions
from store.documents.tables.dataset import Dataset
from store.queries.data.explore import DatasetTable, Sort, TablePage, filter_json


def show_diversity(rows: DatasetTable) -> None:
    """What a random half would keep, then the figures."""
    set_figures = of_set(rows.measured["map"]["figures"])
    st.markdown("**How diverse is it?**")
    duplicates: SignalFigure | None = None
    if "duplicates" in rows.measured:
        duplicates = rows.measured["duplicates"]["figures"].get("near_group")
    near = duplicates if duplicates and "extra" in duplicates else None
    if sentence := half_sentence(set_figures, near):
        st.markdown(sentence)
    st.html(
        figures.STYLE
        + "".join(tile(kind, set_figures[kind.name]) for kind in KINDS if kind.name in set_figures)
    )


def tile(kind: DiversityKind, figure: SetFigure) -> str:
    """Title, value, interval and n, band, and what being outside of it means, as HTML."""
    value = figure["value"]
    if value is None:
        text, state, note = "–", "", "too few rows to say"
    else:
        text = value_text(kind, value)
        state, note = judged(kind, value)
        low, high = figure.get("low"), figure.get("high")
        if low is not None and high is not None:
            ends = (number(kind.scale * end, kind.places) for end in (low, high))
            text += f" ({' to '.join(ends)})"
    rests = f"n = {count(figure['n'])} {figure.get('unit', 'rows')}"
    color = {"good": figures.TEAL, "warn": figures.AMBER}.get(state)
    dot = f"<span style='color:{color}' title='{state}'>●</span> " if color else ""
    note_of = f" “{figure['template']}” {rests}" if figure.get("template") else f" {rests}"
    means = ". ".join(part for part in (kind.means, band(kind)) if part)
    return (
        "<div style='margin-bottom:.7rem'>"
        f"<div class='tb-name'>{dot}{html.escape(kind.title)}</div>"
        f"<div class='tb-value'>{html.escape(text)}"
        f"<span class='tb-note' style='font-weight:400'>{html.escape(note_of)}</span></div>"
        f"<div class='tb-note'>{html.escape(means)}</div>"
        + (f"<div class='tb-note'><b>{html.escape(note)}</b></div>" if note else "")
        + "</div>"
    )


SHOWN = 5  # rows at each end
MEASURED = Filter(conditions=[Condition(column="ifd", op="is not empty")])
HARD = Filter(conditions=[Condition(column="ifd", op=">=", value=1)])
CONFIG = {"displayModeBar": False}


def show_difficulty(dataset: Dataset, rows: DatasetTable) -> None:
    """A button to measure, or the spread and the hardest and easiest rows."""
    if "difficulty" not in rows.measured:
        show_missing(
            dataset,
            "difficulty",
            "Measure difficulty",
            "The base model reads each answer with its prompt and without: from a difficulty of 1 on, the"
            " prompt does not help. Without a GPU 200 rows are drawn, which takes some minutes.",
        )
        return
    measured = rows.measured["difficulty"]
    set_figures = of_set(measured["figures"])
    st.markdown(_summary(set_figures, measured["options"], rows.dataset["row_count"]))
    dataset_id, stamp = dataset["dataset_id"], explore_reads.stamp(rows)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        spread = explore_reads.facets(dataset_id, ("ifd",), "", stamp)["ifd"]
        st.plotly_chart(
            histogram_chart(spread), config=CONFIG, key=f"ifd-{dataset_id}", alt="Spread of difficulty"
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
                on_click=explore_filter.show_in_table,
                args=(dataset_id, HARD),
            )
    with right:
        for title, descending in (("Hardest", True), ("Easiest", False)):
            _rows(dataset_id, title, Sort("ifd", descending), stamp)


def _summary(set_figures: Mapping[str, SetFigure], options: SignalOptions, total: int) -> str:
    hard, unmeasured = set_figures["hard"], set_figures["unmeasured"]
    model = plain(str(options.get("model", "the base model")))
    of = f"{plural(hard['n'], 'row')} of {total:,}" if hard["n"] < total else plural(total, "row")
    sentence = f"Measured with {model} on {of}."
    low, high = hard.get("low"), hard.get("high")
    if hard["value"] is not None and low is not None and high is not None:
        bounds = f"{share(low, 1)} to {share(high, 1)}"
        sentence += f" For **{share(hard['value'], 1)}** ({bounds}) the prompt does not help with the answer."
    if unmeasured["value"]:
        sentence += (
            f" {plural(int(unmeasured['value']), 'drawn row')} had no answer within the model's length."
        )
    return sentence


def _rows(dataset_id: str, title: str, sort: Sort, stamp: str) -> None:
    names = ("ifd", "answer_loss", "prompt", "answer")
    part = TablePage(names, sort, limit=SHOWN)
    cells = explore_reads.page(dataset_id, filter_json(MEASURED), part, stamp)
    cells, alike = differing(cells, {"prompt": "Prompt", "answer": "Answer"})
    if alike:
        st.caption(plain(alike))
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
