"""JSON and JSONL: a broken line costs that line, a broken document is refused with the line it breaks at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.readers import file_rows as rows_module
from engine.data.readers import source_files
from store.core.errors import DataError
from store.core.home import Home
from tests.unit.data_job import read_all, reasons, write


def test_broken_line_3_of_jsonl_costs_that_line(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b"}\n{"text": "c"\n\n[1]\n{"text": "e"}')
    good, bad, _ = read_all(home, path)
    assert [line for line, _ in good] == [1, 2, 6]
    assert [line for line, _ in bad] == [3, 5]
    assert bad[0][1].startswith("broken JSON (Expecting ',' delimiter")
    assert bad[1][1] == "a list where an object is expected"


def test_jsonl_whose_first_line_is_broken(home: Home, tmp_path: Path) -> None:
    good, bad, reader = read_all(home, write(tmp_path, "a.jsonl", '{"text": \n{"text": "b"}\n'))
    assert (reader.name, len(good), bad[0][0]) == ("jsonl", 1, 1)


@pytest.mark.parametrize("text", ["NaN", "[" * 5000 + "]" * 5000, "9" * 5000])
def test_hostile_json_values_are_rows_or_skipped(home: Home, tmp_path: Path, text: str) -> None:
    good, bad, _ = read_all(home, write(tmp_path, "a.jsonl", f'{{"text": {text}}}\n{{"text": "b"}}\n'))
    assert len(good) + len(bad) == 2
    assert good[-1] == (2, {"text": "b"})


def test_a_line_over_the_limit_is_skipped_and_the_rest_read(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.readers.plain_text.MAX_ROW", 3_000_000)
    for position in (0, 1_000_000):  # with its end in a later piece, and with both ends in one
        body = (
            b'{"text": "a"}\n' + b" " * position + b'{"text": "' + b"x" * 5_000_000 + b'"}\n{"text": "b"}\n'
        )
        good, bad, _ = read_all(home, write(tmp_path, "a.jsonl", body))
        assert [line for line, _ in good] == [1, 3]
        assert bad == [(2, f"longer than {rows_module.MAX_ROW_TEXT}")]


@pytest.mark.parametrize("chunk", [7, 64, 1024 * 1024])
@pytest.mark.parametrize("wrap", ["{rows}", '{{"version": 1, "data": {rows}}}'])
def test_json_arrays_stream_whatever_the_pieces(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, wrap: str
) -> None:
    monkeypatch.setattr(source_files, "HEAD", 64 if chunk < 64 else chunk)
    monkeypatch.setattr(source_files, "CHUNK", chunk)
    rows = [{"text": f'é " \\ [{n}]\n' * n, "label": n} for n in range(40)]
    path = write(tmp_path, "a.json", wrap.format(rows=json.dumps(rows, indent=1, ensure_ascii=False)))
    good, bad, reader = read_all(home, path)
    assert [row for _, row in good] == rows
    assert not bad
    assert reader.name == "json"
    text = path.read_text()
    assert all(text.split("\n")[line - 1].strip().endswith("{") for line, _ in good)


def test_json_that_ends_in_the_middle_is_refused_with_its_line(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[\n {"text": "a"},\n {"text": "b')
    with pytest.raises(DataError, match=r"a\.json is not valid JSON at line 3: it ends in the middle"):
        read_all(home, path)


def test_json_with_a_syntax_error_is_refused_with_its_line(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[\n {"text": "a"}\n {"text": "b"}]' + " " * 100)
    with pytest.raises(DataError, match="line 3: a comma or a closing bracket is missing"):
        read_all(home, path)


def test_json_that_is_no_array_of_objects_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains one JSON object"):
        read_all(home, write(tmp_path, "a.json", '{\n"text": {"0": "a"},\n"label": {"0": "b"}\n}'))


def test_rows_after_the_wrapped_array_are_mentioned(home: Home, tmp_path: Path) -> None:
    _, _, reader = read_all(
        home, write(tmp_path, "a.json", '{"rows": [{"text": "a"}],\n"more": [{"text": "b"}]}')
    )
    assert "Only the rows of 'rows' are read" in reasons(reader)


LINE = st.one_of(
    st.builds(lambda text: json.dumps({"text": text}), st.text(max_size=10)),
    st.text(alphabet=st.characters(exclude_characters="\n\r", exclude_categories=("Cs", "Cc")), max_size=20),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=20))
def test_every_line_of_jsonl_is_read_or_skipped(home: Home, tmp_path: Path, lines: list[str]) -> None:
    first = '{"text": "so that the file is recognised"}'
    path = write(tmp_path, "a.jsonl", "\n".join([first, *lines]))
    good, bad, _ = read_all(home, path)
    expected = [number for number, line in enumerate([first, *lines], 1) if line.strip()]
    assert sorted(line for line, _ in [*good, *bad]) == expected
