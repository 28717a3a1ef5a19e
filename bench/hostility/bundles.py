"""Manipulated bundles: each is refused with a sentence, within limits of memory and time.

Each is opened in its own process, as by the job `open_bundle`, up to the rows in the home folder.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.hostility import Attempt
from engine.archives import archive_file, contents, originals
from engine.data.conversion.dataset_writer import DatasetWriter
from engine.worker.job import WorkerJob
from store.core.errors import TunebenchError
from store.core.home import Home
from store.data.dataset_files import SCHEMA
from tests.tiny import conversations, make_job, write_rows

SECONDS = 30
MEMORY = 2**30  # beyond the process's memory at its start
ROWS = 60
FLIPS = 60  # files with changed bytes
GOOD = "the good one"
ODD_NAMES = ("../evil", "/tmp/evil", "a/../../evil", "C:\\evil", "rows.parquet/", "ROWS.PARQUET", ".", "..")
ODD_NAMES += ("\u202e", "rows.parquet\\x", "con", "row_losses.parquet ")
Files = dict[str, bytes]
Make = Callable[[Path], None]


def attempts(seed: int, folder: Path) -> Iterator[Attempt]:
    """Open the valid bundle, which must be imported, and all others, which must not leave anything behind."""
    home = Home(folder / "home").create()
    draw = random.Random(seed)
    files, document = _good(home, folder)
    whole = folder / "good.zip"
    _write(whole, files, document)
    for number, (name, make) in enumerate(_hostile(draw, files, document, whole.read_bytes())):
        path = folder / f"{number}.bundle.zip"
        make(path)
        yield Attempt(name, _opened(folder, path, name == GOOD))
        path.unlink()


def _good(home: Home, folder: Path) -> tuple[Files, dict[str, Any]]:
    """Return the files of a bundle of 60 rows, and its manifest."""
    write_rows(home, "first", conversations(ROWS))
    made = folder / "made"
    with DatasetWriter(made) as writer:
        for batch in pq.ParquetFile(home.rows("first")).iter_batches():
            writer.add_table(pa.Table.from_batches([batch]))
        fingerprint = writer.close()
    ids = np.arange(ROWS)
    parts = np.where(ids < 40, "train", np.where(ids < 50, "validation", "test"))
    pq.write_table(pa.table({"row_id": ids, "split": parts.tolist()}), made / archive_file.SPLIT)
    losses = dict.fromkeys(originals.COLUMNS[1:], np.ones(ROWS))
    pq.write_table(pa.table({"row_id": ids, **losses}), made / archive_file.LOSSES)
    names = (archive_file.ROWS, archive_file.SKIPPED, archive_file.SPLIT, archive_file.LOSSES)
    environment = dict.fromkeys(("tunebench", "platform", "device", "device_name", "dtype"), "x")
    document = {
        "format": "tunebench-bundle",
        "version": 1,
        "run": {"run_id": "run-1", "name": "First", "created_at": "2026-01-01", "kind": "train"},
        "config": {"dataset": "rows"},
        "base": {"name": "tiny"},
        "data": {
            "name": "rows", "kind": "chat", "format": "instruction", "columns": {},
            "fingerprint": fingerprint, "row_count": ROWS, "included": True,
        },
        "others": [],
        "environment": environment | {"versions": {}},
        "figures": [],
    }  # fmt: skip
    return {name: (made / name).read_bytes() for name in names}, document


def _listed(files: Files) -> list[dict[str, Any]]:
    return [
        {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]


def _write(
    path: Path, files: Files, document: dict[str, Any], packing: int = zipfile.ZIP_DEFLATED, **more: bytes
) -> None:
    """Write a zip of the files listed in the manifest, and of unlisted ones (`more`)."""
    with zipfile.ZipFile(path, "w", packing) as made:
        made.writestr(archive_file.MANIFEST, json.dumps(document | {"files": _listed(files)}))
        for name, content in {**files, **more}.items():
            made.writestr(name, content)


# -- building blocks ----------------------------------------------------------------------------------


def _hostile(
    draw: random.Random, files: Files, document: dict[str, Any], whole: bytes
) -> Iterator[tuple[str, Make]]:
    yield GOOD, lambda path: _write(path, files, document)
    yield from _names(files, document)
    yield from _sizes(files, document)
    yield from _manifests(files, document)
    yield from _parquet(draw, files, document)
    for number in range(FLIPS):
        yield f"bytes changed, {number}", _changed(whole, random.Random(draw.random()))


def _names(files: Files, document: dict[str, Any]) -> Iterator[tuple[str, Make]]:
    for name in (*ODD_NAMES, "x" * 60_000):
        yield f"a name {name[:20]!r}", lambda path, name=name: _write(path, files, document, **{name: b"x"})
    for listed in ("../evil", "/etc/passwd", ""):
        unlisted = document | {"config": {"dataset": listed}}
        yield (
            f"a file of the manifest that isn't there: {listed!r}",
            lambda path, unlisted=unlisted: _write(path, {}, unlisted),
        )

    def link(path: Path) -> None:
        _write(path, files, document)
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "a") as made:
            made.writestr(entry, "/etc/passwd")

    def twice(path: Path) -> None:
        _write(path, files, document)
        content = path.read_bytes().replace(archive_file.SKIPPED.encode(), b"rows.parquet\0\0\0")
        path.write_bytes(content)

    yield "a link", link
    yield "a name that ends early", twice


def _sizes(files: Files, document: dict[str, Any]) -> Iterator[tuple[str, Make]]:
    bomb = files | {archive_file.ROWS: bytes(2**26)}
    for packing in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"a bomb packed by {packing}", lambda path, way=packing: _write(path, bomb, document, way)
        yield f"a bomb with a small size, packed by {packing}", _lying(bomb, document, packing)
    many = {f"file-{number}": b"" for number in range(100_000)}
    yield "100,000 files", lambda path: _write(path, files | many, document)
    yield "100,000 files, said elsewhere", lambda path: _said_elsewhere(path, files | many, document)


def _lying(files: Files, document: dict[str, Any], packing: int) -> Make:
    def make(path: Path) -> None:
        _write(path, files, document, packing)
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", 2**26), struct.pack("<I", 2**20)))

    return make


def _said_elsewhere(path: Path, files: Files, document: dict[str, Any]) -> None:
    """Write a zip whose reader uses the larger end record, while the locator points to a harmless one."""
    _write(path, files, document)
    whole = path.read_bytes()
    record = whole.rfind(b"PK\6\6")
    if record < 0:
        end = whole.rfind(b"PK\5\6")
        count, size, start = struct.unpack("<HII", whole[end + 10 : end + 20])
        larger = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
        record = end
    else:
        larger = whole[record : record + 56]
    harmless = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 100, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, record, 1)
    path.write_bytes(whole[:record] + harmless + larger + locator + whole[-22:])


def _manifests(files: Files, document: dict[str, Any]) -> Iterator[tuple[str, Make]]:
    def of(content: bytes) -> Make:
        def make(path: Path) -> None:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
                made.writestr(archive_file.MANIFEST, content)
                for name, file in files.items():
                    made.writestr(name, file)

        return make

    yield "a manifest of 10,000 levels", of(b"[" * 10_000 + b"]" * 10_000)
    yield "a manifest of 10,000 levels within", of(b'{"format":' * 10_000 + b"1" + b"}" * 10_000)
    yield "a manifest of 1 GB", of(b" " * 2**30)
    yield "a manifest of a number", of(b'{"format": ' + b"9" * 5_000 + b"}")
    yield "a manifest of other bytes", of(bytes(range(256)))
    for field, values in {
        "data": [None, [], {"fingerprint": "../../x"}, document["data"] | {"fingerprint": "/etc"}],
        "base": [{"name": ".."}, {"name": "/etc", "hub_id": "/etc"}, {"name": "x" * 10**6}],
        "run": [{"name": "\0"}, 5],
        "config": [5, {"model": "/etc/passwd", "init_from": "../run"}, {"dataset": ["x"]}],
        "others": [[{"role": "replay", "name": "x", "fingerprint": "../x"}], {}],
        "figures": [[{"value": "nan"}], 7],
        "version": [9, 10**400, None],
        "format": [None, "other"],
    }.items():
        for number, value in enumerate(values):
            changed = document | {field: value}
            yield (
                f"{field} of the manifest, {number}",
                lambda path, changed=changed: _write(path, files, changed),
            )


def _parquet(draw: random.Random, files: Files, document: dict[str, Any]) -> Iterator[tuple[str, Make]]:
    same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**25, np.int8)), ["train"])
    sink = pa.BufferOutputStream()
    grown = pa.table({"row_id": np.zeros(2**25, np.int64), "split": same})
    pq.write_table(grown, sink, row_group_size=2**25)
    bomb = sink.getvalue().to_pybytes()
    for name in (archive_file.SPLIT, archive_file.LOSSES, archive_file.ROWS, archive_file.SKIPPED):
        yield (
            f"{name} of 2**25 rows",
            lambda path, name=name: _write(path, files | {name: bomb}, document),
        )
        for number in range(10):
            content = bytearray(files[name])
            footer = int.from_bytes(content[-8:-4], "little")
            for _ in range(draw.randint(1, 6)):
                content[draw.randrange(len(content) - 8 - footer, len(content))] = draw.randrange(256)
            broken = files | {name: bytes(content)}
            yield (
                f"the footer of {name}, {number}",
                lambda path, broken=broken: _write(path, broken, document),
            )
    table = pa.table({name: pa.nulls(3, SCHEMA.field(name).type) for name in SCHEMA.names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    nulls = files | {archive_file.ROWS: sink.getvalue().to_pybytes()}
    yield "rows that are null", lambda path: _write(path, nulls, document)


def _changed(whole: bytes, draw: random.Random) -> Make:
    def make(path: Path) -> None:
        content = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(bytes(content[: draw.choice([len(content), draw.randrange(len(content))])]))

    return make


# -- opening a bundle ---------------------------------------------------------------------------------


def _opened(folder: Path, path: Path, good: bool) -> str:
    """Return the failure; empty if the file was refused with a message, or was imported and is valid."""
    before = set(folder.rglob("*"))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    home = folder / f"home-{path.name}"
    process = context.Process(target=_open, args=(home, path, sender))
    process.start()
    sender.close()
    answer = "the process ended without an answer"
    if receiver.poll(SECONDS):
        with suppress(EOFError):
            answer = receiver.recv()
    else:
        answer = f"no answer in {SECONDS} s"
    process.kill()
    process.join()
    left = {file for file in folder.rglob("*") if not file.is_relative_to(home)} - before
    if left:
        return f"it left {sorted(map(str, left))[:3]}"
    shutil.rmtree(home, ignore_errors=True)
    if good:
        return "" if answer == "came in" else answer
    return "" if answer in ("refused", "came in") else answer  # the changed bytes may be irrelevant


def _open(home: Path, path: Path, sender: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    made = Home(home).create()
    job: WorkerJob = make_job(made, "job")
    unpacked = home / "unpacked"
    unpacked.mkdir()
    answer = "came in"
    try:
        manifest = archive_file.unpack(path, unpacked)
        contents.check_split(unpacked / archive_file.SPLIT, manifest.data.row_count)
        originals.read_losses(unpacked / archive_file.LOSSES)
        contents.import_rows(job, unpacked, manifest.data, home / "aside")
    except TunebenchError as error:
        answer = "refused" if 0 < len(error.message) < 2_000 and error.fix else f"says {error.message!r:.200}"
    except BaseException:  # noqa: BLE001 (what is looked for)
        answer = " | ".join(traceback.format_exc().splitlines()[-3:])[:500]
    sender.send(answer)
