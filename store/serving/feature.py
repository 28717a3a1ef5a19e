"""Serving feature: endpoints over HTTP."""

from __future__ import annotations

from store.core.features import Action, FileKind, StoreFeature

FEATURE = StoreFeature(
    commands={
        "work": """
            make_endpoint change_endpoint start_endpoint stop_endpoint delete_endpoint make_key
            revoke_key
        """
    },
    actions={
        "make_endpoint": Action("Served", "made the endpoint", ":material/dns:"),
        "change_endpoint": Action("Served", "changed the endpoint", ":material/dns:"),
        "start_endpoint": Action("Served", "started the endpoint", ":material/play_circle:"),
        "stop_endpoint": Action("Served", "stopped the endpoint", ":material/stop_circle:"),
        "delete_endpoint": Action("Deleted", "deleted the endpoint", ":material/delete:"),
        "make_key": Action("Served", "made a key of", ":material/key:"),
        "revoke_key": Action("Served", "revoked a key of", ":material/key_off:"),
    },
    queries={"look": {"endpoints": "servable_aliases"}},
    tools={"look": "list_endpoints", "work": "serve_model start_endpoint stop_endpoint ask_endpoint"},
    files=(
        FileKind(
            "endpoint", "Endpoint", "store.serving.config:EndpointSettings", "tunebench serve --config FILE"
        ),
    ),
)
