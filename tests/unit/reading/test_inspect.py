"""The ask `inspect`: what the data-set form shows before anything is imported."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.core.documents import as_json
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.schemas import FileColumn, FileProblem
from tests.unit.data_job import ask


def inspect(home: Home, path: Path, **options: object) -> dict:
    answer = ask(home, "inspect", source={"path": str(path)}, **options)
    json.dumps(answer, allow_nan=False, default=as_json)  # it crosses to the browser
    return answer


def test_a_csv_is_described(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "text,category\n" + "".join(f"Question {n},c{n % 3}\n" for n in range(40)) + "ragged\n,c\n"
    )
    answer = inspect(home, path)
    assert {key: answer[key] for key in ("reader", "compressed", "encoding", "has_header", "delimiter")} == {
        "reader": "csv",
        "compressed": False,
        "encoding": "utf-8",
        "has_header": True,
        "delimiter": ",",
    }
    assert answer["bytes"] == path.stat().st_size
    assert answer["columns"][1] == FileColumn(name="category", type="text", example="c0")
    assert (answer["format"], answer["mapping"]) == ("text_label", {"text": "text", "label": "category"})
    assert answer["alternatives"] == ["text"]
    assert answer["mappings"]["text"] == {"text": "text"}
    assert len(answer["rows"]) == 20
    assert len(answer["canonical"]) == 5
    assert answer["canonical"][0] == {
        "messages": [{"role": "user", "content": "Question 0"}, {"role": "assistant", "content": "c0"}],
        "label": "c0",
    }
    assert answer["problems"] == [
        FileProblem(line=42, reason="1 field where the header names 2"),
        FileProblem(line=43, reason="text is empty"),
    ]


def test_a_mapping_by_the_user_is_shown_as_it_would_be_stored(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "answer": "a", "topic": "t"}\n')
    chosen = {"format": "text_label", "columns": {"text": "question", "label": "topic"}}
    answer = inspect(home, path, **chosen, instruction="Name the topic.")
    assert answer["canonical"][0]["messages"][0]["content"] == "Name the topic.\n\nq"
    assert answer["format"] == "text_label"
    assert "question_answer" in answer["alternatives"]
    with pytest.raises(ConfigError, match="no column 'tpic'"):
        inspect(home, path, format="text_label", columns={"text": "question", "label": "tpic"})


def test_columns_that_hold_no_text_have_no_format(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.5, float("nan")], "y": [[1], [2]]}), path)
    answer = inspect(home, path)
    assert (answer["format"], answer["mapping"], answer["canonical"]) == (None, {}, [])
    assert [column.type for column in answer["columns"]] == ["number", "list"]
    assert answer["rows"][1] == {"x": None, "y": [2]}
    assert "No column holds text" in answer["problems"][0].reason


def test_long_values_are_cut_and_many_problems_counted(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x" * 50_000}) + "\n" + "{\n" * 300)
    answer = inspect(home, path)
    assert len(answer["rows"][0]["text"]) == 2000
    assert len(answer["problems"]) == 101
    assert answer["problems"][-1].reason.startswith("200 more problems")


def test_a_huge_file_is_read_at_its_beginning_alone(home: Home, tmp_path: Path) -> None:
    for name, start in {
        "a.jsonl": '{"text": "Hello"}\n' * 3000,
        "a.json": "[" + '{"text": "Hello"},' * 3000,
    }.items():
        path = tmp_path / name
        path.write_text(start)
        with open(path, "ab") as file:
            file.truncate(2 * 1024**3)  # sparse: no disk is used
        started = time.monotonic()
        answer = inspect(home, path)
        assert time.monotonic() - started < 3
        assert answer["bytes"] == 2 * 1024**3
        assert len(answer["rows"]) == 20


def test_the_built_in_rows(home: Home) -> None:
    answer = ask(home, "inspect", source={"builtin": "python"})
    assert answer["mapping"] == {"prompt": "prompt", "completion": "completion"}
    assert answer["canonical"][0]["label"]


def test_bad_files_and_bad_asks(home: Home, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        inspect(home, tmp_path / "missing.csv")
    with pytest.raises(ConfigError, match="exactly one of path"):
        ask(home, "inspect", source={})


def test_what_only_says_how_a_file_is_read_is_a_notice(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"result": {"items": [{"question": "Who?", "answer": "Ada"}]}}')
    (notice,) = inspect(home, file)["problems"]
    assert notice == FileProblem(line=None, reason="The rows are those under 'result.items'.", notice=True)
