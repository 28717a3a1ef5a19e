"""Each line of a log lands exactly once, whatever is killed when and however it was written."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines, thumbs
from engine.monitoring import loop
from store.jobs import job_queue
from store.monitoring import feedback, log_ingest, monitors, traffic
from store.monitoring.feedback import UnmatchedFeedback
from store.monitoring.monitors import MalformedLineCounts
from store.monitoring.traffic import Window, count_above, quantile
from tests.unit.monitoring.texts import bank_questions

START = 1_800_000_000.0
WHOLE = Window(job_queue.to_utc(START - 86_400), job_queue.to_utc(START + 86_400))


def _lines(count: int, **changed: object) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    asked = bank_questions(rng, count)
    made = Traffic(every=1.0, failing=0.1, candidate=0.2, **changed)  # type: ignore[arg-type]
    return [dict(line) for line in request_lines(asked, asked, made, rng)]


@pytest.fixture
def log(monitored: Monitored) -> Monitored:
    monitored.now = START
    return monitored


def _counts(monitored: Monitored) -> tuple[int, int, int]:
    """Requests, those in the figures of minutes, and places."""
    sql = (
        "SELECT (SELECT count(*) FROM request) AS r, (SELECT sum(requests) FROM request_minute)::BIGINT AS m,"
        " (SELECT count(DISTINCT place) FROM request) AS p"
    )
    row = monitored.database.query(sql).to_pylist()[0]
    return row["r"], row["m"], row["p"]


def test_lines_that_are_written_bit_by_bit_land_once(log: Monitored) -> None:
    """Cut anywhere, also within a line, over two files."""
    lines = _lines(120)
    for number, part in ((0, lines[:70]), (1, lines[70:])):
        whole = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part).encode()
        path = log.log / f"requests-{number:06d}.jsonl"
        for first in range(0, len(whole), 7_777):
            with open(path, "ab") as file:
                file.write(whole[first : first + 7_777])
            loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    assert _counts(log) == (120, 120, 120)
    assert monitors.torn(log.database, "endpoint-1") == MalformedLineCounts(lines=120, torn=0)


def test_calls_of_functions_add_up_and_older_lines_have_none(log: Monitored) -> None:
    first, second, older = _lines(3)
    called = [first | {"calls": 2, "invalid_calls": 1}, second | {"calls": 1, "invalid_calls": None}, older]
    append(log.log / "requests-000000.jsonl", called)
    loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    for table in ("request", "request_minute", "request_hour"):
        sums = f"SELECT sum(calls)::INT AS calls, sum(invalid_calls)::INT AS invalid FROM {table}"
        assert log.database.query(sums).to_pylist() == [{"calls": 3, "invalid": 1}]


def test_a_batch_that_was_taken_is_not_taken_again(log: Monitored, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log.log / "requests-000000.jsonl", _lines(30))
    past = log_ingest.read_offsets(log.database, "endpoint-1")
    loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    monkeypatch.setattr(
        loop, "read_offsets", lambda *_: past
    )  # as one that read before the other had committed
    loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    assert _counts(log) == (30, 30, 30)


def test_what_fails_within_a_batch_leaves_nothing_of_it(
    log: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log.log / "requests-000000.jsonl", _lines(30))

    def killed(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(log_ingest, "add_figures", killed)
        with pytest.raises(OSError, match="killed"):
            loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    assert _counts(log)[0] == 0
    log.step()
    assert _counts(log) == (30, 30, 30)


def test_torn_and_odd_lines_are_counted_and_left_out(log: Monitored) -> None:
    good = _lines(3)
    odd = [
        {**good[0], "at": float("nan")}, {**good[0], "status": "200"}, {**good[0], "seconds": None},
        {**good[0], "abstained": 1}, {**good[0], "messages": "hello"}, {"request_id": "r"},
    ]  # fmt: skip
    append(log.log / "requests-000000.jsonl", [good[0], *odd, {**good[1], "output": "half a letter \ud83d"}])
    with open(log.log / "requests-000000.jsonl", "a") as file:
        file.write('{"request_id": "torn", "at\n[1, 2]\n')
        file.write(json.dumps(good[2]))  # the last line is not whole yet
    (log.log / "notes.txt").write_text("not a log")
    log.step()
    assert _counts(log)[0] == 2
    assert monitors.torn(log.database, "endpoint-1") == MalformedLineCounts(lines=10, torn=8)
    with open(log.log / "requests-000000.jsonl", "a") as file:
        file.write("\n")
    log.step()
    assert _counts(log)[0] == 3


@pytest.mark.parametrize("odd", [
    {"prompt_tokens": 10**400}, {"prompt_tokens": 2**63 - 1024}, {"input_characters": -1}, {"seconds": -0.1},
    {"at": 10**400}, {"at": 1e300}, {"status": 10**400}, {"mean_logprob": -1e300}, {"messages": [1e999]},
])  # fmt: skip
def test_a_number_that_is_none_costs_its_own_line_alone(log: Monitored, odd: dict[str, object]) -> None:
    good = _lines(3)
    bad = {**good[1], **odd}
    append(log.log / "requests-000000.jsonl", [good[0], bad, {**bad, "request_id": "again"}, good[2]])
    log.step()
    assert _counts(log) == (2, 2, 2)
    assert monitors.torn(log.database, "endpoint-1") == MalformedLineCounts(lines=4, torn=2)


def test_messages_nested_too_deeply_stop_nothing(log: Monitored) -> None:
    lines = _lines(4)
    whole = [json.dumps(line) for line in lines]
    for place, depth in ((1, 900), (2, 90_000)):
        whole[place] = json.dumps({**lines[place], "messages": 7}).replace(
            '"messages": 7', '"messages": ' + "[" * depth + "]" * depth
        )
    (log.log / "requests-000000.jsonl").write_text("\n".join(whole) + "\n")
    log.step()
    assert monitors.torn(log.database, "endpoint-1").lines == 4
    assert _counts(log)[0] >= 2


def test_minutes_add_up_to_what_single_requests_say(log: Monitored) -> None:
    lines = _lines(400)
    for place in range(0, 400, 37):  # many flushes of the same minutes
        append(log.log / "requests-000000.jsonl", lines[place : place + 37])
        loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    rows = traffic.by_version(log.database, "endpoint-1", WHOLE)
    assert [(row.version, row.role) for row in rows] == [
        ("intents@3", "live"),
        ("intents@4", "candidate"),
    ]
    live = [line for line in lines if line["role"] == "live"]
    assert rows[0].requests == len(live)
    assert rows[0].errors == sum(line["status"] == 502 for line in live)
    assert rows[0].prompt_tokens == sum(line["prompt_tokens"] for line in live)  # type: ignore[misc]
    times = sorted(float(line["seconds"]) for line in live if line["status"] == 200)  # type: ignore[arg-type]
    for share, seen in ((0.5, rows[0].p50), (0.95, rows[0].p95)):
        assert seen == pytest.approx(times[int(np.ceil(share * len(times))) - 1], rel=0.03)
    points = traffic.points(log.database, "endpoint-1", WHOLE)
    assert sum(point["requests"] for point in points) == 400
    assert len(points) <= traffic.POINTS + 1


def test_percentiles_of_nothing_and_of_one() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({10: 1}, 0.95) == quantile({10: 1}, 0.01)
    assert count_above({10: 5, 40: 2}, 2.0) == 2


def test_feedback_finds_its_request_whichever_comes_first(log: Monitored) -> None:
    lines = [line for line in _lines(60) if line["status"] == 200]
    word = next(thumbs([lines[0]], 1, 1, np.random.default_rng(0)))  # type: ignore[list-item]
    labels = [
        {
            **word,
            "request_id": lines[place]["request_id"],
            "kind": "label",
            "feedback_id": f"l{place}",
            "value": None,
            "text": f" {lines[place]['output']}" if place % 2 else "other",
        }
        for place in range(10)
    ]
    append(
        log.log / "feedback-000000.jsonl", [*labels, {**labels[0], "request_id": "never", "feedback_id": "n"}]
    )
    log.step()
    assert feedback.unmatched(log.database, "endpoint-1", WHOLE) == UnmatchedFeedback(
        feedback=11, unmatched=11
    )
    append(log.log / "requests-000000.jsonl", lines)
    log.step()
    assert feedback.unmatched(log.database, "endpoint-1", WHOLE) == UnmatchedFeedback(
        feedback=11, unmatched=1
    )
    append(log.log / "feedback-000000.jsonl", list(thumbs(lines, 1, 1, np.random.default_rng(1))))  # type: ignore[arg-type]
    log.step()
    rows = feedback.by_version(log.database, "endpoint-1", WHOLE)
    assert sum(row.labels for row in rows) == 10
    assert sum(row.right for row in rows) == 5
    assert sum(row.thumbs for row in rows) == len(lines)
    groups = feedback.by_group(log.database, "endpoint-1", WHOLE)
    assert {row.grouped_by for row in groups} == {"app", "web"}


def test_no_answer_is_not_right_also_where_its_text_was_not_kept(log: Monitored) -> None:
    line = next(line for line in _lines(9) if line["status"] == 200)
    word = next(thumbs([line], 1, 1, np.random.default_rng(0)))  # type: ignore[list-item]
    append(log.log / "requests-000000.jsonl", [line | {"abstained": True, "label": None, "output": None}])
    append(log.log / "feedback-000000.jsonl", [{**word, "kind": "label", "value": None, "text": "card"}])
    log.step()
    row = feedback.by_version(log.database, "endpoint-1", WHOLE)[0]
    assert (row.labels, row.right) == (1, 0)


def test_of_several_thumbs_of_one_person_the_last_counts(log: Monitored) -> None:
    line = next(line for line in _lines(9) if line["status"] == 200)
    word = next(thumbs([line], 1, 1, np.random.default_rng(0)))  # type: ignore[list-item]
    words = [
        {**word, "feedback_id": "a", "person_id": "ada", "value": 1.0},
        {**word, "feedback_id": "b", "person_id": "ada", "value": 0.0, "at": word["at"] + 5},
        {**word, "feedback_id": "c", "person_id": "bob", "value": 1.0},
    ]
    append(log.log / "requests-000000.jsonl", [line])
    append(log.log / "feedback-000000.jsonl", words)
    log.step()
    row = feedback.by_version(log.database, "endpoint-1", WHOLE)[0]
    assert (row.thumbs, row.up) == (2, 1)


def test_what_is_too_old_goes_and_its_figures_stay(log: Monitored) -> None:
    append(log.log / "requests-000000.jsonl", _lines(50))
    append(log.log / "requests-000001.jsonl", [])
    loop.ingest_logs(log.database, log.home, "endpoint-1", START)
    assert _counts(log) == (50, 50, 50)
    log.now = START + 31 * 86_400
    log.next_engine().step()
    assert _counts(log) == (0, 50, 0)
    assert not (log.log / "requests-000000.jsonl").exists()
    assert (log.log / "requests-000001.jsonl").exists()  # the newest is written to
    early = Window(WHOLE.start - timedelta(days=1), WHOLE.end)
    assert traffic.by_version(log.database, "endpoint-1", early)[0].requests > 0
