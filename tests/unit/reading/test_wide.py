"""Files of many columns: recognised in time that grows as they do, and refused where they are no data set."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from engine.data.conversion import format_detection
from engine.data.conversion.format_detection import FormatOptions, choose_format
from engine.data.readers import file_rows
from engine.data.readers.file_rows import MAX_COLUMNS, unique_names
from store.core.errors import DataError
from store.core.home import Home
from tests.unit.data_job import ask, import_file, write


def wide(columns: int) -> tuple[list[str], list[dict[str, object]]]:
    names = ["text", "label", *(f"feature_{n}" for n in range(columns - 2))]
    rows = [{name: f"{name} {row}" for name in names} | {"label": str(row % 3)} for row in range(30)]
    return names, rows


def cost(columns: int) -> tuple[int, float]:
    """Names that are normalised, and processor time, of recognising so many columns."""
    names, rows = wide(columns)
    calls = [0]

    def counting(name: str) -> str:
        calls[0] += 1
        return original(name)

    original = file_rows.normalise_name
    with pytest.MonkeyPatch.context() as patch:
        for module in (file_rows, format_detection):
            patch.setattr(module, "normalise_name", counting)
        began = time.process_time()
        chosen = choose_format(names, rows, FormatOptions(None, {}))
        taken = time.process_time() - began
    assert chosen.mapping == {"text": "text", "label": "label"}
    return calls[0], taken


def test_recognising_columns_costs_as_many_steps_as_there_are_columns() -> None:
    few, many = cost(500), cost(4000)
    assert many[0] <= 8.5 * few[0]
    assert few[0] <= 500 * 12
    # Eight times as many columns: 8 where the cost is linear, 64 where it is quadratic.
    assert many[1] < 32 * max(few[1], 0.005)


def test_repeated_names_are_told_apart_in_linear_time() -> None:
    began = time.process_time()
    names, problems = unique_names(["x"] * 40_000)
    assert time.process_time() - began < 2
    assert (names[0], names[-1], len(set(names))) == ("x", "x_40000", 40_000)
    assert len(problems) == 39_999
    assert unique_names(["a", "a_2", "a", "a"])[0] == ["a", "a_2", "a_3", "a_4"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_too_many_columns_are_refused_with_a_sentence(home: Home, tmp_path: Path, kind: str) -> None:
    names = ["text", *(f"c{n}" for n in range(MAX_COLUMNS))]
    row = dict.fromkeys(names, "x")
    body = {
        "csv": ",".join(names) + "\n" + ",".join(row.values()) + "\n",
        "jsonl": json.dumps(row) + "\n" + json.dumps(row),
        "json": json.dumps([row]),
    }[kind]
    path = write(tmp_path, f"a.{kind}", body)
    for look in (lambda: ask(home, "inspect", source={"path": str(path)}), lambda: import_file(home, path)):
        with pytest.raises(DataError, match="4,097 columns; at most 4,096") as caught:
            look()
        assert caught.value.field == "source"


def test_as_many_columns_as_are_allowed_are_read(home: Home, tmp_path: Path) -> None:
    _, rows = wide(MAX_COLUMNS)
    done = import_file(home, write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows[:6]))))
    assert (done.result["row_count"], done.result["format"]) == (6, "text_label")
    assert done.result["stats"]["ignored_count"] == MAX_COLUMNS - 2
    assert len(done.result["stats"]["ignored"]) == 200
