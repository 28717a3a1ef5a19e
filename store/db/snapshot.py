"""A copy of the store's files, made while nothing is committed, for a process that may be killed.

DuckDB lets one process open a file, and closing any descriptor of it gives up that process's lock: so the
copy is made by the process that reads it, never by the engine. The main file changes at checkpoints alone,
which write new blocks beside the old ones and then one of two headers; all else is in the log beside it. So
where the headers are as they were, the copy of the main file stays and the log alone is copied again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

HEADER_BYTES = 3 * 4096  # the file's own header, and two that take turns


class Snapshot:
    """The copy of the store `source` in `folder`. Raises OSError where there is no room for it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self._folder = source, folder
        self._headers = b""  # of the main file that was copied
        self.path = folder / source.name

    def prepare(self) -> None:
        """Copy the main file where it changed, while the store may be written to: the long part."""
        headers = _headers(self._source)
        if headers != self._headers:
            self._headers = b""
            _copy(self._source, self.path)
            self._headers = headers  # those from before: `take` sees whether a checkpoint came between

    def take(self) -> None:
        """Make the copy whole; nothing may be committed meanwhile."""
        self.prepare()
        log = Path(f"{self._source}.wal")
        copied = Path(f"{self.path}.wal")
        copied.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _copy(log, copied)


def _headers(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER_BYTES)


def _copy(source: Path, target: Path) -> None:
    """As a clone where the file system has them, else inside the kernel."""
    target.unlink(missing_ok=True)
    with open(source, "rb") as old, open(target, "wb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0 and (count := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= count
        except OSError:
            old.seek(0)
            new.seek(0)
            new.truncate()
            shutil.copyfileobj(old, new, 2**20)
