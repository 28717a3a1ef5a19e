"""`tunebench monitor` and `monitor-judge`: alerts, traffic, drift and quality of an endpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
import yaml

from engine.evaluation.statistics.intervals import Interval, anytime_share
from engine.monitoring.comparisons import classify_outcome
from engine.monitoring.drift import WATCHED_SIGNALS
from engine.monitoring.endpoint_status import (
    DriftLine,
    build_pace_lines,
    build_status_lines,
    summarize_status,
)
from engine.monitoring.labelling_text import SETTLED_REASONS
from engine.monitoring.sequential_tests import PACES
from engine.monitoring.status_text import (
    STATUS_LABELS,
    describe_pace_reference,
    describe_reference,
    describe_summary,
)
from engine.monitoring.text import OUTCOME_NOUNS, describe_look, describe_outcome, format_points, format_time
from engine.rating.analysis.judge_correction import CorrectedPassRate, correct_by_version
from engine.rating.raters_text import describe_correction
from store.core.errors import ConfigError
from store.core.formatting import percent, plural
from store.core.monitoring_schemas import Monitor, MonitorAlert, SideBySide
from store.http.client import Client
from store.jobs import job_queue
from store.monitoring import feedback, logged_requests, monitor_alerts, monitors, side_by_side, traffic
from store.monitoring.config import EXPENSIVE, JudgeRequests, MonitorSettings
from store.monitoring.feedback import FeedbackCounts
from store.monitoring.logged_requests import JudgingWindow
from store.monitoring.monitors import EndpointName, ReferenceRows
from store.monitoring.traffic import VersionTraffic, Window, format_category_name
from tunebench.terminal.connection import Json, Wait, connect, read_document
from tunebench.terminal.features import TerminalFeature
from tunebench.terminal.output import (
    CONDITION,
    print_json,
    print_notice,
    print_rows,
    report_errors,
    require_finished,
    watch_job,
)


def change_settings(client: Client, endpoint_id: str, changes: dict[str, object]) -> None:
    """Change the given fields of the monitor's settings and keep all others.

    null turns off an optional field, such as most_errors, and is an error for a required one, such as
    alpha. Raises ConfigError with the field.
    """
    if unknown := sorted(set(changes) - set(MonitorSettings.model_fields)):
        raise ConfigError(
            f"Unknown setting {unknown[0]!r}.",
            fix=f"Available settings: {', '.join(MonitorSettings.model_fields)}.",
            field=unknown[0],
        )
    present = monitors.get_settings(monitors.find(client, endpoint_id)).document()
    wanted = MonitorSettings.parse({**present, **changes})
    client.command("set_monitor", {"endpoint": endpoint_id, **wanted.document()})


def format_settings(settings: MonitorSettings, *, json: bool) -> None:
    """Print a file that --settings accepts."""
    document = settings.model_dump(mode="json")
    if json:
        print_json(document)
    else:
        sys.stdout.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def acknowledge_alert(client: Client, endpoint_id: str, alert: str, note: str, *, new_normal: bool) -> None:
    """Acknowledge an alert as the owner of the token. Raises NotFoundError for an alert of another endpoint,
    and ConfigError for a new normal of an alert without a reference.
    """
    raised = monitor_alerts.of_endpoint(client, alert, endpoint_id)
    if new_normal and raised.kind != "drift" and raised.subject not in PACES:
        raise ConfigError(
            f"Alert {alert} ({raised.kind}) has no reference.",
            fix="Remove --new-normal; it applies only to alerts that compare requests with a reference.",
            field="new_normal",
        )
    outcome = "new_normal" if new_normal else "same_reference"
    client.command("acknowledge_alert", {"alert": alert, "note": note, "outcome": outcome})


def monitor_judge(
    endpoint: Annotated[str, typer.Argument(help="Name or id of an endpoint")],
    file: Annotated[
        Path, typer.Argument(help="Judge as a YAML file (base_url, model, criteria, …), or - for stdin")
    ],
    hours: Annotated[
        float, typer.Option(min=0.1, help="Length of the window of requests, in hours up to now")
    ] = 168.0,
    rows: Annotated[
        int, typer.Option(min=20, max=5_000, help="Maximum number of responses in the random sample")
    ] = 200,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Grade logged responses with an LLM judge, corrected with human ratings (a pass/fail round of randomly
    drawn requests)."""
    with report_errors(json):
        client = connect(start=True)
        body = {"endpoint": endpoint, "hours": hours, "rows": rows, "judge": read_document(file)}
        asked = JudgeRequests.parse(body).model_dump(mode="json", exclude_unset=True)
        job_id = client.command("judge_requests", asked)["job_id"]
        if not wait:
            print_json({"job_id": job_id}) if json else print_notice(f"Queued as {job_id}.")
            return
        job = watch_job(lambda: job_queue.get_job(client, job_id), "Running judge")
        require_finished(job, "The judge run was")
        window = JudgingWindow.of(job)
        shares = correct_by_version(logged_requests.answers(client, job_id, window))
        frame = logged_requests.correcting(client, job_id, window)
        if json:
            print_json(
                {
                    **(job.result or {}),
                    "versions": {name: asdict(each) for name, each in shares.items()},
                    "corrected_by": frame.round_id if frame else None,
                }
            )
        else:
            columns = ["version", "pass rate, corrected", "raters only", "rated", "judge only", "judged"]
            note = f"A judge alone is not reliable. {describe_correction(frame, SETTLED_REASONS)}".strip()
            print_rows(columns, [_build_row(name, each) for name, each in shares.items()], note)


