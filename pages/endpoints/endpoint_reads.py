"""What the screen of endpoints reads."""

from __future__ import annotations

import streamlit as st

from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, remembered
from store.documents.serving.request_line import RequestLine
from store.documents.tables.endpoint_state import EndpointSeen
from store.queries.runs import runs
from store.queries.serving import endpoints as endpoint_queries

NEWEST = 100  # finished runs that are offered


@remembered
@st.cache_data(ttl=LIVE, max_entries=4, show_spinner=False)
def endpoints() -> list[EndpointSeen]:
    """All of them, by name."""
    return client().endpoints()


@remembered
@st.cache_data(ttl=LIVE, max_entries=64, show_spinner=False)
def last_requests(endpoint_id: str, person_id: str) -> list[RequestLine]:
    """The newest lines of the log; they hold what people wrote, so each person asks anew."""
    return client().endpoint_requests(endpoint_id)


@remembered
@st.cache_data(ttl=CALM, max_entries=4, show_spinner="Looking for what can be served …")
def subjects() -> dict[str, str]:
    """What can be served, each with its kind: aliases of registered models, finished runs, models."""
    offered = dict.fromkeys(endpoint_queries.servable_aliases(client()), "registered model")
    for run in runs.list_runs(client(), statuses=("finished",), limit=NEWEST):
        offered.setdefault(run["name"], "run")
    for model in client().models():
        if model["ready"]:
            offered.setdefault(model["name"], "model")
    return offered
