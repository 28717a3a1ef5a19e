"""Alert cards with reason, advice and requests; and traffic: requests, errors, latency, tokens and cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.statistics.intervals import wilson_interval
from engine.monitoring.drift import WATCHED_SIGNALS
from engine.monitoring.sequential_tests import PACES
from pages.monitoring import monitor_queries
from pages.monitoring.open_alerts import format_alert_title
from pages.shared import display, meters
from pages.shared.charts import PLOT, build_empty_figure
from pages.shared.features import NewRows, list_parts
from pages.shared.palette import BAD, BASE, VALIDATION
from pages.shared.session import escape_markdown, has_right, redraw, send_command
from store.core.formatting import format_number, format_perplexity, percent, plural
from store.core.monitoring_schemas import Monitor, MonitorAlert, WatchedName
from store.monitoring import monitors
from store.monitoring.config import MonitorSettings
from store.monitoring.traffic import (
    RELATIVE_ERROR,
    AlertRequest,
    TrafficPoint,
    VersionTraffic,
    Window,
    format_category_name,
)

ROLES = {
    "live": "live",
    "candidate": "candidate",
    "shadow": "shadow (responses not returned)",
    "fallback": "fallback",
}


def draw_traffic(monitor: Monitor, versions: Sequence[VersionTraffic], window: Window) -> None:
    """Draw figures and charts of the window, and its traffic by version."""
    st.subheader("Traffic", anchor=False)
    if not versions:
        st.caption("No requests in this window. Select a longer one.")
        return
    settings = monitors.get_settings(monitor)
    st.html(meters.render_facts(_list_facts(versions, settings)))
    points = monitor_queries.list_traffic_points(monitor.endpoint_id, window)
    left, right = st.columns(2)
    with left:
        st.plotly_chart(plot_requests(points), key="monitor-requests", config=PLOT)
    with right:
        st.plotly_chart(plot_latency(points, settings), key="monitor-latency", config=PLOT)
    for row in versions:
        st.markdown(_format_version(row))
    st.caption(
        f"Latency covers successful requests and is accurate to within {percent(RELATIVE_ERROR)}. Shadow"
        " traffic counts only toward tokens and cost."
    )


def _build_first_token_fact(main: VersionTraffic | None) -> tuple[str, str, str]:
    if main is None or main.first_token_p50 is None:
        return "First token, median", "–", ""
    half, most = format_seconds(main.first_token_p50), format_seconds(main.first_token_p95)
    return "First token, median", half, f"p95 {most}"


def _list_facts(versions: Sequence[VersionTraffic], settings: MonitorSettings) -> list[tuple[str, str, str]]:
    seen = [row for row in versions if row.role != "shadow"] or list(versions)
    requests, errors = sum(row.requests for row in seen), sum(row.errors for row in seen)
    refused, answered = sum(row.refused for row in seen), [row for row in seen if row.p50 is not None]
    prompt = sum(row.prompt_tokens for row in versions)
    completion = sum(row.completion_tokens for row in versions)
    taken = requests - refused
    failed = _build_failure_fact(errors, taken) if taken else ("Error rate", "–", "no requests processed")
    main = max(answered, key=lambda row: row.requests, default=None)
    rests_on = f"{main.version}, n {main.requests - main.errors - main.refused:,}" if main else ""
    return [
        ("Requests", display.format_count(requests), f"{refused:,} rejected" if refused else ""),
        failed,
        ("Latency, median", format_seconds(main.p50) if main else "–", rests_on),
        ("Latency, p95", format_seconds(main.p95) if main else "–", rests_on),
        _build_first_token_fact(main),
        (
            "Tokens",
            display.format_count(prompt + completion),
            f"{display.format_count(completion)} output tokens",
        ),
        _build_cost_fact(prompt, completion, settings),
        *_list_call_facts(seen),
    ]


def _list_call_facts(seen: Sequence[VersionTraffic]) -> list[tuple[str, str, str]]:
    """List facts about function calls; empty if no functions were called."""
    calls, invalid = sum(row.calls for row in seen), sum(row.invalid_calls for row in seen)
    if not calls and not invalid:
        return []
    return [("Function calls", display.format_count(calls), f"{invalid:,} invalid")]


def _build_failure_fact(errors: int, taken: int) -> tuple[str, str, str]:
    """Build the error rate of the requests that were not rejected; `taken` is at least 1."""
    share = wilson_interval(errors, taken)
    low, high = ("0%" if not errors else percent(share.low or 0.0), percent(share.high or 0.0))
    return "Error rate", percent(errors / taken), f"{errors:,} of {taken:,}; 95% CI {low} to {high}"


def _build_cost_fact(prompt: int, completion: int, settings: MonitorSettings) -> tuple[str, str, str]:
    if settings.price_of_prompt is None and settings.price_of_completion is None:
        return "Cost", "–", "set prices in Monitor settings"
    read, written = settings.price_of_prompt or 0.0, settings.price_of_completion or 0.0
    cost = (prompt * read + completion * written) / 1e6
    return "Cost", f"{cost:,.2f} {settings.currency}", "at the set prices, including shadows"


def format_seconds(value: float | None) -> str:
    """Format as "340 ms", "1.2 s"."""
    if value is None:
        return "–"
    return f"{1_000 * value:.0f} ms" if value < 0.995 else f"{value:.1f} s"


def _format_version(row: VersionTraffic) -> str:
    if not row.version:
        return f"Rejected before reaching a model: {plural(row.requests, 'request')}"
    times = f", median latency {format_seconds(row.p50)}, p95 {format_seconds(row.p95)}"
    failed = f", {plural(row.errors, 'error')}" if row.errors else ""
    return (
        f"**{escape_markdown(row.version)}** · {ROLES.get(row.role, escape_markdown(row.role))}:"
        f" {plural(row.requests, 'request')}{failed}{times if row.p50 is not None else ''}"
    )


def plot_requests(points: Sequence[TrafficPoint]) -> go.Figure:
    """Plot requests per time step: successful, rejected (grey) and failed (red)."""
    figure = _build_figure("Requests", "Requests")
    times = [point["at"] for point in points]
    failed, refused = ([point[key] for point in points] for key in ("errors", "refused"))
    answered = [point["requests"] - point["errors"] - point["refused"] for point in points]
    parts = [("Successful", answered, VALIDATION), ("Rejected", refused, BASE), ("Failed", failed, BAD)]
    for name, values, color in parts:
        figure.add_trace(go.Bar(x=times, y=values, name=name, marker={"color": color, "line": {"width": 0}}))
    figure.update_layout(barmode="stack", bargap=0.15)
    most = max((point["requests"] for point in points), default=0)
    whole = {"dtick": 1} if most < 5 else {}  # otherwise half a request gets a tick labeled 1
    figure.update_yaxes(rangemode="tozero", tickformat=",d", **whole)
    return figure


def plot_latency(points: Sequence[TrafficPoint], settings: MonitorSettings) -> go.Figure:
    """Plot median and 95th percentile latency per time step, with the limit if one is set."""
    figure = _build_figure("Latency", "Seconds")
    times = [point["at"] for point in points]
    for name, key, color in (("p95", "p95", BASE), ("Median", "p50", VALIDATION)):
        values = [point["p95"] if key == "p95" else point["p50"] for point in points]
        figure.add_trace(
            go.Scatter(x=times, y=values, name=name, mode="lines+markers", marker={"size": 4},
                       line={"color": color, "width": 2}, hovertemplate="%{y:.2f} s")
        )  # fmt: skip
    if settings.most_p95_seconds is not None:
        figure.add_hline(y=settings.most_p95_seconds, line={"dash": "dash", "color": BAD, "width": 1.5})
    figure.update_yaxes(rangemode="tozero")
    return figure


def _build_figure(title: str, axis: str) -> go.Figure:
    figure = build_empty_figure(title, axis, height=260, x_title="")
    figure.update_xaxes(title=None, nticks=6)
    return figure


AFTER = 500  # requests after the alert that are also searched
SHORT = 160  # maximum characters of a text in a list
OUTCOMES = {
    "same_reference": "Fixed: keep the reference",
    "new_normal": "Expected: use new requests as the reference",
}


def draw_alerts(monitor: Monitor, alerts: Sequence[MonitorAlert]) -> None:
    """Draw a card for each open alert."""
    for alert in alerts:
        with st.container(border=True, key=f"alert-{alert.alert_id}"):
            _draw_card(monitor, alert)


def _draw_card(monitor: Monitor, alert: MonitorAlert) -> None:
    st.markdown(f":red[:material/notifications_active:] **{format_alert_title(alert)}**")
    st.markdown(escape_markdown(alert.reason))
    st.markdown(f":material/lightbulb: {escape_markdown(alert.advice)}")
    if has_right("work"):  # links lead to request texts
        rows = _list_alert_requests(monitor, alert)
        with st.expander(f"Requests ({len(rows)})", icon=":material/list:"):
            _draw_rows(alert, rows)
    now = datetime.now(UTC).replace(tzinfo=None)
    st.caption(f"Raised {display.format_ago(alert.raised_at, now)}.")
    if has_right("work"):
        if alert.kind in ("drift", "quality"):
            st.page_link(
                "pages/monitoring/monitor.py",
                label="Label these requests",
                icon=":material/label:",
                query_params={"endpoint": alert.endpoint_id, "tab": "label", "alert": alert.alert_id},
            )
        query = {"feedback": alert.endpoint_id, "alert": alert.alert_id}
        served = monitor_queries.list_served(alert.endpoint_id)
        for draw in list_parts(lambda feature: feature.draw_row_use):
            draw(NewRows("Improve {} on these requests", served, [], query))
        _draw_acknowledgement(alert)


def _draw_acknowledgement(alert: MonitorAlert) -> None:
    key = alert.alert_id
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        outcome = "same_reference"
        if alert.kind == "drift" or alert.subject in PACES:
            chosen = st.selectbox(
                "Outcome",
                list(OUTCOMES),
                format_func=OUTCOMES.__getitem__,
                key=f"outcome-{key}",
                width=480,
            )
            outcome = str(chosen)
        note = st.text_input("Note", key=f"note-{key}", placeholder="Findings or action taken", width=320)
        if st.button("Acknowledge", key=f"seen-{key}", type="primary", icon=":material/check:"):
            body = {"alert": key, "outcome": outcome, "note": note or ""}
            if send_command("acknowledge_alert", body, "Alert acknowledged.") is not None:
                redraw()


def _list_alert_requests(monitor: Monitor, alert: MonitorAlert) -> list[AlertRequest]:
    """List requests behind an alert.

    For drift, requests least like the reference; otherwise those that failed, were slow or disliked.
    """
    endpoint_id = alert.endpoint_id
    if alert.kind in ("errors", "latency"):
        return monitor_queries.list_troubled_requests(endpoint_id, alert.since, alert.kind)
    if alert.kind == "quality" and alert.subject == "candidate":
        return monitor_queries.list_bad_candidate_requests(endpoint_id, alert.since)
    if alert.kind == "quality" and alert.subject in ("bias", "bias-start"):
        return []  # a bias check has its own rows
    if alert.kind == "quality":
        return monitor_queries.list_disliked_requests(endpoint_id, datetime(1970, 1, 1))
    if alert.first_place is None or alert.last_place is None or monitor.reference is None:
        return []
    name = cast(WatchedName, alert.subject)
    places = alert.first_place, alert.last_place + AFTER
    facts = monitor.reference.values.get(name)
    end = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0)
    counts = monitor_queries.count_signals(endpoint_id, Window(alert.since, end)).get(name)
    if facts is None or counts is None:
        return []
    if WATCHED_SIGNALS[name].is_category:
        grown = _find_grown_names(dict(zip(facts.names, facts.counts, strict=True)), counts["names"])
        return monitor_queries.list_requests_with_names(endpoint_id, name, places, grown)
    before = _compute_mean(dict(zip(facts.bins, facts.counts, strict=True)))
    order = "DESC" if _compute_mean(counts["bins"]) >= before else "ASC"
    return monitor_queries.list_extreme_requests(endpoint_id, name, places, order)


def _find_grown_names(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Return names with a larger share than before, the largest growth first."""
    n, m = max(1, sum(before.values())), max(1, sum(after.values()))
    growth = {name: after[name] / m - before.get(name, 0) / n for name in after}
    return tuple(sorted((name for name in growth if growth[name] > 0), key=lambda name: -growth[name])[:3])


