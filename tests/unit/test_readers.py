"""Readers: whatever a file is, each of its rows comes out once, read or skipped, with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import rows as rows_module
from engine.data import streams
from engine.data.readers import open_source
from store.errors import ConfigError, DataError
from store.home import Home
from store.import_config import Source
from tests.unit.data_job import open_file, read_all, reasons


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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


@pytest.mark.parametrize("chunk", [7, 64, 1024 * 1024])
@pytest.mark.parametrize("wrap", ["{rows}", '{{"version": 1, "data": {rows}}}'])
def test_json_arrays_stream_whatever_the_pieces(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, wrap: str
) -> None:
    monkeypatch.setattr(streams, "HEAD", 64 if chunk < 64 else chunk)
    monkeypatch.setattr(streams, "CHUNK", chunk)
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
    with pytest.raises(DataError, match="holds one JSON object"):
        read_all(home, write(tmp_path, "a.json", '{\n"text": {"0": "a"},\n"label": {"0": "b"}\n}'))


def test_rows_after_the_wrapped_array_are_mentioned(home: Home, tmp_path: Path) -> None:
    _, _, reader = read_all(
        home, write(tmp_path, "a.json", '{"train": [{"text": "a"}],\n"test": [{"text": "b"}]}')
    )
    assert "Only the rows of 'train' are read" in reasons(reader)


def test_content_wins_over_the_extension_and_says_so(home: Home, tmp_path: Path) -> None:
    good, _, reader = read_all(home, write(tmp_path, "a.csv", '{"text": "a"}\n{"text": "b"}\n'))
    assert (reader.name, len(good)) == ("jsonl", 2)
    assert "says csv, its content is jsonl" in reasons(reader)


def test_json_called_jsonl_and_text_that_begins_with_a_bracket(home: Home, tmp_path: Path) -> None:
    assert open_file(home, write(tmp_path, "a.jsonl", '[{"text": "a"}]')).name == "json"
    assert (
        open_file(home, write(tmp_path, "a.txt", "[Illustration]\n\nOnce upon a time, a king")).name == "text"
    )


def test_paragraphs_are_rows_and_a_text_without_blank_lines_has_a_row_a_line(
    home: Home, tmp_path: Path
) -> None:
    good, _, _ = read_all(home, write(tmp_path, "a.txt", "\n\nOne\nstill one.\n \nTwo.\n\n\n"))
    assert good == [(3, {"text": "One\nstill one."}), (6, {"text": "Two."})]
    good, _, reader = read_all(home, write(tmp_path, "b.txt", "".join(f"Line {n}.\n" for n in range(30))))
    assert good[29] == (30, {"text": "Line 29."})
    assert "its lines" in reasons(reader)


@pytest.mark.parametrize(
    ("codec", "reported"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_encodings(home: Home, tmp_path: Path, codec: str, reported: str, name: str) -> None:
    rows = [{"text": "Grüße, “Ä” – café", "label": "ß"}] * 3
    text = {
        "a.csv": "text,label\r\n" + '"Grüße, “Ä” – café",ß\r\n' * 3,
        "a.jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "a.json": json.dumps(rows, ensure_ascii=False),
    }[name]
    good, bad, reader = read_all(home, write(tmp_path, name, text.encode(codec)))
    assert [row for _, row in good] == rows
    assert not bad
    assert reader.encoding == reported
    assert ("Windows-1252" in reasons(reader)) == (reported == "cp1252")


def test_latin1_far_into_an_ascii_file_is_read_and_said_with_its_line(home: Home, tmp_path: Path) -> None:
    body = b"text,label\n" + b"plain,x\n" * 200_000 + "café,y\n".encode("latin-1")
    good, bad, reader = read_all(home, write(tmp_path, "a.csv", body))
    assert good[-1] == (200_002, {"text": "café", "label": "y"})
    assert not bad
    assert reader.encoding == "cp1252"
    assert [problem.line for problem in reader.problems] == [200_002]


def test_a_stray_byte_in_a_utf8_file_costs_that_row(home: Home, tmp_path: Path) -> None:
    body = "text,label\nGrüße,x\n".encode() * 1 + b"x" * streams.HEAD + b",y\nbro\xfcken,y\nlast,z\n"
    good, bad, reader = read_all(home, write(tmp_path, "a.csv", body))
    assert bad == [(4, "not valid utf-8")]
    assert len(good) == 3
    assert reader.encoding == "utf-8"


def test_a_named_encoding_is_kept_to(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\nплохо,x\n".encode("koi8-r"))
    assert read_all(home, path, encoding="koi8-r")[0][0][1]["text"] == "плохо"
    with pytest.raises(ConfigError, match="'klingon'") as caught:
        open_file(home, path, encoding="klingon")
    assert caught.value.field == "encoding"


def test_old_mac_line_ends(home: Home, tmp_path: Path) -> None:
    good, _, _ = read_all(home, write(tmp_path, "a.csv", b"text,label\ra,x\rb,y\r"))
    assert good == [(2, {"text": "a", "label": "x"}), (3, {"text": "b", "label": "y"})]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet.gz"])
def test_gzip(home: Home, tmp_path: Path, name: str) -> None:
    rows = [{"text": f"row {n}", "label": "x"} for n in range(50)]
    buffer = io.BytesIO()
    if "parquet" in name:
        pq.write_table(pa.Table.from_pylist(rows), buffer)
    elif "csv" in name:
        buffer.write(b"text,label\n" + b"".join(f"{r['text']},x\n".encode() for r in rows))
    else:
        buffer.write(b"\n".join(json.dumps(row).encode() for row in rows))
    good, _, reader = read_all(home, write(tmp_path, name, gzip.compress(buffer.getvalue())))
    assert [row for _, row in good] == rows
    assert reader.compressed
    assert reader.position() == reader.total


def test_truncated_gzip_and_gzip_bombs_are_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(os.urandom(50_000).hex().encode())
    with pytest.raises(DataError, match="cut off"):
        read_all(home, write(tmp_path, "a.txt.gz", packed[: len(packed) // 2]))
    monkeypatch.setattr(streams, "RATIO_FROM", 4 * 1024 * 1024)
    bomb = gzip.compress(b"some text\n\n" * 2_000_000)
    with pytest.raises(DataError, match="unpacks to more than 200 times"):
        read_all(home, write(tmp_path, "b.txt.gz", bomb))


def test_parquet_values_nulls_and_repeated_columns(home: Home, tmp_path: Path) -> None:
    columns = [pa.array(["a", None]), pa.array(["b", "c"]), pa.array([[1], []])]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "list"]), path)
    good, _, reader = read_all(home, path)
    assert good[1] == (2, {"text": None, "text_2": "c", "list": []})
    assert "Two columns are named 'text'" in reasons(reader)


@pytest.mark.parametrize("keep", [0.4, 0.99])
def test_truncated_parquet_is_refused(home: Home, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [os.urandom(20).hex() for _ in range(1000)]}), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"a\.parquet is a Parquet file that is cut off or broken") as caught:
        read_all(home, path)
    assert "download it again" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n ", "white space alone"),
        (b"PK\x03\x04....", "a zip archive or an Excel workbook"),
        (b"%PDF-1.7", "a PDF"),
        (b"\x80\x04\x95\x00", "a pickle"),
        (bytes(range(256)) * 20, "a binary file"),
        (b"\x00" * 5000, "a binary file"),
    ],
)
def test_files_that_are_no_data_set(home: Home, tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_file(home, write(tmp_path, "thing.csv", content))
    assert "thing.csv" in caught.value.message
    assert caught.value.fix


def test_paths_that_are_no_file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="is a folder"):
        open_file(home, tmp_path)
    with pytest.raises(DataError, match="There is no file"):
        open_file(home, tmp_path / "missing.csv")
    with pytest.raises(DataError, match="not absolute"):
        open_source(home, Source(path="relative.csv"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        open_file(home, tmp_path / "pipe")
    path = write(tmp_path, "a.csv", "text\na\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="permission denied"):
        open_file(home, path)


def test_uploads_stay_inside_their_folder(home: Home, tmp_path: Path) -> None:
    (home.uploads / "good.csv").write_text("text\nhello you\n")
    assert open_source(home, Source(upload="good.csv")).columns == ["text"]
    secret = write(tmp_path, "secret.csv", "text\nsecret\n")
    (home.uploads / "link.csv").symlink_to(secret)
    (home.uploads / "folder").symlink_to(tmp_path)
    for name in (
        "../token",
        "../../secret.csv",
        "link.csv",
        "folder/secret.csv",
        str(secret),
        ".",
        "..",
        "a\0b",
    ):
        with pytest.raises(DataError, match="not in the folder of uploads"):
            open_source(home, Source(upload=name))


def test_a_line_over_the_limit_is_skipped_and_the_rest_read(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.lines.MAX_ROW", 3_000_000)
    for position in (0, 1_000_000):  # with its end in a later piece, and with both ends in one
        body = (
            b'{"text": "a"}\n' + b" " * position + b'{"text": "' + b"x" * 5_000_000 + b'"}\n{"text": "b"}\n'
        )
        good, bad, _ = read_all(home, write(tmp_path, "a.jsonl", body))
        assert [line for line, _ in good] == [1, 3]
        assert bad == [(2, f"longer than {rows_module.MAX_ROW_TEXT}")]


def test_the_hub_without_a_network_says_so_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(DataError, match="hub can't be reached for owner/name") as caught:
        open_source(home, Source(hub_id="owner/name"))
    assert "by path" in caught.value.fix


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
