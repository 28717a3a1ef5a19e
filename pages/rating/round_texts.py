"""What a closed round came to in which people gave texts several labels, marked pieces of them, or wrote."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.raters.label_sets import LabelSetFigures
from engine.diagnostics.rating.rows.of_round import answer_of, rater_names, system_names
from engine.diagnostics.rating.words import text_words
from pages.rating import round_reads
from pages.rating.round_figures import label_sets_of, spans_of
from pages.shared.conversation import shortened
from pages.shared.session import plain
from store.documents.rating.round import RoundLine

MAX_DISPUTED = 5
PAGE = 20  # answers in words


def draw_label_sets(round: RoundLine) -> None:
    """The figures of a round in which a text may have several labels."""
    figures = label_sets_of(round)
    if not figures.ratings:
        st.markdown(text_words.NOTHING)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(plain(text_words.settled_line(figures)), anchor=False)
    st.subheader("Do people agree?", anchor=False)
    lines = text_words.label_set_people(figures)
    lines += [text_words.label_line(each) for each in figures.labels if each.alpha]
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))
    st.subheader("Which labels were given", anchor=False)
    st.dataframe(
        [{"Label": each.label, "Texts": each.texts} for each in figures.labels],
        hide_index=True,
        width="content",
        alt="How many texts have each label",
    )
    _draw_disputed(round, figures)


def _draw_disputed(round: RoundLine, figures: LabelSetFigures) -> None:
    if not figures.disputed:
        return
    items = {item["item_id"]: item for item in round_reads.items(round["round_id"])}
    with st.expander(f"{plural(len(figures.disputed), 'text')} on which people part"):
        for item_id in figures.disputed[:MAX_DISPUTED]:
            prompt = items[item_id]["prompt"]
            st.text(shortened(prompt[-1]["content"] if prompt else ""))
        if len(figures.disputed) > MAX_DISPUTED:
            st.caption(f"{MAX_DISPUTED} of {len(figures.disputed):,}; all are under Answers.")


def draw_spans(round: RoundLine) -> None:
    """The figures of a round in which pieces of texts are marked."""
    figures = spans_of(round)
    if not figures.ratings:
        st.markdown(text_words.NOTHING)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(plain(text_words.marked_line(figures)), anchor=False)
    st.dataframe(
        [{"Label": each.label, "Spans": each.spans, "Texts": each.texts} for each in figures.labels],
        hide_index=True,
        width="content",
        alt="How many spans each label has, in how many texts",
    )
    st.subheader("Do people agree?", anchor=False)
    st.markdown("\n".join(f"- {plain(line)}" for line in text_words.span_people(figures)))


def draw_written(round: RoundLine) -> None:
    """What people wrote, to be searched."""
    left_out = {rater["person_id"] for rater in round_reads.left_out(round["round_id"])}
    written = text_words.written_tasks(round_reads.tasks(round["round_id"]), left_out)
    if not written:
        st.markdown(text_words.NOTHING)
        return
    with st.container(border=True, key="round-verdict"):
        st.subheader(plain(text_words.written_line(written)), anchor=False)
        st.caption(plain(str(round["config"].get("instruction", ""))))
    search = st.text_input(
        "Search", key="written-search", placeholder="Search what people wrote", label_visibility="collapsed"
    )
    words = (search or "").casefold().strip()
    matches = [task for task in written if words in answer_of(task)["written"].casefold()]
    if not matches:
        st.caption("Nobody wrote that.")
        return
    pages = -(-len(matches) // PAGE)
    number = min(int(st.session_state.get("written-page") or 1), pages)
    names, raters = system_names(round), rater_names(written)
    items = {item["item_id"]: item for item in round_reads.items(round["round_id"])}
    for task in matches[PAGE * (number - 1) : PAGE * number]:
        prompt = items[task["item_id"]]["prompt"]
        about = shortened(prompt[-1]["content"] if prompt else "", 200)
        with st.container(border=True, gap="xsmall"):
            st.text(answer_of(task)["written"])
            of = "" if round["config"].get("subject") == "prompt" else f" on {names[task['systems'][0]]}"
            st.caption(plain(f"{raters[task['person_id']]}{of}, of: {about}"))
    if pages > 1:
        st.pagination(pages, key="written-page")
    st.caption(f"{len(matches):,} of {plural(len(written), 'answer')}; all of them are in the table below.")
