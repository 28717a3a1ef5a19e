"""Bundles that somebody made by hand: each is refused with a sentence, and nothing is left of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.archives import archive_file, originals
from engine.archives import contents as base_weights
from engine.archives import contents as bundled_rows
from engine.data.conversion.dataset_writer import DatasetWriter
from engine.server.audit_log import build_job_subject
from engine.server.command import ActivitySubject
from store.archives import text as archive_text
from store.archives.config import ManifestBase, ManifestDocument, ManifestRows
from store.archives.schemas import BundledRun, OpenedBundle
from store.core.errors import DataError
from store.core.home import Home
from store.core.schemas import Job
from store.data import dataset_files
from tests.tiny import conversations, make_job, write_rows
from tests.unit.store_samples import row_of

SPLIT = pa.table({"row_id": [0, 1, 2], "split": ["train", "validation", "test"]})


def manifest(files: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    listed = [
        {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    environment = {"tunebench": "1", "platform": "x", "device": "cpu", "device_name": "x", "dtype": "float32"}
    return {
        "format": "tunebench-bundle",
        "version": 2,
        "run": {"run_id": "run-1", "name": "First", "created_at": "2026-01-01", "kind": "train"},
        "config": {"dataset": "rows"},
        "base": {"name": "tiny"},
        "data": {
            "name": "rows", "kind": "chat", "format": "instruction", "columns": {}, "fingerprint": "0" * 32,
            "row_count": 3, "included": False,
        },
        "others": [],
        "environment": environment | {"versions": {}},
        "figures": [],
        "files": listed,
    } | changes  # fmt: skip


def good(tmp_path: Path) -> dict[str, bytes]:
    pq.write_table(SPLIT, tmp_path / "parquet")
    content = (tmp_path / "parquet").read_bytes()
    return {archive_file.SPLIT: content, archive_file.LOSSES: content}


def sealed(manifest_text: bytes) -> bytes:
    """By somebody who makes the checksums anew; of what is no JSON it is of nothing."""
    try:
        return archive_file.write_seal(manifest_text)
    except (ValueError, RecursionError):
        return archive_file.write_seal(b"{}")


def packed(tmp_path: Path, files: dict[str, bytes], document: object, **changes: Any) -> Path:
    path = tmp_path / "a.bundle.zip"
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in {archive_file.MANIFEST: text, archive_file.SEAL: sealed(text), **files}.items():
            made.writestr(name, content)
        for name, content in changes.items():
            made.writestr(name.replace("_", "."), content)
    return path


def unpacked(tmp_path: Path, path: Path) -> tuple[ManifestDocument, Path]:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return archive_file.unpack(path, folder), folder


def test_a_whole_one_is_laid_out(tmp_path: Path) -> None:
    files = good(tmp_path)
    read, folder = unpacked(tmp_path, packed(tmp_path, files, manifest(files, more="of a later form")))
    assert read.run.name == "First"
    assert {path.name for path in folder.iterdir()} == {*files, archive_file.MANIFEST}


def slipping(tmp_path: Path) -> Path:
    files = good(tmp_path)
    return packed(tmp_path, {**files, "../evil.parquet": b"x"}, manifest(files))


def absolute(tmp_path: Path) -> Path:
    files = good(tmp_path)
    return packed(tmp_path, {**files, "/tmp/evil": b"x"}, manifest(files))


def cut_by_nul(tmp_path: Path) -> Path:
    files = good(tmp_path)
    path = packed(tmp_path, {**files, "rows.parquet_evil": b"x"}, manifest(files))
    path.write_bytes(path.read_bytes().replace(b"rows.parquet_evil", b"rows.parquet\0evil"))
    return path


def twice(tmp_path: Path) -> Path:
    path = tmp_path / "a.bundle.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(archive_file.MANIFEST, b"{}")
        made.writestr(archive_file.SPLIT, b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr(archive_file.SPLIT, b"{}")
    return path


def bomb(tmp_path: Path) -> Path:
    files = good(tmp_path) | {archive_file.ROWS: bytes(50 * 2**20)}
    return packed(tmp_path, files, manifest(files))


def many(tmp_path: Path) -> Path:
    files = {f"file-{number}": b"" for number in range(5000)}
    return packed(tmp_path, files, manifest(files))


def many_said_in_the_larger_record(tmp_path: Path) -> Path:
    """As above, with its list named by the record for large files; the small one says that all is well."""
    path = many(tmp_path)
    whole = path.read_bytes()
    end = whole.rfind(b"PK\5\6")
    count, size, start = struct.unpack("<HII", whole[end + 10 : end + 20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    small = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, 100, 0xFFFFFFFF, 0)
    path.write_bytes(whole[:end] + record + locator + small)
    return path


def many_behind_a_locator_that_points_elsewhere(tmp_path: Path) -> Path:
    """As above; the locator points to a record that says that all is well, which zipfile does not look at."""
    path = many_said_in_the_larger_record(tmp_path)
    whole = path.read_bytes()
    place = whole.rfind(b"PK\6\6")
    harmless = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 100, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)
    record = whole[place : place + 56]
    path.write_bytes(whole[:place] + harmless + record + locator + whole[-22:])
    return path


def bomb_that_zipfile_unpacks_at_once(packing: int) -> Callable[[Path], Path]:
    """Of a size that is within the limits, as its entry says."""

    def make(tmp_path: Path) -> Path:
        path = tmp_path / "a.bundle.zip"
        with zipfile.ZipFile(path, "w", packing) as made:
            made.writestr(archive_file.MANIFEST, bytes(2**24))
            made.writestr(archive_file.SPLIT, b"x")
            made.writestr(archive_file.LOSSES, b"x")
        whole = path.read_bytes()
        path.write_bytes(whole.replace(struct.pack("<I", 2**24), struct.pack("<I", 2**20)))
        return path

    return make


def other_checksum(tmp_path: Path) -> Path:
    files = good(tmp_path)
    return packed(tmp_path, files, manifest(files | {archive_file.SPLIT: files[archive_file.SPLIT][::-1]}))


def broken_inside(tmp_path: Path) -> Path:
    files = good(tmp_path)
    path = packed(tmp_path, files, manifest(files))
    whole = bytearray(path.read_bytes())
    place = whole.find(archive_file.LOSSES.encode()) + 60
    whole[place : place + 20] = bytes(20)
    path.write_bytes(bytes(whole))
    return path


def cut_off(tmp_path: Path) -> Path:
    files = good(tmp_path)
    path = packed(tmp_path, files, manifest(files))
    path.write_bytes(path.read_bytes()[:-300])
    return path


def no_zip(tmp_path: Path) -> Path:
    path = tmp_path / "a.bundle.zip"
    path.write_bytes(b"PK\3\4 and no more")
    return path


def of_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def make(tmp_path: Path) -> Path:
        files = good(tmp_path)
        return packed(tmp_path, files, change(manifest(files)))

    return make


def unlisted(tmp_path: Path) -> Path:
    files = good(tmp_path)
    return packed(tmp_path, files | {archive_file.ROWS: b"x"}, manifest(files))


def listed_in_vain(tmp_path: Path) -> Path:
    files = good(tmp_path)
    return packed(tmp_path, files, manifest(files | {"../x": b""}))


BAD = [
    (slipping, r"unexpected file '\.\./evil\.parquet'"),
    (absolute, "unexpected file '/tmp/evil'"),
    (cut_by_nul, "unexpected file"),
    (twice, "'split.parquet' twice"),
    (bomb, "to 52,428,800 bytes"),
    (many, "contains 5,00[1-4] files"),
    (many_said_in_the_larger_record, "contains 5,00"),
    (many_behind_a_locator_that_points_elsewhere, "not a complete zip file"),
    (bomb_that_zipfile_unpacks_at_once(zipfile.ZIP_BZIP2), "unsupported compression method"),
    (bomb_that_zipfile_unpacks_at_once(zipfile.ZIP_LZMA), "unsupported compression method"),
    (other_checksum, "checksum of split.parquet"),
    (broken_inside, "not a complete zip file"),
    (cut_off, "not a zip file"),
    (no_zip, "not a zip file"),
    (unlisted, "rows.parquet is not listed in the manifest"),
    (listed_in_vain, "listed in the manifest is missing"),
    (of_manifest(lambda _: b"{"), "not valid JSON"),
    (of_manifest(lambda _: b"[" * 100_000), "not valid JSON"),
    (of_manifest(lambda _: []), "not have the format"),
    (of_manifest(lambda m: m | {"version": 9}), "Unsupported version 9"),
    (of_manifest(lambda m: m | {"version": 1}), "Unsupported version 1"),
    (of_manifest(lambda m: m | {"run": 3}), "manifest is invalid: run"),
    (of_manifest(lambda m: m | {"data": m["data"] | {"fingerprint": "../x"}}), "data.fingerprint"),
    (of_manifest(lambda m: m | {"run": m["run"] | {"name": "a\u202eb"}}), "run.name"),
]


@pytest.mark.parametrize(("make", "says"), BAD, ids=[f"{number}" for number in range(len(BAD))])
def test_a_bad_one_is_refused(make: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    with pytest.raises(DataError, match=says) as refused:
        unpacked(tmp_path, path)
    assert refused.value.field == "bundle"
    assert refused.value.fix
    assert {file.name for file in tmp_path.iterdir()} <= before | {"unpacked"}


def with_changed(tmp_path: Path, name: str, change: Callable[[bytes], bytes | None]) -> Path:
    """A whole bundle, one file of which was changed, or left out, afterwards."""
    path = packed(tmp_path, good(tmp_path), manifest(good(tmp_path), config={"learning_rate": 1e-4, "r": 8}))
    with zipfile.ZipFile(path) as made:
        contents = {each: made.read(each) for each in made.namelist()}
    changed = change(contents.pop(name))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for each, content in contents.items():
            made.writestr(each, content)
        if changed is not None:
            made.writestr(name, changed)
    return path


CHANGES: list[tuple[str, Callable[[bytes], bytes | None], str]] = [
    (
        archive_file.MANIFEST,
        lambda text: text.replace(b"0.0001", b"0.5"),
        r"manifest\.json was modified after the bundle was created: 'config\.learning_rate' is '0\.5'",
    ),
    (archive_file.MANIFEST, lambda text: text.replace(b'"r": 8', b'"r": 8, "q": 1'), r"'config\.q' is '1'"),
    (archive_file.MANIFEST, lambda text: text.replace(b', "r": 8', b""), r"'config\.r' is 'missing'"),
    (archive_file.MANIFEST, lambda text: text + b"\n", r"though no manifest field differs"),
    (
        archive_file.MANIFEST,
        lambda text: text.replace(b'"r": 8', b'"r": 9, "r": 8'),
        r"though no manifest field differs",
    ),
    (archive_file.SEAL, lambda text: text.replace(b"config.r", b"config.x"), r"its seal\.json was modified"),
    (archive_file.SEAL, lambda text: b"[]", r"its seal\.json is invalid"),
    (archive_file.SEAL, lambda text: b"[" * 100_000, r"its seal\.json is invalid"),
    (archive_file.SEAL, lambda text: None, r"seal\.json is missing"),
    (
        archive_file.SPLIT,
        lambda content: content[:-1] + b"x",
        r"checksum of split\.parquet does not match the manifest",
    ),
    (archive_file.LOSSES, lambda content: content + b"x", r"size of row_losses\.parquet does not match"),
]


@pytest.mark.parametrize(("name", "change", "says"), CHANGES, ids=[str(n) for n in range(len(CHANGES))])
def test_one_change_anywhere_is_told_with_its_file_and_field(
    name: str, change: Callable[[bytes], bytes | None], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        unpacked(tmp_path, with_changed(tmp_path, name, change))


def test_every_byte_of_manifest_and_seal_is_covered(tmp_path: Path) -> None:
    text = json.dumps(manifest({}, config={"learning_rate": 1e-4}, more=[{}, []])).encode()
    written = archive_file.write_seal(text)
    assert archive_file.check_seal(text, written) == ""
    for place in range(len(text)):
        assert archive_file.check_seal(
            text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :], written
        ), place
    stated = json.loads(written)
    for path in stated["fields"]:
        changed = stated | {"fields": stated["fields"] | {path: "0" * 16}}
        assert path in archive_file.check_seal(text, json.dumps(changed).encode())


def test_a_fingerprint_is_short_and_of_the_content() -> None:
    text = json.dumps(manifest({})).encode()
    assert re.fullmatch(
        r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", archive_file.compute_fingerprint(text)
    )
    assert archive_file.compute_fingerprint(text) == archive_file.compute_fingerprint(bytes(text))
    assert len({archive_file.compute_fingerprint(text + bytes([n])) for n in range(200)}) == 200


def test_a_base_model_that_is_no_id_of_a_hub_is_not_looked_for() -> None:
    for base in (
        {"name": "/etc", "hub_id": "/etc"},
        {"name": "../x", "hub_id": "../x"},
        {"name": "tiny"},
        {"name": "/etc", "hub_id": "owner/name"},
        {"name": "engine", "hub_id": "engine"},  # a folder here
    ):
        assert not base_weights._is_hub_id(ManifestBase.parse(base))
    assert base_weights._is_hub_id(ManifestBase.parse({"name": "owner/name", "hub_id": "owner/name"}))


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"row_id": [0, 1], "split": ["train", "train"]}),
        pa.table({"row_id": [0, 0], "split": ["train", "validation"]}),
        pa.table({"row_id": [0, 9], "split": ["train", "validation"]}),
        pa.table({"row_id": [-1, 1], "split": ["train", "validation"]}),
        pa.table({"rows": [0, 1]}),
        pa.table({"row_id": pa.array([], pa.int64()), "split": pa.array([], pa.string())}),
        pa.table({"row_id": np.array([0.5, 1.5]), "split": ["train", "validation"]}),
    ],
)
def test_a_split_that_is_none_is_refused(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "split.parquet")
    with pytest.raises(DataError, match="split"):
        bundled_rows.check_split(tmp_path / "split.parquet", 3)


def test_rows_under_the_name_of_others_are_refused(tmp_path: Path) -> None:
    """A bundle with real rows comes in; with one text changed, under the same fingerprint, it doesn't."""
    job, bundled, unpacked_rows = rows_of_a_bundle(tmp_path)
    fingerprint = bundled.fingerprint
    with pytest.raises(DataError, match="do not match the manifest"):
        bundled_rows.import_rows(
            job, unpacked_rows, bundled.model_copy(update={"fingerprint": "1" * 32}), tmp_path / "a"
        )
    assert not list(job.home.datasets.iterdir())
    with pytest.raises(DataError, match="unknown kind"):
        bundled_rows.import_rows(
            job, unpacked_rows, bundled.model_copy(update={"format": "odd"}), tmp_path / "b"
        )
    table = pq.read_table(unpacked_rows / archive_file.ROWS)
    texts = pa.array(["another", *table["text"].to_pylist()[1:]])
    changed = table.set_column(table.schema.get_field_index("text"), "text", texts)
    pq.write_table(changed, unpacked_rows / archive_file.ROWS)
    with pytest.raises(DataError, match="do not match the manifest"):
        bundled_rows.import_rows(job, unpacked_rows, bundled, tmp_path / "c")
    pq.write_table(table.drop_columns(["digest"]), unpacked_rows / archive_file.ROWS)
    with pytest.raises(DataError, match="can't be read"):
        bundled_rows.import_rows(job, unpacked_rows, bundled, tmp_path / "d")
    pq.write_table(table, unpacked_rows / archive_file.ROWS)
    taken = bundled_rows.import_rows(job, unpacked_rows, bundled, tmp_path / "e")
    assert taken is not None
    assert (taken["row_count"], taken["fingerprint"]) == (60, fingerprint)
    assert job.home.rows(fingerprint).exists()
    assert bundled_rows.import_rows(job, unpacked_rows, bundled, tmp_path / "f") is None  # here already


