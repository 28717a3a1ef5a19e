"""Which of two evaluations' answers a language model prefers: asking it, and what it said, with how often the
order in which the two were shown decided."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.components import evaluation_reads, quantities, wording
from pages.components.progress import progress_block
from pages.components.session import act, plain, show_error
from store.errors import ConfigError
from store.judge_config import CRITERIA, JudgeChoice, JudgePairs
from store.states import ALIVE

Document = dict[str, Any]


def draw_judging(first: Document, second: Document) -> None:
    """Judgings of the pair that are there or at work, and the form for another."""
    ids = first["evaluation_id"], second["evaluation_id"]
    jobs = evaluation_reads.judgings(*ids)
    if any(job["status"] in ALIVE for job in jobs):
        _live(*ids)
    for job in jobs:
        if job["status"] == "finished":
            _draw_result(job, turned=job["config"]["first"] != ids[0])
        elif job["status"] not in ALIVE:
            error = job["error"] or {}
            st.error(
                plain(f"A judging has no result: {error.get('message') or job['status']}"),
                icon=":material/error:",
            )
    with st.form(f"judging-{ids[0]}-{ids[1]}", border=False):
        fields = JudgeChoice.model_fields
        left, middle, right = st.columns(3)
        url = left.text_input("base_url", placeholder="https://HOST/v1", help=fields["base_url"].description)
        model = middle.text_input("model", placeholder="the judge's name")
        key = right.text_input("key_env", placeholder="no key", help=fields["key_env"].description)
        criteria = st.text_area("criteria", CRITERIA, height="content")
        most = st.number_input("max_rows", 1, None, 200, help="A random sample of so many pairs")
        st.caption("Each pair is asked in both orders: two questions a pair.")
        pressed = st.form_submit_button("Ask the judge", icon=":material/gavel:")
    if pressed:
        _start(ids, {"base_url": url, "model": model, "key_env": key, "criteria": criteria}, int(most))


def _start(ids: tuple[str, str], judge: Document, most: int) -> None:
    calls = {"max_calls": max(1_000, 2 * most)}
    body = {"first": ids[0], "second": ids[1], "judge": judge | calls, "max_rows": most}
    try:
        config = JudgePairs.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if act("judge", config.model_dump(exclude_none=True), "The judge is being asked.") is not None:
        st.rerun()


@st.fragment(run_every="1s")
def _live(first: str, second: str) -> None:
    alive = [job for job in evaluation_reads.judgings(first, second) if job["status"] in ALIVE]
    if not alive:
        st.cache_data.clear()
        st.rerun()
    for job in alive:
        st.html(progress_block(job))
        if st.button("Cancel", key=f"judging-cancel-{job['job_id']}", icon=":material/stop_circle:"):
            act("cancel", {"job": job["job_id"]}, "The judging is being cancelled.")


def _draw_result(job: Document, *, turned: bool) -> None:
    found, judge = job["result"], job["config"]["judge"]
    with st.container(border=True):
        st.markdown(f"**{plain(headline(found, turned))}**")
        st.caption(plain(" ".join(sentences(found, turned, judge["model"], quantities.ago(job["ended_at"])))))
        pressed = st.button("Delete", key=f"judging-delete-{job['job_id']}", icon=":material/delete:")
    if pressed and act("delete", {"job": job["job_id"]}, "The judging is deleted.") is not None:
        st.rerun()


def headline(found: Document, turned: bool) -> str:
    """Which one is preferred, if that can be told."""
    figure = found["figure"]
    if figure["failed"]:
        return figure["failed"]
    if figure["value"] is None:
        return "No pair could be judged."
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if turned:
        value, low, high = 1 - value, None if high is None else 1 - high, None if low is None else 1 - low
    share = wording.estimate({"value": value, "low": low, "high": high}, scale=100, sign=False)
    lead = "Which answers are better can't be told"
    if low is not None and low > 0.5:
        lead = "The judge prefers this one's answers"
    elif high is not None and high < 0.5:
        lead = "The judge prefers the other one's answers"
    return f"{lead}: this one wins {share}% of {phrasing.plural(figure['n'], 'pair')}, ties as half"


def sentences(found: Document, turned: bool, judge: str, when: str) -> list[str]:
    """How the pairs fell, what the order did, and what was not judged."""
    pairs, position = found["pairs"], found["figure"]["details"].get("position")
    first, second = (pairs[name] for name in (("second", "first") if turned else ("first", "second")))
    if not found["figure"]["n"]:  # the headline has said why
        return [f"{phrasing.plural(pairs['unjudged'], 'pair')}; the judge was {judge}, {when}."]
    said = [
        f"In both orders this one was better {first:,} times, the other one {second:,} times;"
        f" {pairs['ties']:,} ties."
    ]
    if position:
        agree = wording.estimate(position["agree"], scale=100, sign=False)
        said.append(
            f"In {pairs['split']:,} pairs the order in which the two were shown decided, which counts as a"
            f" tie; both orders agree in {agree}%."
        )
        shown = position["first_shown"]
        if shown:
            bounds = wording.estimate(shown, scale=100, sign=False)
            said.append(
                f"Where they don't, the answer that was shown first won in {bounds}% (n {shown['n']:,})."
            )
    if pairs["unjudged"]:
        why = ", ".join(f"{reason} ({rows:,})" for reason, rows in list(found["reasons"].items())[:3])
        said.append(f"{phrasing.plural(pairs['unjudged'], 'pair')} not judged: {why}.")
    return [*said, *found["notices"], f"Judged by {judge}, {when}; 95% intervals."]
