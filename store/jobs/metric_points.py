"""Metric points and their summaries: collected from the events of several jobs, stored and read."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pyarrow as pa

from store.core.errors import ConfigError
from store.db.named_query import named_query
from store.db.records import read_records
from store.jobs.schemas import MetricSummary

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

# Collecting metric events of several jobs into one Arrow table for `add`.
#
# Every logged number takes this path, so it is optimized for throughput: names are encoded once for each set
# of names, columns are filled with `extend`, and single values are only inspected in unusual events.
# Invariant: points keep the order in which the job logged them, and a rewind only voids what came before it.

EPOCH = datetime(1970, 1, 1)
END_OF_TIME = 253_402_300_800  # seconds since the epoch at the end of the year 9999
END_OF_STEPS = 2**53  # smaller integers are exact in every consumer
_NUMBERS = frozenset({float, int})


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a number that fits a DOUBLE; true and false are not numbers."""
    return type(value) is float or (type(value) is int and abs(value) < 1e308)


def parse_time(at: object) -> datetime | None:
    """Convert seconds since the epoch to a naive UTC time; None if invalid."""
    return convert_to_utc(at) if _is_time(at) else None


def convert_to_utc(at: float) -> datetime:
    """Convert seconds since the epoch to a naive UTC time."""
    return EPOCH + timedelta(seconds=at)


def _is_time(at: object) -> TypeGuard[float]:
    return (type(at) is float or type(at) is int) and 0 <= at < END_OF_TIME


class JobPoints:
    """Points of one job, in order. `malformed` counts events that were rejected or only partly accepted."""

    def __init__(self, codes: dict[str, int]) -> None:
        self._codes = codes
        self._layouts: dict[tuple[str, ...], array[int]] = {}
        self._names: array[int] = array("i")
        self._values: array[float] = array("d")
        self._steps: array[int] = array("q")  # one per event, like `_ats` and `_sizes`
        self._ats: array[float] = array("d")
        self._sizes: array[int] = array("q")
        self.malformed = 0
        self.rewinds: dict[str, int] = {}  # prefix of names -> step after which stored points are void

    def __len__(self) -> int:
        return len(self._values)

    def add(self, event: Mapping[str, object]) -> None:
        """Add an event of type metrics."""
        at, step, values = event.get("at"), event.get("step"), event.get("values")
        if not (type(step) is int and 0 <= step < END_OF_STEPS and type(values) is dict and _is_time(at)):
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
        """Void the points after a step: those collected here immediately, stored ones through `rewinds`."""
        step, prefix = event.get("step"), event.get("prefix", "")
        if not (type(step) is int and -1 <= step < END_OF_STEPS and type(prefix) is str):
            self.malformed += 1  # a step of -1 is valid: all points are void
            return
        self.rewinds[prefix] = min(step, self.rewinds.get(prefix, step))
        sizes = np.asarray(self._sizes)
        events = np.repeat(np.arange(len(sizes)), sizes)
        named = [code for name, code in self._codes.items() if name.startswith(prefix)]
        kept = (np.asarray(self._steps)[events] <= step) | ~np.isin(np.asarray(self._names), named)
        self._names, self._values = _select_values(self._names, kept), _select_values(self._values, kept)
        self._sizes = array("q", np.bincount(events[kept], minlength=len(sizes)).astype(np.int64).tobytes())

    def columns(self) -> dict[str, np.ndarray]:
        """Return name (codes), step, value, at (seconds), with one entry per point."""
        return {
            "name": np.asarray(self._names, dtype=np.int32),
            "step": np.repeat(np.asarray(self._steps), self._sizes),
            "value": np.asarray(self._values),
            "at": np.repeat(np.asarray(self._ats), self._sizes),
        }

    def _extend(self, numbers: Iterable[float]) -> bool:
        """Append values. Returns False, with nothing appended, if one is too large for a DOUBLE."""
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


def _select_values(column: array[Any], mask: np.ndarray) -> array[Any]:
    return array(column.typecode, np.asarray(column)[mask].tobytes())


