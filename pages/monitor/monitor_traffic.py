"""How much it is asked, what fails, how long it takes, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from engine.diagnostics.phrasing import percent, plural
from engine.diagnostics.statistics.statistics import wilson_interval
from pages.monitor import monitor_reads
from pages.shared import figures, quantities
from pages.shared.palette import BAD, BASE, VALIDATION
from pages.shared.session import plain
from pages.shared.traces import PLOT, empty_figure
from store.config.serving.monitor_config import MonitorSettings
from store.documents.serving.monitor import Monitor
from store.queries.monitoring import monitors
from store.queries.monitoring.buckets import RELATIVE_ERROR
from store.queries.monitoring.traffic import TrafficPoint, VersionTraffic, Window

ROLES = {
    "live": "answers everybody",
    "candidate": "answers a share",
    "shadow": "is asked too, unseen",
    "fallback": "steps in",
}


def draw_traffic(monitor: Monitor, versions: Sequence[VersionTraffic], window: Window) -> None:
    """Figures of the window, its charts, and who answered."""
    st.subheader("Traffic", anchor=False)
    if not versions:
        st.caption("No request in this window. Choose a longer one.")
        return
    settings = monitors.settings(monitor)
    st.html(figures.facts(_facts(versions, settings)))
    points = monitor_reads.points(monitor["endpoint_id"], window)
    left, right = st.columns(2)
    with left:
        st.plotly_chart(request_chart(points), key="monitor-requests", config=PLOT)
    with right:
        st.plotly_chart(latency_chart(points, settings), key="monitor-latency", config=PLOT)
    for row in versions:
        st.markdown(_version(row))
    st.caption(
        f"Times are within {percent(RELATIVE_ERROR)} of the exact ones; they are of requests that were"
        f" answered."
        " A shadow's answers were seen by nobody and are in no total."
    )


def _facts(versions: Sequence[VersionTraffic], settings: MonitorSettings) -> list[tuple[str, str, str]]:
    seen = [row for row in versions if row["role"] != "shadow"] or list(versions)
    requests, errors = (sum(row[name] for row in seen) for name in ("requests", "errors"))
    refused, answered = sum(row["refused"] for row in seen), [row for row in seen if row["p50"] is not None]
    prompt, completion = (
        sum(row[name] for row in versions) for name in ("prompt_tokens", "completion_tokens")
    )
    taken = requests - refused
    failed = _failed(errors, taken) if taken else ("Failed", "–", "no model was asked")
    main = max(answered, key=lambda row: row["requests"], default=None)
    rests_on = f"{main['version']}, n {main['requests'] - main['errors'] - main['refused']:,}" if main else ""
    return [
        ("Requests", quantities.count(requests), f"{refused:,} of them refused" if refused else ""),
        failed,
        ("Half answer within", seconds(main["p50"]) if main else "–", rests_on),
        ("95 of 100 within", seconds(main["p95"]) if main else "–", rests_on),
        ("First token, half", seconds(main["first_token_p50"]) if main else "–", ""),
        ("Tokens", quantities.count(prompt + completion), f"{quantities.count(completion)} of them written"),
        _cost(prompt, completion, settings),
        *_calls(seen),
    ]


def _calls(seen: Sequence[VersionTraffic]) -> list[tuple[str, str, str]]:
    """Nothing where no functions were called."""
    calls, invalid = (sum(row[name] for row in seen) for name in ("calls", "invalid_calls"))
    if not calls and not invalid:
        return []
    return [("Function calls", quantities.count(calls), f"{plural(invalid, 'mistake')} in calls")]


def _failed(errors: int, taken: int) -> tuple[str, str, str]:
    """Of the requests that were not refused, one at least."""
    share = wilson_interval(errors, taken)
    low, high = ("0%" if not errors else percent(share.low or 0.0), percent(share.high or 0.0))
    return "Failed", percent(errors / taken), f"{errors:,} of {taken:,}; 95% interval {low} to {high}"


def _cost(prompt: int, completion: int, settings: MonitorSettings) -> tuple[str, str, str]:
    if settings.price_of_prompt is None and settings.price_of_completion is None:
        return "Cost", "–", "set prices below"
    read, written = settings.price_of_prompt or 0.0, settings.price_of_completion or 0.0
    cost = (prompt * read + completion * written) / 1e6
    return "Cost", f"{cost:,.2f} {settings.currency}", "by the prices below, shadows too"


def seconds(value: float | None) -> str:
    """ "340 ms", "1.2 s"."""
    if value is None:
        return "–"
    return f"{1_000 * value:.0f} ms" if value < 0.995 else f"{value:.1f} s"


def _version(row: VersionTraffic) -> str:
    if not row["version"]:
        return f"Refused before any model was asked: {plural(row['requests'], 'request')}"
    times = f", half within {seconds(row['p50'])}, 95 of 100 within {seconds(row['p95'])}"
    failed = f", {plural(row['errors'], 'failure')}" if row["errors"] else ""
    return (
        f"**{plain(row['version'])}** {ROLES.get(row['role'], plain(row['role']))}:"
        f" {plural(row['requests'], 'request')}{failed}{times if row['p50'] is not None else ''}"
    )


def request_chart(points: Sequence[TrafficPoint]) -> go.Figure:
    """Requests by step, refused ones in grey on top of those answered, and failed ones in red."""
    figure = _figure("Requests", "Requests")
    times = [point["at"] for point in points]
    failed, refused = ([point[key] for point in points] for key in ("errors", "refused"))
    answered = [point["requests"] - point["errors"] - point["refused"] for point in points]
    parts = [("Answered", answered, VALIDATION), ("Refused", refused, BASE), ("Failed", failed, BAD)]
    for name, values, color in parts:
        figure.add_trace(go.Bar(x=times, y=values, name=name, marker={"color": color, "line": {"width": 0}}))
    figure.update_layout(barmode="stack", bargap=0.15)
    most = max((point["requests"] for point in points), default=0)
    whole = {"dtick": 1} if most < 5 else {}  # else 0.5 of a request has a line, and is called 1
    figure.update_yaxes(rangemode="tozero", tickformat=",d", **whole)
    return figure


def latency_chart(points: Sequence[TrafficPoint], settings: MonitorSettings) -> go.Figure:
    """The median and the 95th percentile by step, with the limit where there is one."""
    figure = _figure("Time to the whole answer", "Seconds")
    times = [point["at"] for point in points]
    for name, key, color in (("95 of 100 within", "p95", BASE), ("Half within", "p50", VALIDATION)):
        values = [point["p95"] if key == "p95" else point["p50"] for point in points]
        figure.add_trace(
            go.Scatter(x=times, y=values, name=name, mode="lines+markers", marker={"size": 4},
                       line={"color": color, "width": 2}, hovertemplate="%{y:.2f} s")
        )  # fmt: skip
    if settings.most_p95_seconds is not None:
        figure.add_hline(y=settings.most_p95_seconds, line={"dash": "dash", "color": BAD, "width": 1.5})
    figure.update_yaxes(rangemode="tozero")
    return figure


def _figure(title: str, axis: str) -> go.Figure:
    figure = empty_figure(title, axis, height=260, x_title="")
    figure.update_xaxes(title=None, nticks=6)
    return figure
