"""Checks other than drift: limits, candidates and shadows compared with the live version, and scheduled
evaluations and bias checks.

Each check controls its chance of a false alert however often it runs. The outcome of a check is committed
with its alert, so that a check that is repeated after a crash has the same outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from engine.evaluation.statistics.intervals import anytime_share, wilson_interval
from engine.monitoring.alerts import AlertDetails, raise_alert
from engine.monitoring.comparisons import (
    InterimLook,
    compare_callers,
    compare_paired_callers,
    compute_next_look,
)
from engine.monitoring.text import (
    BIAS_ADVICE,
    CANDIDATE_ADVICE,
    ERROR_ADVICE,
    LATENCY_ADVICE,
    SCHEDULE_ADVICE,
    THUMBS_ADVICE,
    describe_error_rate,
    describe_low_thumbs,
    describe_slow_share,
    describe_worse,
)
from engine.server.features import CommandContext, load_engine_features
from engine.serving.endpoint_folders import EndpointFolder
from store.core.errors import TunebenchError
from store.core.features import check_same_names
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import (
    AlertKind,
    ArmComparison,
    ArmSummary,
    OutcomeKind,
    SideBySide,
    SignificantDifference,
)
from store.core.processes import is_recent
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.monitoring import feedback, monitor_alerts, monitors, side_by_side, traffic
from store.monitoring.config import LIMITS, MonitorSettings
from store.monitoring.monitors import GoldenRun, ScheduledCheck
from store.monitoring.side_by_side import ArmCallers
from store.monitoring.traffic import Window, count_above
from store.serving.schemas import ServedModel

# Limits on the error rate, latency and thumbs up.
#
# The first two are checked every minute over the last 15 minutes, at 4.8 standard errors: if independent
# requests just keep a limit, the chance of a false alert in any of the 35,000 quarters of a year is under 3%.
# Thumbs up use an anytime-valid interval.

QUARTER = timedelta(minutes=15)
MIN_REQUESTS = 20
CONFIDENCE = 1 - 1.6e-6  # two-sided, 4.8 standard errors
SLOW = 0.05  # share of responses that may take longer than the limit
THUMBS = "thumbs"


LimitCheck = Callable[[Queryable, str, float, datetime], AlertDetails | None]  # store, endpoint, limit, now


def find_exceeded_limits(
    db: Queryable, endpoint_id: str, settings: MonitorSettings, now: datetime
) -> list[AlertDetails]:
    """Alerts for limits that are significantly exceeded."""
    limits = {name: getattr(settings, name) for name in LIMITS}
    warned = [
        LIMIT_CHECKS[name](db, endpoint_id, limit, now) for name, limit in limits.items() if limit is not None
    ]
    return [each for each in warned if each is not None]


def _find_window(db: Queryable, endpoint_id: str, kind: AlertKind, now: datetime) -> Window:
    """The last 15 minutes, or the part of them after the last acknowledged alert."""
    seen = monitor_alerts.find_last_acknowledged(db, endpoint_id, kind, kind)
    start = now - QUARTER
    return Window(max(start, seen) if seen else start, now + timedelta(minutes=1))


def _check_errors(db: Queryable, endpoint_id: str, limit: float, now: datetime) -> AlertDetails | None:
    window = _find_window(db, endpoint_id, "errors", now)
    seen = traffic.read_recent_traffic(db, endpoint_id, window)
    least = _find_lower_bound(seen.errors, seen.requests, limit)
    if least is None:
        return None
    reason = describe_error_rate(seen.errors, seen.requests, least, limit)
    return AlertDetails("errors", "errors", reason, ERROR_ADVICE, job_queue.to_epoch(window.start))


def _check_latency(db: Queryable, endpoint_id: str, limit: float, now: datetime) -> AlertDetails | None:
    window = _find_window(db, endpoint_id, "latency", now)
    latency = traffic.read_recent_traffic(db, endpoint_id, window).latency
    slow, answered = count_above(latency, limit), sum(latency.values())
    least = _find_lower_bound(slow, answered, SLOW)
    if least is None:
        return None
    reason = describe_slow_share(slow, answered, limit, least, SLOW)
    return AlertDetails("latency", "latency", reason, LATENCY_ADVICE, job_queue.to_epoch(window.start))


def _find_lower_bound(count: int, n: int, limit: float) -> float | None:
    """The lower confidence limit of the share, if it is above the limit."""
    if n < MIN_REQUESTS:
        return None
    low = wilson_interval(count, n, confidence=CONFIDENCE).low
    return low if low is not None and low > limit else None


def _check_thumbs(db: Queryable, endpoint_id: str, limit: float, now: datetime) -> AlertDetails | None:
    """Check the current live version, since the last acknowledged alert."""
    seen = monitor_alerts.find_last_acknowledged(db, endpoint_id, "quality", THUMBS)
    versions = traffic.by_version(
        db, endpoint_id, Window(now - timedelta(days=1), now + timedelta(minutes=1))
    )
    live = next((row.version for row in versions if row.role == "live"), None)
    start = seen or datetime(1970, 1, 1)
    counts = feedback.by_version(db, endpoint_id, Window(start, now + timedelta(minutes=1)))
    for row in counts:
        if row.version != live or row.role != "live":
            continue
        share = anytime_share(row.up, row.thumbs)
        if share.low is None or share.high is None or share.high >= limit:
            return None
        reason = describe_low_thumbs(row.version, row.up, row.thumbs, share, limit)
        since = job_queue.to_epoch(start if seen else now)
        return AlertDetails("quality", THUMBS, reason, THUMBS_ADVICE, since)
    return None


LIMIT_CHECKS: dict[str, LimitCheck] = {
    "most_errors": _check_errors,
    "most_p95_seconds": _check_latency,
    "least_thumbs_up": _check_thumbs,
}
check_same_names("limit of a monitor", LIMITS, LIMIT_CHECKS)


# Candidates and shadows compared with the live version: recorded, checked as responses arrive, and alerted
# on.
#
# The endpoint's `config.json` defines the pairs. A new share starts a new comparison, because the assignment
# of callers must not change within one. Each pair of versions has its own alpha, separate from that of drift.
# Its kinds of outcome share it, and so do all its comparisons: looks are counted across shares, so that a
# gradual rollout has one chance of a false result, not one per step. The result of a look is committed with
# its alert, so that a look that is repeated after a crash has the same result.

ALPHA = 0.05  # of a pair
OUTCOME_KINDS: tuple[OutcomeKind, ...] = ("labels", "thumbs", "errors")
SUBJECT = "candidate"  # of its alerts


class RoutePair(NamedTuple):
    """A candidate or shadow, and the live version it is compared with."""

    model: str
    live: str
    other: str
    role: Literal["candidate", "shadow"]
    share: float


def check_pairs(database: Database, home: Home, endpoint_id: str, at: float) -> None:
    """Record current pairs, and check those with enough new responses."""
    config = EndpointFolder(home, endpoint_id).read_config()
    routes = [pair for model in (config.models if config else []) for pair in _list_pairs(model)]
    if not routes and not side_by_side.listed(database, endpoint_id):
        return
    with database.transaction() as tx:
        if monitors.find(tx, endpoint_id) is None:
            return
        _record_pairs(tx, endpoint_id, routes, job_queue.to_utc(at))
    for pair in side_by_side.listed(database, endpoint_id):
        with database.transaction() as tx:
            _check_pair(tx, pair, at)


def _list_pairs(model: ServedModel) -> Iterator[RoutePair]:
    live = next((route.version for route in model.routes if route.role == "live"), None)
    for route in model.routes:
        role, other = route.role, route.version
        if live is not None and role in ("candidate", "shadow") and other != live:
            named: Literal["candidate", "shadow"] = "candidate" if role == "candidate" else "shadow"
            yield RoutePair(model.name, live, other, named, route.share)


def _record_pairs(tx: Transaction, endpoint_id: str, routes: Sequence[RoutePair], now: datetime) -> None:
    present = {
        RoutePair(pair.model, pair.live, pair.other, pair.role, pair.share): pair
        for pair in side_by_side.listed(tx, endpoint_id)
    }
    for gone in present.keys() - set(routes):
        side_by_side.end(tx, present[gone], now)
    for route in dict.fromkeys(routes):
        if route not in present:
            new = SideBySide(
                endpoint_id=endpoint_id, model=route.model, live=route.live, other=route.other,
                role=route.role, share=route.share, noticed_at=now, since=None, ended_at=None,
                looks={},
            )  # fmt: skip
            side_by_side.begin(tx, new)


def _check_pair(tx: Transaction, pair: SideBySide, at: float) -> None:
    since = pair.since or side_by_side.find_first_answer(tx, pair)
    if since is None:
        return
    if pair.since is None:
        side_by_side.set_since(tx, pair, since)
        pair.since = since
    looks = dict(pair.looks)
    for kind in OUTCOME_KINDS if pair.role == "candidate" else OUTCOME_KINDS[:1]:
        seen = _make_next_look(tx, pair, kind, at)
        if seen is None:
            continue
        looks[kind] = seen
        sure = seen.sure
        if sure and sure.at == at and sure.verdict == "worse" and pair.role == "candidate":
            reason = describe_worse(pair, kind, seen, ALPHA)
            warned = AlertDetails("quality", SUBJECT, reason, CANDIDATE_ADVICE, job_queue.to_epoch(since))
            raise_alert(tx, pair.endpoint_id, warned, at)
    if looks != pair.looks:
        side_by_side.save_looks(tx, pair, looks)


def _make_next_look(tx: Transaction, pair: SideBySide, kind: OutcomeKind, at: float) -> ArmComparison | None:
    """The next check of one kind of outcome; None if there are too few responses."""
    past, pairs = pair.looks.get(kind), pair.role == "shadow"
    least = past.next_look if past else compute_next_look(0)
    count = side_by_side.count_pairs(tx, pair) if pairs else side_by_side.count_answers(tx, pair, kind)
    if count < least:
        return None
    rows = (
        side_by_side.compute_caller_pairs(tx, pair) if pairs else side_by_side.count_callers(tx, pair, kind)
    )
    spent = past.look if past else side_by_side.count_previous_looks(tx, pair, kind)
    seen = _evaluate_look(rows, past, spent, at, pairs=pairs)
    return seen if seen.answers >= least else None  # fewer count than are stored


def _evaluate_look(
    rows: list[ArmCallers], past: ArmComparison | None, spent: int, at: float, *, pairs: bool
) -> ArmComparison:
    """One check, after `spent` checks that spent alpha. It spends none if there are too few callers for a
    significant result."""
    live, other = ({row.place: row.callers for row in rows if row.other == side and row.callers}
                   for side in (False, True))  # fmt: skip
    number = spent + 1
    seen = (
        compare_paired_callers(live, number, ALPHA)
        if pairs
        else compare_callers(live, other, number, ALPHA / len(OUTCOME_KINDS))
    )
    answers = [sum(row.answers for row in rows if row.other == side) for side in (False, True)]
    sure = _update_sure_difference(past.sure if past else None, seen, sum(answers), at)
    difference = seen.difference.to_estimate()
    if seen.difference.low is None:
        difference.value = 0.0
    return ArmComparison(
        look=number if seen.attainable else spent,
        few=not seen.attainable,
        answers=sum(answers),
        next_look=compute_next_look(sum(answers)),
        at=at,
        live=_summarize_arm(rows, seen.first_callers, answers[0], other=False, pairs=pairs),
        other=_summarize_arm(
            rows, seen.second_callers, answers[0] if pairs else answers[1], other=True, pairs=pairs
        ),
        left_out=sum(row.left_out for row in rows),
        difference=difference,
        p=seen.p,
        alpha=seen.alpha,
        sure=sure,
    )


def _update_sure_difference(
    past: SignificantDifference | None, seen: InterimLook, answers: int, at: float
) -> SignificantDifference | None:
    """The significant difference so far; a significant result in the opposite direction replaces it."""
    if not seen.attainable or not (seen.better or seen.worse):
        return past
    verdict: Literal["better", "worse"] = "better" if seen.better else "worse"
    if past and past.verdict == verdict:
        return past
    return SignificantDifference(verdict=verdict, answers=answers, at=at)


def _summarize_arm(
    rows: list[ArmCallers], callers: int, answers: int, *, other: bool, pairs: bool
) -> ArmSummary:
    """Uses exact shares of callers, not those rounded for the test."""
    shares = math.fsum(row.shares for row in rows if row.other == other)
    share = shares / callers if callers and not pairs else None
    return ArmSummary(callers=callers, answers=answers, share=share)


BIAS, BIAS_START = "bias", "bias-start"  # alert subjects: increased bias; could not start


class MonitorSchedules:
    """Scheduled evaluations and bias checks of all monitors."""

    def __init__(self, context: CommandContext) -> None:
        self.context = context
        self.database, self.evaluations = context.database, context.evaluations

    def ask_for_golden(self, endpoint_id: str, at: float) -> bool:
        """Queue the scheduled evaluation if it is due and the previous one has ended."""
        settings = self._settings(endpoint_id)
        past = monitors.golden_runs(self.database, endpoint_id)
        if settings.golden is None or not _is_due(past, settings.golden.every_hours, at):
            return False
        evaluate = settings.golden.evaluate

        def queue(tx: Transaction) -> None:
            monitors.add_golden_run(
                tx, endpoint_id, self.evaluations.queue(tx, evaluate), job_queue.to_utc(at)
            )

        return self._queued(endpoint_id, "golden", "The scheduled evaluation", queue, at)

    def ask_for_bias(self, endpoint_id: str, at: float) -> bool:
        """Queue the bias check if it is due, and raise an alert if the last one found increased bias."""
        settings = self._settings(endpoint_id)
        if settings.bias is None:
            return False
        past = monitors.scheduled_checks(self.database, endpoint_id)
        self._warn_of_bias(endpoint_id, past, at)
        if not _is_due(past, settings.bias.every_hours, at):
            return False
        check, queue_check = settings.bias.check, load_engine_features()[BIAS].queue_scheduled
        assert queue_check is not None  # otherwise the setting is rejected

        def queue(tx: Transaction) -> None:
            job_id = queue_check(self.context, tx, check)
            monitors.add_scheduled_check(tx, endpoint_id, job_id, job_queue.to_utc(at))

        return self._queued(endpoint_id, BIAS_START, "The scheduled bias check", queue, at)

    def _settings(self, endpoint_id: str) -> MonitorSettings:
        return monitors.get_settings(monitors.find(self.database, endpoint_id))

    def _queued(
        self, endpoint_id: str, subject: str, what: str, queue: Callable[[Transaction], None], at: float
    ) -> bool:
        try:
            with self.database.transaction() as tx:
                queue(tx)
        except TunebenchError as error:
            warned = AlertDetails(
                "quality", subject, f"{what} could not start. {error.message}",
                error.fix or SCHEDULE_ADVICE, at,
            )  # fmt: skip
            with self.database.transaction() as tx:
                raise_alert(tx, endpoint_id, warned, at)
            return False
        return True

    def _warn_of_bias(self, endpoint_id: str, past: list[ScheduledCheck], at: float) -> None:
        """Raise an alert for the newest finished check, unless one was acknowledged since."""
        newest = next((check for check in past if check.finished_at is not None), None)
        if newest is None or not newest.worse or newest.finished_at is None:
            return
        seen = monitor_alerts.find_last_acknowledged(self.database, endpoint_id, "quality", BIAS)
        if seen is not None and seen >= newest.finished_at:
            return
        warned = AlertDetails(
            "quality", BIAS,
            f"Scheduled bias check of {newest.model} against {newest.against}: {newest.sentence}",
            BIAS_ADVICE,
            job_queue.to_epoch(newest.finished_at),
        )  # fmt: skip
        with self.database.transaction() as tx:
            raise_alert(tx, endpoint_id, warned, at)


def _is_due(past: list[GoldenRun] | list[ScheduledCheck], every_hours: float, at: float) -> bool:
    """Whether all runs have ended and none started within the interval. A start time in the future means that
    the clock was set back, and does not count."""
    return all(
        each.status not in ALIVE
        and not is_recent(job_queue.to_epoch(each.queued_at), at, every_hours * 3_600)
        for each in past
    )
