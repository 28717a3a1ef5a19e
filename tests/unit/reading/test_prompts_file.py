"""Files of prompts for a rating round: what is read, what is counted, and what is refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.rating import prompts_file
from engine.rating.jobs import inspect_prompts
from engine.rating.prompts_file import PromptsFileContent, read_prompts
from engine.worker.job import WorkerJob
from store.core.errors import DataError
from store.core.home import Home
from store.core.job_folder import write_json


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def read(home: Home, name: str, content: str | bytes | list[dict[str, Any]]) -> PromptsFileContent:
    path = home.uploads / name
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_prompts(home, path)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_prompts_conversations_references_and_answers(home: Home) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        *user("Hello?"),
        {"role": "assistant", "content": "Hi."},
    ]
    rows = [
        {"prompt": "One?", "reference": "1", "answers": {"gpt-4o": "It is 1.", "llama": ""}},
        {"messages": turns, "answers": {"gpt-4o": "Hello."}},
        {"messages": turns, "reference": "Good day.", "answers": {"llama": None}},
    ]
    first, second, third = read(home, "p.jsonl", rows).prompts
    assert (first.turns, first.reference) == (user("One?"), "1")
    assert first.answers == {"gpt-4o": "It is 1.", "llama": ""}
    assert second.turns == turns[:2]
    assert (second.reference, third.reference) == ("Hi.", "Good day.")
    assert third.answers == {}


def test_tables_have_a_column_for_each_models_answers(home: Home) -> None:
    text = "prompt,answer:gpt-4o,answer:llama\nOne?,1,eins\nTwo?,2,\n"
    for name, content in (("p.csv", text), ("p.tsv", text.replace(",", "\t"))):
        prompts_read = read(home, name, content)
        assert [prompt.answers for prompt in prompts_read.prompts] == [
            {"gpt-4o": "1", "llama": "eins"},
            {"gpt-4o": "2"},
        ]
        assert prompts_read.answered == {"gpt-4o": 2, "llama": 1}
    assert read(home, "one.csv", 'prompt,answers\nOne?,"{""a"": ""1""}"\n').prompts[0].answers == {"a": "1"}


def test_parquet_json_text_and_packed_files(home: Home, tmp_path: Path) -> None:
    table = pa.table({"prompt": ["One?", "Two?"], "answers": [{"a": "1", "b": "x"}, {"a": "2", "b": None}]})
    pq.write_table(table, home.uploads / "p.parquet")
    prompts_read = read_prompts(home, home.uploads / "p.parquet").prompts
    assert [prompt.answers for prompt in prompts_read] == [{"a": "1", "b": "x"}, {"a": "2"}]
    assert len(read(home, "p.json", json.dumps([{"prompt": "One?"}, {"prompt": "Two?"}])).prompts) == 2
    lines = "".join(f"Question {n}?\n" for n in range(30))
    assert [prompt.turns for prompt in read(home, "p.txt", lines).prompts][:2] == [
        user("Question 0?"),
        user("Question 1?"),
    ]
    assert (
        len(read(home, "p.jsonl.gz", gzip.compress(b'{"prompt": "One?"}\n{"prompt": "Two?"}\n')).prompts) == 2
    )


def test_rows_without_a_prompt_keep_the_places_of_the_others_and_are_counted(home: Home) -> None:
    rows = [
        {"prompt": ""},
        {"prompt": "Right?"},
        {"answers": {"a": "x"}},
        {"prompt": "  "},
        {"prompt": ["a", "list"]},
        {"messages": [{"role": "assistant", "content": "Only I speak."}]},
        {"prompt": "Right?"},
        {"prompt": "Right?", "answers": {"a": "x"}},
        {"prompt": "Odd", "answers": "not an object"},
        {"prompt": "Named", "answers": {"two\nlines": "x"}},
    ]
    prompts_read = read(home, "p.jsonl", rows)
    assert [prompt.row_id for prompt in prompts_read.prompts] == [1, 7]
    assert prompts_read.left_out == {
        "it has no prompt": 2,
        "its prompt is empty": 1,
        "prompt is a list, not a text": 1,
        "no turn by the user": 1,
        "the same row again": 1,
        "answers is not an object with a text for each model": 1,
        "a model's name is empty, not one line, or longer than 120 characters": 1,
    }


def test_what_is_hostile_is_text_or_left_out(home: Home) -> None:
    rows = [
        {"prompt": "<script>alert(1)</script>", "answers": {"<b>": "<img src=x onerror=alert(1)>"}},
        {"prompt": "A zero \0 in between"},
        {"prompt": "x" * 1_000_000},
        {"prompt": "Half \ud800 a character"},
        {"prompt": "Short", "answers": {"a": "y" * 1_000_000}},
    ]
    prompts_read = read(home, "p.jsonl", rows)
    assert prompts_read.prompts[0].answers == {"<b>": "<img src=x onerror=alert(1)>"}
    assert [prompt.turns[0]["content"] for prompt in prompts_read.prompts] == [
        "<script>alert(1)</script>",
        "A zero \0 in between",
    ]
    assert prompts_read.left_out["it has more than 200,000 characters"] == 2
    assert sum(prompts_read.left_out.values()) == 3


def test_no_reason_names_a_model(home: Home) -> None:
    rows = [
        {"prompt": "One?", "answer:gpt-4o": {"text": "1"}},
        {"prompt": "Two?", "answer:gpt-4o": "2", "answers": {" gpt-4o": "two"}},
        {"prompt": "Three?", "answers": {"\ud800": "3"}},
        {"prompt": "Four?", "answer:gpt-4o": "4"},
    ]
    prompts_read = read(home, "p.jsonl", rows)
    assert prompts_read.answered == {"gpt-4o": 1}
    assert sum(prompts_read.left_out.values()) == 3
    assert prompts_read.left_out["it has two answers of one model"] == 1
    assert not any("gpt" in reason for reason in prompts_read.left_out)


def test_rows_that_are_no_prompts_are_not_read_for_ever(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_file, "MAX_READ", 1_000)
    with pytest.raises(DataError, match="more than 1,000 rows; prompts among them: 1") as caught:
        read(home, "p.jsonl.gz", gzip.compress(b'{"prompt": "One?"}\n' + b"{}\n" * 1_000, mtime=0))
    assert caught.value.field == "prompts_file"


def test_other_encodings_are_read_as_what_they_are(home: Home) -> None:
    assert read(home, "p.csv", "prompt\nGrüße?\nNaïve?\n".encode("cp1252")).prompts[0].turns == user("Grüße?")
    assert read(home, "q.jsonl", '{"prompt": "Grüße?"}\n'.encode("utf-16")).prompts[0].turns == user("Grüße?")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jsonl", b"", "empty.jsonl is empty"),
        ("blank.jsonl", b"\n \n", "white space"),
        (
            "other.csv",
            b"question,answer\nOne?,1\nTwo?,2\n",
            "has no column prompt or messages; it has question",
        ),
        ("none.jsonl", b'{"text": "One?"}\n{"text": "Two?"}\n', r"has no prompt: it has no prompt \(2\)"),
        ("binary.jsonl", bytes(range(256)) * 20, "binary"),
        ("cut.jsonl.gz", gzip.compress(b'{"prompt": "One?"}\n' * 99, mtime=0)[:-20], "cut off"),
    ],
)
def test_a_file_without_prompts_is_refused_by_name(
    home: Home, name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read(home, name, content)
    assert caught.value.field == "prompts_file"


def test_the_form_is_told_what_a_file_has(home: Home) -> None:
    rows = [{"prompt": f"{n}?", "answers": {"a": "x"} | ({"b": "y"} if n else {})} for n in range(4)]
    (home.uploads / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"none": 1}]))
    assert asked(home, upload="p.jsonl") == {
        "prompts": 4,
        "answers": {"a": 4, "b": 3},
        "left_out": {"it has no prompt": 1},
        "first": ["0?", "1?", "2?"],
    }
    for body in ({"upload": "../token"}, {"path": str(home.path / "token")}, {"path": "/proc/self/environ"}):
        with pytest.raises(DataError) as caught:
            asked(home, **body)
        assert caught.value.field == "prompts_file"


def asked(home: Home, **body: str) -> Any:
    folder = home.asks / "a"
    folder.mkdir(exist_ok=True)
    write_json(
        folder / "config.json", {"job_id": "a", "kind": "prompts", "home": str(home.path), "config": body}
    )
    return inspect_prompts.run(WorkerJob(folder))
