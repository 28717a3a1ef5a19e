"""The Monitor page of one endpoint: alerts, traffic, drift, feedback, and the labeling queue.

The URL carries endpoint, window and tab (`?endpoint=ID&window=24h&tab=label`); the labeling queue can be
filtered by an alert (`&alert=ID`).
"""

from __future__ import annotations

import streamlit as st

from engine.monitoring.endpoint_status import DriftLine, summarize_status
from engine.monitoring.status_text import describe_summary
from pages.monitoring import monitor_queries
from pages.monitoring.alerts import draw_alerts, draw_past_alerts, draw_traffic
from pages.monitoring.drift import build_drift_lines, draw_drift, draw_side_by_side
from pages.monitoring.labelling import draw_label_next
from pages.monitoring.quality import draw_judge_form, draw_quality
from pages.monitoring.settings import draw_settings
from pages.serving.calling import draw_calling
from pages.shared import display
from pages.shared.layout import Tab, draw_tab_bar
from pages.shared.session import escape_markdown, has_right, live, show_errors, watch_engine
from store.core.errors import NotFoundError
from store.monitoring import monitors
from store.monitoring.monitors import EndpointName

DEFAULT_WINDOW = "24h"
NO_ENDPOINT = """
No endpoints yet. {serve} Its first requests become the reference that later requests are compared with.
"""
NO_REQUESTS = """
No requests yet. Send one from the Endpoints page or with any OpenAI-compatible client; it appears here within
seconds.
"""
SERVE_HINT = "Serve a model on the **Endpoints** page or with `tunebench serve MODEL`."
MEMBERS_ONLY = "Ask a member to serve a model."


def main() -> None:
    st.title("Monitor", anchor=False)
    with show_errors():
        endpoints = monitor_queries.list_endpoints()
        if not endpoints:
            st.markdown(NO_ENDPOINT.format(serve=SERVE_HINT if has_right("work") else MEMBERS_ONLY))
            if has_right("work"):
                st.page_link("pages/serving/endpoints.py", label="Serve a model", icon=":material/dns:")
            return
        endpoint, window_name = _choose_endpoint(endpoints)
        if endpoint is None:
            return
        tabs = {
            "watch": Tab("Status", lambda: _draw_monitoring(endpoint, window_name)),
            "label": Tab("Labeling queue", lambda: draw_label_next(endpoint, window_name)),
        }
        tab, place = draw_tab_bar(tabs, "monitor-tab", subject={"endpoint": endpoint.endpoint_id})
        with place:
            tab.draw()


def _draw_monitoring(endpoint: EndpointName, window_name: str) -> None:
    """Draw the Status tab."""
    if monitor_queries.read_monitor(endpoint.endpoint_id) is None:
        st.markdown(NO_REQUESTS)
        _draw_calling(endpoint)
    live("5s")(_draw_live)(endpoint, window_name)
    draw_judge_form(endpoint.endpoint_id)
    draw_settings(endpoint)


def _draw_calling(endpoint: EndpointName) -> None:
    """Draw how to send requests, or a link to the Endpoints page if the endpoint has no address yet."""
    seen = monitor_queries.find_endpoint(endpoint.endpoint_id)
    if seen and seen.state and seen.config:
        draw_calling(seen)
        return
    st.page_link(
        "pages/serving/endpoints.py",
        label=escape_markdown(f"Show how to call {endpoint.name}"),
        query_params={"endpoint": endpoint.endpoint_id},
        icon=":material/dns:",
    )


def _draw_live(endpoint: EndpointName, window_name: str) -> None:
    with show_errors():
        watch_engine()
        endpoint_id = endpoint.endpoint_id
        monitor = monitor_queries.read_monitor(endpoint_id)
        if monitor is None:
            return
        window = monitor_queries.build_window(endpoint_id, window_name)
        versions = monitor_queries.list_traffic_by_version(endpoint_id, window)
        alerts = monitor_queries.list_open_alerts(endpoint_id)
        lines = build_drift_lines(monitor, window)
        _draw_summary(endpoint_id, lines, len(alerts), sum(row.requests for row in versions))
        draw_alerts(monitor, alerts)
        draw_traffic(monitor, versions, window)
        draw_side_by_side(endpoint_id, monitors.get_settings(monitor).keep_days)
        draw_drift(monitor, lines)
        draw_quality(monitor, window)
        draw_past_alerts(endpoint_id)
        _draw_torn_log(endpoint_id)


def _draw_summary(endpoint_id: str, lines: list[DriftLine], alerts: int, requests: int) -> None:
    """Draw the state of the endpoint, and when its last request came."""
    icon = ":red[:material/notifications_active:]" if alerts else ":green[:material/check_circle:]"
    if not alerts and (not requests or not any(line.standing == "quiet" for line in lines)):
        icon = ":gray[:material/hourglass_empty:]"
    with st.container(border=True, gap="xsmall", key="monitor-top"):
        st.markdown(f"{icon} **{describe_summary(summarize_status(lines, alerts, requests))}**")
        if whole := monitor_queries.read_time_span(endpoint_id):
            st.caption(f"Last request {display.format_ago(whole.end)}.")


def _draw_torn_log(endpoint_id: str) -> None:
    torn = monitor_queries.read_torn_log(endpoint_id)
    if torn.torn:
        st.caption(
            f":material/warning: {torn.torn:,} of {torn.lines:,} log lines could not be read and are excluded"
            " from all figures."
        )


def _choose_endpoint(endpoints: list[EndpointName]) -> tuple[EndpointName | None, str]:
    """Draw the choice of endpoint and window, kept in sync between URL and widgets."""
    names = {each.endpoint_id: each.name for each in endpoints}
    asked = st.query_params.get("endpoint", "")
    by_name = next((each.endpoint_id for each in endpoints if each.name == asked), asked)
    waiting = monitor_queries.count_open_alerts()
    first = next((each for each in names if waiting.get(each)), endpoints[0].endpoint_id)
    chosen = by_name or first
    if chosen not in names:
        error = NotFoundError(f"Endpoint {asked!r} no longer exists.", fix="Select another one.")
        st.warning(escape_markdown(str(error)), icon=":material/search_off:")
        chosen = first
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        key = "monitor-endpoint"
        st.session_state[key] = chosen
        st.selectbox(
            "Endpoint", list(names), key=key, width=280, on_change=_update_link, args=("endpoint", key),
            format_func=lambda each: names[each] + (f" · {waiting[each]} open" if each in waiting else ""),
        )  # fmt: skip
        window_name = _choose_window()
    return next(each for each in endpoints if each.endpoint_id == chosen), window_name


def _choose_window() -> str:
    key, asked = "monitor-window", st.query_params.get("window", DEFAULT_WINDOW)
    st.session_state[key] = asked if asked in monitor_queries.WINDOWS else DEFAULT_WINDOW
    chosen = st.segmented_control(
        "Window", list(monitor_queries.WINDOWS), key=key, format_func=monitor_queries.WINDOWS.__getitem__,
        required=True, on_change=_update_link, args=("window", key),
    )  # fmt: skip
    return str(chosen or DEFAULT_WINDOW)


def _update_link(name: str, key: str) -> None:
    """Callback: write the selection to the URL."""
    st.query_params[name] = st.session_state[key]


main()
