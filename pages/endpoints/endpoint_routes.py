"""Another version for an endpoint: in place of the live one, or beside it for a share of the requests."""

from __future__ import annotations

import copy
from typing import Any

import streamlit as st

from pages.endpoints import endpoint_reads
from pages.shared.session import act
from store.documents.tables.endpoint_state import EndpointSeen

NONE = "None"
PARTS = {
    "candidate": "Candidate: answers a share of the requests",
    "shadow": "Shadow: gets copies, its answers are logged alone",
    "fallback": "Fallback: answers where the live one fails",
}


def draw_change(seen: EndpointSeen) -> None:
    """The live subject of each model, and what stands beside it."""
    settings: Any = seen["settings"]
    with st.expander("Change what it serves", icon=":material/alt_route:"):
        models = settings["models"]
        names = [model["name"] for model in models]
        place = names.index(st.selectbox("Model", names)) if len(names) > 1 else 0
        model = models[place]
        key = f"{seen['endpoint_id']}-{model['name']}"
        routes = {route["role"]: route for route in model["routes"]}
        live = _subject("Live", routes.get("live"), f"route-live-{key}", needed=True)
        beside: list[dict[str, Any]] = []
        for role, title in PARTS.items():
            with st.container(horizontal=True, vertical_alignment="bottom"):
                subject = _subject(title, routes.get(role), f"route-{role}-{key}")
                share = _share(role, routes.get(role), key) if subject and role != "fallback" else 1.0
            if subject:
                beside.append({**_before(routes.get(role), subject), "role": role, "share": share})
        st.caption("What is new comes up beside what runs; requests go over once it is ready.")
        if st.button("Change it", type="secondary", icon=":material/check:", key=f"change-{key}"):
            changed = copy.deepcopy(settings)
            changed["models"][place]["routes"] = [_before(routes.get("live"), live), *beside]
            body = {"endpoint": seen["endpoint_id"], "settings": changed}
            if act("change_endpoint", body, "What is new is being started.") is not None:
                st.rerun()


def _before(route: dict[str, Any] | None, subject: str) -> dict[str, Any]:
    """The route of a subject, with what else is said of it where it stays the same."""
    same = route if route and route["subject"] == subject else {}
    return {**same, "subject": subject}


def _subject(title: str, route: dict[str, Any] | None, key: str, *, needed: bool = False) -> str:
    present = route["subject"] if route else ""
    options = [*([] if needed else [NONE]), *endpoint_reads.subjects()]
    if present and present not in options:
        options.append(present)
    chosen = st.selectbox(
        title, options, index=options.index(present or NONE), key=key, accept_new_options=True
    )
    return "" if chosen in (None, NONE) else str(chosen)


def _share(role: str, route: dict[str, Any] | None, key: str) -> float:
    usual = {"candidate": 10, "shadow": 100}[role]
    present = round(100 * route["share"]) if route else usual
    share: int = st.slider(
        "Share of the requests", 1, 100, present, format="%d%%", key=f"share-{role}-{key}", width=220
    )
    return share / 100
