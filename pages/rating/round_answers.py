"""All that was rated, prompt by prompt: who wrote which answer, and what people said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.rows.of_round import answer_of, system_names
from pages.rating import round_reads
from pages.shared.conversation import shortened, show_text
from pages.shared.session import plain
from store.documents.rating.round import CheckKind, DealtTask, RoundItem, RoundLine

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
    page = round_reads.item_page(round_id, words, PAGE, number)
    pages = -(-page["matches"] // PAGE)
    if number > pages > 0:  # of a search that finds fewer
        page = round_reads.item_page(round_id, words, PAGE, pages)
    if not page["items"]:
        st.caption("No prompt is like that.")
        return
    by_item: dict[int, list[DealtTask]] = {}
    for task in round_reads.tasks_of(round_id, tuple(item["item_id"] for item in page["items"])):
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
