"""One round: how far it is, what it came to, who rated how, what was rated prompt by prompt, and what can
be made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.rating.analysis.round_ratings import answer_of, system_names
from pages.rating import round_queries
from pages.rating.rater.desk import LINK, RATE, VIEW
from pages.rating.raters import draw_raters, draw_workload
from pages.rating.results import draw_results
from pages.rating.round_queries import enough_is_known
from pages.rating.rounds import people, state_badge, summary
from pages.rating.training import draw_train
from pages.shared.layout import Tab, open_tab
from pages.shared.session import act, may, plain
from pages.shared.text_display import shortened, show_text
from store.core.formatting import plural
from store.core.rating_schemas import CheckKind, DealtTask, RoundItem, RoundLine, is_from_elsewhere

PAGE = 5
ABREAST = 8  # answers beside each other
LETTERS = "ABCDEFGH"  # of at most so many answers
CHECK_WORDS: dict[CheckKind, str] = {
    "gold": "An item whose answer is known",
    "attention": "An item whose answer stands in its prompt",
    "qualification": "An item of the qualification",
}


def draw_answers(round: RoundLine) -> None:
    """A page of prompts."""
    round_id = round["round_id"]
    search = st.text_input(
        "Search", key="round-search", placeholder="Search prompts and answers", label_visibility="collapsed"
    )
    words, number = (search or "").strip(), int(st.session_state.get("round-page") or 1)
    page = round_queries.item_page(round_id, words, PAGE, number)
    pages = -(-page["matches"] // PAGE)
    if number > pages > 0:  # of a search that finds fewer
        page = round_queries.item_page(round_id, words, PAGE, pages)
    if not page["items"]:
        st.caption("No prompt is like that.")
        return
    by_item: dict[int, list[DealtTask]] = {}
    for task in round_queries.tasks_of(round_id, tuple(item["item_id"] for item in page["items"])):
        by_item.setdefault(task["item_id"], []).append(task)
    names = system_names(round)
    for item in page["items"]:
        _draw_item(item, names, by_item.get(item["item_id"], []))
    if pages > 1:
        st.pagination(pages, key="round-page")
    st.caption(plural(page["matches"], "prompt"))


def _draw_item(item: RoundItem, names: tuple[str, ...], tasks: list[DealtTask]) -> None:
    if item["check"]:  # whose answers are no model's
        names = tuple(f"Answer {letter}" for letter in LETTERS[: len(item["answers"])])
    with st.container(border=True):
        if item["check"] and item["expected"]:
            right = in_words(item["expected"], names)
            st.caption(f":material/star: {CHECK_WORDS[item['check']]}. Right: {plain(right)}")
        if before := item["prompt"][:-1]:
            with st.expander(f"Show all: {plural(len(before), 'message')} before this one"):
                for turn in before:
                    st.caption(plain(turn["role"]))
                    show_text(turn["content"])
        show_text(item["prompt"][-1]["content"] if item["prompt"] else "", 1_500)
        answered = [(place, text) for place, text in enumerate(item["answers"]) if text is not None]
        for first in range(0, len(answered), ABREAST):
            abreast = answered[first : first + ABREAST]
            for column, (place, text) in zip(st.columns(len(abreast)), abreast, strict=True):
                with column:
                    st.markdown(f"**{plain(names[place])}**")
                    show_text(text, nothing="(empty answer)")
        for task in tasks:
            comment = f": {plain(task['comment'])}" if task["comment"] else ""
            st.caption(f"{plain(task['person_name'])}: {plain(_verdict(task, names))}{comment}")


def _verdict(task: DealtTask, names: tuple[str, ...]) -> str:
    """What a rating says, in words."""
    verdict = in_words(answer_of(task), [names[system] for system in task["systems"]])
    if task["purpose"] != "repeat" or answer_of(task).get("skipped"):
        return verdict
    return verdict + (
        " (the text again)"
        if {"label", "labels"} & set(answer_of(task))
        else " (the pair again, sides swapped)"
    )


def in_words(answer: Mapping[str, Any], names: Sequence[str]) -> str:
    """An answer in words; names: of whose answers it speaks, in the order in which they were shown."""
    if answer.get("skipped"):
        return f"skipped {answer.get('reason') or ''}".strip()
    if "choice" in answer:
        words = {"tie": "a tie", "both_bad": "both are bad"}
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
        return shortened(str(answer["written"]), 300)
    if "passed" in answer:
        reasons = f" ({', '.join(answer['reasons'])})" if answer.get("reasons") else ""
        return f"{names[0]} {'passes' if answer['passed'] else 'fails'}{reasons}"
    return f"{names[0]} corrected: {shortened(str(answer.get('text', '')), 300)}"


def draw_round(round_id: str) -> None:
    """The page of a round for whoever may look. Raises NotFoundError."""
    round = round_queries.round_line(round_id)
    _header(round)
    if round["state"] == "open":
        _draw_open(round)
        return
    tabs = {
        "results": Tab("Results", lambda: draw_results(round)),
        "raters": Tab("People", lambda: draw_raters(round)),
        "answers": Tab("Answers", lambda: draw_answers(round)),
        "train": Tab("Train on it", lambda: draw_train(round)),
    }
    tab, place = open_tab(tabs, "round-tab", subject={LINK: round_id})
    with place:
        tab.draw()


def _header(round: RoundLine) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(plain(round["name"]), anchor=False, width="content")
        with st.container(horizontal=True, width="content", gap="small"):
            _actions(round)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button("All rounds", type="tertiary", icon=":material/arrow_back:", key="rounds-back"):
            st.query_params.clear()
            st.rerun()
        by = f"started by {plain(round['created_by_name'])}"
        st.markdown(f"{state_badge(round)} :gray[{summary(round)} · {by}]", width="content")
    if round["notes"]:
        st.caption(plain(round["notes"]))
    if round["state"] == "closed" and round["details"]["notices"]:
        st.caption(plain(" ".join(round["details"]["notices"])))


def _actions(round: RoundLine) -> None:
    round_id = round["round_id"]
    open_now = round["state"] == "open"
    if (
        open_now
        and may("rate")
        and st.button("Rate", type="primary", icon=":material/rate_review:", key="round-rate")
    ):
        st.query_params.from_dict({LINK: round_id, VIEW: RATE})
        st.rerun()
    if not may("work"):
        return
    if (
        open_now
        and st.button("Close", icon=":material/check_circle:", key="round-close")
        and act("close_round", {"round": round_id}, "The round is closed.") is not None
    ):
        st.rerun()
    if (
        not open_now
        and not is_from_elsewhere(round)
        and st.button("Open again", icon=":material/lock_open:", key="round-open")
        and act("open_round", {"round": round_id}, "The round is open.") is not None
    ):
        st.rerun()
    if st.button("Delete", icon=":material/delete:", key="round-delete"):
        _confirm_delete(round)


@st.dialog("Delete this round?")
def _confirm_delete(round: RoundLine) -> None:
    st.markdown(
        f"**{plain(round['name'])}** goes for good, with {plural(round['rated'], 'rating')} by"
        f" {people(round['raters'])}. Data sets that were made of it stay."
    )
    sure = st.button("Delete for good", type="primary", icon=":material/delete:", key="round-delete-sure")
    if sure and act("delete", {"job": round["round_id"]}, "Deleted") is not None:
        st.query_params.clear()
        st.rerun()


def _draw_open(round: RoundLine) -> None:
    """How far it is, and whether enough is known: not who is ahead, which would sway those who rate."""
    rated = round["rated"] - round["extra"]
    share = min(1.0, float(rated / round["wanted"])) if round["wanted"] else 0.0
    extra = f" and {round['extra']:,} for checking" if round["extra"] else ""
    st.progress(share, f"{rated:,} of {round['wanted']:,} ratings{extra}, by {people(round['raters'])}")
    if round["protocol"] in ("pairwise", "rank"):
        st.markdown(enough_is_known(round))
    st.caption("What people said is shown once the round is closed, so that nobody rates by it.")
    details = round["details"]
    notes = [
        *details["notices"],
        *([f"To {plural(details['named'], 'prompt')} an answer names a model."] if details["named"] else []),
        *([f"{plural(details['empty'], 'answer')} are empty."] if details["empty"] else []),
        *(
            [f"To {plural(details['same'], 'prompt')} two models gave the same answer."]
            if details["same"]
            else []
        ),
    ]
    if notes:
        st.markdown("\n".join(f"- {plain(note)}" for note in notes))
    if may("work"):
        draw_workload(round)
        draw_raters(round)
