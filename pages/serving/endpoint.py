"""One endpoint: its state, how to call it, traffic, change of the served model, keys, limits and last
requests.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import streamlit as st

from pages.people.activity_feed import draw_recent_activity
from pages.serving import endpoint_list
from pages.serving.calling import draw_calling
from pages.serving.endpoint_list import LINK, draw_new_key, format_badge, format_seconds, store_new_key
from pages.shared import display, meters
from pages.shared.features import list_parts
from pages.shared.model_form import ModelForm
from pages.shared.session import (
    escape_markdown,
    get_current_person,
    has_right,
    live,
    redraw,
    send_command,
    show_error,
    show_errors,
)
from store.core.errors import from_dict
from store.serving.config import (
    ChangeEndpoint,
    EndpointSettings,
    ModelChoice,
    NewKey,
    RouteChoice,
    RouteRole,
)
from store.serving.schemas import EndpointKey, EndpointStatus, RequestLine, RouteState
from store.serving.text import describe_state


def draw_keys(seen: EndpointStatus) -> None:
    """Draw working keys, a form for another, and revoked keys."""
    st.markdown("**Keys**")
    working = [key for key in seen.keys if key.revoked_at is None]
    if not working:
        st.caption("No API keys yet, so nobody can send requests. Create one below.")
    used = {use.key_id: use.tokens for use in seen.state.keys} if seen.state else {}
    for key in working:
        _draw_key(key, used.get(key.key_id, 0))
    if has_right("work"):
        _draw_key_form(seen)
    revoked = [key for key in seen.keys if key.revoked_at is not None]
    if revoked:
        with st.expander(f"Revoked: {len(revoked)}"):
            for key in revoked:
                st.caption(
                    f"{escape_markdown(key.name)} of {escape_markdown(key.person_name)},"
                    f" {_format_ago(key.revoked_at)}"
                )


def _draw_key(key: EndpointKey, tokens: int) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{escape_markdown(key.name)}**")
            parts = [
                f"of {escape_markdown(key.person_name)}",
                f"made {_format_ago(key.created_at)}",
                f"used {_format_ago(key.used_at)}" if key.used_at else "never used",
            ]
            if most := key.requests_per_minute:
                parts.append(f"up to {most:,} requests a minute")
            if most := key.tokens_per_day:
                parts.append(f"{display.format_count(tokens)} of {display.format_count(most)} tokens today")
            st.caption(" · ".join(parts))
        own = key.person_id == get_current_person().person_id
        if (own and has_right("work")) or has_right("govern"):
            pressed = st.button("Revoke", key=f"revoke-{key.key_id}", help="Its open streams are closed.")
            if pressed and send_command("revoke_key", {"key": key.key_id}, "Key revoked.") is not None:
                st.rerun()


def _draw_key_form(seen: EndpointStatus) -> None:
    with (
        st.expander("Create key", icon=":material/key:", expanded=False),
        st.form(f"new-key-{seen.endpoint_id}", border=False, clear_on_submit=True),
    ):
        form = ModelForm(NewKey, f"new-key-{seen.endpoint_id}-")
        form.put(endpoint=seen.endpoint_id)
        form.draw("name")
        form.draw("requests_per_minute", "tokens_per_day", columns=2)
        if st.form_submit_button("Create key", icon=":material/key:"):
            key = form.parse()
            made = send_command("make_key", key) if key else None
            if key and made is not None:
                store_new_key(seen.endpoint_id, key.name, made["key"])
                st.rerun()


def _format_ago(at: float | None) -> str:
    return "" if at is None else display.format_ago(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))


NONE = "None"
PARTS: dict[RouteRole, str] = {
    "candidate": "Candidate: receives a share of the requests",
    "shadow": "Shadow: receives copies; its responses are only logged",
    "fallback": "Fallback: answers requests that the live version fails",
}


def draw_change(seen: EndpointStatus) -> None:
    """Draw the choice of each model's live subject, and of the ones beside it."""
    with st.expander("Change the served model", icon=":material/alt_route:"), show_errors():
        settings = EndpointSettings.parse(dict(seen.settings))
        names = [model.name for model in settings.models]
        place = names.index(st.selectbox("Model", names)) if len(names) > 1 else 0
        model = settings.models[place]
        key = f"{seen.endpoint_id}-{model.name}"
        routes = {route.role: route for route in model.routes}
        live = _choose_subject("Live", routes.get("live"), f"route-live-{key}", needed=True)
        chosen = [_change_route(routes.get("live"), "live", live, 1.0)]
        for role, title in PARTS.items():
            with st.container(horizontal=True, vertical_alignment="bottom"):
                subject = _choose_subject(title, routes.get(role), f"route-{role}-{key}")
                share = _draw_share(role, routes.get(role), key) if subject and role != "fallback" else 1.0
            if subject:
                chosen.append(_change_route(routes.get(role), role, subject, share))
        st.caption("The new model starts next to the running one; requests switch over once it is ready.")
        if st.button("Change", type="secondary", icon=":material/check:", key=f"change-{key}"):
            models = list(settings.models)
            models[place] = ModelChoice(name=model.name, routes=chosen)
            changed = settings.model_copy(update={"models": models})
            body = ChangeEndpoint(endpoint=seen.endpoint_id, settings=changed)
            if send_command("change_endpoint", body, "The new model is starting.") is not None:
                st.rerun()


