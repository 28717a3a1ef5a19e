"""Leaks inside a deal and between two data sets, on files that are imported as a user would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.data.split import leakage_warnings
from engine.data.split.leakage import (
    count_near_duplicates,
    find_leaking_rows,
    find_leaks,
    find_repeated_rows,
    find_shared_rows,
)
from store.core.errors import NotFoundError
from store.core.home import Home
from tests.unit.data_job import ask, import_file
from tests.unit.measured import measure_duplicates, sentence


def write(home: Home, path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    return import_file(home, path).result["fingerprint"]


def parts(train: list[int], validation: list[int], test: list[int]) -> dict[str, np.ndarray]:
    named = {"train": train, "validation": validation, "test": test}
    return {name: np.asarray(ids, dtype=np.int64) for name, ids in named.items()}


def test_a_deal_is_looked_at_row_by_row(home: Home, tmp_path) -> None:
    words = sentence(1, 40)
    rows = [
        (words, "Yes."),
        (words.upper(), "yes."),  # 0 again
        (words + " and more", "Yes."),  # near 0
        (words, "No."),  # the prompt of 0, and near it
        (sentence(2, 8), "Four."),
        (sentence(2, 8), sentence(3, 40)),  # the prompt of 4, unlike it
        (sentence(4, 30), "Five."),
    ]
    fingerprint = write(home, tmp_path / "a.jsonl", rows)
    dealt = parts([0, 4], [1, 2], [5, 6])
    leaks = find_leaks(home, fingerprint, dealt)
    assert leaks == {"exact": 1, "near": 0, "same_prompt": 1, "checked_near": False}
    measure_duplicates(home, fingerprint)
    leaks = find_leaks(home, fingerprint, dealt)
    assert leaks == {"exact": 1, "near": 1, "same_prompt": 1, "checked_near": True}
    clean = find_leaks(home, fingerprint, parts([0, 1, 2, 3], [4, 5], [6]))
    assert clean == {"exact": 0, "near": 0, "same_prompt": 0, "checked_near": True}


def test_plain_texts_have_no_prompts_to_leak(home: Home, tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(sentence(n, 12) for n in (1, 2, 1)))
    fingerprint = import_file(home, path).result["fingerprint"]
    leaks = find_leaks(home, fingerprint, parts([0], [1], [2]))
    assert leaks == {"exact": 1, "near": 0, "same_prompt": 0, "checked_near": False}


def test_two_data_sets_are_compared_by_text_likeness_and_prompt(home: Home, tmp_path) -> None:
    train = [(sentence(n, 40), f"Answer {n}.") for n in range(50)]
    test = [(sentence(n, 40), f"Answer {n}.") for n in range(1000, 1020)]
    test[3] = (train[7][0].title(), train[7][1])  # equal when normalised
    test[5] = ("Well, " + train[9][0], train[9][1])
    test[8] = (train[11][0], sentence(5000, 60))
    test[9] = test[5]
    mine = write(home, tmp_path / "test.jsonl", test)
    theirs = write(home, tmp_path / "train.jsonl", train)
    overlap = ask(home, "overlap", fingerprint=mine, other=theirs)
    assert overlap.pop("row_ids") == [3, 5, 8, 9]  # all of them, not only the examples
    examples = overlap.pop("examples")
    assert overlap == {"exact": 1, "near": 2, "same_prompt": 1, "rows": 20, "other_rows": 50}
    assert examples[0] == (3, 7, 1.0)
    assert [example[:2] for example in examples[1:]] == [(5, 9)]
    assert 0.7 <= examples[1][2] < 1
    back = ask(home, "overlap", fingerprint=theirs, other=mine)
    assert (back["exact"], back["near"], back["same_prompt"]) == (1, 1, 1)
    stricter = ask(home, "overlap", fingerprint=mine, other=theirs, threshold=1.0)
    assert (stricter["exact"], stricter["near"]) == (1, 0)


def test_a_data_set_that_is_gone_is_named(home: Home, tmp_path) -> None:
    fingerprint = write(home, tmp_path / "a.jsonl", [("A question", "An answer")])
    with pytest.raises(NotFoundError, match="not in the home folder"):
        ask(home, "overlap", fingerprint=fingerprint, other="f" * 32)


def test_rows_of_another_set_that_are_held_out_here_or_ask_the_same_are_found(home: Home, tmp_path) -> None:
    here = write(home, tmp_path / "a.jsonl", [("one?", "1"), ("two?", "2"), ("three?", "3")])
    other = write(
        home, tmp_path / "b.jsonl", [("Two?", "2"), ("three?", "drei"), ("one?", "1"), ("four?", "4")]
    )
    leaked = find_shared_rows(home, here, np.array([1, 2]), other, np.arange(4))
    assert leaked.tolist() == [True, True, False, False]  # row 0 is only trained on
    texts = tmp_path / "c.txt"
    texts.write_text("A plain text.\n\nAnother one.\n")
    plain = import_file(home, texts).result["fingerprint"]
    assert not find_shared_rows(home, here, np.array([0, 1]), plain, np.array([0])).any()


def test_rows_that_training_repeats_and_near_ones_are_told_apart(home: Home, tmp_path) -> None:
    words = sentence(1, 40)
    shared = "Tell me a joke, please."
    train = [(words, "Yes."), (sentence(2, 8), "Two."), *((shared, sentence(n, 9)) for n in range(50, 62))]
    other = [
        (words, "Yes."),  # a row of the training data
        (sentence(2, 8), sentence(3, 40)),  # the prompt of one
        (words + " and more", "Yes."),  # near the first
        (shared, "Another one."),  # an instruction that many rows share is no question
        (sentence(9, 30), "New."),
    ]
    ours = write(home, tmp_path / "train.jsonl", train)
    theirs = write(home, tmp_path / "other.jsonl", other)
    used, rows = np.arange(len(train)), np.arange(len(other))
    texts, asked = find_repeated_rows(home, ours, used, theirs, rows)
    assert texts.tolist() == [True, False, False, False, False]
    assert asked.tolist() == [False, True, False, False, False]
    assert count_near_duplicates(home, ours, used, theirs, rows, tmp_path) == 1
    assert not list(tmp_path.glob("near-*"))
    assert not find_repeated_rows(home, ours, used[1:2], theirs, rows[2:])[1].any()


def test_a_leak_inside_given_parts_is_named_and_gone_once_its_training_rows_are(home: Home, tmp_path) -> None:
    shared = "Summarise the text."
    rows = [(sentence(n, 9), f"Answer {n}.", "train") for n in range(30)]
    rows += [(shared, sentence(n, 9), "train") for n in range(60, 80)]
    rows += [(sentence(n, 9), f"Answer {n}.", "test") for n in range(100, 120)]
    rows += [(shared, sentence(90, 9), "test"), (rows[3][0].upper(), rows[3][1], "test")]
    rows += [(rows[5][0], "Something else entirely, said at length.", "test")]
    rows += [(f"{rows[7][0]} indeed", rows[7][1], "test")]
    path = tmp_path / "a.jsonl"
    fields = ("prompt", "completion", "split")
    path.write_text("".join(json.dumps(dict(zip(fields, row, strict=True))) + "\n" for row in rows))
    fingerprint = import_file(home, path, part_column="split").result["fingerprint"]
    measure_duplicates(home, fingerprint)
    given = {"split_by": "given", "validation_size": 0}
    answer = ask(home, "split", fingerprint=fingerprint, split=given)
    assert answer["leaking"] == [3, 5, 7]
    assert answer["leaking_rows"] == 3
    messages = [problem["message"] for problem in answer["problems"] if problem["level"] == "warning"]
    assert len(messages) == 3
    assert all("The split comes from the file" in message for message in messages)
    whole = np.arange(len(rows))
    train = np.setdiff1d(np.arange(50), answer["leaking"])
    cured = {"train": train, "validation": whole[:0], "test": whole[50:]}
    leaks = find_leaks(home, fingerprint, cured)
    assert (leaks["exact"], leaks["near"]) == (0, 0)
    assert not len(find_leaking_rows(home, fingerprint, cured))
    dealt = ask(home, "split", fingerprint=fingerprint, split={"split_by": "random", "test_size": 0.2})
    assert dealt["leaking_rows"] == 0


def test_a_row_leaks_by_what_it_repeats_itself_and_not_by_its_chain(home: Home, tmp_path) -> None:
    words = [sentence(n, 1) + str(n) for n in range(60)]
    chain = [(" ".join(words[at : at + 40]), "Yes.") for at in (0, 5, 10, 15)]
    fingerprint = write(home, tmp_path / "a.jsonl", [*chain, *((sentence(n, 40), "No.") for n in range(20))])
    assert measure_duplicates(home, fingerprint)["near_chain"].to_pylist()[:4] == [0] * 4
    rest = np.arange(4, 24)
    dealt = {"train": np.append([1, 2, 3], rest), "validation": rest[:0], "test": np.array([0])}
    assert find_leaking_rows(home, fingerprint, dealt).tolist() == [1]
    dealt["train"] = np.append([2, 3], rest)
    assert find_leaks(home, fingerprint, dealt)["near"] == 0


def test_an_instruction_that_rows_share_is_no_leak_that_nothing_mends(home: Home, tmp_path) -> None:
    rows = [("Tell me a joke, please.", sentence(n, 12)) for n in range(100)]
    fingerprint = write(home, tmp_path / "a.jsonl", rows)
    dealt = {"train": np.arange(80), "validation": np.arange(80, 90), "test": np.arange(90, 100)}
    assert (
        find_leaks(home, fingerprint, dealt)["same_prompt"]
        == len(find_leaking_rows(home, fingerprint, dealt))
        == 0
    )


def test_advice_to_clean_says_that_short_texts_stay() -> None:
    leaks = {"exact": 0, "near": 3, "same_prompt": 0, "checked_near": True}
    assert "Short texts" in (leakage_warnings.find_warnings(leaks, 20, "random")[0].fix or "")
