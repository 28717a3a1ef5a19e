"""Alerts as cards: what happened, since when, the requests behind it, what to do, and that somebody has seen
it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

import streamlit as st

from engine.diagnostics.drift.pace import PACES
from engine.diagnostics.drift.watched import WATCHED
from engine.diagnostics.phrasing import number, percent, perplexity
from pages.monitor import monitor_reads
from pages.monitor.monitor_traffic import seconds
from pages.run_parts.improve_link import draw_improve_link
from pages.run_parts.open_alerts import alert_title
from pages.shared import quantities
from pages.shared.session import act, may, plain, redraw
from store.documents.serving.drift import WatchedName
from store.documents.serving.monitor import Monitor, MonitorAlert
from store.queries.monitoring.signal_counts import BehindAlert
from store.queries.monitoring.traffic import Window
from store.words.watched_names import readable_name

AFTER = 500  # requests after the alarm that are looked through too
SHORT = 160  # characters of a text in the list
OUTCOMES = {
    "same_reference": "It is put right: go on with the same reference",
    "new_normal": "It is meant to be so: requests from now on are the reference",
}


def draw_alerts(monitor: Monitor, alerts: Sequence[MonitorAlert]) -> None:
    """A card for each that nobody has acknowledged."""
    for alert in alerts:
        with st.container(border=True, key=f"alert-{alert['alert_id']}"):
            _draw_card(monitor, alert)


def _draw_card(monitor: Monitor, alert: MonitorAlert) -> None:
    st.markdown(f":red[:material/notifications_active:] **{alert_title(alert)}**")
    st.markdown(plain(alert["reason"]))
    st.markdown(f":material/lightbulb: {plain(alert['advice'])}")
    if may("work"):  # what callers wrote
        rows = _behind(monitor, alert)
        with st.expander(f"The requests behind it ({len(rows)})", icon=":material/list:"):
            _draw_rows(alert, rows)
    now = datetime.now(UTC).replace(tzinfo=None)
    st.caption(f"Raised {quantities.ago(alert['raised_at'], now)}.")
    if may("work"):
        if alert["kind"] in ("drift", "quality"):
            st.page_link(
                "pages/monitor/monitor.py",
                label="Label these",
                icon=":material/label:",
                query_params={"endpoint": alert["endpoint_id"], "tab": "label", "alert": alert["alert_id"]},
            )
        for model in monitor_reads.served_models(alert["endpoint_id"]):
            label = f"Improve {plain(model)} on these requests"
            draw_improve_link(model, label, feedback=alert["endpoint_id"], alert=alert["alert_id"])
        _draw_seen(alert)


def _draw_seen(alert: MonitorAlert) -> None:
    key = alert["alert_id"]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        outcome = "same_reference"
        if alert["kind"] == "drift" or alert["subject"] in PACES:
            chosen = st.selectbox(
                "What came of it",
                list(OUTCOMES),
                format_func=OUTCOMES.__getitem__,
                key=f"outcome-{key}",
                width=480,
            )
            outcome = str(chosen)
        note = st.text_input("Note", key=f"note-{key}", placeholder="What was found, or done", width=320)
        if st.button("I have seen it", key=f"seen-{key}", type="primary", icon=":material/check:"):
            body = {"alert": key, "outcome": outcome, "note": note or ""}
            if act("acknowledge_alert", body, "It is noted with your name.") is not None:
                redraw()


def _behind(monitor: Monitor, alert: MonitorAlert) -> list[BehindAlert]:
    """Of drift those least like the reference; else those that failed, took longest, or were not liked."""
    endpoint_id = alert["endpoint_id"]
    if alert["kind"] in ("errors", "latency"):
        return monitor_reads.troubled(endpoint_id, alert["since"], alert["kind"])
    if alert["kind"] == "quality" and alert["subject"] == "candidate":
        return monitor_reads.bad_of_candidate(endpoint_id, alert["since"])
    if alert["kind"] == "quality" and alert["subject"] in ("bias", "bias-start"):
        return []  # its rows are those of the check
    if alert["kind"] == "quality":
        return monitor_reads.thumbs_down(endpoint_id, datetime(1970, 1, 1))
    if alert["first_place"] is None or alert["last_place"] is None or monitor["reference"] is None:
        return []
    name = cast(WatchedName, alert["subject"])
    places = alert["first_place"], alert["last_place"] + AFTER
    facts = monitor["reference"]["values"].get(name)
    end = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0)
    counts = monitor_reads.counts(endpoint_id, Window(alert["since"], end)).get(name)
    if facts is None or counts is None:
        return []
    if WATCHED[name].is_category:
        grown = _grown(dict(zip(facts["names"], facts["counts"], strict=True)), counts["names"])
        return monitor_reads.with_names(endpoint_id, name, places, grown)
    before = _mean(dict(zip(facts["bins"], facts["counts"], strict=True)))
    order = "DESC" if _mean(counts["bins"]) >= before else "ASC"
    return monitor_reads.extremes(endpoint_id, name, places, order)


def _grown(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """The names of which there is a larger share, the one that grew most first."""
    n, m = max(1, sum(before.values())), max(1, sum(after.values()))
    growth = {name: after[name] / m - before.get(name, 0) / n for name in after}
    return tuple(sorted((name for name in growth if growth[name] > 0), key=lambda name: -growth[name])[:3])


def _mean(counts: Mapping[int, int]) -> float:
    return sum(place * n for place, n in counts.items()) / max(1, sum(counts.values()))


def _draw_rows(alert: MonitorAlert, rows: Sequence[BehindAlert]) -> None:
    if not rows:
        st.caption("None of them is in the log any more, or their texts are not kept.")
        return
    for row in rows:
        value = _value(alert, row)
        head = f"{row['asked_at']:%d %b %H:%M} · {plain(row['version'])}{f' · {value}' if value else ''}"
        st.markdown(f"**{head}**  \n{plain(_asked(row))}")
        if row["output"]:
            st.caption(f"→ {plain(_cut(row['output']))}")


def _value(alert: MonitorAlert, row: BehindAlert) -> str:
    if alert["kind"] == "quality":
        return plain(_cut(row["category"] or ""))
    if alert["kind"] in ("errors", "latency"):
        return plain(row["category"]) if row["category"] else seconds(row["value"])
    watched = WATCHED[cast(WatchedName, alert["subject"])]
    if row["category"] is not None:
        return plain(readable_name(watched.name, row["category"]))
    value = row["value"] or 0.0
    if watched.scale == "length":
        return f"{value:,.0f} characters"
    if watched.scale == "perplexity":
        return f"perplexity {perplexity(math.exp(value))}"
    return percent(value) if watched.scale == "share" else number(value, 2)


def _asked(row: BehindAlert) -> str:
    if row["messages"] is None:
        return "(its text was not kept)"
    turns = [turn for turn in json.loads(row["messages"]) if isinstance(turn, dict)]
    content = turns[-1].get("content") if turns else ""
    return _cut(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[:SHORT]} …"


def draw_past_alerts(endpoint_id: str) -> None:
    """Those that somebody has seen, with their name."""
    past = monitor_reads.past_alerts(endpoint_id)
    if not past:
        return
    with st.expander(f"Alerts that were seen ({len(past)})", icon=":material/history:"):
        for alert in past:
            title = alert_title(alert)
            note = f" “{plain(alert['note'])}”" if alert["note"] else ""
            outcome = f" {OUTCOMES[alert['outcome']].partition(':')[0]}." if alert["outcome"] else ""
            st.markdown(
                f"**{title}** on {alert['raised_at']:%d %b %Y %H:%M} UTC, seen by"
                f" {plain(alert['acknowledged_by_name'] or '')} on"
                f" {alert['acknowledged_at']:%d %b %Y %H:%M} UTC."
                f"{outcome}{note}"
            )
