"""A person's word: what is promoted, past what and by whom, and what the checks come to in words."""

from __future__ import annotations

from typing import Any

import pytest

from engine.retraining import gate
from store.core.errors import ConfigError, ConflictError, ForbiddenError, StateError
from store.core.figure_schemas import Estimate
from store.core.rights import OWNER
from store.core.schemas import Person
from store.jobs import job_queue
from store.registry import gate_candidates, model_versions
from store.registry.schemas import CheckAnswer, CheckReport, GateReport
from store.retraining import improvements
from store.retraining import text as improvement_text
from tests.unit.improving.chained import Chained
from tests.unit.registering import finished_run, register
from tests.unit.store_samples import row_of

ADA = Person(person_id="p-ada", name="Ada", role="member")
PASSED: CheckAnswer = "passed"


def test_declined_needs_a_reason_and_stop_cancels(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    with pytest.raises(StateError, match="is already in progress for sums@production"):
        chained.begin()
    chained.run_through(improvement)
    with pytest.raises(ConfigError, match="takes a reason"):
        chained.desk("decide_improvement", improvement=improvement, promote=False)
    chained.desk("decide_improvement", improvement=improvement, promote=False, reason="Too slow.", by=ADA)
    assert (chained.get(improvement).state, chained.get(improvement).note) == ("declined", "Too slow.")
    assert chained.standing() == 1
    second = chained.begin()
    assert chained.get(second).name == "sums improved 15 Jan 2027 2"
    chained.improving.step(chained.desk.clock())
    (job,) = chained.alive()
    chained.desk("stop_improvement", improvement=second)
    assert job_queue.get_job(chained.database, job.job_id).status == "cancelled"
    chained.improving.step(chained.desk.clock())
    assert chained.get(second).state == "stopped"
    with pytest.raises(StateError, match="has ended already"):
        chained.desk("stop_improvement", improvement=second)


def test_what_is_not_passed_takes_an_admin_with_a_reason(chained: Chained, answers: dict[str, str]) -> None:
    answers["answer"] = "cant_tell"
    improvement = chained.begin()
    chained.run_through(improvement)
    body: dict[str, Any] = {"improvement": improvement, "promote": True}
    with pytest.raises(StateError, match="It is cant_tell"):
        chained.desk("decide_improvement", **body)
    with pytest.raises(ForbiddenError, match="can't override the checks"):
        chained.desk("decide_improvement", **body, override=True, reason="It is right.", by=ADA)
    with pytest.raises(ConfigError, match="is too short"):
        chained.desk("decide_improvement", **body, override=True, reason="Yes")
    chained.desk("decide_improvement", **body, override=True, reason="We read all answers.")
    assert "We read all answers. (though: It is cant_tell.)" in chained.get(improvement).note
    assert chained.standing() == 2


def test_the_alias_has_a_gate_of_its_own(chained: Chained, answers: dict[str, str]) -> None:
    chained.desk("set_gate", model="sums", gate={"checks": [{"check": "forgetting_under"}]})
    improvement = chained.begin()
    chained.run_through(improvement)
    with pytest.raises(StateError, match="does not pass the gate of production"):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    assert chained.get(improvement).state == "deciding"
    assert chained.standing() == 1


def test_an_alias_that_moves_meanwhile_is_measured_against_anew(
    chained: Chained, answers: dict[str, str]
) -> None:
    improvement = chained.begin()
    chained.run_through(improvement)
    chained.desk("remove_alias", model="sums", reason="Wrong.")
    with pytest.raises(ConflictError, match=r"production is now no version, but sums@2 was compared with"):
        chained.desk("decide_improvement", improvement=improvement, promote=True)
    chained.improving.step(chained.desk.clock())
    assert chained.get(improvement).state == "measuring"
    chained.run_through(improvement)
    facts = chained.get(improvement).facts
    assert (facts["holder"], facts["holder_was"]) == ("", "sums@1")
    chained.desk("promote", version="sums@2", reason="By hand.", by=ADA)
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert (made.state, made.ended_by_name, made.note) == ("promoted", "Ada", "By hand.")


def test_a_version_in_use_of_another_deal_is_not_held_against_the_new_one(chained: Chained) -> None:
    """Its run may have trained on rows that judge here. That favours it: what fails then tells nothing, and
    what passes has passed against more than it had to."""
    finished_run(chained.desk, "run-2", split_seed=4)
    finished_run(chained.desk, "run-3")
    register(chained.desk, text="two", run="run-2")
    register(chained.desk, text="three", run="run-3")
    own: dict[int, Any] = {}
    for number in (1, 2, 3):
        holder = model_versions.get_version(chained.database, f"sums@{number}")
        candidate = gate_candidates.Candidate(holder, holder, "production")
        own[number] = gate.explain_leakage(chained.database, "run-1", candidate)
    assert (own[1], own[3]) == ("", "")
    assert (
        own[2]
        == "sums@2 was trained by run-2, which may have been trained on rows held out here, which favors it"
    )
    failed = gate.adjust_for_leakage(_report((-0.05, -0.03), (0, 0.01), "passed"), (own[2], ""))
    assert [check.answer for check in failed.checks] == [PASSED, PASSED]
    report = _report((-0.05, -0.03), (0, 0.01))
    report.checks[0].answer = report.answer = "failed"
    unsure = gate.adjust_for_leakage(report, (own[2], ""))
    assert ([check.answer for check in unsure.checks], unsure.answer) == (
        ["cant_tell", PASSED],
        "cant_tell",
    )
    assert own[2] in unsure.checks[0].title


def test_nobody_promotes_past_its_checks_without_a_trace(chained: Chained, answers: dict[str, str]) -> None:
    answers["answer"] = "failed"
    improvement = chained.begin()
    chained.run_through(improvement, until="measuring")
    body: dict[str, Any] = {"version": "sums@2", "reason": "I like it.", "by": ADA}
    with pytest.raises(StateError, match="has not measured sums@2 yet"):
        chained.desk("promote", **body)
    chained.run_through(improvement)
    with pytest.raises(StateError, match="It is failed"):
        chained.desk("promote", **body)
    with pytest.raises(ForbiddenError, match="override the gate"):
        chained.desk("promote", **body, override=True)
    assert chained.standing() == 1
    chained.desk("promote", **{**body, "by": OWNER}, override=True)
    chained.improving.step(chained.desk.clock())
    made = chained.get(improvement)
    assert made.state == "promoted"
    assert made.note == "I like it. (promoted by override: It is failed.)"


@pytest.mark.parametrize("ended", ["stopped", "declined"])
def test_what_was_ended_passes_no_easier_than_what_is_under_way(
    chained: Chained, answers: dict[str, str], ended: str
) -> None:
    answers["answer"] = "failed"
    improvement = chained.begin()
    chained.run_through(improvement)
    if ended == "stopped":
        chained.desk("stop_improvement", improvement=improvement, by=ADA)
    else:
        chained.desk("decide_improvement", improvement=improvement, promote=False, reason="Too slow.", by=ADA)
    body: dict[str, Any] = {"version": "sums@2", "reason": "I like it.", "by": ADA}
    with pytest.raises(StateError, match=f"was {ended}: It is failed"):
        chained.desk("promote", **body)
    with pytest.raises(ForbiddenError, match="override the gate"):
        chained.desk("promote", **body, override=True)
    chained.desk("promote", **{**body, "by": OWNER}, override=True)
    assert chained.standing() == 2


def test_what_was_stopped_before_it_was_measured_takes_an_admin(
    chained: Chained, answers: dict[str, str]
) -> None:
    improvement = chained.begin()
    chained.run_through(improvement, until="measuring")
    chained.desk("stop_improvement", improvement=improvement, by=ADA)
    with pytest.raises(StateError, match=r"was stopped before it had measured sums@2"):
        chained.desk("promote", version="sums@2", reason="I like it.", by=ADA)


def test_what_a_stopped_run_left_takes_an_admin_whoever_registers_it(chained: Chained) -> None:
    """The improvement learns of its version a step after it is there, and of one made by hand never."""
    improvement = chained.begin()
    chained.run_through(improvement, until="registering")  # and its job has ended
    chained.desk("stop_improvement", improvement=improvement, by=ADA)
    facts = chained.get(improvement).facts
    assert "version" not in facts
    register(chained.desk, text="by hand", run=facts["run_id"])
    for reference in ("sums@2", "sums@3"):
        with pytest.raises(StateError, match=f"was stopped before it had measured {reference}"):
            chained.desk("promote", version=reference, reason="I like it.", by=ADA)
    with chained.database.transaction() as tx:  # measured, but another one of the run
        improvements.set_facts(tx, improvement, gate=_report((0, 0), (0, 0)), version="sums@2")
    chained.desk("promote", version="sums@2", reason="It passed.", by=ADA)
    with pytest.raises(StateError, match="has measured sums@2 and not sums@3"):
        chained.desk("promote", version="sums@3", reason="I like it.", by=ADA)


def test_a_pass_beside_one_that_is_in_use_no_more_is_none(chained: Chained) -> None:
    improvement = chained.begin()
    chained.run_through(improvement, until="measuring")
    register(chained.desk, text="three")
    chained.desk("promote", version="sums@3", reason="Better.")
    body: dict[str, Any] = {"version": "sums@2", "reason": "I like it.", "by": ADA}
    moved = "compared sums@2 with sums@1, but sums@3 is production now"
    for state in ("deciding", "declined", "stopped"):
        with chained.database.transaction() as tx:  # `holder` is set before it is measured anew
            improvements.set_facts(tx, improvement, gate=_report((0, 0), (0, 0)), holder="sums@3")
            tx.execute("UPDATE improvement SET state = ? WHERE improvement_id = ?", [state, improvement])
        with pytest.raises(StateError, match=moved):
            chained.desk("promote", **body)
    chained.desk("move_back", model="sums", reason="A doubt.")
    chained.desk("promote", **body)
    assert chained.standing() == 2


def test_what_was_promoted_once_and_went_back_passes_by_the_gate_alone(
    chained: Chained, answers: dict[str, str]
) -> None:
    improvement = chained.begin()
    chained.run_through(improvement)
    chained.desk("decide_improvement", improvement=improvement, promote=True)
    chained.desk("move_back", model="sums", reason="A doubt.")
    chained.desk("promote", version="sums@2", reason="It was none.", by=ADA)
    assert chained.standing() == 2


def _report(
    old: tuple[float, float], new: tuple[float, float], answer: CheckAnswer = PASSED, **more: Any
) -> GateReport:
    checks = [
        row_of(
            CheckReport, title="Rows", check="not_worse_than", answer=its, limit=-0.02, unit="share",
            value=Estimate(value=low, low=low, high=high, n=100),
        )
        for its, (low, high) in ((PASSED, old), (answer, new))
    ]  # fmt: skip
    ends = {"reference": "sums@2", "alias": "production", "holder": "sums@1", "answer": answer}
    return row_of(GateReport, **(ends | more), checks=checks)


@pytest.mark.parametrize(
    ("report", "how", "sentence"),
    [
        (
            _report((-0.013, -0.008), (-0.01, 0.02)),
            "worse_within",
            "sums@2 is not more than 2 points worse than sums@1, on old and new rows (95% confidence)."
            " On the old rows it is significantly worse, but by less.",
        ),
        (
            _report((-0.01, 0.008), (-0.01, 0.02)),
            "within",
            "sums@2 is not more than 2 points worse than sums@1, on old and new rows (95% confidence).",
        ),
        (
            _report((-0.01, 0.008), (-0.05, -0.03), "failed"),
            "worse",
            "sums@2 is significantly more than 2 points worse than sums@1 on the new rows.",
        ),
        (
            _report((-0.01, 0.008), (-0.05, 0.03), "cant_tell"),
            "cant_tell",
            "On the new rows it is inconclusive whether sums@2 is more than 2 points worse.",
        ),
        (
            _report((0, 0), (0, 0), holder=None),
            "alone",
            "No version has the alias production, so sums@2 was not compared with any.",
        ),
    ],
)
def test_a_margin_is_said_and_what_is_worse_is_called_that(
    report: GateReport, how: str, sentence: str
) -> None:
    assert (improvement_text.classify_outcome(report), improvement_text.describe_outcome(report)) == (
        how,
        sentence,
    )