def _change_route(route: RouteChoice | None, role: RouteRole, subject: str, share: float) -> RouteChoice:
    """Return the route of a subject; other settings of the route are kept if the subject is the same."""
    same = route.model_dump(exclude_unset=True) if route and route.subject == subject else {}
    return RouteChoice.parse({**same, "subject": subject, "role": role, "share": share})


def _choose_subject(title: str, route: RouteChoice | None, key: str, *, needed: bool = False) -> str:
    present = route.subject if route else ""
    options = [*([] if needed else [NONE]), *endpoint_list.list_subjects()]
    if present and present not in options:
        options.append(present)
    chosen = st.selectbox(
        title, options, index=options.index(present or NONE), key=key, accept_new_options=True
    )
    return "" if chosen in (None, NONE) else str(chosen)


def _draw_share(role: RouteRole, route: RouteChoice | None, key: str) -> float:
    usual = {"candidate": 10, "shadow": 100}[role]
    present = round(100 * route.share) if route else usual
    share: int = st.slider(
        "Traffic share", 1, 100, present, format="%d%%", key=f"share-{role}-{key}", width=220
    )
    return share / 100


ROLES = {
    "live": "Live",
    "candidate": "Candidate",
    "shadow": "Shadow: copies, never returned",
    "fallback": "Fallback",
}
EXCERPT = 80


def draw_endpoint(endpoint_id: str) -> None:
    """Draw the page of the endpoint with this id or name."""
    seen = _find_endpoint(endpoint_id)
    st.page_link("pages/serving/endpoints.py", label="All endpoints", icon=":material/arrow_back:")
    if seen is None:
        st.markdown("This endpoint does not exist. It was deleted, or the link is incomplete.")
        return
    own = seen.endpoint_id
    _draw_head(own)
    draw_new_key(own)
    draw_calling(seen)
    _draw_traffic(own)
    if has_right("work"):
        draw_change(seen)
    draw_keys(seen)
    _draw_limits(seen)
    if has_right("work"):
        _draw_requests(own)
    draw_recent_activity("endpoint", own)
    if has_right("work") and not seen.alive and seen.wanted == "stopped":
        _draw_delete(seen)


def _find_endpoint(endpoint: str) -> EndpointStatus | None:
    for seen in endpoint_list.list_endpoints():
        if endpoint in (seen.endpoint_id, seen.name):
            return seen
    return None


@live("2s")
def _draw_head(own: str) -> None:
    """Draw name, state and the start or stop button, and why it does not respond."""
    with show_errors():
        seen = _find_endpoint(own)
        if seen is None:
            redraw()
            return
        if st.session_state.get(f"endpoint-stood-{own}") not in (None, describe_state(seen)):
            redraw()
        st.session_state[f"endpoint-stood-{own}"] = describe_state(seen)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(escape_markdown(seen.name), anchor=False, width="content")
            st.markdown(format_badge(seen), width="stretch")
            if has_right("work"):
                _draw_switch(seen)
        for draw in list_parts(lambda feature: feature.draw_endpoint_notice):
            draw(own)
        state = seen.state if seen.alive else None
        if problem := seen.problem or (state.error if state else None):
            show_error(from_dict(problem))
        elif describe_state(seen) == "starting":
            st.caption(
                ":material/hourglass_top: Loading the models. This takes some seconds, longer for large ones."
            )
        if state and state.switching:
            st.caption(
                f":material/sync: {escape_markdown(state.switching)}; the previous models keep serving."
            )
        if state and state.lines_lost:
            lost = f"{state.lines_lost:,} lines of the log could not be written ({state.log_error})."
            st.warning(
                escape_markdown(f"{lost} Requests are still answered. Free some disk space."),
                icon=":material/warning:",
            )


def _draw_switch(seen: EndpointStatus) -> None:
    own = {"endpoint": seen.endpoint_id}
    if seen.wanted == "running":
        pressed = st.button("Stop", icon=":material/stop_circle:", help="Requests in progress are completed.")
        if pressed and send_command("stop_endpoint", own, "Stopping after the current requests.") is not None:
            redraw()
    else:
        pressed = st.button("Start", type="primary", icon=":material/play_circle:")
        if pressed and send_command("start_endpoint", own, "The endpoint is starting.") is not None:
            redraw()


