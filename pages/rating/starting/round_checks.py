"""How raters of a new round are checked: items whose answer is known, among the others or before all of them,
and items whose prompt asks for a given answer."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.rating.starting.round_file import KINDS, files_taken, send_file
from pages.rating.starting.round_models import P
from pages.run_parts import run_reads
from store.config.judging.round_config import MOST_MIB
from store.documents.rating.round import GOLD_PASS

NOBODY, A_FILE = "", "file"
ATTENTION_SHARE = 0.05
QUALIFICATION_PASS = 0.7
EXPECTED = {  # by protocol: a row of a file of known answers
    "pairwise": '{"prompt": "…", "answers": ["…", "…"], "expected": "B"}',
    "rank": '{"prompt": "…", "answers": ["…", "…", "…"], "expected": [2, 1, 3]}',
    "rubric": '{"prompt": "…", "answer": "…", "expected": {"Helpfulness": 4}}',
    "pass_fail": '{"prompt": "…", "answer": "…", "expected": "fail"}',
    "label": '{"prompt": "…", "expected": "card_lost"}',
    "correction": '{"prompt": "…", "answer": "…", "expected": "words that a right text contains"}',
}


def draw_checks(protocol: str) -> dict[str, Any]:
    """Fields of the round, folded: most rounds of a few colleagues need none."""
    with st.expander("Checks of raters", icon=":material/fact_check:"):
        fields = _source(protocol)
        if fields:
            fields |= _counts(protocol)
        attention = st.toggle(
            "One item in twenty asks for a given answer",
            key=f"{P}attention",
            help="Its prompt ends with what to choose. Who does not read misses it.",
        )
        fields["attention_share"] = ATTENTION_SHARE if attention else 0.0
    return fields


def _source(protocol: str) -> dict[str, Any]:
    """Where the known answers are, or nothing."""
    kind = {"pairwise": "preference", "label": "chat"}.get(protocol)
    sets = {
        row["dataset_id"]: row["name"]
        for row in run_reads.datasets()
        if row["kind"] == kind and (protocol != "label" or row["stats"].get("labels"))
    }
    titles = {NOBODY: "nowhere: no such items", **sets, A_FILE: "a file"}
    chosen = st.selectbox(
        "Known answers from", list(titles), format_func=titles.__getitem__, key=f"{P}gold.{protocol}"
    )
    if chosen == A_FILE:
        return _file(protocol)
    return {"gold_dataset": chosen} if chosen else {}


def _file(protocol: str) -> dict[str, Any]:
    """The upload, once there is one."""
    file = st.file_uploader(
        "File of known answers", type=KINDS, key=f"{P}gold-file.{files_taken()}", max_upload_size=MOST_MIB
    )
    if file is None:
        st.caption("Each row has a prompt, what raters are to rate, and what is expected of them:")
        st.code(EXPECTED.get(protocol, EXPECTED["pairwise"]), language="json")
        return {}
    upload = send_file(file)
    return {"gold_file": {"upload": upload}} if upload else {}


def _counts(protocol: str) -> dict[str, Any]:
    """How many, how often, and from when on a rater fails."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mixed = st.number_input("Mixed in", 0, 1_000, 10, key=f"{P}gold-count", help="Different items")
        share = st.number_input(
            "Of what a rater gets (%)", 1, 30, 10, key=f"{P}gold-share", disabled=not mixed
        )
        mark = st.number_input(
            "Right at least (%)",
            0,
            100,
            round(100 * GOLD_PASS),
            key=f"{P}gold-pass",
            help="Who is surely below it is flagged, and left out of training rows",
        )
        if protocol == "rubric":
            tolerance = st.number_input("Points it may miss", 0, 9, 1, key=f"{P}gold-tolerance")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = st.number_input(
            "Before the round", 0, 50, 0, key=f"{P}qualification", help="Items that each rater answers first"
        )
        passing = st.number_input(
            "To go on, right (%)",
            0,
            100,
            round(100 * QUALIFICATION_PASS),
            key=f"{P}qualification-pass",
            disabled=not first,
        )
    return {
        "gold_items": int(mixed),
        "gold_share": share / 100,
        "gold_pass": mark / 100,
        "qualification_items": int(first),
        "qualification_pass": passing / 100,
        **({"gold_tolerance": int(tolerance)} if protocol == "rubric" else {}),
    }
