"""All endpoints with state, served models and last hour; the form that serves something, with the key of a
new endpoint, which is shown once; and the queries of the page.
"""

from __future__ import annotations

import streamlit as st

from pages.shared.cached_queries import CALM, LIVE
from pages.shared.features import list_parts
from pages.shared.layout import draw_link
from pages.shared.session import cached, escape_markdown, get_client, live, send_command, show_errors
from store.core.formatting import plural
from store.runs import runs
from store.serving import endpoint_status
from store.serving import endpoints as endpoint_queries
from store.serving.schemas import EndpointStatus, RequestLine
from store.serving.text import describe_state

NEWEST = 100  # number of finished runs offered


@cached(LIVE, max_entries=4)
def list_endpoints() -> list[EndpointStatus]:
    """All endpoints by name."""
    return endpoint_status.list_endpoints(get_client())


@cached(LIVE, max_entries=64)
def list_last_requests(endpoint_id: str, person_id: str) -> list[RequestLine]:
    """The newest lines of the request log; cached per person, because they contain user texts."""
    return endpoint_status.list_last_requests(get_client(), endpoint_id)


@cached(CALM, max_entries=4, spinner="Loading models …")
def list_subjects() -> dict[str, str]:
    """Everything that can be served -> its kind: aliases of registered models, finished runs, models."""
    offered = dict.fromkeys(endpoint_queries.servable_aliases(get_client()), "registered model")
    for run in runs.list_runs(get_client(), statuses=("finished",), limit=NEWEST):
        offered.setdefault(run.name, "run")
    for model in get_client().models():
        if model.ready:
            offered.setdefault(model.name, "model")
    return offered


LINK = "endpoint"
BADGES = {
    "ready": ":green-badge[:material/check_circle: Ready]",
    "starting": ":blue-badge[:material/hourglass_top: Starting]",
    "stopping": ":orange-badge[:material/hourglass_bottom: Stopping]",
    "stopped": ":gray-badge[:material/stop_circle: Stopped]",
    "does not start": ":red-badge[:material/error: Does not start]",
    "unreachable": ":red-badge[:material/cloud_off: Unreachable]",
    "can't answer": ":red-badge[:material/error: Can't answer]",
}


def format_badge(seen: EndpointStatus) -> str:
    """Format the state as inline Markdown."""
    return BADGES[describe_state(seen)]


@live("3s")
def draw_list() -> None:
    """Draw every endpoint as a link."""
    with show_errors():
        for seen in list_endpoints():
            link = {LINK: seen.endpoint_id}
            draw_link("pages/serving/endpoints.py", seen.name, link, format_summary(seen), format_badge(seen))
            for draw in list_parts(lambda feature: feature.draw_endpoint_notice):
                draw(seen.endpoint_id)


def format_summary(seen: EndpointStatus) -> str:
    """Summarize what it serves and its last hour in one line."""
    served = list_served_versions(seen)
    parts = [
        escape_markdown(", ".join(served[:3]) + (f" and {len(served) - 3} more" if len(served) > 3 else ""))
    ]
    state = seen.state
    if seen.alive and state:
        hour = state.hour
        parts.append(f"{plural(hour.requests, 'request')} in the last hour")
        if hour.p95_seconds is not None:
            parts.append(f"95% within {format_seconds(hour.p95_seconds)} (n {hour.n:,})")
        if hour.errors:
            parts.append(f":red[{hour.errors:,} failed]")
    return " · ".join(part for part in parts if part)


def list_served_versions(seen: EndpointStatus) -> list[str]:
    """Return the versions it serves; before its gateway has started, the configured ones."""
    if config := seen.config:
        return list(dict.fromkeys(route.version for model in config.models for route in model.routes))
    return []


def format_seconds(value: float) -> str:
    """Format a response time as "0.42 s", "35 ms"."""
    return f"{1000 * value:.0f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


KEY = "endpoint-key-made"


def draw_form() -> None:
    """Draw the choice of a subject, and the button that creates and starts an endpoint with a first key."""
    options = list_subjects()
    if not options:
        st.markdown("No models to serve yet. Launch a run; once it has finished, you can serve it here.")
        st.page_link("pages/training/launch.py", label="Launch a run", icon=":material/rocket_launch:")
        return
    asked = st.query_params.get("serve", "")
    names = list(options)
    subject = st.selectbox(
        "Model",
        names,
        index=names.index(asked) if asked in options else 0,
        format_func=lambda name: f"{name} ({options[name]})" if name in options else name,
        accept_new_options=True,
        key="endpoint-subject",
        help="A registered model served by alias follows the alias. You can also enter a version such as"
        " NAME@3, or the path of a model folder or GGUF file.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the endpoint and of its model in requests",
            value=str(subject or "").partition("@")[0].rpartition("/")[2],
            max_chars=80,
            key=f"endpoint-name-{subject}",
        )
        pressed = st.button(
            "Serve model", type="primary", icon=":material/play_circle:", disabled=not subject
        )
    if pressed:
        body: dict[str, object] = {
            "name": name,
            "models": [{"name": name, "routes": [{"subject": subject}]}],
            "with_key": "first",
        }
        made = send_command("make_endpoint", body, "The endpoint is starting.")
        if made is not None:
            store_new_key(made["endpoint_id"], "first", made["key"])
            st.query_params.from_dict({LINK: made["endpoint_id"]})
            st.rerun()


def store_new_key(endpoint_id: str, name: str, key: str) -> None:
    """Store a new key for display on the endpoint's page, until the person has copied it."""
    st.session_state[KEY] = endpoint_id, name, key


def draw_new_key(endpoint_id: str) -> None:
    """Draw the newly created key."""
    made = st.session_state.get(KEY)
    if not made or made[0] != endpoint_id:
        return
    with st.container(border=True):
        st.markdown(f":material/key: The key **{escape_markdown(made[1])}**, which can't be shown again:")
        st.code(made[2], language=None, wrap_lines=True)
        if st.button("I copied it", key="put-endpoint-key-away"):
            del st.session_state[KEY]
            st.rerun()
