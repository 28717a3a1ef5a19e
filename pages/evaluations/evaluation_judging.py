"""Which of two evaluations' answers a language model prefers: asking it, and what it said, with how often the
order in which the two were shown decided."""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from engine.diagnostics.comparison import judge_figures
from pages.evaluations import evaluation_reads
from pages.shared import quantities
from pages.shared.progress_bar import progress_block
from pages.shared.session import act, is_for_members, live, may, plain, redraw, show_error
from store.config.measuring.judge_config import CRITERIA, JudgeChoice, JudgePairs
from store.contract.errors import ConfigError
from store.contract.states import ALIVE
from store.documents.evaluations.evaluation import Evaluation
from store.documents.evaluations.judging_result import JudgingResult
from store.documents.tables.job import Job


def draw_judging(first: Evaluation, second: Evaluation) -> None:
    """Judgings of the pair that are there or at work, and the form for another."""
    ids = first["evaluation_id"], second["evaluation_id"]
    jobs = evaluation_reads.judgings(*ids)
    if any(job["status"] in ALIVE for job in jobs):
        _live(*ids)
    for job in jobs:
        if job["status"] == "finished":
            _draw_result(job, turned=job["config"]["first"] != ids[0])
        elif job["status"] not in ALIVE:
            why = (job["error"] and job["error"]["message"]) or job["status"]
            st.error(
                plain(f"A judging has no result: {why}"),
                icon=":material/error:",
            )
    if not is_for_members("have a judge compare the two"):
        return
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


def _start(ids: tuple[str, str], judge: dict[str, Any], most: int) -> None:
    calls = {"max_calls": max(1_000, 2 * most)}
    body = {"first": ids[0], "second": ids[1], "judge": judge | calls, "max_rows": most}
    try:
        config = JudgePairs.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if act("judge", config.model_dump(exclude_none=True), "The judge is being asked.") is not None:
        st.rerun()


@live("1s")
def _live(first: str, second: str) -> None:
    alive = [job for job in evaluation_reads.judgings(first, second) if job["status"] in ALIVE]
    if not alive:
        st.cache_data.clear()
        redraw()
    for job in alive:
        st.html(progress_block(job))
        if may("work") and st.button(
            "Cancel", key=f"judging-cancel-{job['job_id']}", icon=":material/stop_circle:"
        ):
            act("cancel", {"job": job["job_id"]}, "The judging is being cancelled.")


def _draw_result(job: Job, *, turned: bool) -> None:
    judging = cast("JudgingResult", job["result"])  # what a job of this kind leaves
    judge = job["config"]["judge"]
    sides = judge_figures.Sides(turned=turned)
    with st.container(border=True):
        st.markdown(f"**{plain(judge_figures.headline(judging, sides))}**")
        by = f"Judged by {judge['model']}, {quantities.ago(job['ended_at'])}; 95% intervals."
        st.caption(plain(" ".join([*judge_figures.sentences(judging, sides), by])))
        pressed = may("work") and st.button(
            "Delete", key=f"judging-delete-{job['job_id']}", icon=":material/delete:"
        )
    if pressed and act("delete", {"job": job["job_id"]}, "The judging is deleted.") is not None:
        st.rerun()
