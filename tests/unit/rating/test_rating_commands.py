"""The commands of rating rounds, over a real store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.core.errors import ConfigError, DataError, ForbiddenError, NotFoundError, StateError
from store.evaluation import evaluations
from store.jobs import job_queue
from store.rating import ratings, rounds
from tests.unit.rating.round_desk import NAMES, RoundDesk, chat, person

BOB, CLEO = person("Bob", "rater"), person("Cleo", "rater")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    yield desk
    desk.database.close()


def tasks(desk: RoundDesk, round_id: str, by: Any = BOB, **body: Any) -> dict[str, Any]:
    return desk("next_rating_tasks", by, round=round_id, **body)


def rate(desk: RoundDesk, round_id: str, task: str, by: Any = BOB, **body: Any) -> dict[str, Any]:
    body = {"answer": {"choice": "A"}, "seconds": 2.5} | body
    return desk("rate", by, round=round_id, task=task, **body)


def rate_all(desk: RoundDesk, round_id: str, by: Any = BOB) -> int:
    """Rate until nothing is left; how many there were."""
    count = 0
    while waiting := tasks(desk, round_id, by)["tasks"]:
        for task in waiting:
            rate(desk, round_id, task["task_id"], by)
            count += 1
    return count


def test_a_round_gathers_the_answers_that_are_there(desk: RoundDesk) -> None:
    round_id = desk.round(items=12)
    round = rounds.get(desk.database, round_id)
    assert (round.state, round.item_count, round.protocol) == ("open", 12, "pairwise")
    assert [system.name for system in round.systems] == list(NAMES)
    assert round.created_by_name == "Ada"
    assert round.details.rows == 20
    assert round.details.notices == ["A random 12 of 20 prompts."]
    items = rounds.items(desk.database, round_id)
    assert len({item.row_id for item in items}) == 12
    for item in items:
        n = item.row_id
        assert item.prompt == [{"role": "user", "content": f"Question {n}?"}]
        assert item.answers == [f"Short answer {n}", f"A somewhat longer answer {n}"]
        assert item.reference == f"Right answer {n}."


def test_models_without_answers_are_evaluated_first_on_the_very_prompts(desk: RoundDesk) -> None:
    first = desk.both()[0]
    made = desk("start_round", name="R", models=[{"evaluation": first}, {"model": "Other"}], max_new_tokens=9)
    job = job_queue.get_job(desk.database, made["round_id"])
    assert job.after_jobs == made["job_ids"]
    (evaluation,) = evaluations.unfinished(desk.database)
    assert evaluation.config["rows_of"] == first
    assert evaluation.config["max_new_tokens"] == 9
    assert [model["evaluation"] for model in job.config["round"]["models"]] == [
        first,
        evaluation.job_id,
    ]


def test_a_refused_round_leaves_no_evaluation_behind(desk: RoundDesk) -> None:
    models = [{"model": "One"}, {"run": "nobody"}]
    with pytest.raises(ConfigError) as refused:
        desk("start_round", name="R", models=models, dataset="Questions")
    assert refused.value.field == "models.1.run"
    assert evaluations.unfinished(desk.database) == []


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"models": [{"model": "One"}]}, "config"),
        ({"protocol": "rubric", "models": [{"model": "One"}]}, "config"),
        ({"models": [{"model": "One"}, {"evaluation": "nothing"}]}, "models.1.evaluation"),
        ({"models": [{"model": "One", "run": "Two"}, {"model": "Three"}]}, "models.0"),
        ({"overlap": 0}, "overlap"),
        ({"gold_items": 3}, "config"),
        ({"models": [{"model": "One"}, {"model": "Two"}]}, "dataset"),
    ],
)
def test_a_bad_field_is_named(desk: RoundDesk, config: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        desk("start_round", **{"name": "R", "models": [{"model": "One"}, {"model": "Two"}]} | config)
    assert refused.value.field == field


def test_evaluations_of_other_rows_are_refused(desk: RoundDesk) -> None:
    first = desk.both()[0]
    desk.imported("Others", [chat("Another?", "Yes.")] * 3)
    with pytest.raises(ConfigError, match="other rows"):
        desk("start_round", name="R", models=[{"evaluation": first}, {"model": "X"}], dataset="Others")


def test_models_without_a_prompt_in_common_are_told(desk: RoundDesk) -> None:
    ids = [desk.evaluated("One", ["a"] * 5), desk.evaluated("Two", ["b"] * 5, first=5)]
    with pytest.raises(DataError, match="no prompt in common"):
        desk.round(models=[{"evaluation": each} for each in ids])


def test_answers_that_name_their_model_are_counted_or_left_out(desk: RoundDesk) -> None:
    given = [f"I am Llama, answer {n}" if n < 3 else f"Answer {n}" for n in range(20)]
    ids = [desk.evaluated("One", given), desk.evaluated("Two", ["b"] * 20)]
    models = [{"evaluation": each} for each in ids]
    kept = rounds.get(desk.database, desk.round(models=models))
    assert (kept.item_count, kept.details.named, kept.details.left_out) == (20, 3, 0)
    left = rounds.get(desk.database, desk.round(models=models, named="leave_out"))
    assert (left.item_count, left.details.named, left.details.left_out) == (17, 0, 3)


def test_a_rater_learns_nothing_of_who_wrote_what(desk: RoundDesk) -> None:
    round_id = desk.round()
    answer = tasks(desk, round_id)
    receipt = rate(desk, round_id, answer["tasks"][0]["task_id"])
    listed = desk("rounds_to_rate", BOB)
    for sent in (answer, receipt, listed):
        text = json.dumps(sent, default=str)
        for secret in (*NAMES, "evaluation", "system", "job-", "data-"):
            assert secret not in text
    ids = [task["task_id"] for task in answer["tasks"]]
    assert len(set(ids)) == 4
    other = tasks(desk, round_id, CLEO)
    assert not {task["task_id"] for task in other["tasks"]} & set(ids)


def test_a_rating_is_stored_once_and_the_page_is_filled_up(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=1, items=None)
    first = tasks(desk, round_id, want=2)["tasks"]
    assert len(first) == 2
    have = [task["task_id"] for task in first[1:]]
    receipt = rate(desk, round_id, first[0]["task_id"], want=2, have=have)
    assert receipt["stored"] is True
    assert receipt["already"] is False
    assert receipt["progress"]["done"] == 1
    assert len(receipt["tasks"]) == 1
    assert receipt["tasks"][0]["task_id"] not in {task["task_id"] for task in first}
    again = rate(desk, round_id, first[0]["task_id"], answer={"choice": "B"})
    assert again["already"] is True
    (task,) = [t for t in ratings.dealt(desk.database, round_id) if t.task_id == first[0]["task_id"]]
    assert task.answer == {"choice": "A"}
    assert ratings.count_revisions(desk.database, round_id) == 1


def test_who_thinks_again_adds_a_revision(desk: RoundDesk) -> None:
    round_id = desk.round()
    task_id = tasks(desk, round_id)["tasks"][0]["task_id"]
    rate(desk, round_id, task_id)
    receipt = rate(desk, round_id, task_id, revision=2, answer={"choice": "tie"}, comment="Both say it.")
    assert (receipt["revision"], receipt["already"], receipt["progress"]["done"]) == (2, False, 1)
    last = tasks(desk, round_id)["last"]
    assert [(entry["answer"], entry["revision"], entry["comment"]) for entry in last] == [
        ({"choice": "tie"}, 2, "Both say it.")
    ]
    assert ratings.count_revisions(desk.database, round_id) == 2


def test_what_lies_with_a_rater_stays_theirs_after_a_reload(desk: RoundDesk) -> None:
    round_id = desk.round()
    first, again = (tasks(desk, round_id)["tasks"] for _ in range(2))
    assert first == again


def test_every_pair_is_rated_by_as_many_as_were_asked_for(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=2)
    for rater in (BOB, CLEO, person("Dan", "rater")):
        while waiting := tasks(desk, round_id, rater)["tasks"]:
            for task in waiting:
                rate(desk, round_id, task["task_id"], rater)
    counts = Counter(task.item_id for task in ratings.dealt(desk.database, round_id))
    assert counts == dict.fromkeys(range(20), 2)
    line = rounds.line(desk.database, round_id)
    assert (line.rated, line.extra, line.wanted, line.raters) == (40, 0, 40, 2)


def test_a_skipped_pair_goes_to_others(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=1, items=1)
    (task,) = tasks(desk, round_id)["tasks"]
    rate(desk, round_id, task["task_id"], answer={"skipped": True, "reason": "Not my field"})
    assert tasks(desk, round_id)["tasks"] == []
    assert len(tasks(desk, round_id, CLEO)["tasks"]) == 1


def test_nobody_rates_more_than_was_asked_for(desk: RoundDesk) -> None:
    round_id = desk.round(per_rater=3)
    answer = tasks(desk, round_id)
    assert len(answer["tasks"]) == 3
    assert answer["progress"]["total"] == 3
    for task in answer["tasks"]:
        rate(desk, round_id, task["task_id"])
    assert tasks(desk, round_id)["tasks"] == []


@pytest.mark.parametrize("items", [8, 12])
def test_whoever_rates_everything_alone_comes_to_the_end(desk: RoundDesk, items: int) -> None:
    round_id = desk.round(items=items, overlap=1, repeat_share=0.1)
    while waiting := tasks(desk, round_id)["tasks"]:
        progress = rate(desk, round_id, waiting[0]["task_id"])["progress"]
        assert progress["total"] == {8: 8, 12: 13}[items]
    assert tasks(desk, round_id)["progress"]["done"] == progress["total"]


def test_who_waits_for_others_is_told_so_until_they_have_rated(desk: RoundDesk) -> None:
    round_id = desk.round(items=4, overlap=1)
    first, *others = tasks(desk, round_id)["tasks"]
    rate(desk, round_id, first["task_id"], answer={"skipped": True, "reason": "Not my field"})
    (own,) = tasks(desk, round_id, CLEO)["tasks"]
    rate(desk, round_id, own["task_id"], CLEO)
    assert tasks(desk, round_id, CLEO)["progress"] | {"seconds_each": None} == {
        "done": 1, "total": 4, "seconds_each": None,
    }  # fmt: skip
    for task in others:
        rate(desk, round_id, task["task_id"])
    assert tasks(desk, round_id, CLEO)["progress"]["total"] == 1
    assert tasks(desk, round_id)["progress"]["total"] == 4


def test_a_disagreement_goes_to_a_third(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=2, items=2, adjudicate=True)
    for rater, side in ((BOB, 0), (CLEO, 1)):
        for task in tasks(desk, round_id, rater)["tasks"]:
            first = task["prompt"][0]["content"]
            choice = "AB"[["Short" in text for text in task["answers"]].index(side == 0)]
            rate(
                desk,
                round_id,
                task["task_id"],
                rater,
                answer={"choice": choice if "1" not in first else "tie"},
            )
    dan, eve = person("Dan", "rater"), person("Eve", "rater")
    disputed = [task for task in ratings.dealt(desk.database, round_id) if task.answer != {"choice": "tie"}]
    third = tasks(desk, round_id, dan)["tasks"]
    assert len(third) == len({task.item_id for task in disputed})
    for task in third:
        rate(desk, round_id, task["task_id"], dan)
    assert tasks(desk, round_id, eve)["tasks"] == []


def test_a_closed_round_takes_nothing_until_it_is_opened(desk: RoundDesk) -> None:
    round_id = desk.round()
    task_id = tasks(desk, round_id)["tasks"][0]["task_id"]
    desk("close_round", round=round_id)
    assert rounds.get(desk.database, round_id).closed_by_name == "Ada"
    assert tasks(desk, round_id)["tasks"] == []
    assert tasks(desk, round_id)["round"]["state"] == "closed"
    with pytest.raises(StateError, match="closed"):
        rate(desk, round_id, task_id)
    with pytest.raises(StateError, match="already"):
        desk("close_round", round=round_id)
    desk("open_round", round=round_id)
    assert rate(desk, round_id, task_id)["stored"]


def test_a_task_of_somebody_else_is_not_theirs_to_rate(desk: RoundDesk) -> None:
    round_id = desk.round()
    task_id = tasks(desk, round_id)["tasks"][0]["task_id"]
    with pytest.raises(ForbiddenError, match="assigned to another rater"):
        rate(desk, round_id, task_id, CLEO)
    with pytest.raises(StateError, match="no longer exists"):
        rate(desk, round_id, "never dealt")
    with pytest.raises(NotFoundError):
        tasks(desk, "no round")


@pytest.mark.parametrize(
    ("protocol", "answer", "field"),
    [
        ("pairwise", {"choice": "C"}, "choice"),
        ("pairwise", {}, "choice"),
        ("rank", {"ranks": [1]}, "ranks"),
        ("rank", {"ranks": [1, 3]}, "ranks"),
        ("rank", {"ranks": [1, True]}, "ranks"),
        ("rubric", {"scores": {"Tone": 6}}, "scores.Tone"),
        ("rubric", {"scores": {}}, "scores"),
        ("pass_fail", {"passed": "yes"}, "passed"),
        ("pass_fail", {"passed": False, "reasons": ["Made up"]}, "reasons"),
        ("correction", {"text": " "}, "text"),
        ("correction", {"text": 3}, "text"),
    ],
)
def test_an_answer_that_does_not_fit_the_protocol_is_refused(
    desk: RoundDesk, protocol: str, answer: dict[str, Any], field: str
) -> None:
    criteria = [{"name": "Tone", "anchors": ["a", "b", "c", "d", "e"]}] if protocol == "rubric" else []
    round_id = desk.round(protocol=protocol, criteria=criteria, reasons=["Wrong"])
    task_id = tasks(desk, round_id)["tasks"][0]["task_id"]
    with pytest.raises(ConfigError) as refused:
        rate(desk, round_id, task_id, answer=answer)
    assert refused.value.field == f"answer.{field}"
    assert ratings.count_revisions(desk.database, round_id) == 0


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("rank", {"ranks": [2, 1]}),
        ("rank", {"ranks": [1, 1]}),
        ("rubric", {"scores": {"Tone": 4}}),
        ("pass_fail", {"passed": False, "reasons": ["Wrong"]}),
        ("correction", {"text": "Better <b>text</b>"}),
    ],
)
def test_every_protocol_keeps_its_answer(desk: RoundDesk, protocol: str, answer: dict[str, Any]) -> None:
    criteria = [{"name": "Tone", "anchors": ["a", "b", "c", "d", "e"]}] if protocol == "rubric" else []
    round_id = desk.round(protocol=protocol, criteria=criteria, reasons=["Wrong"])
    task = tasks(desk, round_id)["tasks"][0]
    assert len(task["answers"]) == (2 if protocol == "rank" else 1)
    rate(desk, round_id, task["task_id"], answer=answer)
    assert tasks(desk, round_id)["last"][0]["answer"] == answer


def test_a_rater_may_be_left_out_and_taken_in(desk: RoundDesk) -> None:
    round_id = desk.round()
    rate(desk, round_id, tasks(desk, round_id)["tasks"][0]["task_id"])
    desk("leave_rater_out", round=round_id, person="bob")
    desk("leave_rater_out", round=round_id, person="bob")
    (left,) = ratings.left_out(desk.database, round_id)
    assert (left.person_id, left.by_name) == ("bob", "Ada")
    desk("take_rater_in", round=round_id, person="bob")
    assert ratings.left_out(desk.database, round_id) == []
    with pytest.raises(NotFoundError):
        desk("leave_rater_out", round=round_id, person="nobody")


def test_gold_pairs_come_in_between_and_are_not_counted_as_items(desk: RoundDesk) -> None:
    pairs = [{"prompt": f"P{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(5)]
    desk.imported("Known", pairs)
    round_id = desk.round(gold_dataset="Known", gold_items=2, overlap=1)
    assert rounds.get(desk.database, round_id).item_count == 20
    rate_all(desk, round_id)
    dealt = ratings.dealt(desk.database, round_id)
    gold = [task for task in dealt if task.purpose == "gold"]
    assert len(gold) == 2  # one in ten, and not among the first
    items = rounds.some_items(desk.database, round_id, [task.item_id for task in gold])
    for item in items.values():
        assert item.check == "gold"
        assert item.answers["AB".index(cast(Any, item.expected)["choice"])].startswith("good")


def test_raters_and_viewers_may_not_start_close_or_leave_out(desk: RoundDesk) -> None:
    round_id = desk.round()
    for role in ("rater", "viewer"):
        by = person("Vic", role)
        for command in ("close_round", "open_round", "leave_rater_out", "start_round", "import_round"):
            with pytest.raises(ForbiddenError):
                desk(command, by, round=round_id)
    with pytest.raises(ForbiddenError):
        tasks(desk, round_id, person("Vic", "viewer"))


def test_a_deleted_round_is_gone_with_all_that_was_said(desk: RoundDesk) -> None:
    round_id = desk.round()
    rate(desk, round_id, tasks(desk, round_id)["tasks"][0]["task_id"])
    desk("delete", job=round_id)
    with pytest.raises(NotFoundError):
        rounds.get(desk.database, round_id)
    for table in job_queue.ROUND_TABLES:
        assert desk.database.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py() == 0


def test_deleting_an_evaluation_in_mid_round_takes_nothing_from_it(desk: RoundDesk) -> None:
    ids = desk.both()
    round_id = desk.round(models=[{"evaluation": each} for each in ids])
    desk("delete", job=ids[0])
    task = tasks(desk, round_id)["tasks"][0]
    assert len(task["answers"]) == 2
    assert rate(desk, round_id, task["task_id"])["stored"]


def test_prompts_on_which_answers_part_are_rather_chosen_and_weighed(desk: RoundDesk) -> None:
    same = [f"The same answer {n}" for n in range(20)]
    other = [text if n < 10 else f"Wholly different words {n}" for n, text in enumerate(same)]
    models = [{"evaluation": desk.evaluated(name, given)} for name, given in (("One", same), ("Two", other))]
    parted = weights = 0.0
    for seed in range(10):
        round_id = desk.round(models=models, items=8, choice="telling", seed=seed)
        items = rounds.items(desk.database, round_id)
        assert len({item.row_id for item in items}) == 8
        parted += sum(item.row_id >= 10 for item in items) / 80
        weights += sum(item.weight for item in items) / 10
    assert parted > 0.6
    assert weights == pytest.approx(20, rel=0.15)  # each counts for as many as it was drawn from
    notice = rounds.get(desk.database, round_id).details.notices[0]
    assert notice.startswith("8 prompts of 20, sampled more often where models and measures disagree.")


def judged(desk: RoundDesk, first: str, second: str, scores: list[float | None]) -> str:
    """A finished judging of two evaluations."""
    judge = {"base_url": "https://judge/v1", "model": "Wise"}
    job_id = desk("judge", first=first, second=second, judge=judge)["job_id"]
    folder = desk.home.jobs / job_id
    folder.mkdir()
    rows = {"row_id": pa.array(range(len(scores)), pa.int64()), "score": pa.array(scores, pa.float64())}
    pq.write_table(pa.table(rows), folder / "judgements.parquet")
    desk.finish(job_id, {"n": len(scores)})
    return job_id


def test_a_judge_is_one_of_the_raters_and_named_as_such(desk: RoundDesk) -> None:
    first, second = desk.both()
    round_id = desk.round(models=[{"evaluation": first}, {"evaluation": second}], overlap=2)
    judging = judged(desk, second, first, [1.0, 0.0, 0.5, None])
    desk("judge_rates", round=round_id, judging=judging)
    dealt = ratings.dealt(desk.database, round_id)
    assert {task.person_name for task in dealt} == {"LLM judge Wise"}
    assert [task.answer["choice"] for task in sorted(dealt, key=lambda t: t.item_id)] == [
        "B",
        "A",
        "tie",
    ]
    with pytest.raises(StateError, match="already"):
        desk("judge_rates", round=round_id, judging=judging)
    for rater in (BOB, CLEO):
        rate_all(desk, round_id, rater)
    of_people = [
        task for task in ratings.dealt(desk.database, round_id) if task.person_name in ("Bob", "Cleo")
    ]
    counts = Counter(task.item_id for task in of_people)
    assert counts == {item: 1 if item < 3 else 2 for item in range(20)}


def test_a_judging_of_other_answers_is_refused(desk: RoundDesk) -> None:
    first, second = desk.both()
    round_id = desk.round(models=[{"evaluation": first}, {"evaluation": second}])
    other = desk.evaluated("Third", ["c"] * 20)
    with pytest.raises(ConfigError) as refused:
        desk("judge_rates", round=round_id, judging=judged(desk, first, other, [1.0]))
    assert refused.value.field == "judging"