class Points:
    """Points of a flush: `of(job_id)` collects those of a job, `table()` returns them all."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}  # metric name -> code
        self._jobs: dict[str, JobPoints] = {}

    def of(self, job_id: str) -> JobPoints:
        """Return the collection of this job's points."""
        return self._jobs.setdefault(job_id, JobPoints(self._codes))

    @property
    def rewinds(self) -> list[tuple[str, str, int]]:
        """(run, prefix, step): stored points of the run with this prefix after this step are void."""
        return [
            (run, prefix, step) for run, job in self._jobs.items() for prefix, step in job.rewinds.items()
        ]

    def __bool__(self) -> bool:
        return any(len(job) for job in self._jobs.values())

    def table(self) -> pa.Table:
        """Return all points, job by job, with the columns of `store.jobs.metric_points.add`."""
        jobs = {job_id: job.columns() for job_id, job in self._jobs.items() if len(job)}
        joined = {
            column: np.concatenate([columns[column] for columns in jobs.values()])
            for column in ("name", "step", "value", "at")
        }
        runs = np.repeat(np.arange(len(jobs), dtype=np.int32), [len(c["value"]) for c in jobs.values()])
        return pa.table(
            {
                "run_id": _encode_dictionary(runs, list(jobs)),
                "name": _encode_dictionary(joined["name"], list(self._codes)),
                "step": joined["step"],
                "value": joined["value"],
                "logged_at": pa.array(np.rint(joined["at"] * 1e6).astype("datetime64[us]")),
                "ordinal": np.arange(len(runs), dtype=np.int64),
            }
        )


def _encode_dictionary(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words, pa.string()))


# Stored metric points and their summaries.
#
# Invariant: `metric_summary` always equals the aggregation of the points in `metric`, whatever was added in
# which batches and rewound when. `first`, `last`, `min_step` and `max_step` are determined by step, and for
# equal steps by order of arrival, so that batches make no difference. Non-finite values are stored and
# counted in `nonfinite`; all other figures are over the finite ones.

_FINITE = "FILTER (isfinite(value))"
_SUMMARY = f"""
    SELECT run_id, name, count(*) AS count, count(*) FILTER (NOT isfinite(value)) AS nonfinite,
           min(value) {_FINITE} AS min, max(value) {_FINITE} AS max,
           sum(value) {_FINITE} AS sum,
           arg_min(step, (value, step)) {_FINITE} AS min_step,
           arg_max(step, (value, -step)) {_FINITE} AS max_step,
           arg_min({{step: step, value: value, moment: logged_at}}, (step, ordinal)) {_FINITE} AS first,
           arg_max({{step: step, value: value, moment: logged_at}}, (step, ordinal)) {_FINITE} AS last
    FROM points GROUP BY run_id, name
"""
# `old` is the stored summary, `excluded` the new one; the old value wins a tie because it came first.
_MERGE = """
    count = old.count + excluded.count,
    nonfinite = old.nonfinite + excluded.nonfinite,
    sum = CASE WHEN old.sum IS NULL THEN excluded.sum ELSE old.sum + coalesce(excluded.sum, 0) END,
    min_step = CASE WHEN old.min IS NULL OR excluded.min < old.min THEN excluded.min_step
                    WHEN excluded.min = old.min THEN least(old.min_step, excluded.min_step)
                    ELSE old.min_step END,
    max_step = CASE WHEN old.max IS NULL OR excluded.max > old.max THEN excluded.max_step
                    WHEN excluded.max = old.max THEN least(old.max_step, excluded.max_step)
                    ELSE old.max_step END,
    min = least(old.min, excluded.min),
    max = greatest(old.max, excluded.max),
""" + ",\n".join(
    f"{side}_{part} = CASE WHEN old.{side}_step IS NULL OR excluded.{side}_step {sign} old.{side}_step"
    f" THEN excluded.{side}_{part} ELSE old.{side}_{part} END"
    for side, sign in (("first", "<"), ("last", ">="))
    for part in ("value", "at", "step")
)
_UPSERT = f"""
    INSERT INTO metric_summary AS old BY NAME
    SELECT * EXCLUDE (first, last),
           first.step AS first_step, first.value AS first_value, first.moment AS first_at,
           last.step AS last_step, last.value AS last_value, last.moment AS last_at
    FROM ({_SUMMARY})
    ON CONFLICT (run_id, name) DO UPDATE SET {_MERGE}
"""


