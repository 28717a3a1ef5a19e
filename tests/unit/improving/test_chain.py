"""The chain of an improvement: each step once, whatever is killed when, and each end that it may come to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.server.improving import chain, improvement_gate
from engine.server.improving.improving import REPEATS
from store.contract.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, StateError
from store.contract.roles import OWNER
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.data import datasets
from store.queries.monitoring import monitor_alerts
from store.queries.runs import runs
from store.queries.shipping import aliases, gate_evidence, improvements, versions
from store.words import improvement_words
from tests.unit.improving.chained import COUNTED, Chained
from tests.unit.registering import finished_run, register

ADA: Person = {"person_id": "p-ada", "name": "Ada", "role": "member"}
KINDS = ["gather_rows", "clean", "train", "register", "evaluate", "evaluate", "evaluate", "evaluate"]
PASSED = "passed"


@pytest.fixture
def chained(tmp_path: Path) -> Iterator[Chained]:
    made = Chained(tmp_path / "home")
    yield made
    made.database.close()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the checks answer, in place of what evaluations would say."""
    given = {"answer": PASSED}
    judged = improvement_gate.judged

    def answered(*arguments: Any) -> Any:
        report = judged(*arguments)
        checks = [{**check, "answer": given["answer"]} for check in report["checks"]]
        return {
            **report,
            "checks": checks,
            "answer": given["answer"],
            "sentence": f"It is {given['answer']}.",
        }

    monkeypatch.setattr(improvement_gate, "judged", answered)
    return given


def run_through(chained: Chained, improvement: str, until: str = "deciding", most: int = 40) -> list[str]:
    """Step, with a new engine each time, and end what was queued; the kinds of jobs."""
    kinds: list[str] = []
    for _ in range(most):
        if chained.get(improvement)["state"] == until:
            return kinds
        chained.next_engine().step(chained.desk.clock())
        chained.next_engine().step(chained.desk.clock())  # done again, it does nothing twice
        kinds += chained.end_jobs()
    raise AssertionError(chained.get(improvement))


def standing(chained: Chained) -> int | None:
    model = versions.get_model(chained.database, "sums")["model_id"]
    return aliases.standing(chained.database, model, "production")


def test_each_job_is_queued_once_and_a_person_promotes(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin(name="Mended <b>")
    assert run_through(chained, improvement) == KINDS
    made = chained.get(improvement)
    facts = made["facts"]
    assert (facts["version"], facts["holder"], facts["rows"]) == ("sums@2", "sums@1", COUNTED)
    run = runs.get_run(chained.database, facts["run_id"])
    assert run["name"] == "run-1, improved 15 Jan 2027"
    assert run["config"]["parent"] == "run-1"
    assert run["config"]["max_train_rows"] is None
    assert run["config"]["split_by"] == "given"
    rows = datasets.get_dataset(chained.database, facts["rows_dataset_id"])
    assert rows["name"] == "sums, new rows of 15 Jan 2027"
    assert (rows["split_by"], rows["validation_size"]) == ("given", 0)
    joined = datasets.get_dataset(chained.database, facts["dataset_id"])
    assert (joined["name"], joined["parent_id"], joined["split_by"]) == ("D v2", "data-D", "given")
    chained.desk("decide_improvement", improvement="Mended <b>", promote=True, by=ADA)
    made = chained.get(improvement)
    assert (made["state"], made["ended_by_name"], made["note"]) == ("promoted", "Ada", "It is passed.")
    assert standing(chained) == 2
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
        while not chained.alive():
            chained.next_engine().step(chained.desk.clock())
        assert chained.end_jobs() == [kind]
        failing[:] = [True]
        if kind != "train":  # its end brings no facts
            state = chained.get(improvement)["state"]
            chained.next_engine().step(chained.desk.clock())
            assert chained.get(improvement)["state"] == state
        failing.clear()
        chained.next_engine().step(chained.desk.clock())


@pytest.mark.parametrize("state", ["gathering", "training", "measuring"])
def test_a_step_that_fails_is_gone_on_with(chained: Chained, answers: dict[str, str], state: str) -> None:
    improvement = chained.begin()
    for _ in range(40):
        chained.next_engine().step(chained.desk.clock())
        if chained.get(improvement)["state"] == state and chained.alive():
            break
        chained.end_jobs()
    for job in chained.alive():
        with chained.database.transaction() as tx:
            jobs.claim(tx, job["job_id"], "cpu", 1.0)
            jobs.finish(tx, job["job_id"], "failed", 1.0, error={"error": "DiskFull", "message": "Full."})
    chained.next_engine().step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made["state"], made["failed_at"]) == ("failed", state)
    assert made["trouble"] == {"error": "DiskFull", "message": "Full.", "fix": ""}
    with pytest.raises(StateError, match="is not to be decided on"):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    chained.desk("resume_improvement", improvement=improvement)
    queued = [job["kind"] for job in chained.alive()]
    assert set(queued) <= set(KINDS)
    assert queued
    run_through(chained, improvement)
    with pytest.raises(StateError, match="has not failed"):
        chained.desk("resume_improvement", improvement=improvement)