def _build_row(name: str, seen: CorrectedPassRate) -> list[str]:
    alone = "–" if seen.judge is None else percent(seen.judge)
    corrected = _format_share(seen.corrected)
    return [name, corrected, _format_share(seen.people), f"{seen.rated:,}", alone, f"{seen.judged:,}"]


def _format_share(share: Interval) -> str:
    if share.low is None or share.high is None:
        return f"not enough data: {share.why}"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def monitor(
    endpoint: Annotated[str, typer.Argument(help="Name or id of an endpoint")],
    hours: Annotated[float, typer.Option(min=0.1, help="Length of the window, in hours up to now")] = 24.0,
    fail_on_alert: Annotated[bool, typer.Option(help="Exit with code 7 if there are open alerts")] = False,
    settings: Annotated[
        Path | None,
        typer.Option(help="Change settings first: YAML file with the fields to change, or - for stdin"),
    ] = None,
    show_settings: Annotated[bool, typer.Option(help="Print only the settings, as YAML")] = False,
    acknowledge: Annotated[str, typer.Option(help="Id of an alert to acknowledge")] = "",
    note: Annotated[str, typer.Option(help="Findings or action taken, with --acknowledge")] = "",
    new_normal: Annotated[
        bool, typer.Option(help="With --acknowledge: use new requests as the reference")
    ] = False,
    json: Json = False,
) -> None:
    """Show alerts, traffic, drift, feedback and candidate comparisons of an endpoint. --settings and
    --acknowledge first change settings or acknowledge an alert."""
    with report_errors(json):
        client = connect()
        which = monitors.endpoint(client, endpoint)
        if settings is not None:
            change_settings(client, which.endpoint_id, read_document(settings))
        if acknowledge:
            acknowledge_alert(client, which.endpoint_id, acknowledge, note, new_normal=new_normal)
        elif note or new_normal:
            raise ConfigError(
                "--note and --new-normal require --acknowledge.",
                fix="Add --acknowledge with the id of the alert.",
                field="acknowledge",
            )
        if show_settings:
            format_settings(monitors.get_settings(monitors.find(client, which.endpoint_id)), json=json)
            return
        report = build_report(client, which, hours)
        if json:
            print_json(report)
        else:
            print_notice(f"{which.name}: {report['summary']}")
            _print(client, report)
    if fail_on_alert and report["alerts"]:
        raise SystemExit(CONDITION)


class MonitorReport(TypedDict):
    """The state of an endpoint: open alerts, and figures of the selected window."""

    endpoint: EndpointName
    summary: str
    alerts: list[MonitorAlert]
    traffic: list[VersionTraffic]
    drift: list[dict[str, Any]]  # fields of DriftLine
    feedback: list[dict[str, Any]]  # FeedbackCounts with shares
    side_by_side: list[SideBySide]


def build_report(client: Client, which: EndpointName, hours: float) -> MonitorReport:
    """Report on the last `hours` of an endpoint."""
    end = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=1)
    window = Window(end - timedelta(hours=hours), end)
    present = monitors.find(client, which.endpoint_id)
    alerts = monitor_alerts.open_alerts(client, which.endpoint_id)
    versions = traffic.by_version(client, which.endpoint_id, window)
    lines = _build_drift_lines(client, present, window) if present else []
    requests = sum(row.requests for row in versions)
    return {
        "endpoint": which,
        "summary": describe_summary(summarize_status(lines, len(alerts), requests)),
        "alerts": alerts,
        "traffic": versions,
        "drift": [asdict(each) for each in lines],
        "feedback": [_compute_shares(row) for row in feedback.by_version(client, which.endpoint_id, window)],
        "side_by_side": side_by_side.listed(client, which.endpoint_id),
    }


