"""What a monitor checks beside drift: limits that somebody set, candidates and shadows beside the live
version, and evaluations and bias checks on a schedule.

Each check holds its chance of a false alarm however often it looks; what a look left is committed with its
alert, so that a look that is made again after a kill is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from engine.bias.commands import BiasCommands
from engine.evaluation.statistics.intervals import anytime_share, wilson_interval
from engine.monitoring.alerts import Warned, raise_alert
from engine.monitoring.comparisons import Look, compare, compare_pairs, next_look
from engine.monitoring.text import CANDIDATE_ADVICE, worse_reason
from engine.server.evaluation_commands import EvaluationCommands
from engine.serving.endpoint_folders import EndpointFolder
from store.core.errors import TunebenchError
from store.core.figure_schemas import Estimate
from store.core.formatting import interval, percent, percent_beside, plural
from store.core.home import Home
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import (
    AlertKind,
    ArmSeen,
    ArmsLook,
    OutcomeKind,
    SideBySide,
    SureDifference,
)
from store.core.processes import is_recent
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.monitoring import feedback, monitor_alerts, monitors, side_by_side, traffic
from store.monitoring.config import MonitorSettings
from store.monitoring.monitors import GoldenRun, ScheduledCheck
from store.monitoring.side_by_side import CallersOfArm
from store.monitoring.traffic import Window, above
from store.serving.schemas import ServedModel

# Limits that somebody has set: how many requests may fail, how long answers may take, how many thumbs are
# up.
#
# The first two are held to the last quarter of an hour at every minute, at 4.8 standard errors: were a limit
# just kept by independent requests, the chance of a false alarm at any of the 35,000 quarters of a year is
# under 3%. Thumbs are held to an interval that holds at every moment.

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
        job_queue.epoch(window.start),
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
        job_queue.epoch(window.start),
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
        return Warned(
            "quality", THUMBS, reason, advice, job_queue.epoch(start) if seen else job_queue.epoch(now)
        )
    return None


# Candidates and shadows beside the live version: noticed, looked at as answers come, and warned of.
#
# What there is says the endpoint's `config.json`. Another share begins with answers of its own: who is in
# which share must not change while versions are compared. Each pair of versions has an own alpha, apart from
# that of drift, which its kinds of outcome share, and all its comparisons do: looks are counted on from step
# to step of a share, so that a candidate that is let in bit by bit has one chance of a false word, and not
# one a step. What each look left is committed with its alert, so that a look that is made again after a kill
# is the same one.

ALPHA = 0.05  # of a pair
KINDS: tuple[OutcomeKind, ...] = ("labels", "thumbs", "errors")
SUBJECT = "candidate"  # of its alerts


class PairOfRoutes(NamedTuple):
    """A candidate or a shadow, and the version beside which it stands."""

    model: str
    live: str
    other: str
    role: Literal["candidate", "shadow"]
    share: float


def look_at_pairs(database: Database, home: Home, endpoint_id: str, at: float) -> None:
    """Notice what is there, and look where there are answers enough."""
    config = EndpointFolder(home, endpoint_id).config()
    routes = [pair for model in (config["models"] if config else []) for pair in _pairs(model)]
    if not routes and not side_by_side.listed(database, endpoint_id):
        return
    with database.transaction() as tx:
        if monitors.find(tx, endpoint_id) is None:
            return
        _notice(tx, endpoint_id, routes, job_queue.utc(at))
    for pair in side_by_side.listed(database, endpoint_id):
        with database.transaction() as tx:
            _look_at(tx, pair, at)


def _pairs(model: ServedModel) -> Iterator[PairOfRoutes]:
    live = next((route["version"] for route in model["routes"] if route["role"] == "live"), None)
    for route in model["routes"]:
        role, other = route["role"], route["version"]
        if live is not None and role in ("candidate", "shadow") and other != live:
            named: Literal["candidate", "shadow"] = "candidate" if role == "candidate" else "shadow"
            yield PairOfRoutes(model["name"], live, other, named, route["share"])


def _notice(tx: Transaction, endpoint_id: str, routes: Sequence[PairOfRoutes], now: datetime) -> None:
    present = {
        PairOfRoutes(pair["model"], pair["live"], pair["other"], pair["role"], pair["share"]): pair
        for pair in side_by_side.listed(tx, endpoint_id)
    }
    for gone in present.keys() - set(routes):
        side_by_side.end(tx, present[gone], now)
    for route in dict.fromkeys(routes):
        if route not in present:
            new: SideBySide = {
                "endpoint_id": endpoint_id, "model": route.model, "live": route.live, "other": route.other,
                "role": route.role, "share": route.share, "noticed_at": now, "since": None, "ended_at": None,
                "looks": {},
            }  # fmt: skip
            side_by_side.begin(tx, new)


def _look_at(tx: Transaction, pair: SideBySide, at: float) -> None:
    since = pair["since"] or side_by_side.first_answer(tx, pair)
    if since is None:
        return
    if pair["since"] is None:
        side_by_side.set_since(tx, pair, since)
        pair["since"] = since
    looks = dict(pair["looks"])
    for kind in KINDS if pair["role"] == "candidate" else KINDS[:1]:
        seen = _next_look(tx, pair, kind, at)
        if seen is None:
            continue
        looks[kind] = seen
        sure = seen["sure"]
        if sure and sure["at"] == at and sure["verdict"] == "worse" and pair["role"] == "candidate":
            reason = worse_reason(pair, kind, seen, ALPHA)
            warned = Warned("quality", SUBJECT, reason, CANDIDATE_ADVICE, job_queue.epoch(since))
            raise_alert(tx, pair["endpoint_id"], warned, at)
    if looks != pair["looks"]:
        side_by_side.keep_looks(tx, pair, looks)


def _next_look(tx: Transaction, pair: SideBySide, kind: OutcomeKind, at: float) -> ArmsLook | None:
    """None where there are not answers enough for another one."""
    past, pairs = pair["looks"].get(kind), pair["role"] == "shadow"
    least = past["next_look"] if past else next_look(0)
    count = side_by_side.count_pairs(tx, pair) if pairs else side_by_side.count_answers(tx, pair, kind)
    if count < least:
        return None
    rows = side_by_side.caller_pairs(tx, pair) if pairs else side_by_side.callers(tx, pair, kind)
    spent = past["look"] if past else side_by_side.looks_before(tx, pair, kind)
    seen = _look(rows, past, spent, at, pairs=pairs)
    return seen if seen["answers"] >= least else None  # fewer of them count than there are


def _look(rows: list[CallersOfArm], past: ArmsLook | None, spent: int, at: float, *, pairs: bool) -> ArmsLook:
    """One look after so many that spent alpha; it spends none where so few callers could not have told
    anything."""
    live, other = ({row["place"]: row["callers"] for row in rows if row["other"] == side and row["callers"]}
                   for side in (False, True))  # fmt: skip
    number = spent + 1
    seen = compare_pairs(live, number, ALPHA) if pairs else compare(live, other, number, ALPHA / len(KINDS))
    answers = [sum(row["answers"] for row in rows if row["other"] == side) for side in (False, True)]
    sure = _sure(past["sure"] if past else None, seen, sum(answers), at)
    return {
        "look": number if seen.attainable else spent,
        "few": not seen.attainable,
        "answers": sum(answers),
        "next_look": next_look(sum(answers)),
        "at": at,
        "live": _arm(rows, seen.first_callers, answers[0], other=False, pairs=pairs),
        "other": _arm(
            rows, seen.second_callers, answers[0] if pairs else answers[1], other=True, pairs=pairs
        ),
        "left_out": sum(row["left_out"] for row in rows),
        "difference": _estimate(seen),
        "p": seen.p,
        "alpha": seen.alpha,
        "sure": sure,
    }


def _sure(past: SureDifference | None, seen: Look, answers: int, at: float) -> SureDifference | None:
    """What is sure since when: a look that is sure of the opposite takes the place of the one before."""
    if not seen.attainable or not (seen.better or seen.worse):
        return past
    verdict: Literal["better", "worse"] = "better" if seen.better else "worse"
    if past and past["verdict"] == verdict:
        return past
    return {"verdict": verdict, "answers": answers, "at": at}


def _estimate(seen: Look) -> Estimate:
    estimate = seen.difference.to_dict()
    if seen.difference.low is None:
        estimate["value"] = 0.0
    return estimate


def _arm(rows: list[CallersOfArm], callers: int, answers: int, *, other: bool, pairs: bool) -> ArmSeen:
    """Its share is of the callers' shares as they are, not as they are rounded for the test."""
    shares = math.fsum(row["shares"] for row in rows if row["other"] == other)
    share = shares / callers if callers and not pairs else None
    return {"callers": callers, "answers": answers, "share": share}


