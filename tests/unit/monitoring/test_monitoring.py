"""From the log to the alert and back: a stream of another kind raises one, as many of the same kind don't."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from bench.made.monitored import Monitored, add_endpoint
from bench.made.request_log import Traffic, append, request_lines, thumbs
from engine.job_handlers import store_result
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.monitoring_schemas import MonitorAlert
from store.core.schemas import Person
from store.db.database import Transaction
from store.db.records import to_json
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors, traffic
from store.monitoring.traffic import Window
from store.people import activity
from store.serving.schemas import EndpointConfig, EndpointLog
from tests.unit.monitoring.texts import bank_questions, chat
from tests.unit.store_samples import row_of

OWNER = Person(person_id="p-ada", name="Ada", role="admin")
REFERENCE, LENGTH = 100, 120


def ask(monitored: Monitored, command: str, **body: object) -> object:
    return monitored.commands.table()[command](body, OWNER)


def write(monitored: Monitored, texts: list[str], *, first: int = 0, **changed: object) -> None:
    rng = np.random.default_rng(first)
    answers = [f"About that: {text[:30]}" for text in texts]
    made = Traffic(**{"failing": 0.0, "every": 7_200.0, **changed})  # type: ignore[arg-type]
    append(monitored.log / "requests-000000.jsonl", request_lines(texts, answers, made, rng, first=first))


def begin(monitored: Monitored) -> None:
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE)
    write(monitored, bank_questions(np.random.default_rng(1), REFERENCE))
    monitored.catch_up()


def drift(monitored: Monitored) -> list[MonitorAlert]:
    return [
        alert
        for alert in monitor_alerts.open_alerts(monitored.database, "endpoint-1")
        if alert.kind == "drift"
    ]


def test_the_same_kind_of_request_raises_nothing_and_another_does(monitored: Monitored) -> None:
    begin(monitored)
    rng = np.random.default_rng(2)
    write(monitored, bank_questions(rng, LENGTH), first=REFERENCE)
    monitored.catch_up()
    assert monitored.monitor().measured_place == REFERENCE + LENGTH
    assert {state.tested for state in monitored.monitor().states if state.name == "input_distance"} == {
        LENGTH
    }
    assert not drift(monitored)
    write(monitored, chat(rng, LENGTH), first=REFERENCE + LENGTH)
    monitored.catch_up()
    alerts = {alert.subject: alert for alert in drift(monitored)}
    assert "input_distance" in alerts
    assert (
        "over 1,000,000 to 1" in alerts["input_distance"].reason or "to 1" in alerts["input_distance"].reason
    )
    places = alerts["input_distance"].first_place, alerts["input_distance"].last_place
    assert places[0] is not None
    assert places[1] is not None
    # its figures are of the time since the change that it names, up to the alert
    counted = f"in {places[1] - places[0] + 1:,} values since then. No CI"
    assert counted in alerts["input_distance"].reason
    day = 12  # requests
    assert REFERENCE + LENGTH - 3 * day <= places[0] <= places[1] < REFERENCE + LENGTH + 7 * day  # type: ignore[operator]
    assert "same weekdays of the first week" in alerts["input_distance"].reason
    behind = traffic.most_unlike(
        monitored.database,
        "endpoint-1",
        "input_distance",
        (REFERENCE + LENGTH, places[1] + 50),
        order="DESC",
        limit=5,  # type: ignore[operator]
    )
    assert len(behind) == 5
    assert all(row.value > 0.3 for row in behind if row.value is not None)


def test_no_request_is_counted_twice_and_none_left_out(monitored: Monitored) -> None:
    """A look that is kept again, one that began with other tests, and another size of batches."""
    begin(monitored)
    rng = np.random.default_rng(3)
    write(monitored, bank_questions(rng, 90), first=REFERENCE)
    monitored.step()
    whole = monitored.monitor().states
    past = job_queue.list_of_kind(monitored.database, monitors.KIND)[0]
    assert past.result is not None
    with monitored.database.transaction() as tx:  # as an engine would that was killed before the commit
        store_result(tx, monitored.home, past, past.result, monitored.now)
    assert monitored.monitor().states == whole
    hours = traffic.signal_counts(monitored.database, "endpoint-1", _all())["output_length"]["bins"]
    assert sum(hours.values()) == 90
    count = monitored.database.query("SELECT count(*) AS n FROM request_signal").to_pylist()[0]["n"]
    assert count == 90


def test_a_look_that_began_before_an_acknowledgement_is_made_again(monitored: Monitored) -> None:
    begin(monitored)
    write(monitored, bank_questions(np.random.default_rng(2), LENGTH), first=REFERENCE)
    write(monitored, chat(np.random.default_rng(4), 100), first=REFERENCE + LENGTH)
    monitored.catch_up()
    seen_to = REFERENCE + LENGTH + 100
    alert = next(each for each in drift(monitored) if each.subject == "input_distance")
    write(monitored, chat(np.random.default_rng(5), 30), first=seen_to)
    monitored.now += 60
    monitored.monitoring.step()  # queues the look
    looks = [
        job for job in job_queue.list_of_kind(monitored.database, monitors.KIND) if job.status == "queued"
    ]
    assert len(looks) == 1
    ask(monitored, "acknowledge_alert", alert=alert.alert_id, outcome="new_normal", note="A new campaign")
    monitored.look(looks[0].job_id)
    assert monitored.monitor().measured_place == seen_to  # left out
    monitored.catch_up()
    assert monitored.monitor().measured_place == seen_to + 30
    state = next(each for each in monitored.monitor().states if each.name == "input_distance")
    assert (state.reference, state.tested, state.alarm_place) == (30, 0, None)
    seen = monitor_alerts.past_alerts(monitored.database, "endpoint-1")[0]
    assert (seen.acknowledged_by_name, seen.note) == ("Ada", "A new campaign")
    with pytest.raises(StateError, match="Ada has already acknowledged this alert"):
        ask(monitored, "acknowledge_alert", alert=alert.alert_id)
    line = activity.listed(monitored.database, activity.ALL, limit=1, offset=0)[1][0]
    assert (line.command, line.subject_name) == ("acknowledge_alert", "the monitor of Bank")


def test_callers_that_send_bursts_can_be_thinned(monitored: Monitored) -> None:
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, one_of_caller_and_hour=True)
    write(monitored, bank_questions(np.random.default_rng(1), REFERENCE))
    monitored.catch_up()
    # five callers, 120 requests an hour: at most five of each hour count
    write(monitored, bank_questions(np.random.default_rng(6), 150), first=REFERENCE, callers=5, every=30.0)
    monitored.catch_up()
    state = next(each for each in monitored.monitor().states if each.name == "output_length")
    assert 5 <= state.tested <= 15
    assert monitored.monitor().measured_place == REFERENCE + 150


def test_requests_without_texts_are_watched_for_what_is_left(monitored: Monitored) -> None:
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE)
    rng = np.random.default_rng(7)
    texts = bank_questions(rng, 2 * REFERENCE)
    lines = [
        {**line, "messages": None, "output": None}
        for line in request_lines(texts, texts, Traffic(failing=0), rng)
    ]
    append(monitored.log / "requests-000000.jsonl", lines)
    monitored.catch_up()
    monitor = monitored.monitor()
    assert monitor.reference is not None
    assert "input_distance" not in {state.name for state in monitor.states}
    tested = {state.name: state.tested for state in monitor.states}
    assert tested["input_length"] == tested["output_length"] == tested["confidence"] == REFERENCE
    assert monitor.reference.values["input_distance"].why


def test_confidence_rests_on_the_requests_that_have_one(monitored: Monitored) -> None:
    """Others, as llama.cpp's and those of an older log, are in none of its counts."""
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE)
    rng = np.random.default_rng(1)
    texts = bank_questions(rng, REFERENCE + 2 * LENGTH)
    made = Traffic(failing=0.0, every=30.0)
    lines = [*request_lines(texts, ["An answer."] * len(texts), made, rng)]
    for line in lines[::2]:
        line["mean_logprob"] = None
    append(monitored.log / "requests-000000.jsonl", lines)
    monitored.catch_up()
    state = next(each for each in monitored.monitor().states if each.name == "confidence")
    assert (state.reference, state.tested) == (REFERENCE // 2, LENGTH)


def test_other_settings_begin_anew_only_where_tests_rest_on_them(monitored: Monitored) -> None:
    begin(monitored)
    revision = monitored.monitor().revision
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, most_errors=0.2, keep_days=9)
    assert monitored.monitor().revision == revision
    ask(monitored, "set_monitor", endpoint="endpoint-1", reference_rows=REFERENCE, watched=["output_length"])
    assert monitored.monitor().revision == revision + 1
    assert monitored.monitor().states == []
    monitored.catch_up()
    assert [state.name for state in monitored.monitor().states] == ["output_length"]