def test_a_job_that_was_deleted_is_made_anew(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    chained.improving.step(chained.desk.clock())
    (job,) = chained.alive()
    chained.desk.end(job["job_id"], "cancelled")
    with pytest.raises(StateError, match="needed by the improvement"):
        chained.desk("delete", job=job["job_id"])
    with chained.database.transaction() as tx:
        jobs.delete(tx, job["job_id"])
    chained.improving.step(chained.desk.clock())
    assert "was deleted" in str(chained.get(improvement)["trouble"])
    chained.desk("resume_improvement", improvement=improvement)
    assert run_through(chained, improvement) == KINDS


def test_what_a_preview_refuses_is_the_trouble(chained: Chained) -> None:
    improvement = chained.begin()
    chained.desk.problems = [{"level": "error", "field": "max_length", "message": "Too long.", "fix": "Cut."}]
    with pytest.raises(AssertionError):
        run_through(chained, improvement, until="registering", most=8)
    made = chained.get(improvement)
    assert (made["failed_at"], made["trouble"]["message"]) == ("training", "Too long.")  # type: ignore[index]
    chained.desk.problems = []
    chained.desk("resume_improvement", improvement=improvement)
    run_through(chained, improvement, until="registering")


def test_declined_needs_a_reason_and_stop_cancels(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    with pytest.raises(StateError, match="is under way for sums@production"):
        chained.begin()
    run_through(chained, improvement)
    with pytest.raises(ConfigError, match="for a reason"):
        chained.desk("decide_improvement", improvement=improvement, promote=False)
    chained.desk("decide_improvement", improvement=improvement, promote=False, reason="Too slow.", by=ADA)
    assert (chained.get(improvement)["state"], chained.get(improvement)["note"]) == ("declined", "Too slow.")
    assert standing(chained) == 1
    second = chained.begin()
    assert chained.get(second)["name"] == "sums improved 15 Jan 2027 2"
    chained.improving.step(chained.desk.clock())
    (job,) = chained.alive()
    chained.desk("stop_improvement", improvement=second)
    assert jobs.get_job(chained.database, job["job_id"])["status"] == "cancelled"
    chained.improving.step(chained.desk.clock())
    assert chained.get(second)["state"] == "stopped"
    with pytest.raises(StateError, match="has ended already"):
        chained.desk("stop_improvement", improvement=second)


@pytest.mark.parametrize(
    ("change", "words"), [("active = false", "was switched off"), ("role = 'viewer'", "is a viewer by now")]
)
def test_for_who_may_not_work_any_more_nothing_is_done(
    chained: Chained, answers: dict[str, str], change: str, words: str
) -> None:
    chained.add_person(ADA)
    rows = [{"source": "feedback", "endpoint": "Desk"}]
    schedule = {"model": "sums", "rows": rows, "every_hours": 1, "least_rows": 20}
    improvement = chained.desk("begin_improvement", model="sums", rows=rows, by=ADA)["improvement_id"]
    chained.desk("schedule_improvement", **schedule, by=ADA)
    run_through(chained, improvement, until="training")
    with chained.database.transaction() as tx:
        tx.execute(f"UPDATE person SET {change} WHERE person_id = 'p-ada'")
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made["state"], made["failed_at"]) == ("failed", "training")
    assert words in str(made["trouble"])
    assert chained.alive() == []
    chained.next_engine().step(chained.desk.clock() + 7_200)
    (kept,) = improvements.schedules(chained.database)
    assert words in str(kept["trouble"])
    assert [alert["subject"] for alert in monitor_alerts.open_alerts(chained.database, "endpoint-1")]
    chained.desk("resume_improvement", improvement=improvement)
    assert run_through(chained, improvement) == KINDS[3:]
    job = jobs.get_job(chained.database, chained.get(improvement)["facts"]["register_job"])
    assert job["config"]["created_by"]["person_id"] == "owner"


def test_what_is_not_passed_takes_an_admin_with_a_reason(chained: Chained, answers: dict[str, str]) -> None:
    answers["answer"] = "cant_tell"
    improvement = chained.begin()
    run_through(chained, improvement)
    body: dict[str, Any] = {"improvement": improvement, "promote": True}
    with pytest.raises(StateError, match="It is cant_tell"):
        chained.desk("decide_improvement", **body)
    with pytest.raises(ForbiddenError, match="may not override"):
        chained.desk("decide_improvement", **body, override=True, reason="It is right.", by=ADA)
    with pytest.raises(ConfigError, match="says too little"):
        chained.desk("decide_improvement", **body, override=True, reason="Yes")
    chained.desk("decide_improvement", **body, override=True, reason="We read all answers.")
    assert "We read all answers. (though: It is cant_tell.)" in chained.get(improvement)["note"]
    assert standing(chained) == 2


def test_the_alias_has_a_gate_of_its_own(chained: Chained, answers: dict[str, str]) -> None:
    chained.desk("set_gate", model="sums", gate={"checks": [{"check": "forgetting_under"}]})
    improvement = chained.begin()
    run_through(chained, improvement)
    with pytest.raises(StateError, match="does not pass the gate of production"):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    assert chained.get(improvement)["state"] == "deciding"
    assert standing(chained) == 1


def test_an_alias_that_moves_meanwhile_is_measured_against_anew(
    chained: Chained, answers: dict[str, str]
) -> None:
    improvement = chained.begin()
    run_through(chained, improvement)
    chained.desk("remove_alias", model="sums", reason="Wrong.")
    with pytest.raises(
        ConflictError, match=r"no version is production by now, and sums@2 was measured beside"
    ):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    chained.improving.step(chained.desk.clock())
    assert chained.get(improvement)["state"] == "measuring"
    run_through(chained, improvement)
    facts = chained.get(improvement)["facts"]
    assert (facts["holder"], facts["holder_was"]) == ("", "sums@1")
    chained.desk("promote", version="sums@2", reason="By hand.", by=ADA)
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made["state"], made["ended_by_name"], made["note"]) == ("promoted", "Ada", "By hand.")