@live("3s")
def _draw_traffic(own: str) -> None:
    """Draw the last hour's figures, and the routes of requests."""
    with show_errors():
        seen = _find_endpoint(own)
        state = seen.state if seen and seen.alive else None
        if state is None:
            return
        hour = state.hour
        p95 = format_seconds(hour.p95_seconds) if hour.p95_seconds is not None else "–"
        st.markdown("**The last hour**")
        st.html(
            meters.render_facts(
                [
                    ("Requests", f"{hour.requests:,}", f"{state.active:,} in progress"),
                    ("Failed", f"{hour.errors:,}", "by a model or the gateway"),
                    ("Refused", f"{hour.refused:,}", "keys, limits, unsupported fields"),
                    ("Latency, p95", p95, f"n {hour.n:,}"),
                    ("Tokens", display.format_count(hour.tokens), "input and output"),
                ]
            )
        )
        st.markdown("**Traffic by version**")
        st.dataframe(
            _build_route_rows(state.routes), hide_index=True, alt="Routes with shares, requests and times"
        )
        if state.fallbacks:
            st.caption(f"{state.fallbacks:,} responses came from the fallback since the endpoint started.")
        for backend in state.backends:
            if backend.error and backend.error != (seen and seen.problem):
                show_error(from_dict(backend.error))


def _build_route_rows(routes: Sequence[RouteState]) -> Sequence[Mapping[str, object]]:
    candidates: dict[str, float] = {}
    for route in routes:
        if route.role == "candidate":
            candidates[route.model] = candidates.get(route.model, 0) + route.share
    rows = []
    for route in routes:
        share = {"live": 1 - candidates.get(route.model, 0), "fallback": None}.get(route.role, route.share)
        rows.append(
            {
                "Model name": route.model,
                "Answers": route.version,
                "Part": ROLES[route.role],
                "Share": "–" if share is None else f"{share:.0%}",
                "Requests": route.requests,
                "Failed": route.errors,
                "95% within": "–" if route.p95_seconds is None else format_seconds(route.p95_seconds),
                "n": route.n,
                "Dropped copies": route.dropped if route.role == "shadow" else None,
            }
        )
    if all(row["Dropped copies"] is None for row in rows):
        for row in rows:
            del row["Dropped copies"]
    return rows


def _draw_limits(seen: EndpointStatus) -> None:
    settings = EndpointSettings.parse(dict(seen.settings))
    limits, log = settings.limits, settings.log
    kept = "of every request" if log.sample == 1 else f"of {log.sample:.0%} of requests"
    with st.expander("Limits and log", icon=":material/speed:"):
        st.html(
            meters.render_facts(
                [
                    ("Concurrent requests", f"{settings.max_streams:,}", "per model process"),
                    ("Waiting", f"{limits.queue:,}", "others get 429 and Retry-After"),
                    ("Max output tokens", f"{limits.max_tokens:,}", "that a request may set"),
                    ("Request timeout", f"{limits.seconds:g} s", ""),
                    ("Max request size", display.format_size(limits.body_bytes), ""),
                    ("Log", f"{log.days} days", f"a line a request; texts {kept}"),
                    ("Personal data", "redacted" if log.redact else "kept", "in logged texts"),
                ]
            )
        )
        st.caption("To change them, use a file (docs/serving.md):")
        name = shlex.quote(seen.name)
        st.code(f"tunebench serve --name {name} --config FILE --detach", language="bash", wrap_lines=True)


def _draw_requests(own: str) -> None:
    st.markdown("**Last requests**")
    with show_errors():
        lines = endpoint_list.list_last_requests(own, get_current_person().person_id)
        if not lines:
            st.caption("No requests yet. Paste the example above into a terminal.")
            return
        st.dataframe(
            [_build_request_row(line) for line in lines],
            hide_index=True,
            alt="The newest requests of the log",
        )
        st.caption(f"The newest {len(lines)} requests. The log in the endpoint's folder has all of them.")


def _build_request_row(line: RequestLine) -> Mapping[str, object]:
    at = datetime.fromtimestamp(line["at"], UTC).replace(tzinfo=None)
    asked = next(
        (message.get("content") for message in reversed(line["messages"] or []) if message.get("content")), ""
    )
    tokens = (line["prompt_tokens"] or 0) + (line["completion_tokens"] or 0)
    return {
        "When": display.format_ago(at),
        "Served by": line["version"] or "–",
        "Part": ROLES[line["role"]].partition(":")[0],
        "Status": "answered" if line["status"] == 200 else f"{line['status']} {line['error'] or ''}".strip(),
        "Took": format_seconds(line["seconds"]),
        "Tokens": f"{tokens:,}" if tokens else "–",
        "Asked": asked[:EXCERPT] if isinstance(asked, str) else "",
        "Answer": _format_answer(line),
    }


def _format_answer(line: RequestLine) -> str:
    """Format the label of a classifier with its confidence, or the beginning of the text."""
    sure = "" if line["confidence"] is None else f" ({line['confidence']:.0%} sure)"
    if line["abstained"]:
        return f"no label{sure}"
    return f"{line['label']}{sure}" if line["label"] else (line["output"] or "")[:EXCERPT]


def _draw_delete(seen: EndpointStatus) -> None:
    with st.expander("Delete this endpoint", icon=":material/delete:"):
        st.markdown("Its keys stop working and its log is deleted. Models and runs are kept.")
        if st.button("Delete endpoint and log", key="delete-endpoint") and (
            send_command("delete_endpoint", {"endpoint": seen.endpoint_id}, "Endpoint deleted.") is not None
        ):
            st.query_params.pop(LINK, None)
            st.rerun()
