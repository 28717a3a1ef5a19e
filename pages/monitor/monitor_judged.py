"""Are the answers good? A judge's word on logged requests, corrected by people's ratings of a few."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from engine.diagnostics.drift.label_candidates import REACHED
from engine.diagnostics.phrasing import percent, plural
from engine.diagnostics.rating.raters.judged_share import LEAST_RATED, JudgedShare
from engine.diagnostics.rating.raters.judged_versions import draw_words, of_groups, of_versions
from engine.diagnostics.statistics.statistics import Interval
from pages.monitor import monitor_reads
from pages.monitor.monitor_drift import STYLE
from pages.shared.session import act, may, plain
from store.config.serving.judge_requests_config import INSTRUCTION
from store.contract.states import ALIVE
from store.documents.serving.monitor import Monitor
from store.documents.tables.job import Job
from store.queries.monitoring.judged_requests import JudgedWindow

MOST_JUDGINGS = 4  # windows beside each other
NONE = f"""
No judge was asked yet. One reads a random sample of logged answers and says of each whether it is good
enough. A judge alone is not to be relied on: let people rate at least {LEAST_RATED} of the answers too, pass
or fail, in a round of requests drawn at random of all (of no alert or group). They correct it.
"""


def draw_judged(monitor: Monitor) -> None:
    """The newest judgings."""
    endpoint_id = monitor["endpoint_id"]
    st.markdown("**A judge, corrected by people**")
    judgings = monitor_reads.judgings(endpoint_id)
    finished = [job for job in judgings if job["status"] == "finished"]
    if not judgings:
        st.caption(NONE)
    for job in judgings[:1]:
        if job["status"] in ALIVE:
            st.caption(
                ":material/hourglass_top: The judge is being asked; the page **Overview** shows how far."
            )
        elif job["status"] != "finished":
            why = (job["error"] or {}).get("message", "") if job["error"] else ""
            st.warning(plain(f"The last judging ended without a result. {why}"), icon=":material/gavel:")
    if finished:
        _draw_newest(finished)


def draw_judge_form(endpoint_id: str) -> None:
    """Closed; apart from what is drawn again every few seconds."""
    if may("work"):
        finished = [job for job in monitor_reads.judgings(endpoint_id) if job["status"] == "finished"]
        with st.expander("Ask a judge whether answers are good", icon=":material/gavel:"):
            _draw_form(endpoint_id, finished[0] if finished else None)


def _draw_newest(finished: Sequence[Job]) -> None:
    rows = []
    for job in finished[:MOST_JUDGINGS]:
        answers = monitor_reads.judged_answers(job["job_id"], JudgedWindow.of(job))
        rows += [(_days(job), version, seen) for version, seen in of_versions(answers).items()]
    st.html(judged_table(rows))
    newest, result = finished[0], finished[0]["result"] or {}
    model = newest["config"]["judge"]["model"]
    unread = sum(result["reasons"].values())
    parts = [
        f"{model} judged {result['judged']:,} of {plural(result['sample'] + result['rated'], 'answer')}",
        f"{plural(unread, 'verdict')} could not be read: none was guessed" if unread else "",
        f"{result['left_out']:,} of {plural(result['requests'], 'request')} without text left out"
        if result["left_out"]
        else "",
        "each different answer counts once",
    ]
    frame = monitor_reads.correcting_round(newest["job_id"], JudgedWindow.of(newest))
    st.caption(plain(f"{'; '.join(part for part in parts if part)}. {draw_words(frame, REACHED)}"))
    answers = monitor_reads.judged_answers(newest["job_id"], JudgedWindow.of(newest))
    groups = {name: seen for name, seen in of_groups(answers).items() if seen.by != "nothing"}
    if len(groups) > 1:
        st.html(judged_table([(_days(newest), name, seen) for name, seen in groups.items()], "Group"))


def judged_table(rows: Sequence[tuple[str, str, JudgedShare]], what: str = "Version") -> str:
    """HTML: a line for each window and version, or group."""
    heads = ("Asked", what, "Good answers, corrected", "People alone", "The judge alone, not to be relied on")
    lines = "".join(
        f"<tr><td class='figure'>{html.escape(days)}</td><td><b>{html.escape(name)}</b></td>"
        f"<td data-label='Corrected'>{html.escape(corrected_words(seen))}</td>"
        f"<td data-label='People alone'>{html.escape(share_words(seen.people))}"
        f"<div class='tb-note'>{plural(seen.rated, 'rated answer')}</div></td>"
        f"<td data-label='Judge alone'>{percent(seen.judge) if seen.judge is not None else '–'}"
        f"<div class='tb-note'>{plural(seen.judged, 'answer')}{_agreement(seen)}</div></td></tr>"
        for days, name, seen in rows
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def corrected_words(seen: JudgedShare) -> str:
    """The share with its interval and what it rests on, or why it can't be told."""
    if seen.by == "nothing":
        return f"Can’t be told: {seen.corrected.why}."
    rest = (
        ""
        if seen.by == "both"
        else "; by people alone, as they rated too few of what the judge passes or fails"
    )
    return f"{share_words(seen.corrected)}{rest}"


def share_words(share: Interval) -> str:
    """ "84% (76% to 90%)"."""
    if share.low is None or share.high is None:
        return "–"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _agreement(seen: JudgedShare) -> str:
    return f"; people say the same of {seen.agree:,} of {seen.rated:,}" if seen.rated else ""


def _days(job: Job) -> str:
    ends = [datetime.fromisoformat(job["config"][name]) for name in ("start", "end")]
    return " to ".join(f"{end:%d %b %H:%M}" for end in ends)


def _draw_form(endpoint_id: str, past: Job | None) -> None:
    before: dict[str, Any] = past["config"] if past else {}
    judge = before.get("judge", {})
    with st.form(f"monitor-judge-{endpoint_id}", border=False):
        left, middle, right = st.columns(3)
        url = left.text_input(
            "Address", judge.get("base_url", ""), placeholder="https://HOST/v1",
            help="A server of OpenAI's protocol. A local model: serve it, and give its endpoint's address.",
        )  # fmt: skip
        model = middle.text_input("Model", judge.get("model", ""))
        key = right.text_input(
            "Variable with its key",
            judge.get("key_env", ""),
            help="Of the environment of the engine. An admin uses a new one with an address first",
        )
        criteria = st.text_area("An answer is good enough if", judge.get("criteria", INSTRUCTION), height=80)
        days = left.number_input("Requests of the last (days)", 0.1, 366.0, before.get("hours", 168.0) / 24)
        rows = middle.number_input("Answers in the sample, at most", 20, 5_000, before.get("rows", 200))
        if st.form_submit_button("Ask the judge", type="primary", icon=":material/gavel:"):
            asked = {"base_url": url, "model": model, "key_env": key or "", "criteria": criteria}
            body = {"endpoint": endpoint_id, "hours": 24 * days, "rows": int(rows), "judge": asked}
            act("judge_requests", body, "The judge is being asked.")
