"""One round: progress, results, raters, individual ratings, and follow-up actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.rating.analysis.round_ratings import get_task_answer, list_system_names
from pages.rating import round_queries
from pages.rating.rater.desk import LINK, RATE, VIEW
from pages.rating.raters import draw_raters, draw_workload
from pages.rating.results import draw_results
from pages.rating.round_queries import describe_readiness
from pages.rating.rounds import format_people_count, format_state_badge, format_summary
from pages.rating.training import draw_train
from pages.shared.layout import Tab, draw_tab_bar
from pages.shared.session import escape_markdown, has_right, send_command
from pages.shared.text_display import shorten, show_text
from store.core.formatting import plural
from store.core.rating_schemas import AssignedTask, CheckKind, RoundItem, RoundSummary, is_imported_round

PAGE = 5
MAX_COLUMNS = 8  # answers side by side
LETTERS = "ABCDEFGH"  # one per answer, at most this many
CHECK_WORDS: dict[CheckKind, str] = {
    "gold": "Check item with a known answer",
    "attention": "Attention check: the prompt contains the answer",
    "qualification": "Qualification item",
}


def draw_answers(round: RoundSummary) -> None:
    """Draw a page of prompts with their answers and ratings."""
    round_id = round.round_id
    search = st.text_input(
        "Search", key="round-search", placeholder="Search prompts and answers", label_visibility="collapsed"
    )
    words, number = (search or "").strip(), int(st.session_state.get("round-page") or 1)
    page = round_queries.read_item_page(round_id, words, PAGE, number)
    pages = -(-page["matches"] // PAGE)
    if number > pages > 0:  # the search has fewer pages
        page = round_queries.read_item_page(round_id, words, PAGE, pages)
    if not page["items"]:
        st.caption("No matching prompts. Try another search or filter.")
        return
    by_item: dict[int, list[AssignedTask]] = {}
    for task in round_queries.list_rated_tasks(round_id, tuple(item.item_id for item in page["items"])):
        by_item.setdefault(task.item_id, []).append(task)
    names = list_system_names(round)
    for item in page["items"]:
        _draw_item(item, names, by_item.get(item.item_id, []))
    if pages > 1:
        st.pagination(pages, key="round-page")
    st.caption(plural(page["matches"], "prompt"))


def _draw_item(item: RoundItem, names: tuple[str, ...], tasks: list[AssignedTask]) -> None:
    if item.check:  # answers of check items are not by models
        names = tuple(f"Answer {letter}" for letter in LETTERS[: len(item.answers)])
    with st.container(border=True):
        if item.check and item.expected:
            right = describe_answer(item.expected, names)
            st.caption(f":material/star: {CHECK_WORDS[item.check]}. Right: {escape_markdown(right)}")
        if before := item.prompt[:-1]:
            with st.expander(f"Show all: {plural(len(before), 'message')} before this one"):
                for turn in before:
                    st.caption(escape_markdown(turn["role"]))
                    show_text(turn["content"])
        show_text(item.prompt[-1]["content"] if item.prompt else "", 1_500)
        answered = [(place, text) for place, text in enumerate(item.answers) if text is not None]
        for first in range(0, len(answered), MAX_COLUMNS):
            abreast = answered[first : first + MAX_COLUMNS]
            for column, (place, text) in zip(st.columns(len(abreast)), abreast, strict=True):
                with column:
                    st.markdown(f"**{escape_markdown(names[place])}**")
                    show_text(text, nothing="(empty answer)")
        for task in tasks:
            comment = f": {escape_markdown(task.comment)}" if task.comment else ""
            st.caption(
                f"{escape_markdown(task.person_name)}:"
                f" {escape_markdown(_describe_verdict(task, names))}{comment}"
            )


def _describe_verdict(task: AssignedTask, names: tuple[str, ...]) -> str:
    """Describe a rating in words."""
    verdict = describe_answer(get_task_answer(task), [names[system] for system in task.systems])
    if task.purpose != "repeat" or get_task_answer(task).get("skipped"):
        return verdict
    return verdict + (
        " (repeated text)"
        if {"label", "labels"} & set(get_task_answer(task))
        else " (repeated pair, sides swapped)"
    )


def describe_answer(answer: Mapping[str, Any], names: Sequence[str]) -> str:
    """Describe a rating's answer in words; names: of the rated models, in the order shown."""
    if answer.get("skipped"):
        return f"skipped {answer.get('reason') or ''}".strip()
    if "choice" in answer:
        words = {"tie": "a tie", "both_bad": "both bad"}
        choice = str(answer["choice"])
        return words.get(choice) or f"{names['AB'.index(choice)]} is better"
    if "ranks" in answer:
        ranked = sorted(zip(answer["ranks"], names, strict=True))
        return ", ".join(f"{rank}. {name}" for rank, name in ranked)
    if "scores" in answer:
        return f"{names[0]}: " + ", ".join(f"{name} {score}" for name, score in answer["scores"].items())
    if "label" in answer:
        note = f" ({answer['note']})" if answer.get("note") else ""
        return (answer["label"] or "none of these") + note
    if "labels" in answer:
        note = f" ({answer['note']})" if answer.get("note") else ""
        return (", ".join(answer["labels"]) or "none of these") + note
    if "spans" in answer:
        marked = [f"{span['label']} at {span['start']:,} to {span['end']:,}" for span in answer["spans"]]
        return ", ".join(marked) or "nothing marked"
    if "written" in answer:
        return shorten(str(answer["written"]), 300)
    if "passed" in answer:
        reasons = f" ({', '.join(answer['reasons'])})" if answer.get("reasons") else ""
        return f"{names[0]} {'passes' if answer['passed'] else 'fails'}{reasons}"
    return f"{names[0]} corrected: {shorten(str(answer.get('text', '')), 300)}"


