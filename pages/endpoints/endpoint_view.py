"""One endpoint: how it stands, how it is called, where requests go, its keys, limits and last requests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from pages.endpoints import endpoint_reads
from pages.endpoints.endpoint_form import draw_new_key
from pages.endpoints.endpoint_keys import draw_keys
from pages.endpoints.endpoint_list import LINK, badge, seconds
from pages.endpoints.endpoint_routes import draw_change
from pages.people.activity_lines import draw_last
from pages.run_parts.open_alerts import draw_open
from pages.shared import figures, quantities
from pages.shared.calling import draw_calling
from pages.shared.session import act, current_person, guarded, live, may, plain, redraw, show_error
from store.contract.errors import from_dict
from store.documents.serving.request_line import RequestLine
from store.documents.tables.endpoint_state import EndpointSeen, RouteState
from store.words.endpoint_words import stands

ROLES = {
    "live": "Live",
    "candidate": "Candidate",
    "shadow": "Shadow: copies, never returned",
    "fallback": "Fallback",
}
EXCERPT = 80


def draw_endpoint(endpoint_id: str) -> None:
    """The page of the endpoint with this id or name."""
    seen = _seen(endpoint_id)
    st.page_link("pages/endpoints/endpoints.py", label="All endpoints", icon=":material/arrow_back:")
    if seen is None:
        st.markdown("This endpoint is gone. It was deleted, or its link was cut.")
        return
    own = seen["endpoint_id"]
    _draw_head(own)
    draw_new_key(own)
    draw_calling(seen)
    _draw_standing(own)
    if may("work"):
        draw_change(seen)
    draw_keys(seen)
    _draw_limits(seen)
    if may("work"):
        _draw_requests(own)
    draw_last("endpoint", own)
    if may("work") and not seen["alive"] and seen["wanted"] == "stopped":
        _draw_delete(seen)


def _seen(endpoint: str) -> EndpointSeen | None:
    for seen in endpoint_reads.endpoints():
        if endpoint in (seen["endpoint_id"], seen["name"]):
            return seen
    return None


@live("2s")
def _draw_head(own: str) -> None:
    """Name, state and the one button; why it does not answer."""
    with guarded():
        seen = _seen(own)
        if seen is None:
            redraw()
            return
        if st.session_state.get(f"endpoint-stood-{own}") not in (None, stands(seen)):
            redraw()
        st.session_state[f"endpoint-stood-{own}"] = stands(seen)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(plain(seen["name"]), anchor=False, width="content")
            st.markdown(badge(seen), width="stretch")
            if may("work"):
                _draw_switch(seen)
        draw_open(own)
        state = seen["state"] if seen["alive"] else None
        if problem := seen["problem"] or (state["error"] if state else None):
            show_error(from_dict(problem))
        elif stands(seen) == "starting":
            st.caption(
                ":material/hourglass_top: The models are being loaded. This takes some seconds, and longer"
                " for large ones."
            )
        if state and state["switching"]:
            st.caption(f":material/sync: {plain(state['switching'])}; what was served before goes on.")
        if state and state["lines_lost"]:
            lost = f"{state['lines_lost']:,} lines of the log could not be written ({state['log_error']})."
            st.warning(plain(f"{lost} Answers go on; free some space."), icon=":material/warning:")


def _draw_switch(seen: EndpointSeen) -> None:
    own = {"endpoint": seen["endpoint_id"]}
    if seen["wanted"] == "running":
        pressed = st.button("Stop", icon=":material/stop_circle:", help="Answers under way are finished.")
        if pressed and act("stop_endpoint", own, "The endpoint finishes what is under way.") is not None:
            redraw()
    else:
        pressed = st.button("Start", type="primary", icon=":material/play_circle:")
        if pressed and act("start_endpoint", own, "The endpoint is being started.") is not None:
            redraw()


@live("3s")
def _draw_standing(own: str) -> None:
    """The last hour, and where requests go."""
    with guarded():
        seen = _seen(own)
        state = seen["state"] if seen and seen["alive"] else None
        if state is None:
            return
        hour = state["hour"]
        p95 = seconds(hour["p95_seconds"]) if hour["p95_seconds"] is not None else "–"
        st.markdown("**The last hour**")
        st.html(
            figures.facts(
                [
                    ("Requests", f"{hour['requests']:,}", f"{state['active']:,} under way now"),
                    ("Failed", f"{hour['errors']:,}", "by the models or the gateway"),
                    ("Refused", f"{hour['refused']:,}", "keys, limits, fields that nobody obeys"),
                    ("95% of answers within", p95, f"n {hour['n']:,}"),
                    ("Tokens", quantities.count(hour["tokens"]), "read and written"),
                ]
            )
        )
        st.markdown("**Where requests go**")
        st.dataframe(
            _route_rows(state["routes"]), hide_index=True, alt="Routes with shares, requests and times"
        )
        if state["fallbacks"]:
            st.caption(f"The fallback gave {state['fallbacks']:,} answers since the endpoint started.")
        _draw_backends(seen)


def _route_rows(routes: Sequence[RouteState]) -> list[dict[str, Any]]:
    candidates: dict[str, float] = {}
    for route in routes:
        if route["role"] == "candidate":
            candidates[route["model"]] = candidates.get(route["model"], 0) + route["share"]
    rows = []
    for route in routes:
        share = {"live": 1 - candidates.get(route["model"], 0), "fallback": None}.get(
            route["role"], route["share"]
        )
        rows.append(
            {
                "Asked for as": route["model"],
                "Answers": route["version"],
                "Part": ROLES[route["role"]],
                "Share": "–" if share is None else f"{share:.0%}",
                "Requests": route["requests"],
                "Failed": route["errors"],
                "95% within": "–" if route["p95_seconds"] is None else seconds(route["p95_seconds"]),
                "n": route["n"],
                "Copies dropped": route["dropped"] if route["role"] == "shadow" else None,
            }
        )
    if all(row["Copies dropped"] is None for row in rows):
        for row in rows:
            del row["Copies dropped"]
    return rows


def _draw_backends(seen: EndpointSeen | None) -> None:
    """What answers, where it is not as it should be."""
    for backend in seen["state"]["backends"] if seen and seen["state"] else ():
        if backend["error"] and backend["error"] != (seen and seen["problem"]):
            show_error(from_dict(backend["error"]))


def _draw_limits(seen: EndpointSeen) -> None:
    settings: Any = seen["settings"]
    limits, log = settings["limits"], settings["log"]
    kept = "of every request" if log["sample"] == 1 else f"of {log['sample']:.0%} of the requests"
    with st.expander("Limits and log", icon=":material/speed:"):
        st.html(
            figures.facts(
                [
                    ("Answers at once", f"{settings['max_streams']:,}", "of each model process"),
                    ("Waiting", f"{limits['queue']:,}", "more are refused with a time"),
                    ("Tokens of an answer", f"{limits['max_tokens']:,}", "that may be asked for"),
                    ("Time of an answer", f"{limits['seconds']:g} s", ""),
                    ("Size of a request", quantities.size(limits["body_bytes"]), ""),
                    ("Log", f"{log['days']} days", f"a line a request; texts {kept}"),
                    ("Personal data", "taken out" if log["redact"] else "kept", "of texts in the log"),
                ]
            )
        )
        st.caption("They are changed by a file (docs/serving.md):")
        name = shlex.quote(seen["name"])
        st.code(f"tunebench serve --name {name} --config FILE --detach", language="bash", wrap_lines=True)


def _draw_requests(own: str) -> None:
    st.markdown("**Last requests**")
    with guarded():
        lines = endpoint_reads.last_requests(own, current_person()["person_id"])
        if not lines:
            st.caption("Nobody has asked yet. The example above can be pasted into a terminal.")
            return
        st.dataframe(
            [_request_row(line) for line in lines], hide_index=True, alt="The newest requests of the log"
        )
        st.caption(f"The newest {len(lines)}; all of them are in the log of the endpoint's folder.")


def _request_row(line: RequestLine) -> dict[str, Any]:
    at = datetime.fromtimestamp(line["at"], UTC).replace(tzinfo=None)
    asked = next(
        (message.get("content") for message in reversed(line["messages"] or []) if message.get("content")), ""
    )
    tokens = (line["prompt_tokens"] or 0) + (line["completion_tokens"] or 0)
    return {
        "When": quantities.ago(at),
        "Answered by": line["version"] or "–",
        "Part": ROLES[line["role"]].partition(":")[0],
        "Came to": "answered" if line["status"] == 200 else f"{line['status']} {line['error'] or ''}".strip(),
        "Took": seconds(line["seconds"]),
        "Tokens": f"{tokens:,}" if tokens else "–",
        "Asked": asked[:EXCERPT] if isinstance(asked, str) else "",
        "Answer": _answer(line),
    }


def _answer(line: RequestLine) -> str:
    """The label of a classifier with how sure it was, or the beginning of the text."""
    sure = "" if line["confidence"] is None else f" ({line['confidence']:.0%} sure)"
    if line["abstained"]:
        return f"no label{sure}"
    return f"{line['label']}{sure}" if line["label"] else (line["output"] or "")[:EXCERPT]


def _draw_delete(seen: EndpointSeen) -> None:
    with st.expander("Delete this endpoint", icon=":material/delete:"):
        st.markdown("Its keys stop working and its log is removed. Models and runs stay.")
        if st.button("Delete it with its log", key="delete-endpoint") and (
            act("delete_endpoint", {"endpoint": seen["endpoint_id"]}, "The endpoint is deleted.") is not None
        ):
            st.query_params.pop(LINK, None)
            st.rerun()
