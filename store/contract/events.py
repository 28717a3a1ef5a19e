"""What a worker appends to `events.jsonl`, and how it is read without ever taking half a line.

One JSON object a line (`store.documents.tables.job.Event`); `at` is seconds since the epoch (UTC). NaN and
Infinity are written as Python's json module writes them, and kept. What is read is not checked yet.

    {"type": "status",   "at", "status"}                    preparing | training | evaluating
    {"type": "progress", "at", "done", "total", "unit", "message", "eta_seconds"}
    {"type": "metrics",  "at", "step", "values": {name: number}}
    {"type": "rewind",   "at", "step", "prefix"}            metrics after this step are void (a resume);
                                                            with a prefix, those alone whose name has it
    {"type": "facts",    "at", "facts": {...}}              merged into run.facts
    {"type": "alert",    "at", "level", "message"}          info | warning
                         and, of a verdict, "kind" and "step": one of each kind is kept of a job
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

# Bytes taken from one file at a time: no job can starve others, and while a flush is under way the
# engine still answers within milliseconds (bench/load/engine.py).
MAX_READ = 512 * 1024
MAX_LINE = 16 * 2**20  # of one event; no worker of ours writes a tenth of it


def read_events(path: Path, offset: int, limit: int = MAX_READ) -> tuple[list[Mapping[str, object]], int]:
    """Events from byte `offset` up to the last newline, and the offset after it.

    A line that is not a JSON object (a write torn by a crash and continued) is returned as
    {"type": "torn", "text": …}, so that it is counted and not dropped without a word; of one that is longer
    than any event, so is each piece.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            chunk = file.read(limit)
            if len(chunk) == limit and b"\n" not in chunk:  # one line longer than the limit
                chunk += file.readline(MAX_LINE)
    except FileNotFoundError:
        return [], offset
    end = chunk.rfind(b"\n") + 1
    if not end and len(chunk) > MAX_LINE:
        return [_torn(chunk)], offset + len(chunk)
    if not end:
        return [], offset
    lines = chunk[: end - 1].split(b"\n")
    return [_event(line) for line in lines if line.strip()], offset + end


_decode = json.JSONDecoder().raw_decode  # one C call a line, so that other threads get their turn between


def _event(line: bytes) -> Mapping[str, object]:
    try:
        text = line.decode()
        event, end = _decode(text)
        if type(event) is dict and not text[end:].strip():
            return event
    except (ValueError, RecursionError):
        pass
    return _torn(line)


def _torn(line: bytes) -> Mapping[str, object]:
    return {"type": "torn", "text": line[:200].decode("utf-8", "replace")}
