"""The data set that is made from this machine's own Python."""

from __future__ import annotations

import sys

import pytest

from engine.data.readers import named_datasets
from engine.data.readers.file_rows import SkippedRow
from engine.data.readers.python_docs import describe_fault, extract_first_paragraph
from store.core.home import Home
from tests.unit.data_job import ask, read


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Join a list.", "Join a list."),
        ("S.find(sub[, start[, end]]) -> int\n\nReturn the lowest index.", "Return the lowest index."),
        ("D.pop(k[,d]) -> v, remove key and return\nthe value.", "Remove key and return the value."),
        ("f(x) -- round down", "Round down"),
        ("recv(n) -> (data, address)\n\nReceive data.", "Receive data."),
        ("\n    Indented and\n    folded.\n\n    More.\n", "Indented and folded."),
        ("f(x)", ""),
    ],
)  # fmt: skip
def test_the_first_paragraph_without_signatures(doc: str, expected: str) -> None:
    assert extract_first_paragraph(doc) == expected


def test_answers_that_teach_nothing_are_dropped_with_a_reason() -> None:
    assert "shorter" in describe_fault("No.")
    assert "longer" in describe_fault("x" * 500)
    assert describe_fault(">>> f(1) and so on") == "answer is code or a list"
    assert describe_fault("Return the sum of two numbers.") == ""


def test_the_rows_are_many_real_and_without_repeats(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules)
    reader = named_datasets.BuiltinReader()
    items = list(reader.rows())
    rows = [row for _, row in items if isinstance(row, dict)]
    assert [line for line, _ in items] == list(range(1, len(items) + 1))
    assert len(rows) >= (4000 if sys.version_info[:2] == (3, 11) else 3700)
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert len({row["completion"].casefold() for row in rows}) == len(rows)
    assert {row.reason for _, row in items if isinstance(row, SkippedRow)}
    answers = {row["prompt"]: row for row in rows}
    dumps = answers["What does json.dumps do?"]
    assert dumps["completion"] == "Serialize `obj` to a JSON formatted `str`."
    assert dumps["module"] == "json"
    assert "What does os.path.join do?" in answers
    assert "What does str.split do?" in answers
    assert list(answers) == sorted(answers)
    assert capfd.readouterr() == ("", "")
    assert not {"this", "antigravity", "tkinter"} & (set(sys.modules) - before)


def test_its_import_keeps_the_module_as_label(tmp_path) -> None:
    home = Home(tmp_path / "home").create()
    result = ask(home, "import", name="Python", source={"builtin": "python"})
    assert result["format"] == "prompt_completion"
    assert result["kind"] == "chat"
    assert result["row_count"] + result["skipped_count"] > 4000
    assert result["stats"]["label_count"] > 100
    row = read(home.rows(result["fingerprint"]))[100]
    assert row["label"]
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    again = ask(home, "import", name="Python", source={"builtin": "python"})
    assert again["fingerprint"] == result["fingerprint"]