def add(tx: Transaction, points: pa.Table) -> None:
    """Insert `points` and update their summaries. Columns: run_id, name, step, value, logged_at, and ordinal,
    the order of arrival within the table.
    """
    with tx.table("points", points):
        tx.execute("INSERT INTO metric SELECT run_id, name, step, value, logged_at FROM points")
        tx.execute(_UPSERT)


def rewind(tx: Transaction, run_id: str, step: int, prefix: str = "") -> int:
    """Delete the points of a run after `step` whose name starts with `prefix`, recompute its summaries, and
    return the number of deleted points.
    """
    removed = tx.execute(
        "DELETE FROM metric WHERE run_id = ? AND step > ? AND starts_with(name, ?)", [run_id, step, prefix]
    )
    tx.execute("DELETE FROM metric_summary WHERE run_id = ?", [run_id])
    left = "(SELECT *, rowid AS ordinal FROM metric WHERE run_id = ?)"  # rowid: order of arrival
    tx.execute(_UPSERT.replace("FROM points", f"FROM {left}"), [run_id])
    return removed


@named_query
def summaries(db: Queryable, run_ids: Sequence[str]) -> list[MetricSummary]:
    """Return the rows of `metric_summary` of these runs, by run (in the given order) and name."""
    table = db.query(
        "SELECT * FROM metric_summary WHERE list_contains($1::VARCHAR[], run_id)"
        " ORDER BY list_position($1::VARCHAR[], run_id), name",
        [list(run_ids)],
    )
    return read_records(table, MetricSummary)


@named_query
def curve(
    db: Queryable,
    run_id: str,
    name: str,
    *,
    buckets: int = 600,
    first: int | None = None,
) -> pa.Table:
    """Return a metric from step `first` on, with at most about `buckets` rows, by step.

    Columns: step (last of the bucket), first_step, value (last finite one, or null), min, max, mean (of the
    finite ones), count, nonfinite. With at most `buckets` points each point is a row. Otherwise the bucket of
    a step is `step // width` with a power of two as width, so that the buckets of a live run remain stable
    until the width doubles.

    Raises ConfigError if `buckets` is less than 1.
    """
    if buckets < 1:
        raise ConfigError(f"buckets is {buckets!r}: give 1 or more.", field="buckets")
    return db.query(_CURVE, [run_id, name, buckets, first])


# rowid is the order of arrival; non-finite values are null in `point`, so that aggregates skip them.
_CURVE = """
    WITH point AS MATERIALIZED (
        SELECT step, CASE WHEN isfinite(value) THEN value END AS value, rowid AS place
        FROM metric
        WHERE run_id = $1 AND name = $2
          AND step >= coalesce($4::BIGINT, -9223372036854775808)
    ), width AS (
        SELECT CASE WHEN count(*) > $3
                    THEN (2 ** ceil(log2(greatest((max(step) - min(step) + 1) / $3, 1))))::BIGINT END AS width
        FROM point
    )
    SELECT max(step) AS step, min(step) AS first_step, arg_max(value, (step, place)) AS value,
           min(value) AS min, max(value) AS max, avg(value) AS mean,
           count(*) AS count, count(*) - count(value) AS nonfinite
    FROM point, width
    GROUP BY CASE WHEN width IS NULL THEN place ELSE step // width END
    ORDER BY step, first_step, min(place)
"""


@named_query
def value_at(db: Queryable, run_id: str, name: str, step: int) -> float | None:
    """Return the value of a metric at a step; None if it has none."""
    table = db.query(
        "SELECT value FROM metric WHERE run_id = $1 AND name = $2 AND step = $3", [run_id, name, step]
    )
    return float(table["value"][0].as_py()) if table.num_rows else None
