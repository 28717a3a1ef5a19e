"""What should be labelled next? The requests that tell most, why, and the button that has people look."""

from __future__ import annotations

import time

import streamlit as st

from engine.monitoring.labelling import (
    LabelQueue,
    RequestToLabel,
    describe_empty_queue,
    describe_label_queue,
    describe_order,
)
from pages.monitoring import monitor_queries
from pages.shared.session import escape_markdown, get_client, require_member, send_command
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.core.rating_schemas import RatingProtocol
from store.jobs import job_queue
from store.monitoring.monitors import EndpointName
from store.rating.config import MAX_REQUESTS
from store.rating.templates import LABEL_INSTRUCTION, PROTOCOL_CAPTIONS, PROTOCOL_TITLES

OFFERED_PROTOCOLS: tuple[RatingProtocol, ...] = ("label", "correction", "pass_fail", "pairwise")
DEFAULT_COUNT = 50
SHOWN = 100  # rows of the table
POLL_SECONDS, WAIT_SECONDS = 0.3, 30.0
INSTRUCTIONS: dict[RatingProtocol, str] = {
    "label": LABEL_INSTRUCTION,
    "correction": "Write the answer that should have been given. Leave it as it is where nothing is wrong.",
    "pass_fail": "Is this answer good enough to be given to the person who asked?",
    "pairwise": "Which answer would you rather get, had you asked this?",
}
SELECTION_NOTE = (
    "The listed ones are hard on purpose: what people say of them is no figure of all requests. The random"
    " ones can judge."
)


def draw_label_next(endpoint: EndpointName, window_name: str) -> None:
    """The tab."""
    if not require_member("read what callers wrote, and have people label it"):
        return
    endpoint_id, alert = endpoint.endpoint_id, st.query_params.get("alert", "")
    window = None if alert else monitor_queries.build_window(endpoint_id, window_name)
    if alert:
        _draw_alert_filter()
    asked: RatingProtocol | None = st.session_state.get("label-protocol")
    upcoming = monitor_queries.list_next_to_label(endpoint_id, window, alert, asked)
    st.subheader("What should be labelled next?", anchor=False)
    with st.container(border=True, gap="xsmall", key="label-top"):
        icon = ":green[:material/label:]" if upcoming.different else ":gray[:material/label_off:]"
        st.markdown(f"{icon} **{describe_label_queue(upcoming)}**")
        st.caption(escape_markdown(_describe_excluded(upcoming)))
    if not upcoming.different:
        st.markdown(describe_empty_queue(upcoming))
        if asked:
            _choose_protocol(upcoming.protocol)
        return
    _draw_form(endpoint, window_name, alert, upcoming)
    _draw_table(upcoming)


def _draw_alert_filter() -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(":material/notifications: Only the requests behind one alert.", width="content")
        if st.button("All requests", type="tertiary", key="label-all"):
            st.query_params.pop("alert", None)
            st.rerun()


def _describe_excluded(upcoming: LabelQueue) -> str:
    """What was not looked at, and what is left out."""
    parts = [describe_order(upcoming)] if upcoming.different else []
    if upcoming.total > upcoming.requests:
        parts.append(f"The newest {upcoming.requests:,} of {upcoming.total:,} requests.")
    if upcoming.left_out:
        reasons = [f"{count:,} as {why}" for why, count in upcoming.left_out.items()]
        parts.append(f"Left out: {'; '.join(reasons)}.")
    return " ".join(parts)


def _choose_protocol(default: RatingProtocol) -> RatingProtocol:
    chosen = st.selectbox(
        "Rating task",
        OFFERED_PROTOCOLS,
        index=OFFERED_PROTOCOLS.index(default) if default in OFFERED_PROTOCOLS else 0,
        format_func=PROTOCOL_TITLES.__getitem__,
        key="label-protocol",
        help=PROTOCOL_CAPTIONS[default],
    )
    return chosen


def _draw_form(endpoint: EndpointName, window_name: str, alert: str, upcoming: LabelQueue) -> None:
    """How many, how, and the button."""
    most = min(upcoming.different, MAX_REQUESTS)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        protocol = _choose_protocol(upcoming.protocol)
        count = int(st.number_input("How many", 1, most, min(DEFAULT_COUNT, most), key=f"label-count-{most}"))
        share = st.slider(
            "Random share (%)", 0, 100, 30, 10, key="label-share",
            help="A plain random draw of all that can be asked about: the only ones that can judge a version",
        )  # fmt: skip
        people = int(st.number_input("Raters per request", 1, 20, 1, key="label-people",
                                     help="Two or more show how far raters agree"))  # fmt: skip
        pressed = st.button(
            "Create labeling round", type="primary", icon=":material/rate_review:", key="label-go"
        )
    random = count if count >= upcoming.different else round(count * share / 100)
    telling = count - random
    all_random = f"{plural(random, 'request')} at random: what people say of them holds for all of these."
    st.caption(f"{telling:,} listed, {random:,} at random. {SELECTION_NOTE}" if telling else all_random)
    if pressed:
        body = {
            "name": f"Requests of {time.strftime('%d %b %H:%M', time.gmtime())}",
            "endpoint": endpoint.endpoint_id,
            "protocol": protocol,
            "items": count,
            "random_share": share / 100,
            "overlap": people,
            "instruction": INSTRUCTIONS[protocol],
            **_build_selection(endpoint.endpoint_id, window_name, alert),
        }
        _start_round(body)


def _build_selection(endpoint_id: str, window_name: str, alert: str) -> dict[str, object]:
    if alert:
        return {"alert": alert}
    window = monitor_queries.build_window(endpoint_id, window_name)
    return {"start": window.start.isoformat(), "end": window.end.isoformat()}


def _start_round(body: dict[str, object]) -> None:
    """Make the round and go to it."""
    answer = send_command("round_of_requests", body)
    if answer is None:
        return
    round_id, ends = answer["round_id"], time.monotonic() + WAIT_SECONDS
    with st.status("Creating round") as status:
        job = job_queue.get_job(get_client(), round_id)
        while job.status in ALIVE and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
            job = job_queue.get_job(get_client(), round_id)
        status.update(state="complete" if job.status == "finished" else "error")
    if job.status in ("failed", "lost", "cancelled"):
        st.error(
            escape_markdown(job.error["message"] if job.error else "The round was not created."),
            icon=":material/error:",
        )
        return
    st.cache_data.clear()
    link = {"round": round_id} if job.status == "finished" else {}
    st.switch_page("pages/rating/rating.py", query_params=link)


def _draw_table(upcoming: LabelQueue) -> None:
    rows = upcoming.listed[:SHOWN]
    several = any(row.times > 1 for row in rows)
    st.dataframe(
        [_build_row(row, several) for row in rows],
        hide_index=True,
        column_config={
            "Text": st.column_config.TextColumn(width="large"),
            "Answer": st.column_config.TextColumn(width=None if upcoming.protocol == "label" else "medium"),
            "Why": st.column_config.ListColumn(width="medium"),
            "When": st.column_config.DatetimeColumn(format="D MMM HH:mm"),
        },
        alt="Requests that tell most, with the reasons",
        key="label-table",
    )
    if upcoming.different > len(rows):
        st.caption(
            f"The first {len(rows):,} of {upcoming.different:,}; near repeats wait until the others are done."
        )


def _build_row(row: RequestToLabel, several: bool) -> dict[str, object]:
    return {
        "Text": row.text,
        "Answer": row.answer or "(no label)",
        "Why": row.reasons,
        "When": row.asked_at,
        "Version": row.version,
        **({"Times": row.times} if several else {}),
    }
