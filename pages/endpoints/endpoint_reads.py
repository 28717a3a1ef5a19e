"""What the screen of endpoints reads."""

from __future__ import annotations

from pages.shared.reads import CALM, LIVE
from pages.shared.session import client, kept_for
from store.documents.serving.request_line import RequestLine
from store.documents.tables.endpoint_state import EndpointSeen
from store.queries.runs import runs
from store.queries.serving import endpoints as endpoint_queries

NEWEST = 100  # finished runs that are offered


@kept_for(LIVE, most=4)
def endpoints() -> list[EndpointSeen]:
    """All of them, by name."""
    return client().endpoints()


@kept_for(LIVE, most=64)
def last_requests(endpoint_id: str, person_id: str) -> list[RequestLine]:
    """The newest lines of the log; they hold what people wrote, so each person asks anew."""
    return client().endpoint_requests(endpoint_id)


@kept_for(CALM, most=4, spinner="Looking for what can be served …")
def subjects() -> dict[str, str]:
    """What can be served, each with its kind: aliases of registered models, finished runs, models."""
    offered = dict.fromkeys(endpoint_queries.servable_aliases(client()), "registered model")
    for run in runs.list_runs(client(), statuses=("finished",), limit=NEWEST):
        offered.setdefault(run["name"], "run")
    for model in client().models():
        if model["ready"]:
            offered.setdefault(model["name"], "model")
    return offered
