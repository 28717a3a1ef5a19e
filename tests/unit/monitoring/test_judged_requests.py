"""Logged answers that a judge passes or fails, and people's ratings that correct it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench.made.monitored import Monitored
from bench.made.request_log import Traffic, append, request_lines
from bench.ratings.judged import RATES
from bench.truths import observe
from engine.job_handlers import store_result, write_spec
from engine.monitoring import judging_job
from engine.monitoring.labelling_text import SETTLED_REASONS
from engine.rating.analysis.judge_correction import correct_by_version, correct_pass_rate
from engine.rating.analysis.reasons_text import NO_ROUND
from engine.rating.raters_text import describe_correction
from engine.worker.job import WorkerJob
from store.core.errors import DataError, StateError
from store.core.monitoring_schemas import RequestJudging
from store.core.rating_schemas import RoundDetails
from store.core.schemas import Person
from store.db.records import to_json
from store.jobs import job_queue
from store.monitoring import logged_requests
from store.monitoring.logged_requests import JudgingWindow
from tests.unit.judge_server import Answer, completion, judging
from tests.unit.store_samples import row_of

OWNER = Person(person_id="p-ada", name="Ada", role="admin")
ASKED = 120


def test_a_judge_that_knows_nothing_costs_little_and_a_good_one_narrows() -> None:
    rng = np.random.default_rng(0)
    good = (rng.random(1_000) < 0.7).astype(float)
    right, guess = np.where(rng.random(1_000) < 0.95, good, 1 - good), rng.integers(0, 2, 1_000).astype(float)
    by_good, by_guess = (correct_pass_rate(side[100:], side[:100], good[:100]) for side in (right, guess))
    widths = [(seen.corrected.high or 0) - (seen.corrected.low or 0) for seen in (by_good, by_guess)]
    alone = (by_good.people.high or 0) - (by_good.people.low or 0)
    assert widths[0] < 0.8 * alone < widths[1] < 1.05 * alone
    assert by_guess.judge == pytest.approx(0.5, abs=0.05)


def test_a_share_of_all_has_an_interval_and_few_ratings_have_none() -> None:
    every = correct_pass_rate(np.ones(300), np.ones(40), np.ones(40))
    assert (every.by, every.corrected.value) == ("people", 1.0)
    assert 0.85 < (every.corrected.low or 0) < 0.95
    few = correct_pass_rate(np.ones(300), np.ones(19), np.ones(19))
    assert few.by == "nothing"
    assert "people have rated 19 of them; from 20 on" in few.corrected.why
    with pytest.raises(ValueError, match="one value each"):
        correct_pass_rate([1.0], [1.0, 0.0], [1.0])


@pytest.mark.parametrize("place", [0, 13, 27, 46])
def test_the_corrected_share_covers(place: int) -> None:
    observed = observe(RATES[place], 300)
    assert observed.share >= 0.90, RATES[place].name


def _write(monitored: Monitored) -> None:
    rng = np.random.default_rng(0)
    texts = [f"question {place} <b>" for place in range(ASKED)]
    answers = [f"{'good' if place % 4 else 'bad'} answer {place}" for place in range(ASKED)]
    made = Traffic(failing=0.0, every=30.0, start=monitored.now - 30.0 * ASKED)
    lines = [*request_lines(texts, answers, made, rng)]
    lines += [{**lines[0], "request_id": "again"}, {**lines[1], "request_id": "bare", "messages": None}]
    append(monitored.log / "requests-000000.jsonl", lines)
    while monitored.monitoring.step() == 0:
        pass


def _asked(monitored: Monitored, base_url: str) -> str:
    judge = {"base_url": base_url, "model": "judge", "retries": 0}
    body = {"endpoint": "Bank", "rows": 200, "judge": judge}
    queued = monitored.commands.table()["judge_requests"](body, OWNER)
    return str(queued["job_id"])  # type: ignore[typeddict-item,index]


def _rate(
    monitored: Monitored, count: int, name: str = "r", first: int = 0, drawn: float = 0.0, **chosen: Any
) -> None:
    """People rate `count` from the `first` one on, as the desk stores it: whoever judges by the word `good`
    is right. chosen: which requests the round drew from; drawn: how many seconds ago."""
    config = json.dumps({"requests": {"endpoint": monitored.endpoint_id, **chosen}})
    notice = "Left out 3 requests: a round asks about it, or has its answer."
    details = to_json(row_of(RoundDetails, notices=[notice]))
    with monitored.database.transaction() as tx:
        tx.execute(
            "INSERT INTO rating_round SELECT ?, 'R', '', 'pass_fail', ?, '[]', 'open', NULL, 1, ?,"
            " 'p', 'P', ?, NULL, NULL",
            [name, config, details, job_queue.to_utc(monitored.now - drawn)],
        )
        for place in range(first, first + count):
            asked = f"chatcmpl-endpoint-1-{place:08d}"
            tx.execute(
                "INSERT INTO round_request SELECT ?, ?, endpoint_id, request_id, asked_at, version, role,"
                " NULL, true, 0.5, [] FROM request WHERE request_id = ?", [name, place, asked],
            )  # fmt: skip
            tx.execute(
                "INSERT INTO rating_task VALUES (?, ?, ?, 'p-1', 'P', [0], 'first', NULL, ?, now())",
                [f"{name}-{place}", name, place, place],
            )
            for revision, passed in ((1, False), (2, place % 4 > 0)):
                answer = json.dumps({"passed": passed, "reasons": []})
                tx.execute(
                    "INSERT INTO rating VALUES (?, ?, ?, ?, '', 1, now())",
                    [f"{name}-{place}", revision, name, answer],
                )


def _judged(monitored: Monitored, job_id: str) -> RequestJudging:
    job = job_queue.get_job(monitored.database, job_id)
    folder = write_spec(monitored.database, monitored.home, job)
    result = judging_job.run(WorkerJob(folder.path))
    with monitored.database.transaction() as tx:
        for _ in range(2):  # as after a kill before the commit
            store_result(tx, monitored.home, job, result, monitored.now)
    return result


def _reply(text: str, number: int) -> Answer:
    if "answer 7\n" in text:
        return completion("I would rather not say")
    return completion(json.dumps({"grade": int("good answer" in text)}))


def test_a_judging_from_the_log_to_the_share(monitored: Monitored) -> None:
    with judging(_reply) as server:
        _write(monitored)
        job_id = _asked(monitored, server.base_url)
        with pytest.raises(StateError, match="A judge is already running for Bank"):
            _asked(monitored, server.base_url)
        _rate(monitored, 40)
        result = _judged(monitored, job_id)
    assert (result["sample"], result["rated"]) == (ASKED, 40)  # the same answer again counts once
    assert result["judged"] == ASKED + 40 - 2
    assert sum(result["reasons"].values()) == 2
    assert (result["requests"], result["left_out"]) == (ASKED + 2, 1)
    asked = server.requests[0]["messages"]
    assert "does what was asked" in asked[0]["content"]
    assert "<b>" in asked[1]["content"]
    window = JudgingWindow.of(job_queue.get_job(monitored.database, job_id))
    answers = logged_requests.answers(monitored.database, job_id, window)
    assert len(answers) == ASKED + 40
    seen = correct_by_version(answers)["intents@3"]
    assert (seen.rated, seen.agree, seen.by) == (39, 39, "both")
    assert seen.judge == pytest.approx(0.75, abs=0.01)
    assert seen.corrected.value == pytest.approx(0.75, abs=0.03)
    assert logged_requests.list_rated_answers(monitored.database, window) == 40
    words = describe_correction(
        logged_requests.correcting(monitored.database, job_id, window), SETTLED_REASONS
    )
    assert "by the round R, for requests of " in words
    assert "not from all" in words


def test_people_correct_the_judge_on_what_their_round_drew_from_alone(monitored: Monitored) -> None:
    with judging(_reply) as server:
        _write(monitored)
        _rate(monitored, 60, "alerted", 60, alert="a-1")
        _rate(monitored, 60, "grouped", 60, group="g")
        job_id = _asked(monitored, server.base_url)
        _judged(monitored, job_id)
        window = JudgingWindow.of(job_queue.get_job(monitored.database, job_id))
        seen = correct_by_version(logged_requests.answers(monitored.database, job_id, window))["intents@3"]
        assert (seen.by, seen.rated, seen.corrected.why) == ("nothing", 0, NO_ROUND)
        assert seen.judged == ASKED - 1

        half = 30.0 * ASKED / 2  # seconds: drawn when half of the requests had come
        _rate(monitored, 40, "early", drawn=half)
        with monitored.database.transaction() as tx:
            job_queue.set_status(tx, job_id, "cancelled")
        later = _asked(monitored, server.base_url)
        _judged(monitored, later)
    window = JudgingWindow.of(job_queue.get_job(monitored.database, later))
    frame = logged_requests.correcting(monitored.database, later, window)
    assert frame is not None
    assert (frame.round_id, frame.end) == ("early", job_queue.to_utc(monitored.now - half))
    answers = logged_requests.answers(monitored.database, later, window)
    assert sum(answer.in_frame for answer in answers if answer.at_random) == pytest.approx(60, abs=2)
    seen = correct_by_version(answers)["intents@3"]
    assert (seen.by, seen.rated, seen.judged) == ("both", 39, ASKED - 1)


def test_rated_answers_are_judged_before_a_budget_is_spent(monitored: Monitored) -> None:
    with judging(_reply) as server:
        _write(monitored)
        _rate(monitored, 40)
        job_id = _asked(monitored, server.base_url)
        config = job_queue.get_job(monitored.database, job_id).config
        assert config["judge"]["max_calls"] == 200 + 40  # none is asked again here
        with monitored.database.transaction() as tx:
            judge = config["judge"] | {"max_calls": 45, "concurrency": 1}
            job_queue.update(tx, job_id, config=config | {"judge": judge})
        _judged(monitored, job_id)
    window = JudgingWindow.of(job_queue.get_job(monitored.database, job_id))
    seen = correct_by_version(logged_requests.answers(monitored.database, job_id, window))["intents@3"]
    assert seen.rated == 39


def test_a_judge_that_says_nothing_readable_is_no_result(monitored: Monitored) -> None:
    with judging(lambda text, number: completion("yes!")) as server:
        _write(monitored)
        job_id = _asked(monitored, server.base_url)
        with pytest.raises(DataError, match="the judge's answer has no verdict in JSON"):
            _judged(monitored, job_id)
