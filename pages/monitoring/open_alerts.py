"""Open alerts as links, where they are not looked at closer: on the overview and beside endpoints."""

from __future__ import annotations

from typing import cast

import streamlit as st

from engine.monitoring.drift import WATCHED_SIGNALS
from pages.shared import display
from pages.shared.cached_queries import LIVE
from pages.shared.session import cached, escape_markdown, get_client, show_errors
from store.core.formatting import plural
from store.core.monitoring_schemas import MonitorAlert, WatchedName
from store.monitoring import monitor_alerts
from store.monitoring.monitor_alerts import TITLES, OpenAlerts

OF_SUBJECT = {
    "slower": "Answers have become slower",
    "failing": "More requests fail than before",
    "candidate": "The candidate is worse than the live version",
    "bias": "Bias is worse than in the version before",
    "bias-start": "The bias check can’t be started",
}
SHOWN_ALERTS = 3  # endpoints on the overview


@cached(LIVE, most=4)
def group_open_alerts_by_endpoint() -> dict[str, OpenAlerts]:
    """Of all endpoints that have any, the worst first."""
    return monitor_alerts.open_by_endpoint(get_client())


def format_alert_title(alert: MonitorAlert) -> str:
    """What it is about, as a sentence without its full stop."""
    if alert.kind == "drift":
        return f"{WATCHED_SIGNALS[cast(WatchedName, alert.subject)].title}: changed"
    return OF_SUBJECT.get(alert.subject, TITLES[alert.kind])


def draw_open_alerts(endpoint_id: str) -> None:
    """The alerts of one endpoint, as a link to them; nothing where none is open."""
    if opened := group_open_alerts_by_endpoint().get(endpoint_id):
        _draw_link(endpoint_id, opened, "")


def draw_all_open_alerts() -> None:
    """Those of all endpoints, a link each."""
    with show_errors():
        everywhere = group_open_alerts_by_endpoint()
        for endpoint_id, opened in list(everywhere.items())[:SHOWN_ALERTS]:
            _draw_link(endpoint_id, opened, f"{escape_markdown(opened['name'])}: ")
        if len(everywhere) > SHOWN_ALERTS:
            st.page_link(
                "pages/monitoring/monitor.py", label=f"{len(everywhere)} endpoints have alerts; all of them"
            )


def _draw_link(endpoint_id: str, opened: OpenAlerts, name: str) -> None:
    worst = opened["worst"]
    with st.container(gap=None):
        st.page_link(
            "pages/monitoring/monitor.py",
            label=f":red[**{name}{plural(opened['n'], 'open alert')}**]",
            icon=":material/notifications_active:",
            query_params={"endpoint": endpoint_id},
        )
        first = "The worst: " if opened["n"] > 1 else ""
        since = f"since {worst.since:%d %b %H:%M} UTC, {display.format_ago(worst.since)}"
        st.caption(f"{first}{format_alert_title(worst)}, {since}")