def _compute_mean(counts: Mapping[int, int]) -> float:
    return sum(place * n for place, n in counts.items()) / max(1, sum(counts.values()))


def _draw_rows(alert: MonitorAlert, rows: Sequence[AlertRequest]) -> None:
    if not rows:
        st.caption("These requests are no longer in the log, or their texts are not stored.")
        return
    for row in rows:
        value = _format_value(alert, row)
        head = f"{row.asked_at:%d %b %H:%M} · {escape_markdown(row.version)}{f' · {value}' if value else ''}"
        st.markdown(f"**{head}**  \n{escape_markdown(_format_prompt(row))}")
        if row.output:
            st.caption(f"→ {escape_markdown(_truncate(row.output))}")


def _format_value(alert: MonitorAlert, row: AlertRequest) -> str:
    if alert.kind == "quality":
        return escape_markdown(_truncate(row.category or ""))
    if alert.kind in ("errors", "latency"):
        return escape_markdown(row.category) if row.category else format_seconds(row.value)
    watched = WATCHED_SIGNALS[cast(WatchedName, alert.subject)]
    if row.category is not None:
        return escape_markdown(format_category_name(watched.name, row.category))
    value = row.value or 0.0
    if watched.scale == "length":
        return f"{value:,.0f} characters"
    if watched.scale == "perplexity":
        return f"perplexity {format_perplexity(math.exp(value))}"
    return percent(value) if watched.scale == "share" else format_number(value, 2)


def _format_prompt(row: AlertRequest) -> str:
    if row.messages is None:
        return "(text not stored)"
    turns = [turn for turn in json.loads(row.messages) if isinstance(turn, dict)]
    content = turns[-1].get("content") if turns else ""
    return _truncate(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def _truncate(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[:SHORT]} …"


def draw_past_alerts(endpoint_id: str) -> None:
    """Draw acknowledged alerts, with who acknowledged them."""
    past = monitor_queries.list_past_alerts(endpoint_id)
    if not past:
        return
    with st.expander(f"Acknowledged alerts ({len(past)})", icon=":material/history:"):
        for alert in past:
            title = format_alert_title(alert)
            note = f" “{escape_markdown(alert.note)}”" if alert.note else ""
            outcome = f" {OUTCOMES[alert.outcome].partition(':')[0]}." if alert.outcome else ""
            st.markdown(
                f"**{title}** on {alert.raised_at:%d %b %Y %H:%M} UTC, acknowledged by"
                f" {escape_markdown(alert.acknowledged_by_name or '')} on"
                f" {alert.acknowledged_at:%d %b %Y %H:%M} UTC."
                f"{outcome}{note}"
            )