def _build_drift_lines(client: Client, present: Monitor, window: Window) -> list[DriftLine]:
    counts = traffic.signal_counts(client, present.endpoint_id, window)
    seen = {
        name: each["names"] if WATCHED_SIGNALS[name].is_category else each["bins"]
        for name, each in counts.items()
    }
    settings = monitors.get_settings(present)
    return [
        *build_pace_lines(present.pace),
        *build_status_lines(
            settings.watched,
            present.states,
            present.reference,
            seen,
            settings.alpha,
            format_category_name,
        ),
    ]


def _count_reference_requests(client: Client, present: Monitor) -> int:
    """Count the requests collected so far for a reference that consists of requests."""
    wanted = monitors.get_settings(present)
    if present.reference is not None or wanted.reference not in ("first", "window"):
        return 0
    which = ReferenceRows(wanted.reference_rows, wanted.window_start, wanted.window_end)
    return monitors.reference_count(client, present.endpoint_id, which)


def _compute_shares(row: FeedbackCounts) -> dict[str, Any]:
    up, right = anytime_share(row.up, row.thumbs), anytime_share(row.right, row.labels)
    return {**vars(row), "thumbs_up": up.to_estimate(), "accuracy": right.to_estimate()}


def _print(client: Client, report: MonitorReport) -> None:
    for alert in report["alerts"]:
        print_notice(f"ALERT {alert.alert_id} ({alert.kind}): {alert.reason} {alert.advice}")
    if report["traffic"]:
        columns = ["version", "role", "requests", "errors", "median latency, s", "p95 latency, s", "tokens"]
        print_rows(columns, [_build_traffic_row(row) for row in report["traffic"]])
    present = monitors.find(client, report["endpoint"].endpoint_id)
    if present and report["drift"]:
        wanted, taken = monitors.get_settings(present), _count_reference_requests(client, present)
        columns = ["value", "status", "evidence", "tested on", "since", "selected window"]
        note = describe_reference(present.reference, wanted.reference, taken, wanted.reference_rows)
        print_rows(columns, [_build_drift_row(DriftLine(**line)) for line in report["drift"]], note)
        print_notice(describe_pace_reference(present.pace, wanted.reference_rows))
        if present.base_look is not None and EXPENSIVE in wanted.watched:
            print_notice(describe_look(present.base_look))
    if report["feedback"]:
        columns = ["version", "role", "thumbs", "up", "95% CI"]
        print_rows(columns, [_build_thumbs_row(row) for row in report["feedback"]])
    _print_pairs(report["side_by_side"])


def _print_pairs(pairs: list[SideBySide]) -> None:
    """Print each candidate and shadow compared with the live version, by metric."""
    rows = [
        [
            pair.other,
            pair.role,
            OUTCOME_NOUNS[kind],
            format_points(look.difference),
            *describe_outcome(classify_outcome(look), pair, look),
        ]
        for pair in pairs
        for kind, look in pair.looks.items()
    ]
    if rows:
        print_rows(["version", "role", "metric", "difference from live", "result", "details"], rows)


def _build_traffic_row(row: VersionTraffic) -> list[str]:
    times = ["–" if value is None else f"{value:.2f}" for value in (row.p50, row.p95)]
    tokens = f"{row.prompt_tokens + row.completion_tokens:,}"
    return [row.version, row.role, f"{row.requests:,}", f"{row.errors:,}", *times, tokens]


def _build_drift_row(line: DriftLine) -> list[str]:
    tested = f"{line.tested:,} (reference {line.reference:,})" if line.wanted else "–"
    since = format_time(line.since) if line.since else ""
    return [line.title, STATUS_LABELS[line.standing], line.evidence, tested, since, line.note or line.window]


def _build_thumbs_row(row: Mapping[str, Any]) -> list[str]:
    share = anytime_share(row["up"], row["thumbs"])
    if share.low is None or share.high is None:
        return [row["version"], row["role"], plural(0, "thumb"), "–", "–"]
    ends = f"{percent(share.low)} to {percent(share.high)}"
    return [row["version"], row["role"], f"{row['thumbs']:,}", percent(share.value), ends]


def register(cli: typer.Typer) -> None:
    """Add the commands to `tunebench`."""
    cli.command()(monitor)
    cli.command("monitor-judge")(monitor_judge)


FEATURE = TerminalFeature(register, tools=("tunebench.agents.monitoring:MonitorTools",))
