"""Slower answers and more failures raise an alert from the first day on; longer answers, cycles and tails
don't.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines
from bench.truths import Rate, observe
from bench.truths.monitoring.pace import RATES
from engine.monitoring.endpoint_status import (
    compute_slowdown,
    find_change_time,
)
from engine.monitoring.loop import follow_pace
from engine.monitoring.sequential_tests import (
    WARM_UP,
    PacedRequest,
    advance_pace_test,
    begin_pace_test,
    compute_pace_threshold,
    fit_time_model,
)
from engine.monitoring.status_text import describe_pace_alarm, describe_pace_reference
from store.core.monitoring_schemas import MonitorAlert, PaceTest, PaceWatch
from store.core.schemas import Person
from store.db.database import utc_now
from store.db.schema import MIGRATIONS
from store.monitoring import logged_requests, monitor_alerts, monitors
from store.monitoring.config import MonitorSettings
from store.monitoring.logged_requests import RequestSelection

OWNER = Person(person_id="p-ada", name="Ada", role="admin")
EVERY = 15.0  # seconds
REFERENCE = 300
LIMIT = compute_pace_threshold(0.05)
CHANGE = 700  # the request from which on something is different


def answered(
    seconds: np.ndarray, completion: np.ndarray | None = None, failed: np.ndarray | None = None
) -> list[PacedRequest]:
    n = len(seconds)
    tokens = np.full(n, 50) if completion is None else completion
    fails = np.zeros(n, bool) if failed is None else failed
    return [
        PacedRequest(
            place, place * EVERY, float(seconds[place]), 20, int(tokens[place]), bool(fails[place]), True
        )
        for place in range(n)
    ]


def after(requests: list[PacedRequest], name: str = "slower") -> PaceTest:
    return advance_pace_test(begin_pace_test(name, REFERENCE), requests, LIMIT)  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", ["log-normal", "Pareto"])
def test_four_times_slower_is_told_soon_and_since_when(tail: str) -> None:
    rng = np.random.default_rng(1)
    seconds = rng.lognormal(0, 0.5, 1_000) if tail == "log-normal" else 1 + rng.pareto(1.5, 1_000)
    seconds[CHANGE:] *= 4
    test = after(answered(seconds))
    assert test.alarm_at is not None
    assert CHANGE * EVERY < test.alarm_at < (CHANGE + 150) * EVERY
    assert abs(find_change_time(test) - CHANGE * EVERY) < 300
    assert compute_slowdown(test) == pytest.approx(4, rel=0.2)
    # figures are of the time since the change alone
    assert 0 < test.since.n <= 150
    assert f"Of the {test.since.n} responses since then" in describe_pace_alarm(test, 0.0, 4.0, 0.05)


def test_longer_answers_are_no_slower_ones() -> None:
    rng = np.random.default_rng(2)
    tokens = np.maximum(1, np.round(np.exp(rng.normal(4, 1, 2_000))))
    tokens[CHANGE:] = np.minimum(1_500, tokens[CHANGE:] * 6)  # the mix moves
    seconds = (0.2 + 0.02 * tokens) * rng.lognormal(0, 0.3, len(tokens))
    assert np.median(seconds[CHANGE:]) > 4 * np.median(seconds[:CHANGE])
    test = after(answered(seconds, tokens))
    assert test.alarm_place is None
    assert test.tested > 1_000
    seconds[CHANGE:] *= 3
    assert after(answered(seconds, tokens)).alarm_place is not None


def test_answers_of_lengths_that_the_reference_has_not_are_compared_with_nothing() -> None:
    rng = np.random.default_rng(3)
    tokens = np.where(np.arange(900) < CHANGE, 10, 5_000)
    test = after(answered(rng.lognormal(0, 0.2, 900) * tokens / 10, tokens))
    assert test.unlike == 900 - CHANGE
    assert test.alarm_place is None


def test_a_daily_cycle_and_a_slow_start_raise_nothing() -> None:
    rng = np.random.default_rng(4)
    n = 3 * 5_760
    level = 1.2 - 0.2 * np.cos(2 * np.pi * np.arange(n) * EVERY / 86_400)
    seconds = level * rng.lognormal(0, 0.5, n)
    seconds[:20] *= 30  # a model that was just loaded
    test = after(answered(seconds))
    assert test.alarm_place is None
    assert test.usual < 1.2


def test_failures_from_half_a_percent_to_five() -> None:
    at_once = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        failed = rng.random(5_000) < np.where(np.arange(5_000) < 2_000, 0.005, 0.05)
        test = after(answered(np.ones(5_000), failed=failed), "failing")
        assert test.alarm_place is None or test.alarm_place > 2_000
        if test.alarm_place is not None:
            at_once.append(test.alarm_place < 3_500)
            share = test.since.over / test.since.n
            assert 0.02 < share < 0.12  # of the time since the change, not of all requests
        still = rng.random(5_000) < 0.005
        assert after(answered(np.ones(5_000), failed=still), "failing").alarm_place is None
    assert sum(at_once) >= 4


@pytest.mark.parametrize(
    ("share", "later", "is_told"), [(0.3, 0.8, True), (0.5, 0.9, True), (1.0, 1.0, False)]
)
def test_a_reference_that_failed_often_is_tested_against_too(
    share: float, later: float, is_told: bool
) -> None:
    rng = np.random.default_rng(8)
    place = np.arange(2_000)
    failed = rng.random(2_000) < np.where(place < 400, share, np.where(place < CHANGE, 0, later))
    test = after(answered(np.ones(2_000), failed=failed), "failing")
    assert test.minutes > 250
    assert (test.alarm_place is not None) == is_told
    if is_told:
        assert abs(find_change_time(test) - CHANGE * EVERY) < 600


def test_half_of_the_requests_failing_as_before_is_no_change() -> None:
    alarms = 0
    for seed in range(60):
        failed = np.random.default_rng(seed).random(3_000) < 0.5
        alarms += after(answered(np.ones(3_000), failed=failed), "failing").alarm_place is not None
    assert alarms <= 3


@pytest.mark.parametrize("wrong", ["one ten years ahead", "set back by a day"])
def test_a_wrong_clock_silences_nothing(wrong: str) -> None:
    rng = np.random.default_rng(9)
    requests = answered(rng.lognormal(0, 0.5, 1_000) * np.where(np.arange(1_000) < CHANGE, 1, 4))
    back = 86_400.0 if wrong == "set back by a day" else 0.0
    requests[500:] = [request._replace(at=request.at - back) for request in requests[500:]]
    if not back:
        requests[500] = requests[500]._replace(at=10 * 365 * 86_400.0)
    test = after(requests)
    assert test.alarm_at is not None
    assert CHANGE * EVERY < test.alarm_at + back < (CHANGE + 150) * EVERY
    assert abs(find_change_time(test) + back - CHANGE * EVERY) < 300


def test_a_clock_that_stands_still_fills_nothing() -> None:
    rng = np.random.default_rng(10)
    requests = answered(rng.lognormal(0, 0.5, 4_000))
    opened = after([request._replace(at=0.0) for request in requests]).open
    assert opened
    assert sum(opened.bins.values()) == opened.n > 3_000
    assert len(opened.bins) < 300


def test_batches_of_any_size_end_in_the_same_state() -> None:
    rng = np.random.default_rng(6)
    requests = answered(rng.lognormal(0, 0.5, 800))
    test = begin_pace_test("slower", REFERENCE)
    for first in range(0, 800, 37):
        test = advance_pace_test(test, requests[first : first + 37], LIMIT)
    assert test == after(requests)


def test_the_time_of_a_length_comes_from_the_reference() -> None:
    rng = np.random.default_rng(7)
    lengths = np.column_stack([rng.integers(10, 1_000, 300), rng.integers(1, 400, 300)]).astype(float)
    seconds = (0.3 + 0.001 * lengths[:, 0] + 0.02 * lengths[:, 1]) * rng.lognormal(0, 0.05, 300)
    model = fit_time_model(seconds, lengths)
    assert model.per_prompt == pytest.approx(0.001, rel=0.2)
    assert model.per_completion == pytest.approx(0.02, rel=0.05)


# -- through the log, the store and the engine's steps -------------------------------------------------


def write(monitored: Monitored, first: int, count: int, **changed: float) -> None:
    made = Traffic(**{"every": EVERY, "failing": 0.0, **changed})  # type: ignore[arg-type]
    texts = [f"Where is my card number {place}?" for place in range(first, first + count)]
    lines = request_lines(
        texts, ["It is on its way."] * count, made, np.random.default_rng(first), first=first
    )
    append(monitored.log / "requests-000000.jsonl", lines)


def alerts(monitored: Monitored) -> list[MonitorAlert]:
    return monitor_alerts.open_alerts(monitored.database, monitored.endpoint_id)


def see(monitored: Monitored, alert: MonitorAlert, outcome: str) -> None:
    body = {"alert": alert.alert_id, "outcome": outcome}
    monitored.commands.table()["acknowledge_alert"](body, OWNER)


def test_slower_answers_raise_an_alert_that_no_limit_was_set_for(monitored: Monitored) -> None:
    write(monitored, 0, CHANGE)
    monitored.step()
    assert not alerts(monitored)
    write(monitored, CHANGE, 200, seconds=1.6)
    monitored.step(60)
    (alert,) = alerts(monitored)
    assert (alert.kind, alert.subject) == ("latency", "slower")
    assert abs(alert.since.timestamp() % 86_400 - (1_800_000_000 + CHANGE * EVERY) % 86_400) < 300
    assert "times as long as responses of the same length in the reference" in alert.reason
    see(monitored, alert, "same_reference")
    write(monitored, CHANGE + 200, 200, seconds=1.6)  # nothing was put right
    monitored.step(60)
    (again,) = alerts(monitored)
    see(monitored, again, "new_normal")
    write(monitored, CHANGE + 400, 600, seconds=1.6)
    monitored.step(60)
    assert not alerts(monitored)
    pace = monitored.monitor().pace
    assert pace
    assert pace.tests[0].usual == pytest.approx(1.6, rel=0.1)


def test_failures_raise_one_and_a_step_of_the_next_engine_counts_none_twice(monitored: Monitored) -> None:
    write(monitored, 0, CHANGE, failing=0.005)
    monitored.step()
    before = monitored.monitor().pace
    monitored.next_engine()
    monitored.step(60)
    assert monitored.monitor().pace == before
    write(monitored, CHANGE, 300, failing=0.2)
    monitored.step(60)
    assert ("errors", "failing") in {(alert.kind, alert.subject) for alert in alerts(monitored)}


def test_what_was_seen_and_put_right_is_not_raised_again(monitored: Monitored) -> None:
    write(monitored, 0, CHANGE)
    monitored.step()
    write(monitored, CHANGE, 200, seconds=1.6)
    monitored.step(60)
    (alert,) = alerts(monitored)
    logged = logged_requests.newest(monitored.database, RequestSelection(monitored.endpoint_id))
    assert not any(logged["alerted"].to_pylist()), "what is slow is no other content"
    see(monitored, alert, "same_reference")
    write(monitored, CHANGE + 200, 400)
    monitored.step(60)
    before = monitored.monitor().pace
    monitored.commands.table()["set_monitor"]({"endpoint": "Bank", "alpha": 0.04}, OWNER)
    monitored.step(60)
    assert monitored.monitor().pace == before
    begins = PaceWatch(place=monitored.monitor().next_place, tests=[])
    with monitored.database.transaction() as tx:
        tx.execute("UPDATE monitor SET pace = NULL")
        tx.execute(dict(MIGRATIONS)["0029 pace start"])
    assert monitored.monitor().pace == begins
    assert not follow_pace(monitored.database, monitored.endpoint_id, monitored.now)
    settings = MonitorSettings(reference="dataset", dataset="Bank")
    with monitored.database.transaction() as tx:
        monitors.configure(tx, monitored.endpoint_id, settings, "Ada", utc_now())
    assert monitored.monitor().pace == begins


def test_a_window_begins_with_its_first_request_and_stops_at_its_end(monitored: Monitored) -> None:
    write(monitored, 0, 20)
    monitored.step()
    first = logged_requests.newest(monitored.database, RequestSelection(monitored.endpoint_id))["asked_at"][0]
    times = [first.as_py() + timedelta(seconds=place * EVERY) for place in (100, 200)]
    settings = MonitorSettings(reference="window", window_start=times[0], window_end=times[1])
    with monitored.database.transaction() as tx:
        monitors.configure(tx, monitored.endpoint_id, settings, "Ada", utc_now())
    monitored.step(60)
    assert monitored.monitor().pace == PaceWatch(place=0, tests=[])
    write(monitored, 20, CHANGE - 20)
    monitored.step(60)
    pace = monitored.monitor().pace
    assert pace
    assert [test.reference for test in pace.tests] == [100 - WARM_UP] * 2
    assert describe_pace_reference(pace, REFERENCE).startswith("Latency (for the same response length) and")
    assert "compared with 80 requests" in describe_pace_reference(pace, REFERENCE)
    write(monitored, CHANGE, 200, seconds=1.6)
    monitored.step(60)
    assert "slower" in {alert.subject for alert in alerts(monitored)}


def test_a_window_of_too_few_requests_tests_nothing() -> None:
    rng = np.random.default_rng(11)
    requests = answered(rng.lognormal(0, 0.5, 900) * np.where(np.arange(900) < CHANGE, 1, 4))
    test = advance_pace_test(begin_pace_test("slower", REFERENCE, ends_at=79 * EVERY), requests, LIMIT)
    assert (test.reference, test.minutes, test.alarm_at) == (59, 0, None)
    assert "if it has at least 60 requests" in describe_pace_reference(
        PaceWatch(place=900, tests=[test]), REFERENCE
    )


def test_a_minute_of_an_older_store_goes_on(monitored: Monitored) -> None:
    write(monitored, 0, CHANGE)
    monitored.step()
    pace = monitored.monitor().pace
    assert pace
    minute: Any = pace.tests[0].open
    minute.bins = [0] * minute.n
    with monitored.database.transaction() as tx:
        monitors.save_pace(tx, monitored.endpoint_id, pace)
        tx.execute(dict(MIGRATIONS)["0029 pace start"])
    minute.bins = {}
    assert monitored.monitor().pace == pace


def test_a_test_that_is_broken_stops_no_other(monitored: Monitored) -> None:
    write(monitored, 0, CHANGE)
    monitored.step()
    pace = monitored.monitor().pace
    assert pace
    pace.tests[1].shares = []
    with monitored.database.transaction() as tx:
        monitors.save_pace(tx, monitored.endpoint_id, pace)
    write(monitored, CHANGE, 200, seconds=1.6)
    monitored.step(60)
    assert [alert.subject for alert in alerts(monitored)] == ["slower"]


@pytest.mark.parametrize(
    "rate",
    [
        rate
        for rate in RATES
        if rate.name.startswith(("AR(0.9), no tail", "conversations, no tail", "daily cycle, Pareto"))
        and "500 requests a day" in rate.name
    ],
    ids=lambda rate: rate.name,
)
def test_a_month_without_a_change_raises_nothing(rate: Rate) -> None:
    assert observe(rate, 12).holds
