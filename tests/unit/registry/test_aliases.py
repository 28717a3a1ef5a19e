"""Moves of aliases: the log, back, two at once, and the gate before them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.registry import version_keeping
from store.core.errors import ConfigError, ConflictError, ForbiddenError, StateError
from store.core.figure_schemas import Figure
from store.core.rating_schemas import RoundDetails, RoundSystem
from store.core.schemas import Person
from store.data import datasets
from store.db.records import to_json
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationResult
from store.http.schemas import describe_promotion
from store.jobs import job_queue
from store.people import activity
from store.registry import gate_checks, gate_evidence, model_versions
from store.registry.gate_checks import GateConfig
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register
from tests.unit.store_samples import row_of

ADA = Person(person_id="p-1", name="Ada", role="member")
GRACE: Person = Person(person_id="p-2", name="Grace", role="admin")
FORGETTING = {"checks": [{"check": "forgetting_under"}]}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.add_dataset()
    finished_run(desk)
    for text in ("one", "two", "three"):
        register(desk, text=text)
    return desk


def stands(desk: Desk) -> int | None:
    return model_versions.alias_standing(
        desk.database, model_versions.get_model(desk.database, "sums").model_id, "production"
    )


def test_moves_are_kept_with_who_and_why_and_back_goes_back(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk("promote", version=f"sums@{number}", reason=f"Number {number}.", by=ADA)
    desk("move_back", model="sums", reason="It answers in French.", by=GRACE)
    assert stands(desk) == 2
    desk("move_back", model="sums", reason="So does this.")
    assert stands(desk) == 1
    with pytest.raises(StateError, match="No other version of sums had the alias production before"):
        desk("move_back", model="sums", reason="Once more.")
    log = model_versions.alias_moves(desk.database, model_versions.get_model(desk.database, "sums").model_id)
    assert [(move.kind, move.from_version, move.to_version) for move in log] == [
        *(("back", 2, 1), ("back", 3, 2), ("promoted", 2, 3), ("promoted", 1, 2), ("promoted", None, 1))
    ]
    assert (log[1].moved_by_name, log[1].reason) == ("Grace", "It answers in French.")
    desk("promote", version="sums@3", reason="Mended.")
    desk("move_back", model="sums", reason="Not so.")
    assert stands(desk) == 1


def test_back_after_the_alias_was_taken_away_loses_nothing(desk: Desk) -> None:
    for number in (1, 2):
        desk("promote", version=f"sums@{number}", reason="Better.")
    desk("remove_alias", model="sums", reason="Nothing is served.")
    for number in (2, 1):
        desk("move_back", model="sums", reason="It was right.")
        assert stands(desk) == number


def test_back_passes_over_versions_that_are_gone(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk("promote", version=f"sums@{number}", reason="Better.")
    desk("delete_version", version="sums@2")
    desk("move_back", model="sums", reason="Worse.")
    assert stands(desk) == 1


def test_the_second_of_two_promotions_is_told_of_the_first(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="First.", seen={"version": None}, by=ADA)
    with pytest.raises(ConflictError, match="Ada moved production of sums, because: First") as caught:
        desk("promote", version="sums@2", reason="Mine.", seen={"version": None}, by=GRACE)
    assert "sums@1 is production now" in caught.value.fix
    assert stands(desk) == 1
    desk("promote", version="sums@2", reason="Mine.", seen={"version": 1}, by=GRACE)
    with pytest.raises(ConflictError):
        desk("move_back", model="sums", reason="Back.", seen={"version": 1})
    assert stands(desk) == 2


def test_a_promotion_that_looked_at_nothing_says_whose_place_it_took(desk: Desk) -> None:
    """From scripts: two promote at once, and the second took the alias without a word."""
    first = desk("promote", version="sums@1", reason="First.", by=ADA)
    assert first["replaced"] is None
    assert describe_promotion(first) == "sums@1 is production now."
    second = desk("promote", version="sums@2", reason="Mine.", by=GRACE)
    assert second["replaced"]["reference"] == "sums@1"
    at = model_versions.alias_moves(desk.database, model_versions.get_model(desk.database, "sums").model_id)[
        1
    ].moved_at
    assert describe_promotion(second) == (
        "sums@2 is production now, in place of sums@1, which Ada made production on"
        f" {at:%d %b %Y at %H:%M:%S} UTC."
    )
    assert desk("move_back", model="sums", reason="Back.", by=ADA)["replaced"]["moved_by_name"] == "Grace"
    assert desk("remove_alias", model="sums", reason="No more.")["replaced"]["reference"] == "sums@1"


@pytest.mark.parametrize(
    ("check", "message", "fix"),
    [
        ({"check": "not_worse"}, "checks.0.check is 'not_worse', which there is none of.", "not_worse_than"),
        ({"check": "paritypassed"}, "'paritypassed', which there is none of.", "Did you mean parity_passed?"),
        ({"check": "zzz"}, "'zzz', which there is none of.", "Give one of not_worse_than, better_on_task"),
        ({"metric": "accuracy"}, "checks.0.check is missing.", "Give checks.0.check a value."),
    ],
)
def test_a_check_that_there_is_none_of_names_what_was_meant(
    check: dict[str, str], message: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        GateConfig.parse({"checks": [check]})
    assert message in caught.value.message
    assert fix in caught.value.fix
    assert caught.value.field == "checks.0.check"


def test_a_gate_that_is_not_passed_lets_admins_through_with_a_reason(desk: Desk) -> None:
    desk("set_gate", model="sums", gate=FORGETTING)
    with pytest.raises(StateError, match=r"sums@1 does not pass the gate of production\. Inconclusive"):
        desk("promote", version="sums@1", reason="Because.", by=GRACE)
    with pytest.raises(ForbiddenError, match="can't override"):
        desk("promote", version="sums@1", reason="It is good enough.", override=True, by=ADA)
    with pytest.raises(ConfigError, match="is too short") as caught:
        desk("promote", version="sums@1", reason="Because", override=True, by=GRACE)
    assert caught.value.field == "reason"
    desk("promote", version="sums@1", reason="The demo is in an hour.", override=True, by=GRACE)
    move = model_versions.alias_moves(
        desk.database, model_versions.get_model(desk.database, "sums").model_id
    )[0]
    assert move.kind == "overridden"
    assert move.gate
    assert move.gate.answer == "cant_tell"
    assert activity.find_last(desk.database, "model", move.model_id, ["promote"]).person_name == "Grace"
    desk("promote", version="sums@2", alias="candidate", reason="No gate there.", by=ADA)


def test_a_gate_that_was_tightened_while_it_was_judged_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tightened(*_: object) -> None:  # checksums are taken meanwhile
        with desk.database.transaction() as tx:
            model_id = model_versions.get_model(tx, "sums").model_id
            model_versions.set_gate(tx, model_id, "production", FORGETTING, GRACE, job_queue.to_utc(desk.now))

    monkeypatch.setattr(version_keeping, "check_whole_files", tightened)
    with pytest.raises(ConflictError, match="Grace changed the gate of production in the meantime"):
        desk("promote", version="sums@1", reason="Quickly.", by=ADA)
    assert stands(desk) is None


def test_an_alias_that_was_moved_while_its_gate_was_judged_stays_where_it_is(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = version_keeping.check_whole_files

    def moved(*_: object) -> None:  # checksums are taken meanwhile
        monkeypatch.setattr(version_keeping, "check_whole_files", check)
        with ThreadPoolExecutor(1) as other:
            other.submit(desk, "promote", version="sums@2", reason="First.", by=GRACE).result()

    monkeypatch.setattr(version_keeping, "check_whole_files", moved)
    with pytest.raises(ConflictError, match=r"Grace moved production of sums, because: First\. sums@2"):
        desk("promote", version="sums@1", reason="Quickly.", by=ADA)
    assert stands(desk) == 2


@pytest.mark.parametrize("alias", ["../x", "a@b", "3", "", "x" * 33, "Production", "a b"])
def test_aliases_are_plain_words(desk: Desk, alias: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desk("promote", version="sums@1", alias=alias, reason="Good.")
    assert caught.value.field == "alias"


def test_an_alias_is_taken_away_and_a_reason_is_needed(desk: Desk) -> None:
    with pytest.raises(ConfigError) as caught:
        desk("promote", version="sums@1", reason=" ")
    assert caught.value.field == "reason"
    desk("promote", version="sums@1", reason="Good.")
    desk("remove_alias", model="sums", reason="Nothing is served.")
    assert stands(desk) is None
    with pytest.raises(StateError, match="No version of sums has the alias production"):
        desk("remove_alias", model="sums", reason="Again.")


def test_a_gate_names_data_sets_that_are_there_and_keeps_their_ids(desk: Desk) -> None:
    check = {"check": "not_worse_than", "dataset": "D", "metric": "accuracy"}
    desk("set_gate", model="sums", gate={"checks": [check]})
    line = model_versions.gate(
        desk.database, model_versions.get_model(desk.database, "sums").model_id, "production"
    )
    assert line
    assert line.config["checks"][0]["dataset"] == "data-D"
    with pytest.raises(ConfigError) as caught:
        desk("set_gate", model="sums", gate={"checks": [check | {"dataset": "None"}]})
    assert caught.value.field == "gate.checks.0.dataset"


def test_evidence_is_queued_for_both_on_the_same_rows_and_once(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="The first.")
    checks = [
        {"check": "not_worse_than", "dataset": "D", "metric": metric, "max_rows": 50}
        for metric in ("chrf", "exact_match")
    ]
    desk("set_gate", model="sums", gate={"checks": checks})
    job_ids = desk("gather_gate_evidence", version="sums@2")["job_ids"]
    configs = [desk.job(job_id).config for job_id in job_ids]
    assert sorted(config["model"] for config in configs) == ["sums@1", "sums@2"]
    assert all([c["metric"] for c in config["metrics"]] == ["chrf", "exact_match"] for config in configs)
    assert all(config["max_rows"] == 50 for config in configs)
    assert desk("gather_gate_evidence", version="sums@2")["job_ids"] == job_ids


def evaluated(desk: Desk, model: str, dtype: str = "float32", **asked: Any) -> str:
    """An evaluation of a version by chrF on D that has finished; its id."""
    asked = {"model": model, "dataset": "data-D", "metrics": ["chrf"]} | asked
    config = EvaluateConfig.parse(asked).document()
    job_id = job_queue.create_id("evaluation", desk.clock())
    figures = [row_of(Figure, metric="eval/chrf", value=50.0)]
    result = row_of(EvaluationResult, dtype=dtype, n=9, figures=figures)
    with desk.database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob(job_id, "evaluate", model, config, desk.now))
        job = job_queue.get_job(tx, job_id)
        evaluations.insert(tx, job, result, datasets.get_dataset(tx, "D"), model, desk.now)
    desk.end(job_id, "finished")
    return job_id


def test_versions_that_were_asked_in_other_ways_are_not_compared(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="The first.")
    check = {"check": "not_worse_than", "dataset": "D", "metric": "chrf"}
    desk("set_gate", model="sums", gate={"checks": [check]})
    words = {"metric": "chrf", "word_order": 2}
    its = evaluated(desk, "sums@1", "bfloat16", max_new_tokens=128, metrics=[words])
    evaluated(desk, "sums@2")
    evidence = gate_checks.case(desk.database, "sums@2", "production").checks[0][2]
    assert evidence["missing"] == (
        "sums@2 was not prompted like sums@1 on D (dtype: float32 and bfloat16; max_new_tokens: 64 and "
        "128; word_order of chrf: 0 and 2), which alone can change the answers."
    )
    job_ids = desk("gather_gate_evidence", version="sums@2")["job_ids"]
    assert desk("gather_gate_evidence", version="sums@2")["job_ids"] == job_ids
    (config,) = (desk.job(job_id).config for job_id in job_ids)
    assert (config["model"], config["rows_of"], config["dtype"]) == ("sums@2", its, "bfloat16")
    assert config["max_new_tokens"] == 128
    assert config["metrics"][0]["word_order"] == 2


def test_of_several_evaluations_that_which_was_asked_alike_counts(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="The first.")
    check = {"check": "not_worse_than", "dataset": "D", "metric": "chrf"}
    desk("set_gate", model="sums", gate={"checks": [check]})
    evaluated(desk, "sums@1", max_new_tokens=128)
    evaluated(desk, "sums@2", max_new_tokens=128)
    evaluated(desk, "sums@2")
    assert desk("gather_gate_evidence", version="sums@2")["job_ids"] == []


def test_each_evaluation_that_takes_the_place_of_another_is_a_try(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="The first.")
    check = {"check": "not_worse_than", "dataset": "D", "metric": "chrf"}
    desk("set_gate", model="sums", gate={"checks": [check]})

    def tries() -> int:
        fingerprint = datasets.get_dataset(desk.database, "D").fingerprint
        of_each = [
            gate_evidence.evaluations_of(desk.database, model_versions.get_version(desk.database, name))
            for name in ("sums@2", "sums@1")
        ]
        asked = {"part": "test", "where": "", **check}
        return gate_evidence.count_tries(of_each[0], asked, fingerprint, "chrf", of_each[1])

    for model, count in (("sums@1", 0), ("sums@2", 1), ("sums@2", 2), ("sums@1", 3)):
        evaluated(desk, model)
        desk.now += 60
        assert tries() == count


def test_what_was_chosen_as_it_is_hard_says_nothing_of_a_version(desk: Desk) -> None:
    desk("promote", version="sums@1", reason="The first.")
    desk("set_gate", model="sums", gate={"checks": [{"check": "human_ratings"}]})
    systems = to_json([row_of(RoundSystem, name=name, model=name) for name in ("sums@1", "sums@2")])

    def evidence() -> Any:
        return gate_checks.case(desk.database, "sums@2", "production").checks[0][2]

    with desk.database.transaction() as tx:
        tx.execute(
            "INSERT INTO rating_round SELECT 'r', 'R', '', 'pairwise', '{}', ?, 'closed', NULL, 9, ?, 'p',"
            " 'P', now(), NULL, NULL",
            [systems, to_json(row_of(RoundDetails))],
        )
        for item in range(9):
            tx.execute(
                "INSERT INTO round_request SELECT 'r', ?, 'e', 'q', now(), 'sums@1', 'live', NULL, false,"
                " NULL, []",
                [item],
            )
            tx.execute(
                "INSERT INTO rating_task VALUES (?, 'r', ?, 'p-1', 'P', [0, 1], 'first', NULL, ?, now())",
                [f"t{item}", item, item],
            )
            tx.execute(
                """INSERT INTO rating VALUES (?, 1, 'r', '{"choice": "A"}', '', 1, now())""", [f"t{item}"]
            )
    assert "on randomly sampled items" in evidence()["missing"]
    with desk.database.transaction() as tx:
        tx.execute("UPDATE round_request SET random = true WHERE item_id < 4")
    assert len(evidence()["rated"].outcomes) == 4
    for drawn, rated in (
        (9, 0),
        (20, 4),
    ):  # of 20 prompts of a data set; where all were taken nothing was chosen
        with desk.database.transaction() as tx:
            tx.execute(
                "UPDATE rating_round SET config = ?, details = ?",
                [
                    json.dumps({"choice": "telling"}),
                    to_json(row_of(RoundDetails, drawn=drawn, rows=20, left_out=0)),
                ],
            )
        rated_rows = evidence().get("rated")
        assert (len(rated_rows.outcomes) if rated_rows else 0) == rated
