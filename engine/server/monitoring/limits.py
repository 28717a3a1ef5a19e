"""Limits that somebody has set: how many requests may fail, how long answers may take, how many thumbs are
up.

The first two are held to the last quarter of an hour at every minute, at 4.8 standard errors: were a limit
just kept by independent requests, the chance of a false alarm at any of the 35,000 quarters of a year is
under 3%. Thumbs are held to an interval that holds at every moment.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.diagnostics.phrasing import interval, percent, percent_beside, plural
from engine.diagnostics.statistics.anytime import anytime_share
from engine.diagnostics.statistics.statistics import wilson_interval
from engine.server.scheduling.monitor_alerting import Warned
from store.config.serving.monitor_config import MonitorSettings
from store.db.database import Queryable
from store.documents.serving.monitor import AlertKind
from store.queries import jobs
from store.queries.monitoring import feedback, monitor_alerts, traffic
from store.queries.monitoring.buckets import above
from store.queries.monitoring.traffic import Window

QUARTER = timedelta(minutes=15)
LEAST_REQUESTS = 20
SURE = 1 - 1.6e-6  # two-sided, 4.8 standard errors
SLOW = 0.05  # of the answers may take longer than the 95th percentile
THUMBS = "thumbs"


def over_limits(db: Queryable, endpoint_id: str, settings: MonitorSettings, now: datetime) -> list[Warned]:
    """What is surely over its limit."""
    warned = [
        _errors(db, endpoint_id, settings, now),
        _latency(db, endpoint_id, settings, now),
        _thumbs(db, endpoint_id, settings, now),
    ]
    return [each for each in warned if each is not None]


def _window(db: Queryable, endpoint_id: str, kind: AlertKind, now: datetime) -> Window:
    """The last quarter of an hour, or what of it came after the last alarm that somebody has seen."""
    seen = monitor_alerts.last_acknowledged(db, endpoint_id, kind, kind)
    start = now - QUARTER
    return Window(max(start, seen) if seen else start, now + timedelta(minutes=1))


def _errors(db: Queryable, endpoint_id: str, settings: MonitorSettings, now: datetime) -> Warned | None:
    if settings.most_errors is None:
        return None
    window = _window(db, endpoint_id, "errors", now)
    seen = traffic.recent(db, endpoint_id, window)
    least = _surely_above(seen.errors, seen.requests, settings.most_errors)
    if least is None:
        return None
    return Warned(
        "errors",
        "errors",
        f"{seen.errors:,} of {plural(seen.requests, 'request')} failed within 15 minutes"
        f" ({percent(seen.errors / seen.requests)}, surely above"
        f" {percent_beside(least, settings.most_errors)}). The limit is {percent(settings.most_errors)}.",
        "Look at the errors below and at the log of the endpoint. A fallback, or the version before, answers"
        " meanwhile.",
        jobs.epoch(window.start),
    )


def _latency(db: Queryable, endpoint_id: str, settings: MonitorSettings, now: datetime) -> Warned | None:
    limit = settings.most_p95_seconds
    if limit is None:
        return None
    window = _window(db, endpoint_id, "latency", now)
    latency = traffic.recent(db, endpoint_id, window).latency
    slow, answered = above(latency, limit), sum(latency.values())
    least = _surely_above(slow, answered, SLOW)
    if least is None:
        return None
    return Warned(
        "latency",
        "latency",
        f"{slow:,} of {plural(answered, 'answer')} within 15 minutes took longer than {limit:g} s"
        f" ({percent(slow / answered)}, surely above {percent_beside(least, SLOW)})."
        f" At most {percent(SLOW)} may.",
        "Look at the slowest below: are they longer than others, or did all of them wait? Fewer tokens at"
        " most, a"
        " smaller form of the model, or more workers help.",
        jobs.epoch(window.start),
    )


def _surely_above(count: int, n: int, limit: float) -> float | None:
    """The low end of the share's interval, where that is above the limit."""
    if n < LEAST_REQUESTS:
        return None
    low = wilson_interval(count, n, confidence=SURE).low
    return low if low is not None and low > limit else None


def _thumbs(db: Queryable, endpoint_id: str, settings: MonitorSettings, now: datetime) -> Warned | None:
    """Of the live version that is asked now, since the last alarm that somebody has seen."""
    if settings.least_thumbs_up is None:
        return None
    seen = monitor_alerts.last_acknowledged(db, endpoint_id, "quality", THUMBS)
    versions = traffic.by_version(
        db, endpoint_id, Window(now - timedelta(days=1), now + timedelta(minutes=1))
    )
    live = next((row["version"] for row in versions if row["role"] == "live"), None)
    start = seen or datetime(1970, 1, 1)
    counts = feedback.by_version(db, endpoint_id, Window(start, now + timedelta(minutes=1)))
    for row in counts:
        if row["version"] != live or row["role"] != "live":
            continue
        share = anytime_share(row["up"], row["thumbs"])
        if share.low is None or share.high is None or share.high >= settings.least_thumbs_up:
            return None
        bounds = f"{interval(100 * share.low, 100 * share.high)}%"
        reason = (
            f"{row['up']:,} of {plural(row['thumbs'], 'thumb')} on {live} are up ({bounds}, an interval"
            f" that holds"
            f" however often one looks). At least {percent(settings.least_thumbs_up)} should be."
        )
        advice = (
            "Read the answers below that people didn't like. Correct some: they can become training rows."
        )
        return Warned("quality", THUMBS, reason, advice, jobs.epoch(start) if seen else jobs.epoch(now))
    return None
