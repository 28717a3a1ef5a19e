"""The finished folder of an export: its checksums, its place, and a zip of it.

It gets its name by one rename once all is there; a name that is taken is never replaced. The job's folder
says before that which names it is about to give (`published.json`), so that what a kill leaves between the
rename and the end of the job is removed by the engine, as it belongs to nobody.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.worker.job import WorkerJob
from store.contract.errors import DataError
from store.contract.home import SPARE_BYTES
from store.contract.jobdir import write_json
from store.documents.shipping.version import VersionFile

SUMS = "SHA256SUMS"
CHUNK = 2**20


class PublishedExport(NamedTuple):
    """folder: beneath the home folder's exports; zip: the file's name there."""

    folder: Path
    zip: str | None


def check_space(job: WorkerJob, needed: int) -> None:
    """Raise DataError with the size that is needed where the disk has less."""
    free = shutil.disk_usage(job.home.path).free
    if free < needed + SPARE_BYTES:
        raise DataError(
            f"The export needs about {_size(needed)} while it is made, and {_size(free)} of"
            f" {job.home.path} are free.",
            fix="Free some space, or choose a smaller form.",
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def sums(folder: Path, tell: Callable[[str], None]) -> list[VersionFile]:
    """The files of the folder with their checksums, which are written into it for `sha256sum -c`."""
    tell("Reckoning the checksums")
    files: list[VersionFile] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        files.append(
            {
                "path": path.relative_to(folder).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": digest(path),
            }
        )
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    (folder / SUMS).write_text(lines, encoding="utf-8")
    return files


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            whole.update(part)
    return whole.hexdigest()


def zipped(folder: Path, target: Path, name: str, tell: Callable[[str], None]) -> None:
    """The folder as one file; weights don't shrink, so nothing is compressed."""
    tell("Writing the zip file")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{name}/{path.relative_to(folder).as_posix()}")


def publish(job: WorkerJob, folder: Path, archive: Path | None, name: str) -> PublishedExport:
    """Give folder and zip file the first free name."""
    exports = job.home.exports
    exports.mkdir(exist_ok=True)
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    number, plain = 1, name
    while (exports / plain).exists() or (exports / f"{plain}.zip").exists():
        number += 1
        plain = f"{name}-{number}"
    write_json(job.dir.published, {"exports": [plain, f"{plain}.zip"] if archive else [plain]})
    os.rename(folder, exports / plain)  # refused where another export was first
    if archive:
        os.rename(archive, exports / f"{plain}.zip")
    return PublishedExport(exports / plain, f"{plain}.zip" if archive else None)
