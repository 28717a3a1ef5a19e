"""Monitor: is what is served still good? Alerts first, then traffic, drift and quality of one endpoint.

The link carries endpoint, window and tab (`?endpoint=ID&window=24h&tab=label`), and of requests to label the
alert that they are behind (`&alert=ID`).
"""

from __future__ import annotations

import streamlit as st

from engine.monitoring.endpoint_status import DriftLine, top_line
from pages.monitoring import monitor_queries
from pages.monitoring.alerts import draw_alerts, draw_past_alerts, draw_traffic
from pages.monitoring.drift import draw_drift, draw_side_by_side, lines_of
from pages.monitoring.labelling import draw_label_next
from pages.monitoring.quality import draw_judge_form, draw_quality
from pages.monitoring.settings import draw_settings
from pages.shared import display
from pages.shared.deployment import draw_calling
from pages.shared.layout import Tab, open_tab
from pages.shared.session import guarded, live, may, plain, watch_engine
from store.core.errors import NotFoundError
from store.monitoring import monitors
from store.monitoring.monitors import EndpointName

DEFAULT_WINDOW = "24h"
NO_ENDPOINT = """
There is no endpoint yet, so that nothing is served and nothing can be watched. {serve} Its first requests
become what later ones are held against.
"""
NO_REQUESTS = """
Nobody has asked it yet. Send it a request, from the page Endpoints or by any client of OpenAI's protocol; it
appears here within seconds.
"""
SERVE = "Serve a model on the page **Endpoints**, or with `tunebench serve MODEL`."
NOT_YOURS = "A member can serve one."


def main() -> None:
    st.title("Is it still good?", anchor=False)
    with guarded():
        endpoints = monitor_queries.endpoints()
        if not endpoints:
            st.markdown(NO_ENDPOINT.format(serve=SERVE if may("work") else NOT_YOURS))
            if may("work"):
                st.page_link("pages/serving/endpoints.py", label="Serve a model", icon=":material/dns:")
            return
        endpoint, window_name = _chosen(endpoints)
        if endpoint is None:
            return
        tabs = {
            "watch": Tab("Watch", lambda: _draw_watch(endpoint, window_name)),
            "label": Tab("Label next", lambda: draw_label_next(endpoint, window_name)),
        }
        tab, place = open_tab(tabs, "monitor-tab", subject={"endpoint": endpoint["endpoint_id"]})
        with place:
            tab.draw()


def _draw_watch(endpoint: EndpointName, window_name: str) -> None:
    """The tab of what happens now."""
    if monitor_queries.monitor(endpoint["endpoint_id"]) is None:
        st.markdown(NO_REQUESTS)
        _draw_calling(endpoint)
    live("5s")(_draw)(endpoint, window_name)
    draw_judge_form(endpoint["endpoint_id"])
    draw_settings(endpoint)


def _draw_calling(endpoint: EndpointName) -> None:
    """How to ask it, where its address and its models are known; else the way to its page."""
    seen = monitor_queries.served(endpoint["endpoint_id"])
    if seen and seen["state"] and seen["config"]:
        draw_calling(seen)
        return
    st.page_link(
        "pages/serving/endpoints.py",
        label=plain(f"How to call {endpoint['name']}"),
        query_params={"endpoint": endpoint["endpoint_id"]},
        icon=":material/dns:",
    )


def _draw(endpoint: EndpointName, window_name: str) -> None:
    with guarded():
        watch_engine()
        endpoint_id = endpoint["endpoint_id"]
        monitor = monitor_queries.monitor(endpoint_id)
        if monitor is None:
            return
        window = monitor_queries.window_of(endpoint_id, window_name)
        versions = monitor_queries.by_version(endpoint_id, window)
        alerts = monitor_queries.open_alerts(endpoint_id)
        lines = lines_of(monitor, window)
        _draw_top(endpoint_id, lines, len(alerts), sum(row["requests"] for row in versions))
        draw_alerts(monitor, alerts)
        draw_traffic(monitor, versions, window)
        draw_side_by_side(endpoint_id, monitors.settings(monitor).keep_days)
        draw_drift(monitor, lines)
        draw_quality(monitor, window)
        draw_past_alerts(endpoint_id)
        _draw_torn(endpoint_id)


def _draw_top(endpoint_id: str, lines: list[DriftLine], alerts: int, requests: int) -> None:
    """The answer to the title, and since when it was last asked."""
    icon = ":red[:material/notifications_active:]" if alerts else ":green[:material/check_circle:]"
    if not alerts and (not requests or not any(line.standing == "quiet" for line in lines)):
        icon = ":gray[:material/hourglass_empty:]"
    with st.container(border=True, gap="xsmall", key="monitor-top"):
        st.markdown(f"{icon} **{top_line(lines, alerts, requests)}**")
        if whole := monitor_queries.span(endpoint_id):
            st.caption(f"Asked last {display.ago(whole.end)}.")


def _draw_torn(endpoint_id: str) -> None:
    torn = monitor_queries.torn(endpoint_id)
    if torn["torn"]:
        st.caption(
            f":material/warning: {torn['torn']:,} of {torn['lines']:,} lines of its log could not be read,"
            f" and are"
            " in no figure."
        )


def _chosen(endpoints: list[EndpointName]) -> tuple[EndpointName | None, str]:
    """The endpoint and the window that link and widgets say, which are one."""
    names = {each["endpoint_id"]: each["name"] for each in endpoints}
    asked = st.query_params.get("endpoint", "")
    by_name = next((each["endpoint_id"] for each in endpoints if each["name"] == asked), asked)
    waiting = monitor_queries.open_counts()
    first = next((each for each in names if waiting.get(each)), endpoints[0]["endpoint_id"])
    chosen = by_name or first
    if chosen not in names:
        error = NotFoundError(f"There is no endpoint {asked!r} any more.", fix="Choose another one.")
        st.warning(plain(str(error)), icon=":material/search_off:")
        chosen = first
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        key = "monitor-endpoint"
        st.session_state[key] = chosen
        st.selectbox(
            "Endpoint", list(names), key=key, width=280, on_change=_follow, args=("endpoint", key),
            format_func=lambda each: names[each] + (f" · {waiting[each]} open" if each in waiting else ""),
        )  # fmt: skip
        window_name = _window()
    return next(each for each in endpoints if each["endpoint_id"] == chosen), window_name


def _window() -> str:
    key, asked = "monitor-window", st.query_params.get("window", DEFAULT_WINDOW)
    st.session_state[key] = asked if asked in monitor_queries.WINDOWS else DEFAULT_WINDOW
    chosen = st.segmented_control(
        "Window", list(monitor_queries.WINDOWS), key=key, format_func=monitor_queries.WINDOWS.__getitem__,
        required=True, on_change=_follow, args=("window", key),
    )  # fmt: skip
    return str(chosen or DEFAULT_WINDOW)


def _follow(name: str, key: str) -> None:
    """Callback: what was chosen into the link."""
    st.query_params[name] = st.session_state[key]


main()