def test_a_version_in_use_of_another_deal_is_not_held_against_the_new_one(chained: Chained) -> None:
    """Its run may have trained on rows that judge here. That favours it: what fails then tells nothing, and
    what passes has passed against more than it had to."""
    finished_run(chained.desk, "run-2", split_seed=4)
    finished_run(chained.desk, "run-3")
    register(chained.desk, text="two", run="run-2")
    register(chained.desk, text="three", run="run-3")
    own: dict[int, Any] = {}
    for number in (1, 2, 3):
        holder = versions.get_version(chained.database, f"sums@{number}")
        candidate = gate_evidence.Candidate(holder, holder, "production")
        own[number] = improvement_gate.favour(chained.database, "run-1", candidate)
    assert (own[1], own[3]) == ("", "")
    assert (
        own[2]
        == "sums@2 was trained by run-2, which may have trained on rows that judge here: it is favoured"
    )
    failed = improvement_gate.fair(_report((-0.05, -0.03), (0, 0.01), "passed"), (own[2], ""))
    assert [check["answer"] for check in failed["checks"]] == [PASSED, PASSED]
    report = _report((-0.05, -0.03), (0, 0.01))
    report["checks"][0]["answer"] = report["answer"] = "failed"
    unsure = improvement_gate.fair(report, (own[2], ""))
    assert ([check["answer"] for check in unsure["checks"]], unsure["answer"]) == (
        ["cant_tell", PASSED],
        "cant_tell",
    )
    assert own[2] in unsure["checks"][0]["title"]


