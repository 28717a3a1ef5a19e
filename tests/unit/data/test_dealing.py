"""Deals of data sets: by a column, by what is known of duplicates, and the same again for a resumed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.split.dataset_split import assign_rows, assign_rows_unchecked
from engine.data.split.leakage import find_leaks
from store.core.errors import ConfigError
from store.core.home import Home
from store.training.split import Split, get_split
from tests.unit.data_job import ask, import_file
from tests.unit.measured import measure_duplicates, sentence


def imported(home: Home, path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_file(home, path).result["fingerprint"]


def test_a_column_of_the_file_makes_groups(home: Home, tmp_path) -> None:
    rows = [
        {"prompt": f"Q{n}", "completion": "A", "user": f"u{n % 40}", "odd \"'name": n} for n in range(400)
    ]
    rows[7]["user"] = rows[8]["user"] = None
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    how = {"split_by": "group", "split_column": "source.user", "validation_size": 0.2, "test_size": 0.2}
    dealt = assign_rows(home, fingerprint, Split.parse(how))
    users = np.asarray([row["user"] or f"alone {n}" for n, row in enumerate(rows)])
    assert all(len(set(dealt.codes[users == user])) == 1 for user in set(users.tolist()))
    assert dealt.kept == ("text", "group")
    assert dealt.together == 400 - 42
    assert all(70 <= dealt.counts()[part] <= 80 for part in ("validation", "test"))
    odd = assign_rows_unchecked(home, fingerprint, Split.parse({**how, "split_column": "source.odd \"'name"}))
    assert odd.together == 0
    for column, fix in (("source.nobody", "source.user"), ("text2", "source.user"), ("cluster", "Measure")):
        with pytest.raises(ConfigError) as caught:
            assign_rows_unchecked(home, fingerprint, Split.parse({**how, "split_column": column}))
        assert caught.value.field == "split_column"
        assert fix in caught.value.fix


def test_the_newest_rows_are_test_and_a_row_without_a_time_is_named(home: Home, tmp_path) -> None:
    rows = [
        {"prompt": f"Question {n}", "completion": "A", "day": f"2026-01-{n // 10 + 1:02}"} for n in range(300)
    ]
    rows.append({**rows[0], "day": "2026-01-31"})  # a copy of an old row judges nothing
    how = {"split_by": "time", "split_column": "source.day", "validation_size": 0.2, "test_size": 0.2}
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    whole = assign_rows(home, fingerprint, Split.parse(how))
    assert whole.later.tolist() == [300]  # the copy is newer than the first test day, and it is said which
    answer = ask(home, "split", fingerprint=fingerprint, split=how)
    (problem,) = answer["problems"]
    assert problem["level"] == "warning"
    assert problem["message"].startswith("1 training row is newer than the oldest row held out")
    assert ": 300." in problem["message"]
    dealt = whole.codes
    assert dealt[:240].max() == 0 or np.array_equal(np.sort(dealt[:300]), dealt[:300])
    assert dealt[299] == 2
    assert dealt[300] == dealt[0] == 0
    assert [np.count_nonzero(dealt == code) for code in (1, 2)] == [60, 60]
    rows[17]["day"] = "yesterday"
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    with pytest.raises(ConfigError, match=r"Row 17 has 'yesterday' in source.day.*1 of 301 rows") as caught:
        ask(home, "split", fingerprint=fingerprint, split=how)
    assert caught.value.field == "split_column"
    for number, row in enumerate(rows):
        row["day"] = 1_700_000_000 + number // 10
    fingerprint = imported(home, tmp_path / "b.jsonl", rows)
    assert assign_rows_unchecked(home, fingerprint, Split.parse(how)).codes[299] == 2


def test_near_duplicates_and_questions_asked_twice_stay_on_one_side(home: Home, tmp_path) -> None:
    rows = []
    for n in range(300):
        words = sentence(n, 40)
        rows.append({"prompt": words, "completion": "Yes."})
        rows.append({"prompt": words + " or so", "completion": "Yes."})
        rows.append({"prompt": words, "completion": sentence(9000 + n, 50)})
    rows += [{"prompt": "Tell a joke.", "completion": sentence(5000 + n, 30)} for n in range(200)]
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    before = assign_rows_unchecked(home, fingerprint, Split())
    assert before.kept == ("text",)
    triples = before.codes[:900].reshape(300, 3)
    assert (triples.min(axis=1) != triples.max(axis=1)).any()
    measure_duplicates(home, fingerprint)
    for way in ("random", "stratified"):
        how = Split(split_by=way, split_column="source.completion" if way == "stratified" else None)
        after = assign_rows_unchecked(home, fingerprint, how)
        assert after.kept == ("text", "near", "prompt")
        triples = after.codes[:900].reshape(300, 3)
        assert np.array_equal(triples.min(axis=1), triples.max(axis=1))
    jokes = assign_rows_unchecked(home, fingerprint, Split()).codes[900:]
    assert len(set(jokes.tolist())) == 3  # one instruction of many rows is no question asked twice
    answer = ask(home, "split", fingerprint=fingerprint)
    assert answer["kept_together"] == 600
    assert answer["kept"] == ["text", "near", "prompt"]


def test_rows_of_one_template_are_parted_by_their_text(home: Home, tmp_path) -> None:
    rows = [{"prompt": f"{sentence(1, 80)} {n}", "completion": f"{n}"} for n in range(100)]
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    assert set(measure_duplicates(home, fingerprint)["near_chain"].to_pylist()) == {0}
    dealt = assign_rows(home, fingerprint, Split())
    assert dealt.kept == ("text",)
    assert dealt.counts()["test"] == 25
    assert find_leaks(home, fingerprint, dealt.ids())["near"] == 50


def test_a_way_that_needs_a_column_is_refused_without_one() -> None:
    with pytest.raises(ConfigError, match="a split by time needs a column") as caught:
        Split.parse({"split_by": "time"})
    assert caught.value.field == "split_column"


def test_a_run_takes_the_way_of_its_data_set_and_a_column_only_with_it() -> None:
    own = Split(split_by="group", split_column="source.c").model_dump()
    assert get_split({"split_seed": 4}, own) == {**own, "split_seed": 4}
    assert get_split({"split_by": "stratified"}, own)["split_column"] is None
    assert get_split({"split_column": "label"}, own)["split_column"] == "label"
    assert get_split({"split_by": "group"}, own) == own


@pytest.mark.parametrize(("asked", "together"), [(10, True), (11, False)])
def test_of_few_rows_a_prompt_of_ten_is_a_question_and_of_eleven_an_instruction(
    home: Home, tmp_path: Path, asked: int, together: bool
) -> None:
    rows = [{"prompt": sentence(n, 30), "completion": sentence(700 + n, 30)} for n in range(200)]
    rows += [{"prompt": "Tell a joke.", "completion": sentence(5000 + n, 30)} for n in range(asked)]
    fingerprint = imported(home, tmp_path / "a.jsonl", rows)
    measure_duplicates(home, fingerprint)
    parts = [
        assign_rows_unchecked(home, fingerprint, Split(split_seed=seed)).codes[200:] for seed in range(4)
    ]
    assert all(len(set(codes.tolist())) == 1 for codes in parts) == together
