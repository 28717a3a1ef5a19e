"""The chain of an improvement: each step once, whatever is killed when, and each end that it may come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.retraining import steps
from engine.retraining.loop import REPEATS
from store.core.errors import StateError
from store.core.schemas import Person
from store.data import datasets
from store.jobs import job_queue
from store.monitoring import monitor_alerts
from store.retraining import improvements
from store.retraining import text as improvement_text
from store.runs import runs
from tests.unit.improving.chained import COUNTED, Chained

ADA = Person(person_id="p-ada", name="Ada", role="member")
KINDS = ["gather_rows", "clean", "train", "register", "evaluate", "evaluate", "evaluate", "evaluate"]
MAX_STEPS = 20  # of the engine, in which the next job is there


def test_each_job_is_queued_once_and_a_person_promotes(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin(name="Mended <b>")
    assert chained.run_through(improvement) == KINDS
    made = chained.get(improvement)
    facts = made.facts
    assert (facts["version"], facts["holder"], facts["rows"]) == ("sums@2", "sums@1", COUNTED)
    run = runs.get_run(chained.database, facts["run_id"])
    assert run.name == "run-1, improved 15 Jan 2027"
    assert run.config["parent"] == "run-1"
    assert run.config["max_train_rows"] is None
    assert run.config["split_by"] == "given"
    rows = datasets.get_dataset(chained.database, facts["rows_dataset_id"])
    assert rows.name == "sums, new rows of 15 Jan 2027"
    assert (rows.split_by, rows.validation_size) == ("given", 0)
    joined = datasets.get_dataset(chained.database, facts["dataset_id"])
    assert (joined.name, joined.parent_id, joined.split_by) == ("D v2", "data-D", "given")
    chained.desk("decide_improvement", improvement="Mended <b>", promote=True, by=ADA)
    made = chained.get(improvement)
    assert (made.state, made.ended_by_name, made.note) == ("promoted", "Ada", "It is passed.")
    assert chained.standing() == 2
    chained.next_engine().step(chained.desk.clock())
    assert chained.get(improvement) == made


def test_a_move_that_is_undone_is_made_once(chained: Chained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the commit: neither the job nor the fact is there, and the next engine makes both."""
    improvement = chained.begin()
    keep_facts, failing = improvements.set_facts, [True]

    def killed(*arguments: Any, **facts: Any) -> Any:
        if failing:
            raise OSError("killed")
        return keep_facts(*arguments, **facts)

    monkeypatch.setattr(improvements, "set_facts", killed)
    for kind in KINDS[:4]:
        failing[:] = [True]
        chained.next_engine().step(chained.desk.clock())
        assert chained.alive() == []
        failing.clear()
        for _ in range(MAX_STEPS):  # until the next job is there; a fault must not make it wait for ever
            if not chained.alive():
                chained.next_engine().step(chained.desk.clock())
        assert chained.end_jobs() == [kind]
        failing[:] = [True]
        if kind != "train":  # its end brings no facts
            state = chained.get(improvement).state
            chained.next_engine().step(chained.desk.clock())
            assert chained.get(improvement).state == state
        failing.clear()
        chained.next_engine().step(chained.desk.clock())


@pytest.mark.parametrize("state", ["gathering", "training", "measuring"])
def test_a_step_that_fails_is_gone_on_with(chained: Chained, answers: dict[str, str], state: str) -> None:
    improvement = chained.begin()
    for _ in range(40):
        chained.next_engine().step(chained.desk.clock())
        if chained.get(improvement).state == state and chained.alive():
            break
        chained.end_jobs()
    for job in chained.alive():
        with chained.database.transaction() as tx:
            job_queue.claim(tx, job.job_id, "cpu", 1.0)
            job_queue.finish(tx, job.job_id, "failed", 1.0, error={"error": "DiskFull", "message": "Full."})
    chained.next_engine().step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made.state, made.failed_at) == ("failed", state)
    assert made.trouble == {"error": "DiskFull", "message": "Full.", "fix": ""}
    with pytest.raises(StateError, match="is not waiting for a decision"):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    chained.desk("resume_improvement", improvement=improvement)
    chained.next_engine().step(chained.desk.clock())  # a gathering is made anew
    queued = [job.kind for job in chained.alive()]
    assert set(queued) <= set(KINDS)
    assert queued
    chained.run_through(improvement)
    with pytest.raises(StateError, match="has not failed"):
        chained.desk("resume_improvement", improvement=improvement)


def test_too_few_rows_are_waited_for_and_later_ones_are_taken_in(
    chained: Chained, answers: dict[str, str]
) -> None:
    improvement = chained.begin()
    chained.improving.step(chained.desk.clock())
    chained.find_too_few()
    chained.next_engine().step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made.state, made.failed_at, made.ended_at) == ("waiting", "gathering", None)
    assert made.trouble == {"error": "TooFewRows", "message": "7 of 9 can be used.", "fix": ""}
    assert "improvement resume" in improvement_text.describe_next_step(made)
    chained.next_engine().step(chained.desk.clock())  # by itself it does nothing
    assert (chained.get(improvement).state, chained.alive()) == ("waiting", [])
    chained.desk("resume_improvement", improvement=improvement)
    chained.next_engine().step(chained.desk.clock())
    (job,) = chained.alive()
    assert job.kind == "gather_rows"
    assert job.job_id != made.facts["gather_job"]  # another one, which is brought what came since
    assert chained.run_through(improvement) == KINDS
    assert chained.get(improvement).facts["rows"].train == 30