BIAS, BIAS_START = "bias", "bias-start"  # subjects of its alerts: something is worse; it can't be started


class Schedules:
    """Of the monitors of one store."""

    def __init__(self, database: Database, evaluations: EvaluationCommands, bias: BiasCommands) -> None:
        self.database, self.evaluations, self.bias = database, evaluations, bias

    def ask_for_golden(self, endpoint_id: str, at: float) -> bool:
        """The evaluation, where it is due and the one before has ended."""
        settings = self._settings(endpoint_id)
        past = monitors.golden_runs(self.database, endpoint_id)
        if settings.golden is None or not _due(past, settings.golden.every_hours, at):
            return False
        evaluate = settings.golden.evaluate

        def queue(tx: Transaction) -> None:
            monitors.add_golden_run(tx, endpoint_id, self.evaluations.queue(tx, evaluate), job_queue.utc(at))

        return self._queued(endpoint_id, "golden", "The evaluation", queue, at)

    def ask_for_bias(self, endpoint_id: str, at: float) -> bool:
        """The bias check, where it is due; and an alert where the last one found something worse."""
        settings = self._settings(endpoint_id)
        if settings.bias is None:
            return False
        past = monitors.scheduled_checks(self.database, endpoint_id)
        self._warn_of_bias(endpoint_id, past, at)
        if not _due(past, settings.bias.every_hours, at):
            return False
        check = settings.bias.check

        def queue(tx: Transaction) -> None:
            monitors.add_scheduled_check(tx, endpoint_id, self.bias.queue(tx, check), job_queue.utc(at))

        return self._queued(endpoint_id, BIAS_START, "The bias check", queue, at)

    def _settings(self, endpoint_id: str) -> MonitorSettings:
        return monitors.settings(monitors.find(self.database, endpoint_id))

    def _queued(
        self, endpoint_id: str, subject: str, what: str, queue: Callable[[Transaction], None], at: float
    ) -> bool:
        try:
            with self.database.transaction() as tx:
                queue(tx)
        except TunebenchError as error:
            warned = Warned(
                "quality", subject, f"{what} on a schedule can't be started. {error.message}",
                error.fix or "Change the schedule in the settings below.", at,
            )  # fmt: skip
            with self.database.transaction() as tx:
                raise_alert(tx, endpoint_id, warned, at)
            return False
        return True

    def _warn_of_bias(self, endpoint_id: str, past: list[ScheduledCheck], at: float) -> None:
        """Of the newest that has finished, unless somebody has seen an alert since."""
        newest = next((check for check in past if check["finished_at"] is not None), None)
        if newest is None or not newest["worse"] or newest["finished_at"] is None:
            return
        seen = monitor_alerts.last_acknowledged(self.database, endpoint_id, "quality", BIAS)
        if seen is not None and seen >= newest["finished_at"]:
            return
        warned = Warned(
            "quality", BIAS,
            f"A scheduled bias check of {newest['model']} against {newest['against']}: {newest['sentence']}",
            "Look at the check on the page Evaluations, at the pairs that changed most. The version before"
            " answers meanwhile, if it is promoted back.",
            job_queue.epoch(newest["finished_at"]),
        )  # fmt: skip
        with self.database.transaction() as tx:
            raise_alert(tx, endpoint_id, warned, at)


def _due(past: list[GoldenRun] | list[ScheduledCheck], every_hours: float, at: float) -> bool:
    """Whether all have ended, and none began since. One that began in a time that lies ahead did so before
    the clock was set back."""
    return all(
        each["status"] not in ALIVE
        and not is_recent(job_queue.epoch(each["queued_at"]), at, every_hours * 3_600)
        for each in past
    )
