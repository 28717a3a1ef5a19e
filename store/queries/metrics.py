"""Metric points and their summaries.

Invariant: `metric_summary` always equals what its points in `metric` give, whatever was added in which
portions and rewound when; `first`, `last`, `min_step` and `max_step` are decided by step, and at equal
steps by order of arrival, so that portions make no difference. Values that are not finite are kept and
counted in `nonfinite`; every other figure is over the finite ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from store.contract.errors import ConfigError
from store.db.named_query import named_query
from store.db.records import records
from store.documents.figures.metric import MetricSummary

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

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
# `old` is what the summary holds, `excluded` what is new; an old figure wins a tie, as it came first.
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
    """Append `points` and update their summaries. Columns: run_id, name, step, value, logged_at, and ordinal,
    the order of arrival within the table."""
    with tx.table("points", points):
        tx.execute("INSERT INTO metric SELECT run_id, name, step, value, logged_at FROM points")
        tx.execute(_UPSERT)


def rewind(tx: Transaction, run_id: str, step: int, prefix: str = "") -> int:
    """Void the points of a run after `step` whose name begins with `prefix` and make its summaries anew;
    the number of points voided."""
    removed = tx.execute(
        "DELETE FROM metric WHERE run_id = ? AND step > ? AND starts_with(name, ?)", [run_id, step, prefix]
    )
    tx.execute("DELETE FROM metric_summary WHERE run_id = ?", [run_id])
    left = "(SELECT *, rowid AS ordinal FROM metric WHERE run_id = ?)"  # rowid: order of arrival
    tx.execute(_UPSERT.replace("FROM points", f"FROM {left}"), [run_id])
    return removed


@named_query
def summaries(db: Queryable, run_ids: Sequence[str]) -> list[MetricSummary]:
    """The rows of `metric_summary` of these runs, by run (in the order given) and name."""
    table = db.query(
        "SELECT * FROM metric_summary WHERE list_contains($1::VARCHAR[], run_id)"
        " ORDER BY list_position($1::VARCHAR[], run_id), name",
        [list(run_ids)],
    )
    return records(table, MetricSummary)


@named_query
def curve(
    db: Queryable,
    run_id: str,
    name: str,
    *,
    buckets: int = 600,
    first: int | None = None,
) -> pa.Table:
    """A metric from step `first` on, at most about `buckets` rows, by step.

    Columns: step (the last of the bucket), first_step, value (the last finite one, or null), min, max,
    mean (of the finite ones), count, nonfinite. With at most `buckets` points each is a row of its own.
    Otherwise a bucket is `step // width` with a width that is a power of two, so that the buckets of a
    live run stay where they are while it goes on, until the width doubles.

    Raises ConfigError where `buckets` is below 1.
    """
    if buckets < 1:
        raise ConfigError(f"buckets is {buckets!r}: give 1 or more.", field="buckets")
    return db.query(_CURVE, [run_id, name, buckets, first])


# rowid is the order of arrival; a value that is not finite is null in `point`, which aggregates pass over.
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
    """The value of a metric at a step; None where it has none."""
    table = db.query(
        "SELECT value FROM metric WHERE run_id = $1 AND name = $2 AND step = $3", [run_id, name, step]
    )
    return float(table["value"][0].as_py()) if table.num_rows else None