def test_what_waits_for_rows_can_be_stopped(chained: Chained) -> None:
    improvement = chained.begin()
    chained.improving.step(chained.desk.clock())
    chained.find_too_few()
    chained.improving.step(chained.desk.clock())
    chained.desk("stop_improvement", improvement=improvement)
    assert chained.get(improvement).state == "stopped"
    with pytest.raises(StateError, match="nothing to resume"):
        chained.desk("resume_improvement", improvement=improvement)


def test_a_job_that_was_deleted_is_made_anew(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    chained.improving.step(chained.desk.clock())
    (job,) = chained.alive()
    chained.desk.end(job.job_id, "cancelled")
    with pytest.raises(StateError, match="used by the improvement"):
        chained.desk("delete", job=job.job_id)
    with chained.database.transaction() as tx:
        job_queue.delete(tx, job.job_id)
    chained.improving.step(chained.desk.clock())
    assert "was deleted" in str(chained.get(improvement).trouble)
    chained.desk("resume_improvement", improvement=improvement)
    assert chained.run_through(improvement) == KINDS


def test_what_a_preview_refuses_is_the_trouble(chained: Chained) -> None:
    improvement = chained.begin()
    chained.desk.problems = [{"level": "error", "field": "max_length", "message": "Too long.", "fix": "Cut."}]
    with pytest.raises(AssertionError):
        chained.run_through(improvement, until="registering", most=8)
    made = chained.get(improvement)
    assert (made.failed_at, made.trouble["message"]) == ("training", "Too long.")  # type: ignore[index]
    chained.desk.problems = []
    chained.desk("resume_improvement", improvement=improvement)
    chained.run_through(improvement, until="registering")


@pytest.mark.parametrize(
    ("change", "words"), [("active = false", "is deactivated"), ("role = 'viewer'", "is now a viewer")]
)
def test_for_who_may_not_work_any_more_nothing_is_done(
    chained: Chained, answers: dict[str, str], change: str, words: str
) -> None:
    chained.add_person(ADA)
    rows = [{"source": "feedback", "endpoint": "Desk"}]
    schedule = {"model": "sums", "rows": rows, "every_hours": 1, "least_rows": 20}
    improvement = chained.desk("begin_improvement", model="sums", rows=rows, by=ADA)["improvement_id"]
    chained.desk("schedule_improvement", **schedule, by=ADA)
    chained.run_through(improvement, until="training")
    with chained.database.transaction() as tx:
        tx.execute(f"UPDATE person SET {change} WHERE person_id = 'p-ada'")
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made.state, made.failed_at) == ("failed", "training")
    assert words in str(made.trouble)
    assert chained.alive() == []
    chained.next_engine().step(chained.desk.clock() + 7_200)
    (kept,) = improvements.list_schedules(chained.database)
    assert words in str(kept.trouble)
    assert [alert.subject for alert in monitor_alerts.open_alerts(chained.database, "endpoint-1")]
    chained.desk("resume_improvement", improvement=improvement)
    assert chained.run_through(improvement) == KINDS[3:]
    job = job_queue.get_job(chained.database, chained.get(improvement).facts["register_job"])
    assert job.config["created_by"]["person_id"] == "owner"


def test_one_that_can_not_be_moved_holds_up_no_other(
    chained: Chained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chained.begin(), chained.begin(alias="staging", run="run-1")
    gather = steps.STEPS_BY_STATE["gathering"]

    def broken(links: Any, improvement_id: str, at: float) -> None:
        if improvement_id == first:
            raise RuntimeError("no such thing")
        gather(links, improvement_id, at)

    monkeypatch.setitem(steps.STEPS_BY_STATE, "gathering", broken)
    chained.improving.step(chained.desk.clock())
    assert "gather_job" not in chained.get(first).facts
    assert "gather_job" in chained.get(second).facts


def test_what_goes_wrong_at_every_step_is_given_up_and_told(
    chained: Chained, monkeypatch: pytest.MonkeyPatch
) -> None:
    chained.desk("set_webhook", url="https://example.org/hook", secret="0123456789abcdef")

    def broken(*_: Any) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setitem(steps.STEPS_BY_STATE, "gathering", broken)
    improvement = chained.begin()
    for _ in range(REPEATS - 1):
        chained.improving.step(chained.desk.clock())
    assert chained.get(improvement).state == "gathering"
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made.state, made.failed_at) == ("failed", "gathering")
    assert "no such thing" in str(made.trouble)
    (body,) = chained.database.query("SELECT body FROM webhook_delivery").column(0).to_pylist()
    message = json.loads(body)
    assert (message["title"], message["answer"]) == ("Failed", None)
    assert "no such thing" in message["reason"]


def test_a_person_is_told_by_the_webhook(chained: Chained, answers: dict[str, str]) -> None:
    chained.desk("set_webhook", url="https://example.org/hook", secret="0123456789abcdef")
    chained.run_through(chained.begin())
    (body,) = chained.database.query("SELECT body FROM webhook_delivery").column(0).to_pylist()
    message = json.loads(body)
    assert (message["event"], message["answer"], message["model"]) == ("improvement", "passed", "sums")