def test_one_that_can_not_be_moved_holds_up_no_other(
    chained: Chained, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chained.begin(), chained.begin(alias="staging", run="run-1")
    gather = chain.CHAIN["gathering"]

    def broken(links: Any, improvement_id: str, at: float) -> None:
        if improvement_id == first:
            raise RuntimeError("no such thing")
        gather(links, improvement_id, at)

    monkeypatch.setitem(chain.CHAIN, "gathering", broken)
    chained.improving.step(chained.desk.clock())
    assert "gather_job" not in chained.get(first)["facts"]
    assert "gather_job" in chained.get(second)["facts"]


def test_what_goes_wrong_at_every_step_is_given_up_and_told(
    chained: Chained, monkeypatch: pytest.MonkeyPatch
) -> None:
    chained.desk("set_webhook", url="https://example.org/hook", secret="0123456789abcdef")

    def broken(*_: Any) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setitem(chain.CHAIN, "gathering", broken)
    improvement = chained.begin()
    for _ in range(REPEATS - 1):
        chained.improving.step(chained.desk.clock())
    assert chained.get(improvement)["state"] == "gathering"
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made["state"], made["failed_at"]) == ("failed", "gathering")
    assert "no such thing" in str(made["trouble"])
    (body,) = chained.database.query("SELECT body FROM webhook_delivery").column(0).to_pylist()
    message = json.loads(body)
    assert (message["title"], message["answer"]) == ("Failed", None)
    assert "no such thing" in message["reason"]


