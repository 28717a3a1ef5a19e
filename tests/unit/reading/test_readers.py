"""A file is what its content says: texts, Parquet and gzip are read, and what is no data set is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.data.readers import source_files
from engine.data.readers.source_files import locate_file
from engine.data.readers.source_reader import open_source
from store.core.errors import DataError, TunebenchError
from store.core.home import Home
from store.data.config import Source
from tests.unit.data_job import ask, import_file, open_file, read_all, reasons, write


def test_content_wins_over_the_extension_and_says_so(home: Home, tmp_path: Path) -> None:
    good, _, reader = read_all(home, write(tmp_path, "a.csv", '{"text": "a"}\n{"text": "b"}\n'))
    assert (reader.name, len(good)) == ("jsonl", 2)
    assert "suggests csv, but its content is jsonl" in reasons(reader)


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
    monkeypatch.setattr(source_files, "RATIO_FROM", 4 * 1024 * 1024)
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
    packed = path.read_bytes()
    path.write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(DataError, match=r"a\.parquet is a Parquet file that is cut off or broken") as caught:
        read_all(home, path)
    assert "download it again" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n ", "only white space"),
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


def test_times_outside_of_the_calendar_are_text(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    far = pa.array([253_402_300_800, -(10**12), 0], pa.timestamp("s"))
    pq.write_table(pa.table({"text": ["a", "b", "c"], "at": far}), path)
    spelled = ["10000-01-01 00:00:00.000", "-29719-04-05 22:13:20.000", "1970-01-01 00:00:00.000"]
    assert [json.loads(row["source"])["at"] for row in import_file(home, path).rows] == spelled
    document = ask(home, "inspect", source={"path": str(path)})
    assert "10000-01-01 00:00:00" in str(document)


@pytest.mark.parametrize("path", ["/proc/self/mem", "/proc/self/environ", "/sys/kernel/uevent_seqnum"])
def test_files_that_the_system_makes_up_are_no_source(home: Home, path: str) -> None:
    with pytest.raises(DataError, match="not a file on disk") as caught:
        locate_file(home, Source(path=path))
    assert caught.value.field == "source"


def test_a_link_to_such_a_file_is_none_either(home: Home, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").symlink_to("/proc/self/environ")
    with pytest.raises(DataError, match="not a file on disk"):
        locate_file(home, Source(path=str(tmp_path / "rows.csv")))


def test_paths_that_are_no_file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="has no file of data in it"):
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


def test_the_hub_without_a_network_says_so_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(DataError, match="hub can't be reached for owner/name") as caught:
        open_source(home, Source(hub_id="owner/name"))
    assert "by path" in caught.value.fix


@pytest.mark.parametrize("name", ["token", "screens.secret", "tunebench.duckdb", "logs/engine.log"])
def test_own_files_of_the_home_folder_are_no_source(home: Home, tmp_path: Path, name: str) -> None:
    secret = home.path / name
    secret.write_text("question,answer\nthe secret,is this\n")
    link = tmp_path / "rows.csv"
    link.symlink_to(secret)
    for path in (secret, link, Path(f"/proc/self/root{secret}")):
        with pytest.raises(DataError, match="Tunebench's own files") as caught:
            open_source(home, Source(path=str(path)))
        assert caught.value.field == "source"
        assert "the secret" not in str(caught.value)
    upload = home.uploads / "rows.csv"
    upload.write_text("question,answer\na,b\n")
    open_source(home, Source(path=str(upload))).close()


@pytest.mark.parametrize("name", ["nothing", "a\x00b", "hex", "é", "x" * 5_000])
def test_an_encoding_that_is_none_is_named(name: str) -> None:
    with pytest.raises(TunebenchError, match="There is no text encoding") as caught:
        source_files.check_encoding(name)
    assert caught.value.field == "encoding"
