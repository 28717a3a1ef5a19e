"""What a closed round of labels came to: which labels texts have, how versions did, whether people agree."""

from __future__ import annotations

import math

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.raters.label_figures import LabelFigures, VersionAccuracy
from engine.diagnostics.rating.words import label_words
from pages.rating import round_reads
from pages.rating.round_figures import labels_of
from pages.shared import charts
from pages.shared.conversation import show_text
from pages.shared.palette import run_color
from pages.shared.session import plain
from store.documents.rating.round import RoundLine

MOST_DISPUTED = 5
MOST_LABELS = 30  # in the table
NONE_FITS = "(none of the labels fits)"


def draw_labels(round: RoundLine) -> None:
    """The figures of a round in which something was given a label."""
    figures = labels_of(round)
    if not figures.ratings:
        st.markdown("Everything in this round was skipped, or its raters are left out.")
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(plain(label_words.settled_line(figures)), anchor=False)
        lines = [label_words.version_line(each) for each in figures.accuracy]
        st.markdown("\n".join(f"- {plain(line)}" for line in lines))
    _draw_accuracy(figures)
    st.subheader("Do people agree?", anchor=False)
    st.markdown("\n".join(f"- {plain(line)}" for line in label_words.people_lines(figures)))
    _draw_counts(figures)
    _draw_disputed(round, figures)


def _draw_accuracy(figures: LabelFigures) -> None:
    rows = [
        _row(each, place) for place, each in enumerate(figures.accuracy) if not math.isnan(each.random.value)
    ]
    if len(rows) < 2:  # of one its sentence says all
        return
    st.plotly_chart(
        charts.interval_chart(rows, "Served label is people's (%)", height=90 + 34 * len(rows)),
        key="round-labels",
        config={"displayModeBar": False},
        alt="Share of texts drawn at random to which each version gave people's label, with 95% intervals",
    )


def _row(accuracy: VersionAccuracy, place: int) -> charts.IntervalRow:
    at = accuracy.random
    low, high = (None if end is None else 100 * end for end in (at.low, at.high))
    return charts.IntervalRow(accuracy.version, 100 * at.value, low, high, run_color(place))


def _draw_counts(figures: LabelFigures) -> None:
    st.subheader("Which labels were given", anchor=False)
    most_frequent = figures.counts[:MOST_LABELS]
    st.dataframe(
        [{"Label": label or NONE_FITS, "Texts": count} for label, count in most_frequent],
        hide_index=True,
        width="content",
        alt="How many texts have each label",
    )
    if len(figures.counts) > len(most_frequent):
        st.caption(f"The {len(most_frequent)} most frequent of {plural(len(figures.counts), 'label')}.")


def _draw_disputed(round: RoundLine, figures: LabelFigures) -> None:
    if not figures.disputed:
        return
    items = round_reads.some_items(round["round_id"], tuple(figures.disputed[:MOST_DISPUTED]))
    with st.expander(f"{plural(len(figures.disputed), 'text')} on which people part"):
        for item_id in figures.disputed[:MOST_DISPUTED]:
            prompt = items[item_id]["prompt"]
            show_text(prompt[-1]["content"] if prompt else "", 600)
        if len(figures.disputed) > MOST_DISPUTED:
            st.caption(f"{MOST_DISPUTED} of {len(figures.disputed):,}; all are under Answers.")
