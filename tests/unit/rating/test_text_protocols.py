"""Scales of any length, several labels, spans and free text: what is refused, kept, shown and made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.rating.answers import check_answer
from engine.rating.exported_ratings import build_text_rows
from store.core.errors import ConfigError, StateError
from store.data import datasets
from store.rating import ratings, rounds
from store.rating.config import RequestRound, RoundConfig
from tests.unit.rating.round_desk import RoundDesk, person

BOB, CLEO, DAN = person("Bob", "rater"), person("Cleo", "rater"), person("Dan", "rater")
TOPICS = ["price", "tone", "delivery"]
ASKED = "Où est 👩‍🚀 Ada? \U0001f600 Paris"  # 17 characters before Paris


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[RoundDesk]:
    desk = RoundDesk(tmp_path)
    yield desk
    desk.database.close()


def config(**fields: Any) -> RoundConfig:
    return RoundConfig.parse({"name": "R", "models": [{"model": "One"}], **fields})


def of_prompts(desk: RoundDesk, **fields: Any) -> str:
    """A round about the prompts, with one model."""
    return desk.round(models=[{"evaluation": desk.both()[0]}], subject="prompt", **fields)


def rate_all(desk: RoundDesk, round_id: str, by: Any, answer: Any) -> None:
    while waiting := desk("next_rating_tasks", by, round=round_id)["tasks"]:
        for task in waiting:
            given = answer(task) if callable(answer) else answer
            desk("rate", by, round=round_id, task=task["task_id"], answer=given, seconds=9.0)


# -- scales -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [2, 5, 10])
def test_a_criterion_has_as_many_points_as_it_has_words(points: int) -> None:
    asked = config(
        protocol="rubric",
        criteria=[{"name": "Tone", "anchors": ["Rude", *[""] * (points - 2), "Kind"]}],
    )
    for score in (1, points):
        assert check_answer(asked, {"scores": {"Tone": score}}, 1) == {"scores": {"Tone": score}}
    for score in (0, points + 1, True, 1.0, "1"):
        with pytest.raises(ConfigError) as refused:
            check_answer(asked, {"scores": {"Tone": score}}, 1)
        assert refused.value.field == "answer.scores.Tone"
        assert f"1 to {points}" in (refused.value.fix or "")


@pytest.mark.parametrize("points", [1, 11])
def test_a_scale_has_2_to_10_points(points: int) -> None:
    with pytest.raises(ConfigError) as refused:
        config(protocol="rubric", criteria=[{"name": "Tone", "anchors": ["x"] * points}])
    assert refused.value.field == "criteria.0.anchors"


def test_the_ends_of_a_new_scale_need_words_and_old_rounds_go_on(desk: RoundDesk) -> None:
    with pytest.raises(ConfigError, match="Point 3 of 3 of Tone has no description") as refused:
        desk.round(protocol="rubric", criteria=[{"name": "Tone", "anchors": ["a", "b", " "]}])
    assert refused.value.field == "criteria.0.anchors.2"
    round_id = desk.round(protocol="rubric", criteria=[{"name": "Tone", "anchors": ["a"] * 5}])
    with desk.database.transaction() as tx:
        kept = rounds.get(tx, round_id).config
        kept["criteria"][0]["anchors"] = [""] * 5  # as it could once be stored
        rounds.update(tx, round_id, config=kept)
    rate_all(desk, round_id, BOB, {"scores": {"Tone": 5}})
    assert rounds.line(desk.database, round_id).rated == 40


# -- several labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"labels": "price"}, "labels"),
        ({"labels": ["price", 3]}, "labels"),
        ({"labels": ["price", "taste"]}, "labels.1"),
        ({"labels": ["price", "price"]}, "labels.1"),
        ({"label": "price"}, "labels"),
        ({"labels": [], "note": "x" * 501}, "note"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_name(answer: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_answer(config(protocol="label", labels=TOPICS, several_labels=True), answer, 1)
    assert refused.value.field == f"answer.{field}"


def test_several_labels_are_kept_in_the_order_of_the_round() -> None:
    asked = config(protocol="label", labels=TOPICS, several_labels=True)
    kept = check_answer(asked, {"labels": ["delivery", "price"], "note": "only of none"}, 1)
    assert kept == {"labels": ["price", "delivery"], "note": ""}
    assert check_answer(asked, {"labels": [], "note": "taste"}, 1) == {"labels": [], "note": "taste"}


def test_several_labels_are_of_a_round_of_labels_alone() -> None:
    with pytest.raises(ConfigError, match="several_labels"):
        config(protocol="rubric", several_labels=True, criteria=[{"name": "T", "anchors": ["a", "b"]}])
    with pytest.raises(ConfigError, match="one label"):
        RequestRound.parse({"name": "R", "endpoint": "E", "several_labels": True})


def test_a_round_of_several_labels_becomes_lines_and_no_data_set(desk: RoundDesk) -> None:
    round_id = desk.round(protocol="label", labels=TOPICS, several_labels=True, overlap=3, items=4)
    offered = desk("next_rating_tasks", BOB, round=round_id)
    assert offered["round"]["several_labels"] is True
    assert offered["tasks"][0]["answers"] == []  # blind
    for rater, labels in ((BOB, ["price", "tone"]), (CLEO, ["tone"]), (DAN, ["tone", "delivery"])):
        rate_all(desk, round_id, rater, {"labels": labels})
    desk("close_round", round=round_id)
    with pytest.raises(StateError, match="does not support several labels"):
        desk("rows_from_round", round=round_id)
    round, tasks = rounds.get(desk.database, round_id), ratings.dealt(desk.database, round_id)
    made, _ = build_text_rows(round, tasks, rounds.items(desk.database, round_id))
    assert [row["labels"] for row in made.rows] == [["tone"]] * 4
    assert made.rows[0]["agreement"] == 0.6667
    assert made.rows[0]["raters"] == ["Bob", "Cleo", "Dan"]
    made, _ = build_text_rows(round, tasks, rounds.items(desk.database, round_id), agreement=0.7)
    assert (made.rows, dict(made.left_out)) == ([], {"too little agreement": 4})
    made, _ = build_text_rows(round, tasks, rounds.items(desk.database, round_id), {"cleo", "dan"})
    assert [row["labels"] for row in made.rows] == [["price", "tone"]] * 4


def test_raters_who_part_on_a_label_are_settled_by_one_more(desk: RoundDesk) -> None:
    round_id = desk.round(
        protocol="label", labels=TOPICS, several_labels=True, items=2, adjudicate=True, repeat_share=0.0
    )
    rate_all(desk, round_id, BOB, {"labels": ["price"]})
    rate_all(desk, round_id, CLEO, {"labels": ["price", "tone"]})
    third = desk("next_rating_tasks", DAN, round=round_id)["tasks"]
    assert len(third) == 2


# -- spans ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "field"),
    [
        (None, "spans"),
        ({"start": 0}, "spans"),
        (["x"], "spans.0"),
        ([{"start": -1, "end": 2, "label": "place"}], "spans.0.start"),
        ([{"start": True, "end": 2, "label": "place"}], "spans.0.start"),
        ([{"start": 3, "end": 3, "label": "place"}], "spans.0.end"),
        ([{"start": 0, "end": len(ASKED) + 1, "label": "place"}], "spans.0.end"),
        ([{"start": 0, "end": 2, "label": "planet"}], "spans.0.label"),
        ([{"start": 0, "end": 3, "label": "place"}, {"start": 2, "end": 4, "label": "person"}], "spans"),
        ([{"start": 0, "end": 3, "label": "place"}] * 2, "spans"),
        ([{"start": 0, "end": 1, "label": "place"}] * 1_001, "spans"),
    ],
)
def test_spans_that_do_not_fit_are_refused_by_name(spans: Any, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_answer(config(protocol="spans", labels=["place", "person"]), {"spans": spans}, 1, ASKED)
    assert refused.value.field == f"answer.{field}"


def test_spans_are_kept_by_place_and_overlap_where_they_may() -> None:
    first, second = {"start": 0, "end": 5, "label": "b"}, {"start": 2, "end": 4, "label": "a"}
    given = {"spans": [second, first | {"more": 1}]}
    kept = check_answer(config(protocol="spans", labels=["a", "b"], overlapping=True), given, 1, ASKED)
    assert kept == {"spans": [first, second]}
    beside = [{"start": 0, "end": 2, "label": "a"}, {"start": 2, "end": 4, "label": "a"}]
    asked = config(protocol="spans", labels=["a", "b"])
    assert check_answer(asked, {"spans": beside}, 1, ASKED) == {"spans": beside}
    assert check_answer(asked, {"spans": []}, 1, "") == {"spans": []}


def test_spans_are_of_the_text_that_was_shown(desk: RoundDesk) -> None:
    round_id = desk.round(protocol="spans", labels=["word"], items=3, overlap=1)
    task = desk("next_rating_tasks", BOB, round=round_id)["tasks"][0]
    (text,) = task["answers"]
    end = {"start": len(text) - 1, "end": len(text), "label": "word"}
    beyond = {"spans": [end | {"end": len(text) + 1}]}
    with pytest.raises(ConfigError, match=r"spans\.0\.end"):
        desk("rate", BOB, round=round_id, task=task["task_id"], answer=beyond)
    assert desk("rate", BOB, round=round_id, task=task["task_id"], answer={"spans": [end]})["stored"]


def test_spans_of_prompts_become_lines_with_their_words(desk: RoundDesk) -> None:
    round_id = of_prompts(desk, protocol="spans", labels=["word"], items=2, overlap=1)
    task = desk("next_rating_tasks", BOB, round=round_id)["tasks"][0]
    assert task["answers"] == []
    assert task["reference"] is None
    rate_all(desk, round_id, BOB, {"spans": [{"start": 0, "end": 8, "label": "word"}]})
    round, items = rounds.get(desk.database, round_id), rounds.items(desk.database, round_id)
    made, _ = build_text_rows(round, ratings.dealt(desk.database, round_id), items)
    assert len(made.rows) == 2
    assert made.rows[0]["spans"] == [{"start": 0, "end": 8, "label": "word", "text": "Question"}]
    assert made.rows[0]["rater"] == "Bob"


def test_a_round_about_prompts_takes_one_model() -> None:
    with pytest.raises(ConfigError, match="give one"):
        config(protocol="spans", labels=["a"], subject="prompt", models=[{"model": "One"}, {"model": "Two"}])
    with pytest.raises(ConfigError, match="labels"):
        config(protocol="spans")


# -- free text --------------------------------------------------------------------------------------


def test_free_text_needs_a_question_and_an_answer() -> None:
    with pytest.raises(ConfigError, match="question"):
        config(protocol="free_text")
    asked = config(protocol="free_text", instruction="Why?")
    assert check_answer(asked, {"written": " Because. "}, 1) == {"written": "Because."}
    for written in ("", " \n", None, 3, "x" * 200_001):
        with pytest.raises(ConfigError) as refused:
            check_answer(asked, {"written": written}, 1)
        assert refused.value.field == "answer.written"


@pytest.mark.parametrize("subject", ["prompt", "answer"])
def test_what_people_write_becomes_rows_to_train_on(desk: RoundDesk, subject: str) -> None:
    models = [{"evaluation": desk.both()[0]}]
    asked = {"protocol": "free_text", "instruction": "What lacks?", "items": 3, "overlap": 1}
    round_id = desk.round(models=models, subject=subject, **asked)
    rate_all(desk, round_id, BOB, lambda task: {"written": f"Of {task['prompt'][0]['content']}"})
    made = desk("rows_from_round", round=round_id)
    assert (made["rows"], made["dataset"]) == (3, "First round, written")
    (file,) = desk.home.uploads.glob(f"{round_id}-written-*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    turns = [(turn["role"], turn["content"]) for turn in rows[0]["messages"]]
    prompt = turns[0][1]
    between = [] if subject == "prompt" else [
        ("assistant", f"Short answer {prompt.removeprefix('Question ').removesuffix('?')}"),
        ("user", "What lacks?"),
    ]  # fmt: skip
    assert turns == [("user", prompt), *between, ("assistant", f"Of {prompt}")]
    desk.do(made["job_id"])
    assert datasets.get_dataset(desk.database, made["dataset"]).row_count == 3