def rows_of_a_bundle(tmp_path: Path) -> tuple[Any, ManifestRows, Path]:
    """A job in an empty home, and the files of a data set as a bundle has them."""
    home = Home(tmp_path / "home").create()
    write_rows(home, "rows", conversations(60))
    job = make_job(home, "open", dtype="float32")
    job.dir.config.write_text(json.dumps(job.spec | {"kind": "open_bundle"}))
    folder = tmp_path / "files"
    with DatasetWriter(folder) as writer:
        writer.add_table(dataset_files.load_rows(home, "rows"))
        fingerprint = writer.close()
    shutil.rmtree(home.datasets / "rows")
    fields = {"name": "rows", "kind": "chat", "format": "prompt_completion", "columns": {}, "row_count": 60}
    return job, ManifestRows.parse(fields | {"fingerprint": fingerprint, "included": True}), folder


def rows_of_one_value(path: Path, count: int) -> Path:
    """A Parquet file of few bytes and many rows."""
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), ["train"])
    table = pa.table({"row_id": np.zeros(count, np.int64), "split": same})
    pq.write_table(table, path, row_group_size=count)
    assert path.stat().st_size < count / archive_file.MAX_VALUES_PER_BYTE
    return path


def test_parquet_that_grows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = rows_of_one_value(tmp_path / "split.parquet", 2_000_000)
    with pytest.raises(DataError, match="it has 2,000,000 rows instead of 9"):
        bundled_rows.check_split(file, 9)
    with pytest.raises(DataError, match="to 4,000,000 values"):
        bundled_rows.check_split(file, 2_000_000)
    with pytest.raises(DataError, match="to 4,000,000 values"):
        originals.read_losses(file)


