"""Cached queries of the Monitor page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engine.monitoring.labelling import build_label_queue, count_reference_topics
from engine.monitoring.labelling_text import LabelQueue
from pages.monitoring.open_alerts import group_open_alerts_by_endpoint
from pages.serving.calling import list_subjects
from pages.shared.session import cached, get_client
from store.core.monitoring_schemas import (
    CorrectionRound,
    JudgedAnswer,
    Monitor,
    MonitorAlert,
    SideBySide,
    WatchedName,
    WebhookDelivery,
    WebhookSettings,
)
from store.core.rating_schemas import RatingProtocol
from store.core.schemas import Job
from store.evaluation import evaluations as evaluation_queries
from store.evaluation.schemas import Evaluation
from store.monitoring import feedback, logged_requests, monitor_alerts, monitors, traffic
from store.monitoring import side_by_side as pairs
from store.monitoring.feedback import FeedbackCounts, UnmatchedFeedback
from store.monitoring.logged_requests import JudgingWindow
from store.monitoring.monitors import (
    EndpointName,
    GoldenRun,
    MalformedLineCounts,
    ReferenceRows,
    ScheduledCheck,
)
from store.monitoring.traffic import AlertRequest, SignalCounts, TrafficPoint, VersionTraffic, Window
from store.rating.config import RequestSample
from store.serving import endpoint_status
from store.serving.schemas import EndpointStatus

LIVE = 2  # TTL in seconds
WINDOWS = {"1h": "Last hour", "24h": "Last day", "7d": "Last week", "30d": "Last 30 days", "all": "All"}
LENGTHS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
ROWS = 8  # requests shown per alert


@cached(LIVE, max_entries=64)
def find_endpoint(endpoint_id: str) -> EndpointStatus | None:
    """The endpoint with its address and served models; None if it was deleted."""
    listed = endpoint_status.list_endpoints(get_client())
    return next((seen for seen in listed if seen.endpoint_id == endpoint_id), None)


def list_served(endpoint_id: str) -> list[str]:
    """Served models as named in the settings; empty if the endpoint was deleted."""
    seen = find_endpoint(endpoint_id)
    return list_subjects(seen.settings) if seen else []


def build_window(endpoint_id: str, name: str) -> Window:
    """The window up to now, rounded to the minute so that sessions share cached results."""
    end = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0) + timedelta(minutes=1)
    if name in LENGTHS:
        return Window(end - LENGTHS[name], end)
    whole = read_time_span(endpoint_id)
    return Window(whole.start if whole else end - LENGTHS["1h"], end)


@cached(LIVE, max_entries=4)
def list_endpoints() -> list[EndpointName]:
    return monitors.endpoints(get_client())


@cached(LIVE, max_entries=16)
def read_monitor(endpoint_id: str) -> Monitor | None:
    return monitors.find(get_client(), endpoint_id)


@cached(LIVE, max_entries=16)
def count_reference_rows(endpoint_id: str, which: ReferenceRows) -> int:
    return monitors.reference_count(get_client(), endpoint_id, which)


@cached(LIVE, max_entries=16)
def read_torn_log(endpoint_id: str) -> MalformedLineCounts:
    return monitors.torn(get_client(), endpoint_id)


@cached(LIVE, max_entries=32)
def list_traffic_by_version(endpoint_id: str, window: Window) -> list[VersionTraffic]:
    return traffic.by_version(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=32)
def list_traffic_points(endpoint_id: str, window: Window) -> list[TrafficPoint]:
    return traffic.points(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=32)
def read_time_span(endpoint_id: str) -> Window | None:
    return traffic.span(get_client(), endpoint_id)


@cached(LIVE, max_entries=32)
def count_signals(endpoint_id: str, window: Window) -> dict[WatchedName, SignalCounts]:
    return traffic.signal_counts(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=32)
def list_feedback_by_version(endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    return feedback.by_version(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=32)
def list_feedback_by_group(endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    return feedback.by_group(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=16)
def list_paired_versions(endpoint_id: str) -> list[tuple[SideBySide, pairs.LabelCounts | None]]:
    """Each pair with its label counts; None until the other version has responded."""
    return [
        (pair, pairs.count_labelled(get_client(), pair) if pair.since else None)
        for pair in pairs.listed(get_client(), endpoint_id)
    ]


@cached(LIVE, max_entries=32)
def count_callers_by_group(endpoint_id: str, window: Window, kind: str) -> dict[str, dict[int, int]]:
    return feedback.callers_by_group(get_client(), endpoint_id, window, kind)


@cached(LIVE, max_entries=32)
def count_unmatched_feedback(endpoint_id: str, window: Window) -> UnmatchedFeedback:
    return feedback.unmatched(get_client(), endpoint_id, window)


@cached(LIVE, max_entries=16)
def list_scheduled_checks(endpoint_id: str) -> list[ScheduledCheck]:
    return monitors.scheduled_checks(get_client(), endpoint_id)


@cached(LIVE, max_entries=16)
def list_judgings(endpoint_id: str) -> list[Job]:
    return logged_requests.judgings(get_client(), endpoint_id)


@cached(10, max_entries=32)
def list_judged_answers(job_id: str, window: JudgingWindow) -> list[JudgedAnswer]:
    return logged_requests.answers(get_client(), job_id, window)


@cached(10, max_entries=32)
def find_correcting_round(job_id: str, window: JudgingWindow) -> CorrectionRound | None:
    return logged_requests.correcting(get_client(), job_id, window)


@cached(LIVE, max_entries=16)
def list_golden_runs(endpoint_id: str) -> list[GoldenRun]:
    return monitors.golden_runs(get_client(), endpoint_id)


@cached(LIVE, max_entries=16)
def list_open_alerts(endpoint_id: str) -> list[MonitorAlert]:
    return monitor_alerts.open_alerts(get_client(), endpoint_id)


@cached(LIVE, max_entries=16)
def list_past_alerts(endpoint_id: str) -> list[MonitorAlert]:
    return monitor_alerts.past_alerts(get_client(), endpoint_id)


@cached(LIVE, max_entries=4)
def count_open_alerts() -> dict[str, int]:
    return {endpoint_id: each["n"] for endpoint_id, each in group_open_alerts_by_endpoint().items()}


@cached(5, max_entries=4)
def list_evaluations() -> list[Evaluation]:
    return evaluation_queries.list_evaluations(get_client())


@cached(LIVE, max_entries=4)
def read_webhook() -> WebhookSettings | None:
    return monitor_alerts.webhook(get_client())


@cached(LIVE, max_entries=4)
def list_deliveries() -> list[WebhookDelivery]:
    return monitor_alerts.deliveries(get_client())


@cached(30, max_entries=64)
def list_extreme_requests(
    endpoint_id: str, name: WatchedName, places: tuple[int, int], order: str
) -> list[AlertRequest]:
    return traffic.most_unlike(get_client(), endpoint_id, name, places, order=order, limit=ROWS)


@cached(30, max_entries=64)
def list_requests_with_names(
    endpoint_id: str, name: WatchedName, places: tuple[int, int], names: tuple[str, ...]
) -> list[AlertRequest]:
    return traffic.with_names(get_client(), endpoint_id, name, places, list(names), ROWS)


@cached(30, max_entries=64)
def list_troubled_requests(endpoint_id: str, since: datetime, kind: str) -> list[AlertRequest]:
    return traffic.troubled(get_client(), endpoint_id, since, kind=kind, limit=ROWS)


@cached(30, max_entries=64)
def list_bad_candidate_requests(endpoint_id: str, since: datetime) -> list[AlertRequest]:
    return traffic.bad_of_candidate(get_client(), endpoint_id, since, limit=ROWS)


@cached(30, max_entries=64)
def list_disliked_requests(endpoint_id: str, since: datetime) -> list[AlertRequest]:
    return traffic.thumbs_down(get_client(), endpoint_id, since, limit=ROWS)


@cached(30, max_entries=16, spinner="Ranking requests")
def list_next_to_label(
    endpoint_id: str, window: Window | None, alert: str, protocol: RatingProtocol | None
) -> LabelQueue:
    """The labeling queue of a window or of an alert. protocol: by kind of request if None."""
    chosen = RequestSample(
        endpoint=endpoint_id,
        start=window.start if window else None,
        end=window.end if window else None,
        alert=alert,
    )
    meant = logged_requests.meant_by(get_client(), chosen)
    table = logged_requests.newest(get_client(), meant)
    topics = count_reference_topics(monitors.find(get_client(), endpoint_id))
    total = logged_requests.count(get_client(), meant)
    return build_label_queue(table, topics, total, protocol)
