"""The encoding of a file is recognised, kept to where it is named, and said where it is a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.readers import source_files
from store.core.errors import ConfigError
from store.core.home import Home
from tests.unit.data_job import open_file, read_all, reasons, write


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
    body = "text,label\nGrüße,x\n".encode() * 1 + b"x" * source_files.HEAD + b",y\nbro\xfcken,y\nlast,z\n"
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
