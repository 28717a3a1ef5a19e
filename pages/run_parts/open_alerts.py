"""Alerts of endpoints that nobody has acknowledged: how many, the worst, and the way to them."""

from __future__ import annotations

from typing import cast

import streamlit as st

from engine.diagnostics.drift.watched import WATCHED
from engine.diagnostics.phrasing import plural
from pages.shared import quantities
from pages.shared.reads import LIVE
from pages.shared.session import client, guarded, kept_for, plain
from store.documents.serving.drift import WatchedName
from store.documents.serving.monitor import MonitorAlert
from store.queries.monitoring import monitor_alerts
from store.queries.monitoring.monitor_alerts import TITLES, OpenAlerts

OF_SUBJECT = {
    "slower": "Answers have become slower",
    "failing": "More requests fail than before",
    "candidate": "The candidate is worse than the live version",
    "bias": "Bias is worse than in the version before",
    "bias-start": "The bias check can’t be started",
}
SHOWN = 3  # endpoints on the overview


@kept_for(LIVE, most=4)
def open_by_endpoint() -> dict[str, OpenAlerts]:
    """Of all endpoints that have any, the worst first."""
    return monitor_alerts.open_by_endpoint(client())


def alert_title(alert: MonitorAlert) -> str:
    """What it is about, as a sentence without its full stop."""
    if alert["kind"] == "drift":
        return f"{WATCHED[cast(WatchedName, alert['subject'])].title}: changed"
    return OF_SUBJECT.get(alert["subject"], TITLES[alert["kind"]])


def draw_open(endpoint_id: str) -> None:
    """The alerts of one endpoint, as a link to them; nothing where none is open."""
    if opened := open_by_endpoint().get(endpoint_id):
        _draw_link(endpoint_id, opened, "")


def draw_all_open() -> None:
    """Those of all endpoints, a link each."""
    with guarded():
        everywhere = open_by_endpoint()
        for endpoint_id, opened in list(everywhere.items())[:SHOWN]:
            _draw_link(endpoint_id, opened, f"{plain(opened['name'])}: ")
        if len(everywhere) > SHOWN:
            st.page_link(
                "pages/monitor/monitor.py", label=f"{len(everywhere)} endpoints have alerts; all of them"
            )


def _draw_link(endpoint_id: str, opened: OpenAlerts, name: str) -> None:
    worst = opened["worst"]
    with st.container(gap=None):
        st.page_link(
            "pages/monitor/monitor.py",
            label=f":red[**{name}{plural(opened['n'], 'open alert')}**]",
            icon=":material/notifications_active:",
            query_params={"endpoint": endpoint_id},
        )
        first = "The worst: " if opened["n"] > 1 else ""
        since = f"since {worst['since']:%d %b %H:%M} UTC, {quantities.ago(worst['since'])}"
        st.caption(f"{first}{alert_title(worst)}, {since}")
