"""Metric events of several jobs, gathered into one Arrow table for `store.queries.metrics.add`.

This is the path that every logged number takes, so it is built for throughput: names are coded once for
each set of names, columns are filled by `extend`, and a look at a single value is taken only where an
event is unusual. Invariant: points keep the order in which the job logged them, and a rewind voids what
came before it alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa

EPOCH = datetime(1970, 1, 1)
END_OF_TIME = 253_402_300_800  # seconds since the epoch at the end of the year 9999
END_OF_STEPS = 2**53  # below it a whole number is exact in every consumer
_NUMBERS = frozenset({float, int})


def is_number(value: object) -> TypeGuard[float]:
    """A JSON number that a DOUBLE holds; true and false are not numbers."""
    return type(value) is float or (type(value) is int and abs(value) < 1e308)


def moment(at: object) -> datetime | None:
    """Seconds since the epoch as a naive UTC time, or None where that is not a time."""
    return moment_of(at) if _is_moment(at) else None


def moment_of(at: float) -> datetime:
    """Seconds since the epoch as a naive UTC time."""
    return EPOCH + timedelta(seconds=at)


def _is_moment(at: object) -> TypeGuard[float]:
    return (type(at) is float or type(at) is int) and 0 <= at < END_OF_TIME


class JobPoints:
    """The points of one job, in order. `malformed` counts events that were not taken, or not whole."""

    def __init__(self, codes: dict[str, int]) -> None:
        self._codes = codes
        self._layouts: dict[tuple[str, ...], array[int]] = {}
        self._names: array[int] = array("i")
        self._values: array[float] = array("d")
        self._steps: array[int] = array("q")  # one an event, as `_ats` and `_sizes`
        self._ats: array[float] = array("d")
        self._sizes: array[int] = array("q")
        self.malformed = 0
        self.rewinds: dict[str, int] = {}  # prefix of names -> step after which the store's points are void

    def __len__(self) -> int:
        return len(self._values)

    def add(self, event: Mapping[str, object]) -> None:
        """Take one event of type metrics."""
        at, step, values = event.get("at"), event.get("step"), event.get("values")
        if not (type(step) is int and 0 <= step < END_OF_STEPS and type(values) is dict and _is_moment(at)):
            self.malformed += 1
            return
        layout = tuple(values)
        codes = self._layouts.get(layout)
        if codes is None:
            codes = self._layouts[layout] = array("i", [self._code(name) for name in layout])
        if not _NUMBERS.issuperset(map(type, values.values())) or not self._extend(values.values()):
            numbers = {name: value for name, value in values.items() if is_number(value)}
            self.malformed += 1
            self._extend(numbers.values())
            codes = array("i", [self._code(name) for name in numbers])
        self._names += codes
        self._steps.append(step)
        self._ats.append(at)
        self._sizes.append(len(codes))

    def rewind(self, event: Mapping[str, object]) -> None:
        """Void the points after a step: those gathered here at once, those in the store by `rewinds`."""
        step, prefix = event.get("step"), event.get("prefix", "")
        if not (type(step) is int and -1 <= step < END_OF_STEPS and type(prefix) is str):
            self.malformed += 1  # a step of -1 is fine: every point is void
            return
        self.rewinds[prefix] = min(step, self.rewinds.get(prefix, step))
        sizes = np.asarray(self._sizes)
        events = np.repeat(np.arange(len(sizes)), sizes)
        named = [code for name, code in self._codes.items() if name.startswith(prefix)]
        kept = (np.asarray(self._steps)[events] <= step) | ~np.isin(np.asarray(self._names), named)
        self._names, self._values = _kept(self._names, kept), _kept(self._values, kept)
        self._sizes = array("q", np.bincount(events[kept], minlength=len(sizes)).astype(np.int64).tobytes())

    def columns(self) -> dict[str, np.ndarray]:
        """name (codes), step, value, at (seconds): one entry a point."""
        return {
            "name": np.asarray(self._names, dtype=np.int32),
            "step": np.repeat(np.asarray(self._steps), self._sizes),
            "value": np.asarray(self._values),
            "at": np.repeat(np.asarray(self._ats), self._sizes),
        }

    def _extend(self, numbers: Iterable[float]) -> bool:
        """Append values; False, with nothing appended, where one is too large for a DOUBLE."""
        size = len(self._values)
        try:
            self._values.extend(numbers)
        except OverflowError:
            del self._values[size:]
            return False
        return True

    def _code(self, name: str) -> int:
        clean = name.encode("utf-8", "replace").decode()  # a lone surrogate is valid JSON, not valid UTF-8
        return self._codes.setdefault(clean, len(self._codes))


def _kept(column: array[Any], mask: np.ndarray) -> array[Any]:
    return array(column.typecode, np.asarray(column)[mask].tobytes())


class Points:
    """The points of a flush: `of(job_id)` gathers those of a job, `table()` gives them all."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}  # metric name -> code
        self._jobs: dict[str, JobPoints] = {}

    def of(self, job_id: str) -> JobPoints:
        """Where the points of this job are gathered."""
        return self._jobs.setdefault(job_id, JobPoints(self._codes))

    @property
    def rewinds(self) -> list[tuple[str, str, int]]:
        """(run, prefix, step): void are the run's points in the store with this prefix after this step."""
        return [
            (run, prefix, step) for run, job in self._jobs.items() for prefix, step in job.rewinds.items()
        ]

    def __bool__(self) -> bool:
        return any(len(job) for job in self._jobs.values())

    def table(self) -> pa.Table:
        """All points, job by job, with the columns that `store.queries.metrics.add` takes."""
        jobs = {job_id: job.columns() for job_id, job in self._jobs.items() if len(job)}
        joined = {
            column: np.concatenate([columns[column] for columns in jobs.values()])
            for column in ("name", "step", "value", "at")
        }
        runs = np.repeat(np.arange(len(jobs), dtype=np.int32), [len(c["value"]) for c in jobs.values()])
        return pa.table(
            {
                "run_id": _coded(runs, list(jobs)),
                "name": _coded(joined["name"], list(self._codes)),
                "step": joined["step"],
                "value": joined["value"],
                "logged_at": pa.array(np.rint(joined["at"] * 1e6).astype("datetime64[us]")),
                "ordinal": np.arange(len(runs), dtype=np.int64),
            }
        )


def _coded(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words, pa.string()))
