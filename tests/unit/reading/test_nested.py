"""Rows that lie inside something: arrays under a path, questions in paragraphs, fields in objects, parts of
one file, and texts whose marks say what is asked and what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.conversion.format_detection import recognise_format
from engine.data.conversion.reading_plan import inspect_head
from engine.data.readers import source_files
from store.core.home import Home
from tests.unit.data_job import ask, import_file, read_all, reasons, write

ROWS = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(5)]


@pytest.mark.parametrize("chunk", [5, 1024 * 1024])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"data": ROWS}, "data"),
        ({"a": {"b": ROWS}}, "a.b"),
        (
            {"version": 1, "meta": {"by": {"name": "x"}, "n": []}, "a": {"c": 2, "b": {"rows": ROWS}}},
            "a.b.rows",
        ),
        ({"empty": {}, "list": [1, 2], "rows": ROWS}, "rows"),
    ],
)
def test_rows_under_a_path_are_found_and_the_path_is_said(
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    document: Any,
    path: str,
    indent: Any,
    chunk: int,
) -> None:
    monkeypatch.setattr(source_files, "CHUNK", chunk)
    file = write(tmp_path, "a.json", json.dumps(document, indent=indent))
    good, bad, reader = read_all(home, file)
    assert [row for _, row in good] == ROWS
    assert not bad
    assert f"The rows are those under {path!r}." in reasons(reader)
    assert "more after them" not in reasons(reader)


def test_what_comes_after_the_rows_is_said(home: Home, tmp_path: Path) -> None:
    for document in ({"a": {"b": ROWS, "c": 1}}, {"a": {"b": ROWS}, "c": [{"x": 1}]}):
        _, _, reader = read_all(home, write(tmp_path, "a.json", json.dumps(document)))
        assert "Only the rows of 'a.b' are read" in reasons(reader)


def test_arrays_for_each_part_are_one_data_set(home: Home, tmp_path: Path) -> None:
    document = {"train": ROWS, "validation": ROWS[:1], "test": [], "notes": "n"}
    good, _, reader = read_all(home, write(tmp_path, "a.json", json.dumps(document)))
    assert [row["split"] for _, row in good] == ["train"] * 5 + ["validation"]
    assert "the file has more after them" in reasons(reader)


def test_questions_of_paragraphs_are_rows_with_their_context(home: Home, tmp_path: Path) -> None:
    def asked(n: int, answers: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": f"i{n}", "question": f"Who {n}?", "answers": answers}

    ada = [{"text": "Ada", "answer_start": 3}, {"text": "Ada L.", "answer_start": 3}]
    paragraphs = [
        {"context": "By Ada.", "qas": [asked(1, ada), asked(2, [])]},
        {"context": "Again Ada.", "qas": [asked(3, ada)]},
    ]
    document = {"version": "1.1", "data": [{"title": "T", "paragraphs": paragraphs}]}
    done = import_file(home, write(tmp_path, "a.json", json.dumps(document)))
    assert done.result["format"] == "question_answer"
    assert done.result["columns"] == {
        "question": "question",
        "answer": "answers.0.text",
        "context": "context",
    }
    assert [row["messages"][0]["content"] for row in done.rows] == [
        "By Ada.\n\nWho 1?",
        "Again Ada.\n\nWho 3?",
    ]
    assert done.rows[0]["messages"][1]["content"] == "Ada"
    assert [row["reason"] for row in done.skipped] == ["answers.0.text is missing"]
    assert done.result["stats"]["ignored"] == ["title", "id"]
    assert done.result["stats"]["notices"] == [
        "The rows are those under 'data'.",
        "Each contains objects under 'paragraphs.qas', which are the rows.",
    ]


@pytest.mark.parametrize(
    ("row", "format", "mapping"),
    [
        (
            {"data": {"question": "q", "answer": "a"}, "id": 1},
            "question_answer",
            {"question": "data.question", "answer": "data.answer"},
        ),
        (
            {"input": {"text": "q"}, "output": {"text": "a"}},
            "prompt_completion",
            {"prompt": "input.text", "completion": "output.text"},
        ),
        (
            {"context": "c", "question": "q", "answers": {"text": ["a", "b"], "answer_start": [1, 2]}},
            "question_answer",
            {"question": "question", "answer": "answers.text.0", "context": "context"},
        ),
        (
            {"question": "q", "answer": ["a", "b"]},
            "question_answer",
            {"question": "question", "answer": "answer.0"},
        ),
    ],
)
def test_fields_inside_objects_are_columns_by_their_path(
    home: Home, tmp_path: Path, row: dict[str, Any], format: str, mapping: dict[str, str]
) -> None:
    """What was once "no known format" under a green tick."""
    seen = inspect_head([], [(1, row)])
    assert (seen.recognised.format, seen.recognised.mappings[format]) == (format, mapping)
    done = import_file(home, write(tmp_path, "a.jsonl", json.dumps(row) + "\n" + json.dumps(row)))
    assert done.rows[0]["messages"][-1]["content"] == "a"
    assert json.loads(done.rows[0]["source"]) == row
    assert done.result["stats"]["ignored"] == (["id"] if "id" in row else [])


def test_a_column_goes_before_a_path_of_its_name() -> None:
    row = {"meta": {"text": "inner"}, "text": "outer"}
    seen = inspect_head([], [(1, row)])
    assert seen.recognised.mappings["text"] == {"text": "text"}


def test_nothing_recognised_is_said_with_what_to_do(home: Home, tmp_path: Path) -> None:
    document = ask(home, "inspect", source={"path": str(write(tmp_path, "a.jsonl", '{"n": 1}\n{"n": 2}\n'))})
    assert document["format"] is None
    assert document["ignored"] == ["n"]
    assert "No column holds text" in document["problems"][0].reason
    assert recognise_format(["n"], [{"n": 1}]).format is None


MARKED = [
    (
        "Notes.\n\nQ: Who?\nA: Ada.\n\nQ2: Where?\nAnswer: At home,\n\nor away.\nQuestion: Alone?\nQ: Why?\n"
        "A: So.\n",
        "question_answer",
        [("Who?", "Ada."), ("Where?", "At home,\n\nor away."), ("Why?", "So.")],
        [(1, "precedes the first question"), (10, "has no answer")],
    ),
    (
        "### Instruction:\nTranslate.\n### Input:\nHallo\n### Response:\nHello\n\n"
        "### Instruction: Say hi\n### Response:\nhi\n",
        "instruction",
        [("Translate.\n\nHallo", "Hello"), ("Say hi", "hi")],
        [],
    ),
]


@pytest.mark.parametrize(("text", "format", "pairs", "skipped"), MARKED)
def test_text_with_marks_is_questions_and_answers(
    home: Home,
    tmp_path: Path,
    text: str,
    format: str,
    pairs: list[tuple[str, str]],
    skipped: list[tuple[int, str]],
) -> None:
    done = import_file(home, write(tmp_path, "a.txt", text))
    assert done.result["format"] == format
    assert [tuple(turn["content"] for turn in row["messages"]) for row in done.rows] == pairs
    assert [(row["line"], row["reason"]) for row in done.skipped] == skipped


def test_prose_with_a_colon_stays_prose(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.txt", "A: first.\n\nNote: this.\n\nQ: one question.\n"))
    assert done.result["format"] == "text"
