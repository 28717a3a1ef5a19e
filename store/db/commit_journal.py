"""Commit journal next to the store, to detect lost commits, and messages about them.

DuckDB silently accepts a write-ahead log that was truncated, removed or overwritten as one that ends earlier.
Commits are therefore numbered in the store itself, and a line is written here after each, for all commits
since the log was last checkpointed into the file. If the store's number is lower when it is opened, the lines
above it say what is missing. A line costs microseconds and is not synced; losing one in a power cut means
less information, never a false alarm, because the commit itself was synced before.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from store.core.schemas import LostCommits

MAX_BYTES = 64 * 2**20  # read at start; DuckDB's log is checkpointed at the same size


class JournalLine(NamedTuple):
    """A commit: its number, its time, and the number of changed rows per table."""

    number: int
    at: float
    rows: dict[str, int]


class CommitJournal:
    """Journal of the store `database`. Written by one thread at a time, the committing one."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_suffix(".commits")
        self._log = database.with_name(f"{database.name}.wal")
        self._lines = list(_read_lines(self._path))
        self._file: int | None = None
        self._log_bytes = 0

    def lost(self, kept: int) -> LostCommits | None:
        """Return what a store lacks whose last commit has number `kept`; None if nothing."""
        missing = [line for line in self._lines if line.number > kept]
        if not missing:
            return None
        rows = Counter[str]()
        for line in missing:
            rows.update(line.rows)
        times = [line.at for line in missing if line.rows]
        return LostCommits(
            found_at=time.time(),
            commits=missing[-1].number - kept,
            understood=len(times),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
            rows=dict(rows),
        )

    def begin(self, kept: int) -> int:
        """Start writing after the store's last commit; return the number of the last commit ever made."""
        last = max((line.number for line in self._lines), default=0)
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if last > kept:
                os.ftruncate(self._file, 0)
        self._lines.clear()
        self._log_bytes = self._size()
        return max(last, kept)

    def add(self, number: int, rows: Mapping[str, int]) -> None:
        """Record a commit. On a full disk the line is lost, not the commit."""
        if self._file is None:
            return
        line = json.dumps(
            {"number": number, "at": round(time.time(), 3), "rows": rows}, separators=(",", ":")
        )
        size = self._size()
        with contextlib.suppress(OSError):
            if size < self._log_bytes:  # checkpointed: its content is in the store's file now
                os.ftruncate(self._file, 0)
            os.write(self._file, f"{line}\n".encode())
        self._log_bytes = size

    def close(self, number: int) -> None:
        """Close the journal after the store was closed with this last commit number."""
        if self._file is None:
            return
        if not self._log.exists():
            self._log_bytes = 1  # all is in the store's file: one line with its last number
            self.add(number, {})
        os.close(self._file)
        self._file = None

    def _size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0


def _read_lines(path: Path) -> list[JournalLine]:
    """Read the journal up to the first damaged line."""
    lines: list[JournalLine] = []
    damaged = (OSError, ValueError, KeyError, TypeError, AttributeError)
    with contextlib.suppress(*damaged), open(path, "rb") as file:
        for text in file.read(MAX_BYTES).splitlines():
            line = json.loads(text)
            rows = {str(table): int(count) for table, count in line["rows"].items()}
            lines.append(JournalLine(int(line["number"]), float(line["at"]), rows))
    return lines


MAX_TABLES = 8
SAID_SECONDS = 7 * 24 * 3600.0
FIX = (
    "Restore a copy of the home folder that contains them, or repeat the missing imports and runs. The file"
    " tunebench.duckdb.wal was truncated, damaged or removed, or tunebench.duckdb is an older copy."
)


def describe_loss(lost: LostCommits) -> str:
    """Describe how much is missing, and in which tables."""
    commits = f"{lost.commits:,} commit{'' if lost.commits == 1 else 's'}"
    lead = f"The store lacks the last {commits} that were made"
    if lost.first_at is None or lost.last_at is None:
        return f"{lead}; what they changed is unknown."
    tables = sorted(lost.rows.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = ", ".join(f"{count:,} of {table}" for table, count in tables[:MAX_TABLES])
    more = f" and of {len(tables) - MAX_TABLES} more tables" if len(tables) > MAX_TABLES else ""
    of_how_many = "" if lost.understood == lost.commits else f" (known of {lost.understood:,})"
    between = f"from {_parse_time(lost.first_at)} to {_parse_time(lost.last_at)} UTC"
    return f"{lead}, {between}: rows added, changed or removed{of_how_many}: {listed}{more}."


def describe_recent_loss(lost: LostCommits | None, now: float) -> str:
    """Return the message that screens and command line show for a week after detection; empty if there is
    none.
    """
    if lost is None or abs(now - lost.found_at) > SAID_SECONDS:
        return ""
    return f"{describe_loss(lost)} {FIX}"


def _parse_time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