@pytest.mark.parametrize(("body", "field"), [
    ({"endpoint": "Nobody"}, "endpoint"), ({"endpoint": "Bank", "reference": "dataset"}, ""),
    ({"endpoint": "Bank", "reference": "dataset", "dataset": "gone"}, "dataset"),
    ({"endpoint": "Bank", "alpha": 0}, "alpha"), ({"endpoint": "Bank", "watched": ["mood"]}, "watched.0"),
])  # fmt: skip
def test_bad_settings_name_their_field(monitored: Monitored, body: dict[str, object], field: str) -> None:
    with pytest.raises((ConfigError, NotFoundError)) as refused:
        ask(monitored, "set_monitor", **body)
    assert field in refused.value.field


def test_too_many_errors_and_slow_answers_raise_alerts_once(monitored: Monitored) -> None:
    ask(monitored, "set_monitor", endpoint="Bank", most_errors=0.05, most_p95_seconds=1.0)
    start = monitored.now
    write(monitored, ["Hello?"] * 100, start=start, every=2.0, failing=0.4, seconds=2.0)
    monitored.now = start + 220
    monitored.monitoring.step()
    monitored.now += 61
    monitored.monitoring.step()
    alerts = monitor_alerts.open_alerts(monitored.database, "endpoint-1")
    assert sorted(alert.kind for alert in alerts) == ["errors", "latency"]
    reason = next(alert.reason for alert in alerts if alert.kind == "errors")
    assert "Limit: 5.0%" in reason
    assert ", significantly above " in reason
    for alert in alerts:
        ask(monitored, "acknowledge_alert", alert=alert.alert_id)
    monitored.now += 61
    monitored.monitoring.step()  # what was seen is not told again
    assert not monitor_alerts.open_alerts(monitored.database, "endpoint-1")