def test_only_evaluations_of_its_own_are_cancelled(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    run_through(chained, improvement, until="registering")
    chained.improving.step(chained.desk.clock())
    chained.end_jobs()
    facts = chained.get(improvement)["facts"]
    rows = {"dataset": facts["rows_dataset_id"], "part": "test", "metrics": ["bits_per_byte"]}
    config = {"model": "sums@1", "max_rows": None, **rows}
    theirs = chained.desk("evaluate", **config)["job_id"]
    for _ in range(2):
        chained.improving.step(chained.desk.clock())
    facts = chained.get(improvement)["facts"]
    waited = {theirs, *facts["own_evaluation_jobs"]}
    assert (set(facts["evaluation_jobs"]), len(waited)) == (waited, 4)
    chained.desk("stop_improvement", improvement=improvement)
    stopped = {job_id: jobs.get_job(chained.database, job_id)["status"] for job_id in waited}
    assert stopped.pop(theirs) == "queued"
    assert set(stopped.values()) == {"cancelled"}


def test_nobody_promotes_past_its_checks_without_a_trace(chained: Chained, answers: dict[str, str]) -> None:
    answers["answer"] = "failed"
    improvement = chained.begin()
    run_through(chained, improvement, until="measuring")
    body: dict[str, Any] = {"version": "sums@2", "reason": "I like it.", "by": ADA}
    with pytest.raises(StateError, match="has not measured sums@2 yet"):
        chained.desk("promote", **body)
    run_through(chained, improvement)
    with pytest.raises(StateError, match="It is failed"):
        chained.desk("promote", **body)
    with pytest.raises(ForbiddenError, match="may not override"):
        chained.desk("promote", **body, override=True)
    assert standing(chained) == 1
    chained.desk("promote", **{**body, "by": OWNER}, override=True)
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert made["state"] == "promoted"
    assert made["note"] == "I like it. (promoted past its checks: It is failed.)"


def test_nothing_that_it_needs_can_be_deleted(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    run_through(chained, improvement)
    facts = chained.get(improvement)["facts"]
    for command, body in (
        ("delete_dataset", {"dataset": facts["rows_dataset_id"]}),
        ("delete_version", {"version": "sums@2"}),
        ("delete", {"job": facts["run_id"]}),
    ):
        with pytest.raises(StateError, match=r"needed by the improvement|used by|makes a version|run"):
            chained.desk(command, **body)
    chained.desk("stop_improvement", improvement=improvement)
    chained.desk("delete_version", version="sums@2")


def test_its_rows_are_dealt_no_other_way_meanwhile(chained: Chained, answers: dict[str, str]) -> None:
    """The launch and the evaluations deal by the data set: rows that were trained on would judge."""
    improvement = chained.begin()
    run_through(chained, improvement)
    facts = chained.get(improvement)["facts"]
    for dataset in (facts["rows_dataset_id"], facts["dataset_id"]):
        with pytest.raises(StateError, match="trains and measures by the parts of"):
            chained.desk("set_split", dataset=dataset, split_by="random", test_size=0.5)
    chained.desk("stop_improvement", improvement=improvement)
    chained.desk("set_split", dataset=facts["dataset_id"], split_by="random", test_size=0.5)


def test_a_person_is_told_by_the_webhook(chained: Chained, answers: dict[str, str]) -> None:
    chained.desk("set_webhook", url="https://example.org/hook", secret="0123456789abcdef")
    run_through(chained, chained.begin())
    (body,) = chained.database.query("SELECT body FROM webhook_delivery").column(0).to_pylist()
    message = json.loads(body)
    assert (message["event"], message["answer"], message["model"]) == ("improvement", "passed", "sums")


def _report(old: tuple[float, float], new: tuple[float, float], answer: str = PASSED, **more: Any) -> Any:
    checks = [
        {
            "title": "Rows",
            "answer": PASSED,
            "limit": -0.02,
            "unit": "share",
            "value": {"value": low, "low": low, "high": high},
        }
        for low, high in (old, new)
    ]
    checks[1]["answer"] = answer
    ends = {"reference": "sums@2", "alias": "production", "holder": "sums@1", "answer": answer}
    return {**ends, "checks": checks, **more}


@pytest.mark.parametrize(
    ("report", "how", "sentence"),
    [
        (
            _report((-0.013, -0.008), (-0.01, 0.02)),
            "worse_within",
            "sums@2 is surely not more than 2 points worse than sums@1, on the old rows and on the new ones."
            " On the old rows it is surely worse, though by less.",
        ),
        (
            _report((-0.01, 0.008), (-0.01, 0.02)),
            "within",
            "sums@2 is surely not more than 2 points worse than sums@1, on the old rows and on the new ones.",
        ),
        (
            _report((-0.01, 0.008), (-0.05, -0.03), "failed"),
            "worse",
            "sums@2 is surely more than 2 points worse than sums@1 on the new rows.",
        ),
        (
            _report((-0.01, 0.008), (-0.05, 0.03), "cant_tell"),
            "cant_tell",
            "On the new rows it can't be told whether sums@2 is more than 2 points worse.",
        ),
        (
            _report((0, 0), (0, 0), holder=None),
            "alone",
            "No version is production, so sums@2 was held against none: how good it is beside another nothing"
            " here says.",
        ),
    ],
)
def test_a_margin_is_said_and_what_is_worse_is_called_that(report: Any, how: str, sentence: str) -> None:
    assert (improvement_words.how(report), improvement_words.measured(report)) == (how, sentence)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"model": "other"}, NotFoundError, "no registered model"),
        ({"alias": "staging"}, ConfigError, "No version of sums is staging"),
        ({"run": "run-9"}, ConfigError, "run-9"),
        ({"rows": [{"source": "feedback", "endpoint": "Elsewhere"}]}, ConfigError, "Elsewhere"),
        ({"rows": [{"source": "round", "round": "R"}]}, ConfigError, "R"),
        ({"rows": [{"source": "dataset", "dataset": "E"}]}, ConfigError, "no data set 'E'"),
        ({"rows": [{"source": "feedback", "endpoint": "Desk", "alert": "a"}]}, ConfigError, "no alert a"),
        ({"metric": "beauty"}, ConfigError, "no metric beauty"),
        ({"metric": "ece"}, ConfigError, "ece needs the probabilities"),
        ({"rows": []}, ConfigError, "rows"),
        ({"margin": 0.5, "metric": "accuracy"}, ConfigError, "50 points of"),
    ],
)
def test_what_can_not_begin_is_refused(
    chained: Chained, fields: dict[str, Any], error: type[Exception], match: str
) -> None:
    body = {"model": "sums", "rows": [{"source": "feedback", "endpoint": "Desk"}], **fields}
    with pytest.raises(error, match=match):
        chained.desk("begin_improvement", **body)
    assert improvements.of_model(chained.database, "") == []
