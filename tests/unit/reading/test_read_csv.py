"""CSV and TSV: delimiters and headers are recognised, and each row keeps its line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.readers.table_readers import sniff
from store.core.home import Home
from tests.unit.data_job import read_all, reasons, write


def test_csv_lines_are_physical_lines_also_after_quoted_newlines(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\n"two\nlines",x\n\nplain,y\n"a ""quote""",z\n')
    good, bad, reader = read_all(home, path)
    assert good == [
        (2, {"text": "two\nlines", "label": "x"}),
        (5, {"text": "plain", "label": "y"}),
        (6, {"text": 'a "quote"', "label": "z"}),
    ]
    assert not bad
    assert (reader.name, reader.delimiter, reader.has_header) == ("csv", ",", True)


def test_ragged_rows_are_skipped_with_line_and_widths(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\none,x\ntwo\nthree,y,extra\nfour,z\n")
    good, bad, _ = read_all(home, path)
    assert [row["text"] for _, row in good] == ["one", "four"]
    assert bad == [(3, "1 field where the header names 2"), (4, "3 fields where the header names 2")]


def test_a_quote_that_is_never_closed_costs_one_row(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'text,label\none,x\n"two,y\nthree,z\nfour,w\n')
    good, bad, _ = read_all(home, path)
    assert [line for line, _ in good] == [2, 4, 5]
    assert bad == [(3, "a quote opens here and is never closed")]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters_are_recognised(home: Home, tmp_path: Path, delimiter: str) -> None:
    lines = [delimiter.join(("text", "label")), *(delimiter.join((f"row {n}", "x")) for n in range(9))]
    good, bad, reader = read_all(home, write(tmp_path, "a.csv", "\n".join(lines)))
    assert reader.delimiter == delimiter
    assert len(good) == 9
    assert not bad


def test_semicolons_win_over_commas_inside_texts(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text;label\nwell, yes;a\nno;b\none, two, three;a\n")
    good, _, reader = read_all(home, path)
    assert reader.delimiter == ";"
    assert good[2][1] == {"text": "one, two, three", "label": "a"}


def test_tsv_without_header_and_with_plain_quotes(home: Home, tmp_path: Path) -> None:
    body = 'ham\t"hello there\nspam\tWin a prize now\nham\tok then\n'
    good, bad, reader = read_all(home, write(tmp_path, "a.tsv", body))
    assert reader.has_header is False
    assert reader.columns == ["column_1", "column_2"]
    assert [row["column_2"] for _, row in good] == ['"hello there', "Win a prize now", "ok then"]
    assert not bad
    assert "column_1, column_2" in reasons(reader)


def test_the_header_can_be_overruled(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\na b,x\n")
    assert len(read_all(home, path, has_header=False)[0]) == 2
    assert read_all(home, path, has_header=True)[2].columns == ["text", "label"]


def test_repeated_column_names_are_made_unique_and_said(home: Home, tmp_path: Path) -> None:
    good, _, reader = read_all(home, write(tmp_path, "a.csv", "text,text,,label\na,b,c,d\n"))
    assert reader.columns == ["text", "text_2", "column_3", "label"]
    assert good[0][1]["text_2"] == "b"
    assert "Two columns are named 'text'" in reasons(reader)


def test_old_mac_line_ends(home: Home, tmp_path: Path) -> None:
    good, _, _ = read_all(home, write(tmp_path, "a.csv", b"text,label\ra,x\rb,y\r"))
    assert good == [(2, {"text": "a", "label": "x"}), (3, {"text": "b", "label": "y"})]


CELL = st.text(alphabet=st.sampled_from('ab,;"\n\r\t é|'), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12))
def test_what_the_csv_module_writes_is_read_back(
    home: Home, tmp_path: Path, cells: list[tuple[str, str]]
) -> None:
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *cells])
    good, bad, _ = read_all(home, path, has_header=True)
    expected = [tuple(cell.replace("\r\n", "\n") for cell in row) for row in cells]
    assert [tuple(row.values()) for _, row in good] == expected
    assert not bad


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", ",")])
def test_a_tie_goes_to_the_delimiter_of_the_files_name(
    home: Home, tmp_path: Path, name: str, delimiter: str
) -> None:
    lines = [f"last {n}, first {n}\tnote {n}" for n in range(9)]
    content = "\n".join(["surname, name\tnote", *lines])
    dialect = sniff(content, {"a.csv": ",", "a.tsv": "\t"}.get(name))
    assert (dialect.delimiter, dialect.agreement) == (delimiter, 1.0)
    if name != "a.txt":  # lines of a text may be texts and no table
        assert read_all(home, write(tmp_path, name, content))[2].delimiter == delimiter