def test_errors_just_above_their_limit_raise_an_alert(monitored: Monitored) -> None:
    """The lower limit of their interval lies between the limit and twice the limit."""
    ask(monitored, "set_monitor", endpoint="Bank", most_errors=0.05)
    write(monitored, ["Hello?"] * 400, start=monitored.now, every=2.0, failing=0.12)
    monitored.now += 820
    monitored.monitoring.step()
    (alert,) = monitor_alerts.open_alerts(monitored.database, "endpoint-1")
    assert alert.kind == "errors"


def test_a_few_errors_are_no_alert(monitored: Monitored) -> None:
    start = monitored.now
    write(monitored, ["Hello?"] * 60, start=start, every=2.0, failing=0.1)
    monitored.now = start + 130
    monitored.monitoring.step()
    assert not monitor_alerts.open_alerts(monitored.database, "endpoint-1")


def test_thumbs_surely_under_their_limit_raise_an_alert(monitored: Monitored) -> None:
    ask(monitored, "set_monitor", endpoint="Bank", least_thumbs_up=0.8)
    rng = np.random.default_rng(8)
    start = monitored.now
    lines = list(
        request_lines(["Hello?"] * 120, ["Hi."] * 120, Traffic(start=start, every=1.0, failing=0), rng)
    )
    append(monitored.log / "requests-000000.jsonl", lines)
    append(monitored.log / "feedback-000000.jsonl", thumbs(lines, 1.0, 0.5, rng))
    monitored.now = start + 200
    monitored.monitoring.step()
    alert = monitor_alerts.open_alerts(monitored.database, "endpoint-1")[0]
    assert (alert.kind, alert.subject) == ("quality", "thumbs")
    rows = traffic.thumbs_down(monitored.database, "endpoint-1", _all().start, limit=3)
    assert len(rows) == 3


def test_the_golden_set_is_asked_for_when_it_is_due(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monitored)
    evaluate = {"model": "some/model", "dataset": "Golden"}
    schedule = {"evaluate": evaluate, "every_hours": 24}
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, golden=schedule)
    monitored.step(61)
    alert = monitor_alerts.open_alerts(monitored.database, "endpoint-1")[0]
    assert "could not start" in alert.reason  # there is no such data set
    queued: list[float] = []

    def queue(tx: object, config: object) -> str:
        queued.append(monitored.now)
        return f"job-{len(queued)}"

    monkeypatch.setattr(monitored.commands.evaluations, "queue", queue)
    for _ in range(10):
        monitored.now += 3 * 3_600
        monitored.monitoring.step()
    assert len(queued) == 2
    assert queued[1] - queued[0] == 24 * 3_600
    assert [run.status for run in monitors.golden_runs(monitored.database, "endpoint-1")] == [None, None]


def test_a_clock_that_is_set_back_stops_no_schedule(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monitored)
    schedule = {"evaluate": {"model": "some/model", "dataset": "Golden"}, "every_hours": 1}
    queued: list[float] = []

    def queue(tx: object, config: object) -> str:
        queued.append(monitored.now)
        return f"job-{len(queued)}"

    monkeypatch.setattr(monitored.commands.evaluations, "queue", queue)
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, golden=schedule)
    monitored.step(61)
    monitored.now -= 24 * 3_600
    monitored.step(61)
    assert len(queued) == 2
    for _ in range(4):
        monitored.step(30 * 60 + 1)
    assert len(queued) == 4  # every hour, as before


