"""`tunebench monitor`: is what an endpoint serves still good?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from engine.diagnostics.drift.arms_words import GOOD, points, standing
from engine.diagnostics.drift.base_words import look_line
from engine.diagnostics.drift.drift_words import moment
from engine.diagnostics.drift.pace_words import pace_lines, pace_reference_line
from engine.diagnostics.drift.standing import WORDS, DriftLine, drift_lines, reference_line, top_line
from engine.diagnostics.drift.watched import WATCHED
from engine.diagnostics.phrasing import percent, plural
from engine.diagnostics.statistics.anytime import anytime_share
from store.config.serving.monitor_config import DEAR
from store.contract.errors import ConfigError
from store.documents.serving.monitor import Monitor, MonitorAlert
from store.documents.serving.side_by_side import SideBySide
from store.http.client import Client
from store.queries.monitoring import feedback, monitor_alerts, monitors, side_by_side, signal_counts, traffic
from store.queries.monitoring.feedback import FeedbackCounts
from store.queries.monitoring.monitors import EndpointName, ReferenceRows
from store.queries.monitoring.traffic import VersionTraffic, Window
from store.words.watched_names import readable_name
from tunebench.commands.shipping.monitor_changes import acknowledge_alert, change_settings, show
from tunebench.terminal.connection import Json, connect
from tunebench.terminal.documents import read_document
from tunebench.terminal.output import CONDITION, errors, print_json, print_rows, say


def monitor(
    endpoint: Annotated[str, typer.Argument(help="Name or id of an endpoint")],
    hours: Annotated[float, typer.Option(min=0.1, help="How far back is looked")] = 24.0,
    fail_on_alert: Annotated[
        bool, typer.Option(help="Exit with 7 where an alert waits for somebody")
    ] = False,
    settings: Annotated[
        Path | None, typer.Option(help="Change its settings first: YAML with the fields to change, or -")
    ] = None,
    show_settings: Annotated[bool, typer.Option(help="Show its settings as YAML, and nothing else")] = False,
    acknowledge: Annotated[str, typer.Option(help="Id of an alert that you have seen, with --note")] = "",
    note: Annotated[str, typer.Option(help="What was found, or done")] = "",
    new_normal: Annotated[
        bool, typer.Option(help="Of an alert of drift: what comes from now on is the reference")
    ] = False,
    json: Json = False,
) -> None:
    """Say whether an endpoint is still good: alerts, traffic, candidates, drift, and what people say. With
    --settings or --acknowledge, change what is watched or say that an alert was seen, before that."""
    with errors(json):
        client = connect()
        which = monitors.endpoint(client, endpoint)
        if settings is not None:
            change_settings(client, which["endpoint_id"], read_document(settings))
        if acknowledge:
            acknowledge_alert(client, which["endpoint_id"], acknowledge, note, new_normal=new_normal)
        elif note or new_normal:
            raise ConfigError(
                "--note and --new-normal are of an alert, and none is named.",
                fix="Add --acknowledge with its id.",
                field="acknowledge",
            )
        if show_settings:
            show(monitors.settings(monitors.find(client, which["endpoint_id"])), json=json)
            return
        report = monitor_report(client, which, hours)
        if json:
            print_json(report)
        else:
            say(f"{which['name']}: {report['summary']}")
            _print(client, report)
    if fail_on_alert and report["alerts"]:
        raise SystemExit(CONDITION)


class MonitorReport(TypedDict):
    """How an endpoint stands: what waits for somebody, and what came in the chosen window."""

    endpoint: EndpointName
    summary: str
    alerts: list[MonitorAlert]
    traffic: list[VersionTraffic]
    drift: list[dict[str, Any]]  # fields of DriftLine
    feedback: list[dict[str, Any]]  # FeedbackCounts with shares
    side_by_side: list[SideBySide]


def monitor_report(client: Client, which: EndpointName, hours: float) -> MonitorReport:
    """Of the last hours."""
    end = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1)
    window = Window(end - timedelta(hours=hours), end)
    present = monitors.find(client, which["endpoint_id"])
    alerts = monitor_alerts.open_alerts(client, which["endpoint_id"])
    versions = traffic.by_version(client, which["endpoint_id"], window)
    lines = _lines(client, present, window) if present else []
    return {
        "endpoint": which,
        "summary": top_line(lines, len(alerts), sum(row["requests"] for row in versions)),
        "alerts": alerts,
        "traffic": versions,
        "drift": [asdict(each) for each in lines],
        "feedback": [_shares(row) for row in feedback.by_version(client, which["endpoint_id"], window)],
        "side_by_side": side_by_side.listed(client, which["endpoint_id"]),
    }


def _lines(client: Client, present: Monitor, window: Window) -> list[DriftLine]:
    counts = signal_counts.counts(client, present["endpoint_id"], window)
    seen = {
        name: each["names"] if WATCHED[name].is_category else each["bins"] for name, each in counts.items()
    }
    settings = monitors.settings(present)
    return [
        *pace_lines(present["pace"]),
        *drift_lines(
            settings.watched, present["states"], present["reference"], seen, settings.alpha, readable_name
        ),
    ]


def _taken(client: Client, present: Monitor) -> int:
    """Requests that are there for a reference of requests, up to as many as it needs."""
    wanted = monitors.settings(present)
    if present["reference"] is not None or wanted.reference not in ("first", "window"):
        return 0
    which = ReferenceRows(wanted.reference_rows, wanted.window_start, wanted.window_end)
    return monitors.reference_count(client, present["endpoint_id"], which)


def _shares(row: FeedbackCounts) -> dict[str, Any]:
    up, right = anytime_share(row["up"], row["thumbs"]), anytime_share(row["right"], row["labels"])
    return {**row, "thumbs_up": up.to_dict(), "accuracy": right.to_dict()}


def _print(client: Client, report: MonitorReport) -> None:
    for alert in report["alerts"]:
        say(f"ALERT {alert['alert_id']} ({alert['kind']}): {alert['reason']} {alert['advice']}")
    if report["traffic"]:
        columns = ["version", "role", "requests", "failed", "half within, s", "95 of 100 within, s", "tokens"]
        print_rows(columns, [_traffic_row(row) for row in report["traffic"]])
    present = monitors.find(client, report["endpoint"]["endpoint_id"])
    if present and report["drift"]:
        wanted, taken = monitors.settings(present), _taken(client, present)
        columns = ["watched", "state", "evidence now", "tested on", "since", "in this window"]
        note = reference_line(present["reference"], wanted.reference, taken, wanted.reference_rows)
        print_rows(columns, [_drift_row(DriftLine(**line)) for line in report["drift"]], note)
        say(pace_reference_line(present["pace"], wanted.reference_rows))
        if present["base_look"] is not None and DEAR in wanted.watched:
            say(look_line(present["base_look"]))
    if report["feedback"]:
        columns = ["version", "role", "thumbs", "up", "95% interval"]
        print_rows(columns, [_thumbs_row(row) for row in report["feedback"]])
    _print_pairs(report["side_by_side"])


def _print_pairs(pairs: list[SideBySide]) -> None:
    """Each candidate and shadow beside the live version, by kind of outcome."""
    rows = [
        [pair["other"], pair["role"], GOOD[kind], points(look["difference"]), *standing(pair, kind, look)]
        for pair in pairs
        for kind, look in pair["looks"].items()
    ]
    if rows:
        print_rows(["version", "role", "share of", "less that of live", "", ""], rows)


def _traffic_row(row: VersionTraffic) -> list[str]:
    times = ["–" if value is None else f"{value:.2f}" for value in (row["p50"], row["p95"])]
    tokens = f"{row['prompt_tokens'] + row['completion_tokens']:,}"
    return [row["version"], row["role"], f"{row['requests']:,}", f"{row['errors']:,}", *times, tokens]


def _drift_row(line: DriftLine) -> list[str]:
    tested = f"{line.tested:,} after {line.reference:,}" if line.wanted else "–"
    since = moment(line.since) if line.since else ""
    return [line.title, WORDS[line.standing], line.evidence, tested, since, line.note or line.window]


def _thumbs_row(row: Mapping[str, Any]) -> list[str]:
    share = anytime_share(row["up"], row["thumbs"])
    if share.low is None or share.high is None:
        return [row["version"], row["role"], plural(0, "thumb"), "–", "–"]
    ends = f"{percent(share.low)} to {percent(share.high)}"
    return [row["version"], row["role"], f"{row['thumbs']:,}", percent(share.value), ends]
