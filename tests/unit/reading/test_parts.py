"""The part that a row's file or one of its columns names, from the import to the deal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data.readers.file_selection import parse_part
from engine.data.split.dataset_split import assign_rows
from engine.data.split.partition import assign_given_splits, check_split_column
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.config import NAME_LENGTH, ImportConfig, Source, find_free_name, suggest_name
from store.training.split import Split
from tests.unit.data_job import Imported, ask, import_file, make_job, read, write


def rows(part: str, count: int, column: str = "split") -> list[dict[str, Any]]:
    return [{"text": f"{part} {n}", "label": n % 2, column: part} for n in range(count)]


def lines(records: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, records))


def import_source(home: Home, source: dict[str, Any], **config: Any) -> Imported:
    from engine.data import import_job

    job = make_job(home, "import", {"source": source, **config})
    result = import_job.run(job)
    folder = home.rows(result["fingerprint"])
    return Imported(result, read(folder), read(home.skipped(result["fingerprint"])), [])


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("train", "train"), ("Training", "train"), ("dev", "validation"), ("val", "validation"),
        ("oos_test", "test"), ("oos-val", "validation"), ("test.csv", "test"),
        ("squad_train_v2.json", "train"),
        ("latest", None), ("contest", None), ("x", None), ("", None),
    ],
)  # fmt: skip
def test_words_that_name_a_part(value: str, part: str | None) -> None:
    assert parse_part(value) == part


@pytest.mark.parametrize("column", ["part", "split", "Set"])
def test_a_column_that_is_the_split_is_the_split(home: Home, tmp_path: Path, column: str) -> None:
    records = rows("train", 60, column) + rows("val", 20, column) + rows("oos_test", 20, column)
    path = write(tmp_path, "a.jsonl", lines(records))
    document = ask(home, "inspect", source={"path": str(path)})
    assert document["part_column"] == column
    assert document["part_values"] == {"train": 60, "val": 20, "oos_test": 20}
    assert document["parts"] == {"train": "train", "val": "validation", "oos_test": "test"}
    assert document["ignored"] == []
    done = import_file(home, path)
    assert done.result["split_by"] == "given"
    assert done.result["stats"]["parts"] == {"train": 60, "validation": 20, "test": 20}
    dealt = assign_rows(home, done.result["fingerprint"], Split(split_by="given"))
    assert dealt.counts() == {"train": 60, "validation": 20, "test": 20}
    for part, ids in dealt.ids().items():
        assert {done.rows[i]["part"] for i in ids} == {part}


def test_a_split_in_a_sorted_file_is_seen_beyond_the_first_rows(home: Home, tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", lines(rows("train", 2500) + rows("test", 10)))
    document = ask(home, "inspect", source={"path": str(path)})
    assert document["part_values"] == {"train": 2500, "test": 10}


def test_values_are_given_their_parts_one_by_one(home: Home, tmp_path: Path) -> None:
    records = (
        rows("train", 30) + rows("gold", 10) + rows("junk", 5) + [{"text": "t", "label": 0, "split": None}]
    )
    path = write(tmp_path, "a.jsonl", lines(records))
    done = import_file(home, path, part_column="split", parts={"gold": "test", "junk": "leave out"})
    assert done.result["stats"]["parts"] == {"train": 30, "test": 10}
    assert done.result["stats"]["skipped_reasons"] == {
        "left out: split is 'junk'": 5,
        "split is empty: the row is in no part": 1,
    }
    unnamed = import_file(home, path, part_column="split")
    assert unnamed.result["stats"]["skipped_reasons"]["split is 'gold', to which no part was given"] == 10
    with pytest.raises(ConfigError, match="parts"):
        ImportConfig.parse({"source": {"path": "/a"}, "parts": {"gold": "nowhere"}})


def test_a_column_of_other_values_is_no_split_and_one_that_is_can_be_declined(
    home: Home, tmp_path: Path
) -> None:
    other = write(tmp_path, "a.jsonl", lines(rows("front", 5) + rows("back", 5)))
    assert import_file(home, other).result["split_by"] == "random"
    path = write(tmp_path, "b.jsonl", lines(rows("train", 5) + rows("test", 5)))
    declined = import_file(home, path, part_column="")
    assert (declined.result["split_by"], declined.result["stats"]["parts"]) == ("random", {})
    with pytest.raises(ConfigError, match="no column 'nope'") as caught:
        import_file(home, path, part_column="nope")
    assert caught.value.field == "part_column"


def test_a_part_that_the_file_lacks_is_taken_from_training(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.jsonl", lines(rows("train", 200) + rows("test", 40))))
    split = Split(split_by="given", validation_size=0.25, test_size=0.5)
    dealt = assign_rows(home, done.result["fingerprint"], split)
    assert dealt.counts() == {"train": 150, "validation": 50, "test": 40}
    again = assign_rows(home, done.result["fingerprint"], split)
    assert np.array_equal(dealt.codes, again.codes)
    none = Split(split_by="given", validation_size=0, test_size=0)
    assert assign_rows(home, done.result["fingerprint"], none).counts()["validation"] == 0


def test_what_the_file_says_stands_for_equal_texts_too() -> None:
    parts = np.array(["train", "test", None, "validation"], dtype=object)
    digests = np.array([7, 7, 7, 7], dtype=np.uint64)
    codes = assign_given_splits(parts, digests, Split(split_by="given"), np.zeros(4, np.int64))
    assert codes.tolist() == [0, 2, 0, 1]


def test_a_given_split_needs_parts(home: Home, tmp_path: Path) -> None:
    done = import_file(home, write(tmp_path, "a.jsonl", lines([{"text": "t", "label": 1}] * 3)))
    with pytest.raises(ConfigError, match="does not define the part") as caught:
        check_split_column(home.rows(done.result["fingerprint"]).parent, Split(split_by="given"))
    assert caught.value.field == "split_by"


def files(folder: Path) -> list[str]:
    for name, count in (("train", 30), ("test", 10)):
        body = "text,label\n" + "".join(f"{name} {n},{n % 2}\n" for n in range(count)) + "ragged\n"
        write(folder, f"cards_{name}.csv", body)
    write(folder, "README.md", "About the cards.")
    return [str(folder / "cards_train.csv"), str(folder / "cards_test.csv")]


@pytest.mark.parametrize("way", ["files", "folder", "uploads"])
def test_several_files_are_one_data_set_with_its_parts(home: Home, tmp_path: Path, way: str) -> None:
    folder = home.uploads if way == "uploads" else tmp_path
    folder.mkdir(exist_ok=True)
    paths = files(folder)
    source: dict[str, Any] = {"paths": paths}
    if way != "files":
        source = (
            {"path": str(tmp_path)} if way == "folder" else {"uploads": [Path(path).name for path in paths]}
        )
    done = import_source(home, source)
    assert done.result["stats"]["parts"] == {"train": 30, "test": 10}
    assert done.result["split_by"] == "given"
    assert (done.result["row_count"], done.result["skipped_count"]) == (40, 2)
    by_file = [row for row in done.rows if json.loads(row["source"])["file"] == "cards_test.csv"]
    assert {(row["part"], row["line"]) for row in by_file} == {("test", n + 2) for n in range(10)}
    assert {row["excerpt"] for row in done.skipped} == {"cards_train.csv: ragged", "cards_test.csv: ragged"}
    document = ask(home, "inspect", source=source)
    assert document["part_values"] == {"cards_train.csv": 30, "cards_test.csv": 10}


def test_files_of_other_columns_are_refused_by_name(home: Home, tmp_path: Path) -> None:
    first = write(tmp_path, "a.csv", "text,label\nx,1\ny,2\n")
    second = write(tmp_path, "b.csv", "text,topic\nx,1\ny,2\n")
    with pytest.raises(DataError, match=r"b\.csv has no column 'label', which a\.csv has"):
        import_source(home, {"paths": [str(first), str(second)]})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no file of data"):
        import_source(home, {"path": str(empty)})


def test_the_name_of_several_files_is_what_they_share() -> None:
    assert suggest_name({"paths": ["/d/cards_train.csv", "/d/cards_test.csv"]}) == "cards"
    assert suggest_name({"paths": ["/data/cards/train.csv", "/data/cards/test.csv"]}) == "cards"
    assert suggest_name({"uploads": ["train.csv", "test.csv"]}) == "train, test"
    with pytest.raises(Exception, match="exactly one"):
        Source(path="/a", paths=["/b"])


def test_a_name_that_is_taken_is_numbered() -> None:
    assert find_free_name("cards", {"card"}) == "cards"
    assert find_free_name("cards", {"cards", "cards 2", "cards 4"}) == "cards 3"
    long = "x" * NAME_LENGTH
    assert len(find_free_name(long, {long})) <= NAME_LENGTH
