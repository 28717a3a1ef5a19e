"""A part of the files that mean harm (`bench/hostility/files.py` has them all), in this process."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.made.odd_rows import odd_rows
from engine.data.readers.file_rows import ALIASES
from store.core.documents import as_json
from store.core.errors import TunebenchError
from store.core.home import Home
from tests.unit.data_job import ask, import_file, write


@pytest.mark.parametrize("format", ALIASES)
def test_rows_of_every_kind_of_value_are_read_or_skipped(home: Home, tmp_path: Path, format: str) -> None:
    rng = random.Random(format)
    for number in range(4):
        rows = odd_rows(rng, format)
        body = "\n".join(map(json.dumps, rows))
        path = write(tmp_path, f"{number}.jsonl", body.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(TunebenchError):
            document = ask(home, "inspect", source={"path": str(path)})
            json.dumps(document, allow_nan=False, default=as_json)
        with contextlib.suppress(TunebenchError):
            done = import_file(home, path)
            assert done.result["row_count"] + done.result["skipped_count"] == len(rows)


@pytest.mark.parametrize("depth", [50, 400, 900, 5000])
def test_deep_json_is_shown_or_refused_but_never_breaks_the_form(
    home: Home, tmp_path: Path, depth: int
) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    path = write(tmp_path, "deep.jsonl", f'{{"text": "t", "label": 1}}\n{{"text": {nested}}}\n')
    document = ask(home, "inspect", source={"path": str(path)})
    assert document["format"] == "text_label" or document["format"] == "text"
    assert json.dumps(document["rows"]).count("{") < 60
    done = import_file(home, path)
    assert done.result["row_count"] + done.result["skipped_count"] == 2


@pytest.mark.parametrize("depth", [50, 900])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_values_beside_a_text_never_break_the_form(
    home: Home, tmp_path: Path, pair: str, depth: int
) -> None:
    opening = "[" if pair == "[]" else '{"a":'
    nested = opening * depth + "1" + pair[1] * depth
    path = write(tmp_path, "inside.json", f'[{{"text": "t", "x": {nested}}}]')
    assert ask(home, "inspect", source={"path": str(path)})["format"] == "text"


def test_a_text_in_parquet_that_is_no_unicode_costs_its_row_alone(home: Home, tmp_path: Path) -> None:
    good = pa.array(["row one", "row two", "row three"])
    offsets, values = good.buffers()[1:]
    bad = pa.Array.from_buffers(
        pa.string(), 3, [None, offsets, pa.py_buffer(values.to_pybytes().replace(b"two", b"\xfft\xff"))]
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": bad}), path)
    done = import_file(home, path)
    assert [row["text"] for row in done.rows] == ["row one", "row three"]
    assert [(row["line"], row["reason"]) for row in done.skipped] == [
        (2, "contains text that is not valid UTF-8")
    ]