def test_rows_with_a_broken_footer_are_refused(tmp_path: Path) -> None:
    job, bundled, unpacked_rows = rows_of_a_bundle(tmp_path)
    broken = b"PAR1" + bytes(40) + (30).to_bytes(4, "little") + b"PAR1"
    for name in (archive_file.SKIPPED, archive_file.ROWS):
        (unpacked_rows / name).write_bytes(broken)
        with pytest.raises(DataError, match=f"{name} can't be opened: not a Parquet file"):
            bundled_rows.import_rows(job, unpacked_rows, bundled, tmp_path / name)
    assert not list(job.home.datasets.iterdir())


def test_of_a_bundle_that_was_opened_before_runs_were_looked_for_nothing_is_claimed() -> None:
    before = row_of(OpenedBundle, run=row_of(BundledRun, name="First"))
    assert archive_text.describe_origin(before) == ""
    assert "is not in this home" in archive_text.describe_origin(replace(before, seal="K7QF"))


def test_what_holds_a_run_beside_its_bundle_works_for_the_run() -> None:
    job = row_of(Job, kind="reproduction", job_id="job-2", title="Again compared with its bundle")
    job.config = {"run": "run-2", "bundle": "job-1", "name": "Again"}
    assert build_job_subject(job) == ActivitySubject("run", "run-2", "Again")
