"""What people said in a round, as data sets to train on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.data.split import dataset_split
from engine.rating.training_rows import PairVote, build_preference_rows
from store.core.errors import StateError
from store.core.rating_schemas import RoundItem
from store.data import datasets
from store.rating import ratings, rounds
from store.training.split import Split
from tests.unit.rating.round_desk import RoundDesk, person

BOB, CLEO, DAN = (person(name, "rater") for name in ("Bob", "Cleo", "Dan"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    yield desk
    desk.database.close()


def item(item_id: int, *answers: str) -> RoundItem:
    asked: Any = [{"role": "user", "content": f"Q{item_id}"}]
    return RoundItem(
        item_id=item_id,
        row_id=100 + item_id,
        prompt=asked,
        reference=None,
        answers=list(answers),
        named=False,
        check=None,
        expected=None,
        weight=1.0,
    )


def votes(item_id: int, *verdicts: int | str) -> list[PairVote]:
    return [PairVote(item_id, (0, 1), verdict, f"R{n}", (1, 0)) for n, verdict in enumerate(verdicts)]


def test_the_answer_that_most_prefer_is_chosen() -> None:
    items = {n: item(n, "zero", "one") for n in range(6)} | {6: item(6, "same", "same"), 7: item(7, "", "x")}
    made = build_preference_rows(
        [
            *votes(0, 1, 1, 0),
            *votes(1, 0),
            *votes(2, 0, 1),
            *votes(3, "tie", "tie", 1),
            *votes(4, 1, "tie"),
            *votes(5, "both_bad"),
            *votes(6, 0),
            *votes(7, 0),
        ],
        items,
        agreement=0.6,
    )
    assert [(row["prompt_id"], row["chosen"][-1]["content"]) for row in made.rows] == [
        ("prompt-100", "one"),
        ("prompt-101", "zero"),
    ]
    first = made.rows[0]
    assert first["rejected"] == [{"role": "user", "content": "Q0"}, {"role": "assistant", "content": "zero"}]
    assert (first["agreement"], first["votes"], first["raters"]) == (0.6667, 3, "R0, R1, R2")
    assert first["chosen_shown_first"] == 3
    assert made.left_out == {
        "too little agreement": 2,
        "neither answer is preferred": 2,
        "both answers are the same": 1,
        "an answer is empty": 1,
    }


@pytest.mark.parametrize("agreement", [0.0, 0.5])
def test_votes_that_are_even_choose_no_answer(agreement: float) -> None:
    made = build_preference_rows(
        [*votes(0, 0, 1), *votes(1, 1, "tie"), *votes(2, 1, 1, 0, 0), *votes(3, 1, 1, 0)],
        {n: item(n, "zero", "one") for n in range(4)},
        agreement=agreement,
    )
    assert [row["prompt_id"] for row in made.rows] == ["prompt-103"]
    assert made.left_out == {"too little agreement": 3}


def rated(desk: RoundDesk, round_id: str, answer: Any, *raters: Any, pace: float = 5.0) -> None:
    for rater in raters:
        while waiting := desk("next_rating_tasks", rater, round=round_id)["tasks"]:
            for task in waiting:
                given = answer(task) if callable(answer) else answer
                desk("rate", rater, round=round_id, task=task["task_id"], answer=given, seconds=pace)


def longer(task: dict[str, Any]) -> dict[str, str]:
    first, second = task["answers"]
    return {"choice": "A" if len(first) > len(second) else "B"}


def test_preferences_become_a_data_set_with_its_lineage(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=2, repeat_share=0.2)
    rated(desk, round_id, longer, BOB, CLEO)
    line = rounds.line(desk.database, round_id)
    assert line.rated - line.extra == line.wanted == 40
    assert line.extra > 0
    made = desk("rows_from_round", round=round_id)
    assert (made["dataset"], made["rows"], made["left_out"]) == ("First round, preferences", 20, {})
    desk.do(made["job_id"])
    dataset = datasets.get_dataset(desk.database, made["dataset"])
    assert (dataset.kind, dataset.row_count) == ("preference", 20)
    assert dataset.source["round"] == round_id
    assert (dataset.split_by, dataset.split_column) == ("group", "source.prompt_id")
    for row in pq.read_table(dataset.rows_path).to_pylist():
        assert row["messages"][-1]["content"].startswith("A somewhat longer")
        assert row["rejected"].startswith("Short")


def test_a_prompt_is_never_on_both_sides_of_the_split(desk: RoundDesk) -> None:
    words = ("Short", "A somewhat longer", "A very much longer")
    ids = [desk.evaluated(word, [f"{word} answer {n}" for n in range(20)]) for word in words]
    round_id = desk.round(models=[{"evaluation": each} for each in ids], protocol="rank", overlap=1)
    rated(
        desk,
        round_id,
        lambda task: {
            "ranks": [
                sorted(map(len, task["answers"]))[::-1].index(len(text)) + 1 for text in task["answers"]
            ]
        },
        BOB,
    )
    made = desk("rows_from_round", round=round_id)
    assert made["rows"] == 60
    desk.do(made["job_id"])
    dataset = datasets.get_dataset(desk.database, made["dataset"])
    parts = dataset_split.assign_rows_unchecked(
        desk.home, dataset.fingerprint, Split.parse(datasets.get_split_fields(dataset))
    ).ids()
    prompts = pq.read_table(dataset.rows_path, columns=["source"])["source"].to_pylist()
    by_part = {
        part: {prompts[row].split('"prompt_id"')[1].split('"')[1] for row in ids}
        for part, ids in parts.items()
    }
    assert all(by_part.values())
    assert not by_part["train"] & (by_part["validation"] | by_part["test"])


def test_a_rater_who_is_left_out_has_no_say(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=3)
    rated(desk, round_id, longer, BOB, CLEO)
    rated(desk, round_id, {"choice": "A"}, DAN)
    asked = {"round": round_id, "agreement": 1.0}
    some = desk("rows_from_round", **asked)
    assert some["left_out"]["too little agreement"] > 0
    desk("leave_rater_out", round=round_id, person="dan")
    assert desk("rows_from_round", **asked)["rows"] == 20


def test_corrections_become_rows_to_train_on(desk: RoundDesk) -> None:
    ids = desk.both()[:1]
    round_id = desk.round(models=[{"evaluation": each} for each in ids], protocol="correction", overlap=2)
    rated(desk, round_id, lambda task: {"text": task["answers"][0].replace("Short", "Better")}, BOB)
    rated(desk, round_id, lambda task: {"text": task["answers"][0]}, CLEO)
    assert len(ratings.dealt(desk.database, round_id)) == 40
    made = desk("rows_from_round", round=round_id, name="Corrected")
    assert made["rows"] == 40
    desk.do(made["job_id"])
    rows = pq.read_table(datasets.get_dataset(desk.database, "Corrected").rows_path).to_pylist()
    assert {row["messages"][-1]["content"].split()[0] for row in rows} == {"Better", "Short"}


def test_a_round_without_preferences_says_why(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=1)
    with pytest.raises(StateError, match="nothing was rated"):
        desk("rows_from_round", round=round_id)
    rated(desk, round_id, {"choice": "tie"}, BOB)
    with pytest.raises(StateError, match=r"neither answer is preferred \(20\)"):
        desk("rows_from_round", round=round_id)


def test_ratings_of_a_flagged_rater_are_left_out_unless_they_are_wanted(desk: RoundDesk) -> None:
    round_id = desk.round(overlap=2)
    rated(desk, round_id, longer, BOB)
    rated(desk, round_id, {"choice": "tie"}, CLEO, pace=0.4)
    made = desk("rows_from_round", round=round_id, name="Without", agreement=1.0)
    assert made["rows"] == 20
    assert made["counted"] == {
        "ratings": 20,
        "raters": 1,
        "left_out": [{"person_id": "cleo", "rater": "Cleo", "ratings": 20, "reason": "too fast"}],
    }
    desk.do(made["job_id"])
    assert datasets.get_dataset(desk.database, "Without").source["round_ratings"] == (
        "20 ratings of 1 rater; left out 20 ratings of 1 rater flagged as too fast"
    )
    with pytest.raises(StateError, match=r"out of 40 ratings of 2 raters: too little agreement \(20\)"):
        desk("rows_from_round", round=round_id, include_flagged=True, agreement=1.0)
    desk("leave_rater_out", round=round_id, person="cleo")
    made = desk("rows_from_round", round=round_id, include_flagged=True)
    assert [each["reason"] for each in made["counted"]["left_out"]] == ["left out by hand"]