def draw_round(round_id: str) -> None:
    """Draw the page of a round for people who may see its results. Raises NotFoundError."""
    round = round_queries.read_round(round_id)
    _draw_header(round)
    if round.state == "open":
        _draw_open(round)
        return
    tabs = {
        "results": Tab("Results", lambda: draw_results(round)),
        "raters": Tab("People", lambda: draw_raters(round)),
        "answers": Tab("Answers", lambda: draw_answers(round)),
        "train": Tab("Training data", lambda: draw_train(round)),
    }
    tab, place = draw_tab_bar(tabs, "round-tab", subject={LINK: round_id})
    with place:
        tab.draw()


def _draw_header(round: RoundSummary) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(escape_markdown(round.name), anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            _draw_actions(round)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All rounds", type="tertiary", icon=":material/arrow_back:", key="rounds-back"):
            st.query_params.clear()
            st.rerun()
        by = f"started by {escape_markdown(round.created_by_name)}"
        st.markdown(f"{format_state_badge(round)} :gray[{format_summary(round)} · {by}]", width="content")
    if round.notes:
        st.caption(escape_markdown(round.notes))
    if round.state == "closed" and round.details.notices:
        st.caption(escape_markdown(" ".join(round.details.notices)))


def _draw_actions(round: RoundSummary) -> None:
    round_id = round.round_id
    open_now = round.state == "open"
    if (
        open_now
        and has_right("rate")
        and st.button("Rate", type="primary", icon=":material/rate_review:", key="round-rate")
    ):
        st.query_params.from_dict({LINK: round_id, VIEW: RATE})
        st.rerun()
    if not has_right("work"):
        return
    if (
        open_now
        and st.button("Close round", icon=":material/check_circle:", key="round-close")
        and send_command("close_round", {"round": round_id}, "Round closed.") is not None
    ):
        st.rerun()
    if (
        not open_now
        and not is_imported_round(round)
        and st.button("Reopen round", icon=":material/lock_open:", key="round-open")
        and send_command("open_round", {"round": round_id}, "Round reopened.") is not None
    ):
        st.rerun()
    if st.button("Delete", icon=":material/delete:", key="round-delete"):
        _confirm_delete(round)


@st.dialog("Delete this round?")
def _confirm_delete(round: RoundSummary) -> None:
    st.markdown(
        f"**{escape_markdown(round.name)}** is deleted permanently, with {plural(round.rated, 'rating')} "
        f"by {format_people_count(round.raters)}. Data sets made from it are kept."
    )
    sure = st.button("Delete permanently", type="primary", icon=":material/delete:", key="round-delete-sure")
    if sure and send_command("delete", {"job": round.round_id}, "Deleted") is not None:
        st.query_params.clear()
        st.rerun()


def _draw_open(round: RoundSummary) -> None:
    """Draw the progress, and whether there are enough ratings.

    Which model leads is not shown, because it would influence raters.
    """
    rated = round.rated - round.extra
    share = min(1.0, float(rated / round.wanted)) if round.wanted else 0.0
    extra = f" and {round.extra:,} checks" if round.extra else ""
    st.progress(
        share, f"{rated:,} of {round.wanted:,} ratings{extra}, by {format_people_count(round.raters)}"
    )
    if round.protocol in ("pairwise", "rank"):
        st.markdown(describe_readiness(round))
    st.caption("Results are hidden until the round is closed, so that they do not influence raters.")
    details = round.details
    notes = [
        *details.notices,
        *([f"For {plural(details.named, 'prompt')}, an answer names a model."] if details.named else []),
        *([f"{plural(details.empty, 'answer')} are empty."] if details.empty else []),
        *(
            [f"For {plural(details.same, 'prompt')}, two models gave the same answer."]
            if details.same
            else []
        ),
    ]
    if notes:
        st.markdown("\n".join(f"- {escape_markdown(note)}" for note in notes))
    if has_right("work"):
        draw_workload(round)
        draw_raters(round)
