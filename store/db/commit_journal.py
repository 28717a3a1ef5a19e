"""The journal beside the store: a line for each commit since DuckDB's log was last merged into the file;
and what is said of a store that lacks commits.
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

# The journal beside the store: a line for each commit since DuckDB's log was last merged into its file.
#
# DuckDB takes a log that was cut, removed or overwritten for one that ends earlier, and says nothing. Commits
# are numbered in the store itself, and a line here is written after each: where the store's number is lower
# when it is opened, the lines above it say what is missing. A line costs microseconds and is not synced; one
# that a power cut takes makes less known, never a false alarm, as the commit itself was synced before.

MAX_BYTES = 64 * 2**20  # read at start; DuckDB's log is merged at as much


class JournalLine(NamedTuple):
    """A commit: its number, when it was made, and how many rows of which table it changed."""

    number: int
    at: float
    rows: dict[str, int]


class CommitJournal:
    """The journal of the store `database`. Written by one thread at a time: the one that commits."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_suffix(".commits")
        self._log = database.with_name(f"{database.name}.wal")
        self._lines = list(_read_lines(self._path))
        self._file: int | None = None
        self._log_bytes = 0

    def lost(self, kept: int) -> LostCommits | None:
        """What is missing of a store whose last commit has the number `kept`; None where nothing is."""
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
        """Go on after what the store has; the number of the last commit that was ever made."""
        last = max((line.number for line in self._lines), default=0)
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if last > kept:
                os.ftruncate(self._file, 0)
        self._lines.clear()
        self._log_bytes = self._size()
        return max(last, kept)

    def add(self, number: int, rows: Mapping[str, int]) -> None:
        """A commit was made. A disk that is full costs the line, not the commit."""
        if self._file is None:
            return
        line = json.dumps(
            {"number": number, "at": round(time.time(), 3), "rows": rows}, separators=(",", ":")
        )
        size = self._size()
        with contextlib.suppress(OSError):
            if size < self._log_bytes:  # what it held is in the store's file now
                os.ftruncate(self._file, 0)
            os.write(self._file, f"{line}\n".encode())
        self._log_bytes = size

    def close(self, number: int) -> None:
        """The store is closed; its last commit has this number."""
        if self._file is None:
            return
        if not self._log.exists():
            self._log_bytes = 1  # all is in the store's file: one line says how far it goes
            self.add(number, {})
        os.close(self._file)
        self._file = None

    def _size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0


def _read_lines(path: Path) -> list[JournalLine]:
    """As far as it is whole."""
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
    "Put back a copy of the home folder that has them, or import and run again what is missing. The file"
    " tunebench.duckdb.wal was cut, damaged or removed, or tunebench.duckdb is an older copy."
)


def describe_loss(lost: LostCommits) -> str:
    """How much is missing, and of what."""
    commits = f"{lost.commits:,} commit{'' if lost.commits == 1 else 's'}"
    lead = f"The store lacks the last {commits} that were made"
    if lost.first_at is None or lost.last_at is None:
        return f"{lead}; what they changed is not known."
    tables = sorted(lost.rows.items(), key=lambda entry: (-entry[1], entry[0]))
    listed = ", ".join(f"{count:,} of {table}" for table, count in tables[:MAX_TABLES])
    more = f" and of {len(tables) - MAX_TABLES} more tables" if len(tables) > MAX_TABLES else ""
    of_how_many = "" if lost.understood == lost.commits else f" (known of {lost.understood:,})"
    between = f"from {_parse_time(lost.first_at)} to {_parse_time(lost.last_at)} UTC"
    return f"{lead}, {between}: rows added, changed or removed{of_how_many}: {listed}{more}."


def describe_recent_loss(lost: LostCommits | None, now: float) -> str:
    """What screens and command line say for a week after it was found; empty where nothing is."""
    if lost is None or abs(now - lost.found_at) > SAID_SECONDS:
        return ""
    return f"{describe_loss(lost)} {FIX}"


def _parse_time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
