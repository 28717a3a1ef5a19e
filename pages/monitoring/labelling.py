"""The labeling queue: the most informative requests with reasons, and the form that creates a round."""

from __future__ import annotations

import time

import streamlit as st

from engine.monitoring.labelling_text import (
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
SHOWN = 100  # maximum rows of the table
POLL_SECONDS, WAIT_SECONDS = 0.3, 30.0
INSTRUCTIONS: dict[RatingProtocol, str] = {
    "label": LABEL_INSTRUCTION,
    "correction": "Write the response that should have been given. Leave it unchanged if it is correct.",
    "pass_fail": "Is this response good enough to send to the person who asked?",
    "pairwise": "Which response would you prefer if you had asked this?",
}
SELECTION_NOTE = (
    "Selected requests are hard on purpose, so ratings of them do not represent all requests. Only random"
    " ones can evaluate a version."
)


def draw_label_next(endpoint: EndpointName, window_name: str) -> None:
    """Draw the Labeling queue tab."""
    if not require_member("read requests and create labeling rounds"):
        return
    endpoint_id, alert = endpoint.endpoint_id, st.query_params.get("alert", "")
    window = None if alert else monitor_queries.build_window(endpoint_id, window_name)
    if alert:
        _draw_alert_filter()
    asked: RatingProtocol | None = st.session_state.get("label-protocol")
    upcoming = monitor_queries.list_next_to_label(endpoint_id, window, alert, asked)
    st.subheader("Labeling queue", anchor=False)
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
        st.markdown(":material/notifications: Filtered by alert.", width="content")
        if st.button("Show all requests", type="tertiary", key="label-all"):
            st.query_params.pop("alert", None)
            st.rerun()


def _describe_excluded(upcoming: LabelQueue) -> str:
    """Describe how the queue is ordered, and which requests are excluded."""
    parts = [describe_order(upcoming)] if upcoming.different else []
    if upcoming.total > upcoming.requests:
        parts.append(f"Only the newest {upcoming.requests:,} of {upcoming.total:,} requests were considered.")
    if upcoming.left_out:
        reasons = [f"{why} ({count:,})" for why, count in upcoming.left_out.items()]
        parts.append(f"Excluded: {'; '.join(reasons)}.")
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
    """Draw rating task, number of requests, random share, raters, and the button."""
    most = min(upcoming.different, MAX_REQUESTS)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        protocol = _choose_protocol(upcoming.protocol)
        count = int(st.number_input("Requests", 1, most, min(DEFAULT_COUNT, most), key=f"label-count-{most}"))
        share = st.slider(
            "Random share (%)", 0, 100, 30, 10, key="label-share",
            help="Drawn at random from all requests that can be labeled; only these can evaluate a version",
        )  # fmt: skip
        people = int(st.number_input("Raters per request", 1, 20, 1, key="label-people",
                                     help="Two or more measure agreement"))  # fmt: skip
        pressed = st.button(
            "Create labeling round", type="primary", icon=":material/rate_review:", key="label-go"
        )
    random = count if count >= upcoming.different else round(count * share / 100)
    telling = count - random
    all_random = f"{plural(random, 'random request')}: ratings represent all requests that can be labeled."
    st.caption(f"{telling:,} selected, {random:,} random. {SELECTION_NOTE}" if telling else all_random)
    if pressed:
        selection = {"alert": alert}
        if not alert:
            window = monitor_queries.build_window(endpoint.endpoint_id, window_name)
            selection = {"start": window.start.isoformat(), "end": window.end.isoformat()}
        body = {
            "name": f"Requests of {time.strftime('%d %b %H:%M', time.gmtime())}",
            "endpoint": endpoint.endpoint_id,
            "protocol": protocol,
            "items": count,
            "random_share": share / 100,
            "overlap": people,
            "instruction": INSTRUCTIONS[protocol],
            **selection,
        }
        _start_round(body)


def _start_round(body: dict[str, object]) -> None:
    """Create the round and open it."""
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
            escape_markdown(job.error["message"] if job.error else "The round could not be created."),
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
            "Prompt": st.column_config.TextColumn(width="large"),
            "Response": st.column_config.TextColumn(width=None if upcoming.protocol == "label" else "medium"),
            "Reasons": st.column_config.ListColumn(width="medium"),
            "Time": st.column_config.DatetimeColumn(format="D MMM HH:mm"),
        },
        alt="Requests to label, most informative first, with reasons",
        key="label-table",
    )
    if upcoming.different > len(rows):
        st.caption(f"First {len(rows):,} of {upcoming.different:,}. Near-duplicates come after all others.")


def _build_row(row: RequestToLabel, several: bool) -> dict[str, object]:
    return {
        "Prompt": row.text,
        "Response": row.answer or "(no label)",
        "Reasons": row.reasons,
        "Time": row.asked_at,
        "Version": row.version,
        **({"Count": row.times} if several else {}),
    }
