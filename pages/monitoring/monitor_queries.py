"""What the screen reads, each answer kept for a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.monitoring.labelling import NextToLabel, next_to_label_of, topics_of
from pages.shared.deployment import models_of, open_by_endpoint
from pages.shared.session import client, kept_for
from store.bias import bias_checks as checks
from store.bias.schemas import BiasSummary
from store.core.monitoring_schemas import (
    CorrectingRound,
    JudgedAnswer,
    Monitor,
    MonitorAlert,
    SideBySide,
    WatchedName,
    WebhookDelivery,
    WebhookSet,
)
from store.core.rating_schemas import RatingProtocol
from store.core.schemas import Job
from store.evaluation import evaluations as evaluation_queries
from store.evaluation.schemas import Evaluation
from store.monitoring import feedback, logged_requests, monitor_alerts, monitors, traffic
from store.monitoring import side_by_side as pairs
from store.monitoring.feedback import FeedbackCounts, UnmatchedFeedback
from store.monitoring.logged_requests import JudgedWindow
from store.monitoring.monitors import EndpointName, GoldenRun, ReferenceRows, ScheduledCheck, Torn
from store.monitoring.traffic import BehindAlert, SignalCounts, TrafficPoint, VersionTraffic, Window
from store.rating.config import ChosenRequests
from store.serving.schemas import EndpointSeen

LIVE = 2  # seconds that an answer is kept
WINDOWS = {"1h": "Last hour", "24h": "Last day", "7d": "Last week", "30d": "Last 30 days", "all": "All"}
LENGTHS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ROWS = 8  # behind an alert


@kept_for(LIVE, most=64)
def served(endpoint_id: str) -> EndpointSeen | None:
    """The endpoint with its address and what it serves; None where it is gone."""
    return next((seen for seen in client().endpoints() if seen["endpoint_id"] == endpoint_id), None)


def served_models(endpoint_id: str) -> list[str]:
    """Names of the registered models that it serves; none where it is gone."""
    seen = served(endpoint_id)
    return models_of(seen["settings"]) if seen else []


def window_of(endpoint_id: str, name: str) -> Window:
    """From now back, by the minute, so that all who look within it share an answer."""
    end = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0) + timedelta(minutes=1)
    if name in LENGTHS:
        return Window(end - LENGTHS[name], end)
    whole = span(endpoint_id)
    return Window(whole.start if whole else end - LENGTHS["1h"], end)


@kept_for(LIVE, most=4)
def endpoints() -> list[EndpointName]:
    return monitors.endpoints(client())


@kept_for(LIVE, most=16)
def monitor(endpoint_id: str) -> Monitor | None:
    return monitors.find(client(), endpoint_id)


@kept_for(LIVE, most=16)
def reference_count(endpoint_id: str, which: ReferenceRows) -> int:
    return monitors.reference_count(client(), endpoint_id, which)


@kept_for(LIVE, most=16)
def torn(endpoint_id: str) -> Torn:
    return monitors.torn(client(), endpoint_id)


@kept_for(LIVE, most=32)
def by_version(endpoint_id: str, window: Window) -> list[VersionTraffic]:
    return traffic.by_version(client(), endpoint_id, window)


@kept_for(LIVE, most=32)
def points(endpoint_id: str, window: Window) -> list[TrafficPoint]:
    return traffic.points(client(), endpoint_id, window)


@kept_for(LIVE, most=32)
def span(endpoint_id: str) -> Window | None:
    return traffic.span(client(), endpoint_id)


@kept_for(LIVE, most=32)
def counts(endpoint_id: str, window: Window) -> dict[WatchedName, SignalCounts]:
    return traffic.signal_counts(client(), endpoint_id, window)


@kept_for(LIVE, most=32)
def feedback_by_version(endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    return feedback.by_version(client(), endpoint_id, window)


@kept_for(LIVE, most=32)
def feedback_by_group(endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    return feedback.by_group(client(), endpoint_id, window)


@kept_for(LIVE, most=16)
def side_by_side(endpoint_id: str) -> list[tuple[SideBySide, pairs.Labelled | None]]:
    """Each pair, and of which of its answers labels are there; None: the other version has given none."""
    return [
        (pair, pairs.count_labelled(client(), pair) if pair["since"] else None)
        for pair in pairs.listed(client(), endpoint_id)
    ]


@kept_for(LIVE, most=32)
def callers_by_group(endpoint_id: str, window: Window, kind: str) -> dict[str, dict[int, int]]:
    return feedback.callers_by_group(client(), endpoint_id, window, kind)


@kept_for(LIVE, most=32)
def unmatched(endpoint_id: str, window: Window) -> UnmatchedFeedback:
    return feedback.unmatched(client(), endpoint_id, window)


@kept_for(LIVE, most=16)
def scheduled_checks(endpoint_id: str) -> list[ScheduledCheck]:
    return monitors.scheduled_checks(client(), endpoint_id)


@kept_for(5, most=4)
def bias_checks() -> list[BiasSummary]:
    return checks.listed(client())


@kept_for(60, most=16)
def bias_config(job_id: str) -> dict[str, Any]:
    return checks.get(client(), job_id)["config"]


@kept_for(LIVE, most=16)
def judgings(endpoint_id: str) -> list[Job]:
    return logged_requests.judgings(client(), endpoint_id)


@kept_for(10, most=32)
def judged_answers(job_id: str, window: JudgedWindow) -> list[JudgedAnswer]:
    return logged_requests.answers(client(), job_id, window)


@kept_for(10, most=32)
def correcting_round(job_id: str, window: JudgedWindow) -> CorrectingRound | None:
    return logged_requests.correcting(client(), job_id, window)


@kept_for(LIVE, most=16)
def golden_runs(endpoint_id: str) -> list[GoldenRun]:
    return monitors.golden_runs(client(), endpoint_id)


@kept_for(LIVE, most=16)
def open_alerts(endpoint_id: str) -> list[MonitorAlert]:
    return monitor_alerts.open_alerts(client(), endpoint_id)


@kept_for(LIVE, most=16)
def past_alerts(endpoint_id: str) -> list[MonitorAlert]:
    return monitor_alerts.past_alerts(client(), endpoint_id)


@kept_for(LIVE, most=4)
def open_counts() -> dict[str, int]:
    return {endpoint_id: each["n"] for endpoint_id, each in open_by_endpoint().items()}


@kept_for(5, most=4)
def evaluations() -> list[Evaluation]:
    return evaluation_queries.list_evaluations(client())


@kept_for(LIVE, most=4)
def webhook() -> WebhookSet | None:
    return monitor_alerts.webhook(client())


@kept_for(LIVE, most=4)
def deliveries() -> list[WebhookDelivery]:
    return monitor_alerts.deliveries(client())


@kept_for(30, most=64)
def extremes(endpoint_id: str, name: WatchedName, places: tuple[int, int], order: str) -> list[BehindAlert]:
    return traffic.most_unlike(client(), endpoint_id, name, places, order=order, limit=ROWS)


@kept_for(30, most=64)
def with_names(
    endpoint_id: str, name: WatchedName, places: tuple[int, int], names: tuple[str, ...]
) -> list[BehindAlert]:
    return traffic.with_names(client(), endpoint_id, name, places, list(names), ROWS)


@kept_for(30, most=64)
def troubled(endpoint_id: str, since: datetime, kind: str) -> list[BehindAlert]:
    return traffic.troubled(client(), endpoint_id, since, kind=kind, limit=ROWS)


@kept_for(30, most=64)
def bad_of_candidate(endpoint_id: str, since: datetime) -> list[BehindAlert]:
    return traffic.bad_of_candidate(client(), endpoint_id, since, limit=ROWS)


@kept_for(30, most=64)
def thumbs_down(endpoint_id: str, since: datetime) -> list[BehindAlert]:
    return traffic.thumbs_down(client(), endpoint_id, since, limit=ROWS)


@kept_for(30, most=16, spinner="Ranking requests")
def next_to_label(
    endpoint_id: str, window: Window | None, alert: str, protocol: RatingProtocol | None
) -> NextToLabel:
    """Of the requests in a window, or behind an alert. protocol: that of their kind where None."""
    chosen = ChosenRequests(
        endpoint=endpoint_id,
        start=window.start if window else None,
        end=window.end if window else None,
        alert=alert,
    )
    meant = logged_requests.meant_by(client(), chosen)
    table = logged_requests.newest(client(), meant)
    topics = topics_of(monitors.find(client(), endpoint_id))
    total = logged_requests.count(client(), meant)
    return next_to_label_of(table, topics, total, protocol)
