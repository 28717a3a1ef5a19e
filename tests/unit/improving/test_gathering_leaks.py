"""No new row leaks: not what judges elsewhere, not another form of a question, not what people dispute."""

from __future__ import annotations

from typing import Any

from engine.retraining import duplicates, feedback_rows
from store.core.home import Home
from store.retraining.text import describe_rows
from store.training.split import Split
from tests.unit.improving.gathered import LABELS, answered, deal, gather, labelled, spoken, text
from tests.unit.recipe_samples import make


def fresh(count: int = 40, start: int = 1_000, **fields: Any) -> list[dict[str, Any]]:
    return [spoken(n, LABELS[n % 2], **fields) for n in range(start, start + count)]


def chat(*turns: str, system: str = "") -> list[dict[str, str]]:
    """A user begins, and the model answers in turn."""
    roles = ("user", "assistant")
    turned = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
    return [{"role": "system", "content": system}, *turned] if system else turned


def corrected(start: int, count: int, **fields: Any) -> list[dict[str, Any]]:
    return [spoken(n, f"A better answer {n}", "correction", **fields) for n in range(start, start + count)]


def trained_on(made: dict[str, Any]) -> list[str]:
    return [row["text"] for row in made["rows"] if row["part"] == "train"]


def test_a_held_out_question_is_none_to_train_on_however_it_is_put(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    put = [
        spoken(1, "Free", "correction", prompt=chat(text(55), system="You are Tunebench, be kind.")),
        spoken(2, "Free", "correction", prompt=chat(text(56), "It is 0.", "And then?")),
        spoken(3, "Free", "correction", prompt=chat(text(57), "Another answer", "And then?")),
    ]
    taught = [spoken(4, "Free", "correction", prompt=chat(text(5), system="You are Tunebench, be kind."))]
    made = gather(home, old, [*corrected(1_000, 30), *put, *taught])
    assert made["counted"].left_out == {duplicates.HELD_PROMPT: 1, feedback_rows.CONTINUED: 2}
    assert made["counted"].only_train == 1
    assert not any(text(n) in row["text"] for n in (55, 56, 57) for row in made["rows"])
    kept = [{**each, "random": True} for each in corrected(1_000, 30)]
    assert any(text(5) in row for row in trained_on(gather(home, old, [*kept, *taught])))


def test_turns_of_one_conversation_are_never_parted(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    turns = []
    for n in range(1_000, 1_020):
        first, second = chat(text(n)), chat(text(n), LABELS[0], f"{text(n + 500)} more")
        turns += [spoken(n, LABELS[0], prompt=first), spoken(n + 300, LABELS[1], prompt=second)]
    made = gather(home, old, turns, held_out=0.5)
    assert made["counted"].train == made["counted"].held_out == 20
    part = {row["messages"][0]["content"]: set[str]() for row in made["rows"]}
    for row in made["rows"]:
        part[row["messages"][0]["content"]].add(row["part"])
    assert len(part) == 20
    assert all(len(parts) == 1 for parts in part.values())


def test_earlier_answers_that_nobody_corrected_are_not_learned_and_examples_are(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    turns = [
        spoken(n, f"Better {n}", "correction", prompt=chat(text(n), f"Bad {n}", f"{text(n + 500)} so?"))
        for n in range(1_000, 1_030)
    ]
    made = gather(home, old, [*corrected(2_000, 30), *turns])
    assert made["counted"].left_out == {feedback_rows.CONTINUED: 30}
    assert not any("Bad" in row["text"] for row in made["rows"])
    examples = [
        spoken(n, f"Better {n}", "correction", prompt=chat("An example?", "So it is.", text(n)))
        for n in range(1_000, 1_030)
    ]
    assert gather(home, old, examples)["counted"].left_out == {}


def test_rows_that_judge_or_were_trained_elsewhere(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    golden = make(home, [{"prompt": text(n), "completion": "Right."} for n in range(3_000, 3_012)], "Golden")
    replayed = make(home, [{"prompt": text(n), "completion": "So."} for n in range(4_000, 4_012)], "General")
    beside = [
        {"why": why, "fingerprint": rows["fingerprint"], "part": "all", "split": Split().fields()}
        for why, rows in (("judge", golden), ("train", replayed))
    ]
    turned = [*corrected(1_000, 20), *corrected(3_000, 12), *corrected(4_000, 12)]
    made = gather(home, old, turned, beside=beside, held_out=0.5)
    assert made["counted"].left_out == {duplicates.HELD_ELSEWHERE: 12}
    assert made["counted"].only_train == 12
    judging = [row["text"] for row in made["rows"] if row["part"] == "test"]
    assert judging
    assert not any(text(n) in row for n in range(4_000, 4_012) for row in judging)


def test_rows_that_judged_an_earlier_improvement_are_never_trained_on(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    first = gather(home, old, fresh(60))
    judged = {row["text"] for row in first["rows"] if row["part"] == "test"}
    given = {**Split().fields(), "split_by": "given", "validation_size": 0.0, "test_size": 0.3}
    rows = first["result"]["fingerprint"]
    beside = [{"why": "judge", "fingerprint": rows, "part": "test", "split": given}]
    again = gather(home, old, [*fresh(60), *fresh(30, 2_000)], beside=beside)
    assert again["counted"].left_out == {duplicates.HELD_ELSEWHERE: len(judged)}
    assert not judged & {row["text"] for row in again["rows"]}


def test_opposite_words_of_two_sources_and_of_label_and_correction_are_no_rows(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    both = [spoken(2_000, LABELS[0]), spoken(2_000, LABELS[1], "correction", person="p-bob")]
    made = gather(home, old, [*fresh(), *both])
    assert made["counted"].left_out == {feedback_rows.DISAGREE: 1}
    old = answered(home)
    deal(home, old)
    both = [spoken(2_000, "Yes.", "correction"), spoken(2_000, "No!", "correction", source=1, request="x/0")]
    again = [spoken(2_001, "Yes.", "correction"), spoken(2_001, "yes.", "correction", request="x/1")]
    made = gather(home, old, [*corrected(1_000, 30), *both, *again])
    assert made["counted"].left_out == {duplicates.DISAGREE_ANSWERS: 2, duplicates.REPEATED: 1}


def test_an_invented_label_is_no_class_of_a_model_that_writes(home: Home) -> None:
    old = labelled(home)
    deal(home, old)
    made = gather(home, old, [*fresh(), spoken(2_000, "BANANA")])
    assert made["counted"].left_out == {feedback_rows.UNKNOWN: 1}
    assert {row["label"] for row in made["rows"]} == set(LABELS)


def test_placeholders_are_counted_and_what_people_wrote_leaves_the_folder(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    made = gather(home, old, [*corrected(1_000, 30), spoken(9, "Write to [EMAIL].", "correction")])
    assert made["counted"].redacted == 1
    assert "1 of those used holds placeholders" in describe_rows(made["counted"])
    assert not list(home.jobs.glob("*/candidates.jsonl"))


def test_a_random_draw_says_what_is_not_in_it(home: Home) -> None:
    old = labelled(home)
    deal(home, old, "classification")
    made = gather(home, old, [*fresh(40, random=True), spoken(45, LABELS[1])])
    assert "without the 1 that were left out" in describe_rows(made["counted"])
    assert "all requests" not in describe_rows(made["counted"])
