"""Log of an endpoint, and the request ids that its lines are found by.

Ids are signed with a secret in the endpoint's folder: feedback refers to a request by its id, without a
table of all ids.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from store.serving.schemas import LogPosition

# Log of an endpoint: lines appended to numbered files, each written completely before its answer ends.
#
# `os.write` of a line takes a few microseconds and puts it into the system's memory, where a kill of this
# process can't lose it. A full disk costs the line but never the answer: failed lines are counted, and a
# partial line is removed, so that every line of a file is complete.

MAX_FILE_BYTES = 64 * 2**20
DAY = 24 * 3600.0


class LogFiles:
    """Log files `NAME-000001.jsonl` and following in a folder."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        file_bytes: int = MAX_FILE_BYTES,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._folder, self._name, self._file_bytes, self._write = folder, name, file_bytes, write
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.lines = self.lost = 0
        self.error = ""
        numbers = self._list_numbers()
        self._number = numbers[-1] if numbers else 1
        self._file, self._size = -1, 0
        self._open()

    def append(self, document: Mapping[str, Any]) -> bool:
        """Write one line; return False if it couldn't be written."""
        line = (
            json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        )
        try:
            if self._file < 0:
                self._open()
            if self._size and self._size + len(line) > self._file_bytes:
                self._start_next_file()
            written = self._write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, self._size)
                raise OSError("the disk took a part of a line alone")
        except OSError as error:
            self.lost += 1
            self.error = error.strerror or str(error)
            return False
        self._size += written
        self.lines += 1
        return True

    @property
    def position(self) -> LogPosition:
        """Position of the log's end."""
        return LogPosition(number=self._number, size=self._size)

    def read_since(self, position: LogPosition, at: float) -> Iterator[Any]:
        """Yield the lines after a position, in order, from files modified since a time."""
        for number in self._list_numbers():
            if number < position.number or self._build_path(number).stat().st_mtime < at:
                continue
            with open(self._build_path(number), "rb") as file:
                file.seek(position.size if number == position.number else 0)
                for line in file:
                    yield json.loads(line)

    def remove_old(self, days: int, now: float | None = None) -> None:
        """Delete files not written to for so many days, except the current one.

        If the current file's first line is older than a day, a new file is started, so that old lines
        aren't kept for as long as the file has room.
        """
        at = time.time() if now is None else now
        if self._size and self._read_first_time() < at - DAY:
            self._start_next_file()
        oldest = at - days * DAY
        for number in self._list_numbers():
            path = self._build_path(number)
            if number != self._number and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _read_first_time(self) -> float:
        """Return the time stored in the first line of the current file."""
        with open(self._build_path(self._number), "rb") as file:
            line = file.readline()
        try:
            return float(json.loads(line)["at"])
        except (ValueError, KeyError, TypeError):
            return 0.0  # not one of our lines: start the next file

    def close(self) -> None:
        """Close the current file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _open(self) -> None:
        try:
            self._file = os.open(self._build_path(self._number), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._size = _find_last_line_end(self._file)
        except OSError as error:
            self.error = error.strerror or str(error)
            self.close()

    def _start_next_file(self) -> None:
        self.close()
        self._number += 1
        self._open()
        if self._file < 0:
            raise OSError(self.error)

    def _build_path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:06}.jsonl"

    def _list_numbers(self) -> list[int]:
        names = (path.stem.rpartition("-")[2] for path in self._folder.glob(f"{self._name}-*.jsonl"))
        return sorted(int(name) for name in names if name.isdecimal())


def _find_last_line_end(file: int) -> int:
    """Return the size of a file up to its last newline, and truncate the rest.

    The rest is a line that a killed gateway began; its answer was never completed.
    """
    size = os.fstat(file).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        block = os.pread(file, end - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


_MAC = 16  # hexadecimal digits
_PREFIXES = {"chat": "chatcmpl-", "labels": "chatcmpl-", "completion": "cmpl-", "decision": "s1-",
             "embedding": "embd-"}  # fmt: skip


class RequestIds:
    """Request ids signed with a secret in the endpoint's folder."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ids.key"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        self._secret = path.read_bytes()

    def create(self, kind: str, prefix: str = "") -> str:
        """Return an unguessable id; those of one process sort by time. `prefix` replaces the kind's own."""
        body = f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"
        return f"{prefix or _PREFIXES[kind]}{body}{self._compute_mac(body)}"

    def verify(self, request_id: str) -> bool:
        """Return whether this endpoint created the id."""
        body = re.split("[-_]", request_id)[-1]
        if not body.isascii():
            return False
        return hmac.compare_digest(self._compute_mac(body[:-_MAC]), body[-_MAC:])

    def _compute_mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:_MAC]
