"""New rows that repeat a row that judges in other words, by the answer and by the question."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from engine.retraining import duplicates, paraphrases
from engine.retraining.paraphrases import AnsweredQuestions, find_repeated
from store.core.home import Home
from tests.unit.data_job import silent
from tests.unit.improving.gathered import deal, gather, spoken
from tests.unit.measured import WORDS
from tests.unit.recipe_samples import make

OPENINGS = ("Where would one look for", "How does one keep", "Who studies", "When breeds")


def rare(seed: int, count: int) -> str:
    """So many words, of thousands that there are."""
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.choice(WORDS)}" for _ in range(count))


def row(number: int) -> tuple[str, str]:
    """A question and its answer, which have rare words and some that all have."""
    asked = f"{OPENINGS[number % 4]} the {rare(number, 3)} of {rare(number + 100, 2)}, and what is it?"
    return asked, f"Mostly it is {rare(number + 200, 9)}, as {rare(number + 300, 3)} are there."


def corrected(number: int, question: str, answer: str) -> dict[str, Any]:
    """What somebody said of an answer to a question of their own."""
    prompt = [{"role": "user", "content": question}]
    return spoken(number, answer, "correction", prompt=prompt)


def fresh(count: int = 30) -> list[dict[str, Any]]:
    """New rows about other things."""
    return [
        corrected(
            1_000 + n, f"How is tool {n * 37} sharpened by hand {n}?", f"With stone {n * 91}, wet, {n}."
        )
        for n in range(count)
    ]


def old_rows(home: Home) -> dict[str, Any]:
    """A data set of which rows 40 to 59 judge."""
    old = make(home, [dict(zip(("prompt", "completion"), row(n), strict=True)) for n in range(60)])
    deal(home, old)
    return old


def test_a_reworded_question_with_the_held_out_answer_is_left_out_and_names_its_partner(home: Home) -> None:
    old = old_rows(home)
    rewordings = [
        corrected(2_000 + n, f"Tell me, I forgot {n}: the winter home and diet?", row(n)[1])
        for n in range(45, 60)
    ]
    made = gather(home, old, [*fresh(), *rewordings])
    assert made["counted"].left_out == {duplicates.HELD_ANSWER: 15}
    assert made["counted"].repeats == 15
    partners = {each.row_id for each in made["counted"].repeating}
    assert partners == set(range(45, 60))
    assert {each.fingerprint for each in made["counted"].repeating} == {old["fingerprint"]}
    lines = {each["line"]: each["excerpt"] for each in made["skipped"]}
    assert all(lines[each.line].startswith("Tell me") for each in made["counted"].repeating)


def test_a_part_of_the_held_out_answer_is_enough(home: Home) -> None:
    old = old_rows(home)
    halves = [
        corrected(2_000 + n, f"Something else {n}?", f"{row(n)[1][:90]} and whatever comes.")
        for n in range(50, 55)
    ]
    assert gather(home, old, [*fresh(), *halves])["counted"].left_out == {duplicates.HELD_ANSWER: 5}


def test_a_reworded_question_with_an_answer_of_its_own_is_left_out(home: Home) -> None:
    old = old_rows(home)
    asked = [
        corrected(2_000 + n, f"Hello! {row(n)[0].replace('and what is it', 'tell me about that')}", f"No {n}")
        for n in range(50, 55)
    ]
    left_out = gather(home, old, [*fresh(), *asked])["counted"].left_out
    assert sum(left_out.values()) == 5
    assert set(left_out) <= {duplicates.HELD_REWORDED, duplicates.HELD_SIMILAR}


def test_short_answers_that_many_rows_have_match_nothing(home: Home) -> None:
    common = ["Yes", "No", "Paris", "It is closed."]
    asked = [f"Is shop {n * 31} of street {n * 17} open on day {n}?" for n in range(60)]
    old = make(home, [{"prompt": q, "completion": common[n % 4]} for n, q in enumerate(asked)])
    deal(home, old)
    new = [
        corrected(1_000 + n, f"Can garden tool {n * 37} be lent out for weekend {n}?", common[n % 4])
        for n in range(40)
    ]
    assert gather(home, old, new)["counted"].left_out == {}


def test_rows_that_repeat_each_other_in_other_words_are_never_parted() -> None:
    answered = AnsweredQuestions(
        ["Where does the heron of lake Oro nest?", "Nesting place, please", "How is steel made?"],
        [
            "in the reeds below the old mill of upper oro",
            "in the reeds below the old mill of upper oro",
            "hot",
        ],
        np.zeros(3, bool),
    )
    others = [f"something {n} entirely different about {n * 7}" for n in range(200)]
    repeated = find_repeated(answered, answered, others, silent)
    assert repeated.copied.tolist() == [1, 0, -1]


def test_of_many_answers_that_share_a_sentence_a_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    shared = paraphrases._sum_shared_bits
    monkeypatch.setattr(paraphrases, "_sum_shared_bits", lambda *given: looks.append(given) or shared(*given))
    answers = [f"the heron nests among tall reeds {number} near still water" for number in range(15)]
    list(paraphrases._find_copied_answers(answers, [], [], silent))
    assert 0 < len(looks) <= paraphrases.NEAREST * len(answers)


def test_the_job_tells_what_it_compares(home: Home) -> None:
    gather(home, old_rows(home), fresh())
    (events,) = home.jobs.glob("gather_rows-*/events.jsonl")
    progress = [json.loads(line) for line in events.read_text().splitlines()]
    phases = {(event["message"], event["unit"]) for event in progress if event["type"] == "progress"}
    assert phases >= {
        (duplicates.COMPARING_ROWS, "bands"),
        (paraphrases.COMPARING_ANSWERS, "answers"),
        (paraphrases.COMPARING_QUESTIONS, "questions"),
    }
