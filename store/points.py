"""Metric events of several jobs, gathered into one Arrow table of `store.metrics.POINTS`.

This is the path that every logged number takes, so it is built for throughput: names are coded once for
each set of names, columns are filled by `extend`, and a look at a single value is taken only where an
event is unusual. Invariant: points keep the order in which the job logged them, and a rewind voids what
came before it alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

EPOCH = datetime(1970, 1, 1)
END_OF_TIME = 253_402_300_800  # seconds since the epoch at the end of the year 9999
_FLOATS = frozenset({float})
_STEPS = range(2**53)  # whole numbers that every consumer holds exactly


def is_number(value: Any) -> bool:
    """A JSON number that a DOUBLE holds; true and false are not numbers."""
    return type(value) is float or (type(value) is int and abs(value) < 1e308)


def moment(at: Any) -> datetime | None:
    """Seconds since the epoch as a naive UTC time, or None where that is not a time."""
    return EPOCH + timedelta(seconds=at) if _is_moment(at) else None


def _is_moment(at: Any) -> bool:
    return (type(at) is float or type(at) is int) and 0 <= at < END_OF_TIME


class JobPoints:
    """The points of one job, in order. `malformed` counts events that were not taken, or not whole."""

    def __init__(self, codes: dict[str, int]) -> None:
        self._codes = codes
        self._layouts: dict[tuple[str, ...], list[int]] = {}
        self.names: list[int] = []
        self.values: list[float] = []
        self.steps: list[int] = []  # one an event, as `ats` and `sizes`
        self.ats: list[float] = []
        self.sizes: list[int] = []
        self.malformed = 0
        self.rewound_to: int | None = None

    @property
    def count(self) -> int:
        return len(self.values)

    def add(self, event: dict[str, Any]) -> None:
        """Take one event of type metrics."""
        at: Any = event.get("at")
        step, values = event.get("step"), event.get("values")
        if not (type(step) is int and step in _STEPS and type(values) is dict and _is_moment(at)):
            self.malformed += 1
            return
        if not _FLOATS.issuperset(map(type, values.values())):
            numbers = {name: float(value) for name, value in values.items() if is_number(value)}
            self.malformed += len(numbers) < len(values)
            values = numbers
        layout = tuple(values)
        codes = self._layouts.get(layout)
        if codes is None:
            codes = self._layouts[layout] = [self._code(name) for name in layout]
        self.names += codes
        self.values += values.values()
        self.steps.append(step)
        self.ats.append(float(at))
        self.sizes.append(len(codes))

    def rewind(self, event: dict[str, Any]) -> None:
        """Void the points after a step: those gathered here at once, those in the store by `rewound_to`."""
        step = event.get("step")
        if not (type(step) is int and step in _STEPS):
            self.malformed += 1
            return
        self.rewound_to = step if self.rewound_to is None else min(step, self.rewound_to)
        kept = np.asarray(self.steps, dtype=np.int64) <= step
        points = np.repeat(kept, self.sizes)
        self.names = [name for name, keep in zip(self.names, points, strict=True) if keep]
        self.values = [value for value, keep in zip(self.values, points, strict=True) if keep]
        self.steps = [step for step, keep in zip(self.steps, kept, strict=True) if keep]
        self.ats = [at for at, keep in zip(self.ats, kept, strict=True) if keep]
        self.sizes = [size for size, keep in zip(self.sizes, kept, strict=True) if keep]

    def _code(self, name: str) -> int:
        clean = name.encode("utf-8", "replace").decode()  # a lone surrogate is valid JSON, not valid UTF-8
        return self._codes.setdefault(clean, len(self._codes))


class Points:
    """The points of a flush: `of(job_id)` gathers those of a job, `table()` gives them all."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}  # metric name -> code
        self._jobs: dict[str, JobPoints] = {}

    def of(self, job_id: str) -> JobPoints:
        """Where the points of this job are gathered."""
        return self._jobs.setdefault(job_id, JobPoints(self._codes))

    @property
    def rewinds(self) -> dict[str, int]:
        """Of each run that was rewound, the step after which the points in the store are void."""
        return {job_id: job.rewound_to for job_id, job in self._jobs.items() if job.rewound_to is not None}

    def __bool__(self) -> bool:
        return any(job.count for job in self._jobs.values())

    def table(self) -> pa.Table:
        """All points, job by job, with schema `store.metrics.POINTS` (strings dictionary-encoded)."""
        jobs = [(job_id, job) for job_id, job in self._jobs.items() if job.count]
        run_codes = np.repeat(np.arange(len(jobs), dtype=np.int32), [job.count for _, job in jobs])
        name_codes = np.concatenate([np.asarray(job.names, dtype=np.int32) for _, job in jobs])
        seconds = np.concatenate(
            [np.repeat(np.asarray(job.ats, dtype=np.float64), job.sizes) for _, job in jobs]
        )
        return pa.table(
            {
                "run_id": _coded(run_codes, [job_id for job_id, _ in jobs]),
                "name": _coded(name_codes, list(self._codes)),
                "step": np.concatenate(
                    [np.repeat(np.asarray(job.steps, dtype=np.int64), job.sizes) for _, job in jobs]
                ),
                "value": np.concatenate([np.asarray(job.values, dtype=np.float64) for _, job in jobs]),
                "logged_at": pa.array(np.rint(seconds * 1e6).astype("datetime64[us]")),
                "ordinal": np.arange(len(run_codes), dtype=np.int64),
            }
        )


def _coded(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words, pa.string()))