def test_the_golden_set_waits_for_the_evaluation_before(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monitored)
    schedule = {"evaluate": {"model": "some/model", "dataset": "Golden"}, "every_hours": 24}
    queued: list[str] = []

    def queue(tx: Transaction, config: object) -> str:
        queued.append(f"job-{len(queued)}")
        job_queue.insert(tx, job_queue.NewJob(queued[-1], "evaluate", "Golden", {}, monitored.now))
        return queued[-1]

    monkeypatch.setattr(monitored.commands.evaluations, "queue", queue)
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, golden=schedule)
    for _ in range(3):
        monitored.now += 25 * 3_600
        monitored.monitoring.step()
    assert queued == ["job-0"]
    with monitored.database.transaction() as tx:
        job_queue.finish(tx, "job-0", "cancelled", monitored.now)
    monitored.now += 3_600
    monitored.monitoring.step()
    assert queued == ["job-0", "job-1"]


@pytest.mark.parametrize(("own_days", "days"), [(None, 31), (3, 4)])
def test_a_stopped_endpoint_keeps_no_file_past_its_days(
    monitored: Monitored, own_days: int | None, days: int
) -> None:
    begin(monitored)
    if own_days:
        config = row_of(EndpointConfig, log=row_of(EndpointLog, days=own_days))
        (monitored.log.parent / "config.json").write_text(to_json(config))
    newest = monitored.log / "requests-000000.jsonl"
    os.utime(newest, (monitored.now, monitored.now))

    def tidy(days: int) -> list[str]:
        monitored.now += days * 86_400
        monitored.monitoring.step()
        return sorted(path.name for path in monitored.log.iterdir())

    assert tidy(days) == [newest.name]  # a gateway may write to it
    ask(monitored, "stop_endpoint", endpoint="Bank")
    assert tidy(1) == ["requests-000001.jsonl"]  # so that no number comes twice
    assert tidy(1) == ["requests-000001.jsonl"]
    append(monitored.log / "requests-000001.jsonl", [{"not": "a request"}])
    monitored.step()
    assert monitors.torn(monitored.database, "endpoint-1").torn == 1  # read on from there


def test_nothing_is_left_of_an_endpoint_that_was_deleted(monitored: Monitored) -> None:
    begin(monitored)
    ask(monitored, "set_webhook", url="https://hooks.example/x", secret="0123456789abcdef")
    write(monitored, bank_questions(np.random.default_rng(2), LENGTH), first=REFERENCE)
    write(monitored, chat(np.random.default_rng(4), 100), first=REFERENCE + LENGTH)
    monitored.catch_up()
    with monitored.database.transaction() as tx:
        monitors.add_golden_run(tx, "endpoint-1", "job-9", job_queue.to_utc(monitored.now))
    sql = "SELECT table_name FROM information_schema.columns WHERE column_name = 'endpoint_id'"
    tables = [*monitored.database.query(sql)["table_name"].to_pylist(), "webhook_delivery"]
    assert set(monitors.OF_ENDPOINT) < set(tables)
    assert _rows(monitored, tables)["webhook_delivery"] > 0
    log = (monitored.log / "requests-000000.jsonl").read_bytes()
    ask(monitored, "stop_endpoint", endpoint="Bank")
    ask(monitored, "delete_endpoint", endpoint="Bank")
    assert set(_rows(monitored, tables).values()) == {0}
    monitored.log.mkdir(parents=True)  # as while its folder is not removed yet
    (monitored.log / "requests-000000.jsonl").write_bytes(log)
    monitored.step()
    assert set(_rows(monitored, tables).values()) == {0}
    assert job_queue.list_of_kind(monitored.database, monitors.KIND) == []


def _rows(monitored: Monitored, tables: list[str]) -> dict[str, int]:
    return {
        table: monitored.database.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py()
        for table in tables
    }


def test_texts_are_kept_no_longer_where_no_endpoint_has_a_folder(monitored: Monitored) -> None:
    write(monitored, ["Hello?"] * 3)
    monitored.step()
    shutil.rmtree(monitored.home.endpoints)
    monitored.now += 31 * 86_400
    monitored.next_engine().step()
    assert _rows(monitored, ["request"]) == {"request": 0}


def test_what_goes_wrong_with_an_endpoint_holds_up_no_other(monitored: Monitored) -> None:
    bad = monitored.home.path / "endpoints" / "a-bad-one" / "log"
    bad.mkdir(parents=True)
    with monitored.database.transaction() as tx:
        add_endpoint(tx, "a-bad-one", "Bad")
    (bad / "requests-000000.jsonl").mkdir()  # reading it raises
    write(monitored, ["Hello?"] * 3)
    monitored.step()
    assert traffic.span(monitored.database, "endpoint-1") is not None


def _all() -> Window:
    return Window(job_queue.to_utc(0), job_queue.to_utc(4_000_000_000))
