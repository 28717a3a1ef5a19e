"""Answers that somebody judged: nobody trains on the worse one, and every row is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.conversion.format_detection import FormatOptions, choose_format, recognise_format
from engine.data.conversion.judged_answers import MarkColumns, count_pairs, decide_side, pair_up
from engine.data.readers.file_rows import RowSkipped
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.config import ImportConfig
from tests.unit.data_job import Imported, ask, import_file, write


def lines(home: Home, folder: Path, rows: list[dict[str, Any]], **config: Any) -> Imported:
    return import_file(home, write(folder, "a.jsonl", "\n".join(map(json.dumps, rows))), **config)


def kto(prompt: str, completion: str, label: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, "label": label}


def answers(done: Imported) -> list[str]:
    return [row["messages"][-1]["content"] for row in done.rows]


@pytest.mark.parametrize(
    "marks", [(True, False), ("true", "false"), (1, 0), ("good", "bad"), ("Thumbs up", "thumbs-down")]
)
def test_bad_answers_are_not_trained_on(home: Home, tmp_path: Path, marks: tuple[Any, Any]) -> None:
    """What was once imported as prompt and completion, true and false alike."""
    if marks[0] == "Thumbs up":
        marks = ("thumbs_up", "thumbs_down")
    rows = [kto(f"Question {n}", f"answer {n}", marks[n % 2]) for n in range(10)]
    done = lines(home, tmp_path, rows)
    assert (done.result["format"], done.result["kind"]) == ("marked", "chat")
    assert answers(done) == [f"answer {n}" for n in range(0, 10, 2)]
    assert done.result["stats"]["skipped_reasons"] == {"marked as bad: not trained on": 5}
    assert done.result["row_count"] + done.result["skipped_count"] == 10
    assert set(done.result["stats"]["values"].values()) == {"good", "bad"}


def test_prompts_with_a_good_and_a_bad_answer_make_pairs(home: Home, tmp_path: Path) -> None:
    rows = [kto("q1", "good 1", True), kto("q1", "bad 1", False), kto("q2", "bad 2", False)]
    rows += [kto("q2", "good 2", True), kto("q2", "bad 3", False), kto("q3", "good 3", True)]
    rows += [{"prompt": "q4", "completion": "?", "label": None}]
    done = lines(home, tmp_path, rows)
    assert (done.result["format"], done.result["kind"]) == ("marked_pairs", "preference")
    assert [(row["line"], row["messages"][-1]["content"], row["rejected"]) for row in done.rows] == [
        (1, "good 1", "bad 1"),
        (4, "good 2", "bad 2"),
    ]
    assert sorted((row["line"], row["reason"]) for row in done.skipped) == [
        (2, "used as the rejected answer of a pair"),
        (3, "used as the rejected answer of a pair"),
        (5, "no good answer to the same prompt is left"),
        (6, "no bad answer to the same prompt is left"),
        (7, "label is missing: the answer is marked neither good nor bad"),
    ]
    assert json.loads(done.rows[0]["source"])["rejected answer"] == "bad 1"


def test_the_marked_format_says_that_pairs_could_be_made(home: Home, tmp_path: Path) -> None:
    rows = [kto(f"q{n}", "good", True) for n in range(9)] + [kto("q0", "bad", False)]
    done = lines(home, tmp_path, rows)
    assert done.result["format"] == "marked"
    assert "1 good answers have a bad one to the same prompt" in done.alerts
    paired = lines(home, tmp_path, rows, format="marked_pairs")
    assert (paired.result["row_count"], paired.result["skipped_count"]) == (1, 9)


def test_pairs_far_apart_hold_only_what_will_find_a_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(n, kto(f"q{n}", "x" * 100, True)) for n in range(1000)]
    rows += [(1000 + n, kto(f"q{n}", "y", False)) for n in range(3)]
    marking = MarkColumns("prompt", "completion", "label", {"true": "good", "false": "bad"})
    pairs = count_pairs((row for _, row in rows), marking)
    monkeypatch.setattr(
        "engine.data.conversion.judged_answers.MAX_WAITING", 600
    )  # three rows, not a thousand
    items = list(pair_up(iter(rows), marking, pairs))
    assert len(items) == 1003
    assert sum(isinstance(row, dict) for _, row in items) == 3
    monkeypatch.setattr("engine.data.conversion.judged_answers.MAX_WAITING", 300)
    with pytest.raises(DataError, match="waits for the other answer"):
        list(pair_up(iter(rows), marking, pairs))


@pytest.mark.parametrize(
    ("columns", "labels", "meanings"),
    [
        (("output_1", "output_2"), [1, 2], {"1": "first", "2": "second"}),
        (("output_1", "output_2"), [1], {"1": "first"}),
        (("output_1", "output_2"), [0, 1], {"0": "first", "1": "second"}),
        (("response_0", "response_1"), [0, 1], {"0": "first", "1": "second"}),
        (("response_0", "response_1"), [1], {"1": "second"}),
        (("response1", "response2"), [0, 1, 2], {"0": "tie", "1": "first", "2": "second"}),
        (("output_1", "output_2"), ["output_1", "output_2"], {"output_1": "first", "output_2": "second"}),
        (("response_a", "response_b"), ["A", "B", "tie"], {"a": "first", "b": "second", "tie": "tie"}),
        (
            ("response_a", "response_b"),
            ["model_a", "model_b", "tie (bothbad)"],
            {"model_a": "first", "model_b": "second", "tie (bothbad)": "tie"},
        ),
    ],
)
def test_which_answer_a_value_means(
    columns: tuple[str, str], labels: list[Any], meanings: dict[str, str]
) -> None:
    rows = [{"input": "q", columns[0]: "one", columns[1]: "two", "label": label} for label in labels]
    chosen = choose_format(list(rows[0]), rows, FormatOptions(None, {}))
    assert chosen.format == "comparison"
    assert chosen.mapping == {"first": columns[0], "second": columns[1], "better": "label", "prompt": "input"}
    assert chosen.values == meanings


@pytest.mark.parametrize("labels", [[-1, 0, 1], [3, 7], ["somewhat", "very"], [1.5, 2.5]])
def test_values_that_say_nothing_clear_are_not_taken_for_a_judgement(labels: list[Any]) -> None:
    rows = [{"input": "q", "output_1": "one", "output_2": "two", "label": label} for label in labels]
    assert "comparison" not in recognise_format(list(rows[0]), rows).mappings
    given = {"first": "output_1", "second": "output_2", "better": "label"}
    with pytest.raises(DataError, match="can't be interpreted") as caught:
        choose_format(list(rows[0]), rows, FormatOptions("comparison", given))
    assert caught.value.field == "values"


def test_the_better_answer_is_the_chosen_one_and_ties_are_counted(home: Home, tmp_path: Path) -> None:
    """What was once imported as prompt and output_1, whatever the label said."""
    rows = [
        {"input": f"q{n}", "output_1": f"one {n}", "output_2": f"two {n}", "label": n % 3} for n in range(6)
    ]
    done = lines(home, tmp_path, rows)
    assert done.result["kind"] == "preference"
    chosen = [
        (row["messages"][0]["content"], row["messages"][-1]["content"], row["rejected"]) for row in done.rows
    ]
    assert chosen == [
        ("q1", "one 1", "two 1"),
        ("q2", "two 2", "one 2"),
        ("q4", "one 4", "two 4"),
        ("q5", "two 5", "one 5"),
    ]
    assert done.result["stats"]["skipped_reasons"] == {"a tie: neither answer is better": 2}


def test_the_user_may_say_what_a_value_means(home: Home, tmp_path: Path) -> None:
    rows = [{"input": "q", "output_1": "one", "output_2": "two", "label": n} for n in (-1, 1, 0)]
    given = {"format": "comparison", "values": {"-1": "first", "1": "second", "0": "tie"}}
    mapping = {"first": "output_1", "second": "output_2", "better": "label", "prompt": "input"}
    done = lines(home, tmp_path, rows, columns=mapping, **given)
    assert answers(done) == ["one", "two"]
    with pytest.raises(ConfigError, match="'third'"):
        ImportConfig.parse({"source": {"path": "/a"}, "format": "comparison", "values": {"1": "third"}})


@pytest.mark.parametrize(
    ("votes", "side"),
    [
        ((1, 1, 2), "first"),
        ((2, 2, 0), "second"),
        ((1, 2, 0), ""),
        ((1, 0, 0), ""),
        ((2, None, None), "second"),
    ],
)
def test_several_annotators_decide_by_majority(votes: tuple[Any, ...], side: str) -> None:
    row = {f"annotator{n}": vote for n, vote in enumerate(votes, 1)}
    meanings = {"0": "tie", "1": "first", "2": "second"}
    if side:
        assert decide_side(row, list(row), meanings) == side
    else:
        with pytest.raises(RowSkipped, match="tie"):
            decide_side(row, list(row), meanings)


def test_annotators_and_an_input_are_found_by_their_names(home: Home, tmp_path: Path) -> None:
    row = {"instruction": "Say it.", "input": "Hallo", "response1": "Hi", "response2": "No", "idx": 0}
    rows = [{**row, "annotator1": a, "annotator2": b, "annotator3": 0} for a, b in ((1, 1), (2, 2), (1, 2))]
    done = lines(home, tmp_path, rows)
    assert done.result["columns"]["better_3"] == "annotator3"
    assert [(row["messages"][0]["content"], row["rejected"]) for row in done.rows] == [
        ("Say it.\n\nHallo", "No"),
        ("Say it.\n\nHallo", "Hi"),
    ]
    assert done.result["stats"]["ignored"] == ["idx"]


@pytest.mark.parametrize(
    ("row", "values", "label"),
    [
        ({"text": "t"}, ("is_toxic", [0, 1]), "is_toxic"),
        ({"comment": "t", "id": 7}, ("toxic", [True, False]), "toxic"),
        ({"text": "t"}, ("spam", ["yes", "no"]), "spam"),
        ({"text": "t"}, ("count", [3, 5]), None),
    ],
)
def test_a_column_of_true_and_false_is_a_label(
    row: dict[str, Any], values: tuple[str, list[Any]], label: str | None
) -> None:
    """What was once imported as plain text."""
    rows = [{**row, values[0]: value} for value in values[1] * 3]
    recognised = recognise_format(list(rows[0]), rows)
    if label is None:
        assert recognised.format == "text"
        return
    assert (recognised.format, recognised.mappings["text_label"]["label"]) == ("text_label", label)


def test_inspect_says_what_is_used_as_what_and_what_is_ignored(home: Home, tmp_path: Path) -> None:
    rows = [{**kto("q", "a", n % 2 == 0), "id": n, "source": "web"} for n in range(4)]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    document = ask(home, "inspect", source={"path": str(path)})
    assert document["format"] == "marked_pairs"
    assert document["values"] == {"true": "good", "false": "bad"}
    assert document["ignored"] == ["id", "source"]
    assert document["canonical"][0]["rejected"] == "a"
    reasons = [problem.reason for problem in document["problems"]]
    assert reasons.count("used as the rejected answer of a pair") == 2
