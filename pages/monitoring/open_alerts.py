"""Open alerts as links, for the Overview and Endpoints pages."""

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
    "slower": "Latency increased",
    "failing": "Error rate increased",
    "candidate": "Candidate worse than the live version",
    "thumbs": "Thumbs up below the minimum",
    "bias": "Bias increased",
    "bias-start": "Scheduled bias check could not start",
    "golden": "Scheduled evaluation could not start",
    "improvement": "Scheduled improvement could not start",
}
SHOWN_ALERTS = 3  # maximum endpoints on the overview


@cached(LIVE, max_entries=4)
def group_open_alerts_by_endpoint() -> dict[str, OpenAlerts]:
    """Return endpoint id -> its open alerts, the most severe first."""
    return monitor_alerts.open_by_endpoint(get_client())


def format_alert_title(alert: MonitorAlert) -> str:
    """Format a short title: "Drift: prompt length"."""
    if alert.kind == "drift":
        return f"Drift: {WATCHED_SIGNALS[cast(WatchedName, alert.subject)].title.lower()}"
    return OF_SUBJECT.get(alert.subject, TITLES[alert.kind])


def draw_open_alerts(endpoint_id: str) -> None:
    """Draw a link to the open alerts of one endpoint, if any."""
    if opened := group_open_alerts_by_endpoint().get(endpoint_id):
        _draw_link(endpoint_id, opened, "")


def draw_all_open_alerts() -> None:
    """Draw one link per endpoint with open alerts."""
    with show_errors():
        everywhere = group_open_alerts_by_endpoint()
        for endpoint_id, opened in list(everywhere.items())[:SHOWN_ALERTS]:
            _draw_link(endpoint_id, opened, f"{escape_markdown(opened['name'])}: ")
        if len(everywhere) > SHOWN_ALERTS:
            st.page_link(
                "pages/monitoring/monitor.py", label=f"Show all {len(everywhere)} endpoints with alerts"
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
        first = "Most severe: " if opened["n"] > 1 else ""
        since = f"since {worst.since:%d %b %H:%M} UTC, {display.format_ago(worst.since)}"
        st.caption(f"{first}{format_alert_title(worst)}, {since}")
