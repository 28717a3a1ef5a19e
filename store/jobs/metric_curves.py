"""One metric of many runs as curves, for one chart: bucketed by step, along a chosen axis.

However many runs a chart has, it takes one statement (two along tokens or epochs). Extremes and values that
are not finite survive the buckets: no spike and no NaN is lost, wherever the edges fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from store.core.errors import ConfigError
from store.db.named_query import named_query

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from store.db.database import Queryable

Axis = Literal["step", "tokens", "epoch", "hours", "time"]
AXES: dict[Axis, str] = {
    "step": "Optimizer step",
    "tokens": "Tokens seen",
    "epoch": "Epoch",
    "hours": "Hours since the run's first point",
    "time": "Time (UTC)",
}
LOGGED_AXES: dict[Axis, str] = {"tokens": "train/tokens_seen", "epoch": "train/epoch"}  # metrics of a step
MAX_RUNS, MAX_BUCKETS = 200, 2_000  # of one request
_FIRST_STEP, _LAST_STEP = -(2**62), 2**62


class _Scale(NamedTuple):
    """Where a run was on an axis that it logged, at some of its steps; both ascending."""

    steps: NDArray[np.float64]
    places: NDArray[np.float64]


@named_query
def curves(
    db: Queryable,
    run_ids: Sequence[str],
    name: str,
    *,
    axis: Axis = "step",
    buckets: int = 320,
    first: float | None = None,
    last: float | None = None,
) -> pa.Table:
    """Return a metric of several runs between `first` and `last` of the axis, by run and step.

    Columns: run (place in `run_ids`), x (of the last point: the step, the tokens seen, the epoch, hours since
    the run's first point, or seconds since 1970), step, value (last finite one, or null), min, max (of the
    finite ones), count, nonfinite. A run with at most `buckets` points there has a row for each; otherwise
    the bucket of a step is `step // width` with a power of two as width, so that the buckets of a live run
    remain stable until the width doubles. Along tokens or epochs a run that did not log them has no rows.

    Raises ConfigError for a field out of range, and for an end before the start.
    """
    _check(run_ids, buckets, first, last)
    ends = [(first, last)] * len(run_ids)
    scales: dict[int, _Scale] = {}
    if axis in LOGGED_AXES:
        scales = _read_scales(db, run_ids, LOGGED_AXES[axis])
        ends = [_convert_ends(scales.get(place), first, last) for place in range(len(run_ids))]
    by_time = axis in ("hours", "time")
    steps = [(None, None)] * len(run_ids) if by_time else ends
    table = db.query(
        _CURVES,
        [
            list(run_ids),
            [_FIRST_STEP if low is None else int(np.floor(low)) for low, _ in steps],
            [_LAST_STEP if high is None else int(np.ceil(high)) for _, high in steps],
            name,
            buckets,
            axis,
            first if by_time else None,
            last if by_time else None,
            list(range(len(run_ids))),
        ],
    )
    return _convert_to_scale(table, scales) if axis in LOGGED_AXES else table


def _check(run_ids: Sequence[str], buckets: int, first: float | None, last: float | None) -> None:
    if not 1 <= len(run_ids) <= MAX_RUNS:
        raise ConfigError(f"run_ids has {len(run_ids)} runs: give 1 to {MAX_RUNS}.", field="run_ids")
    if not 1 <= buckets <= MAX_BUCKETS:
        raise ConfigError(f"buckets is {buckets!r}: give 1 to {MAX_BUCKETS:,}.", field="buckets")
    for field, end in (("first", first), ("last", last)):
        if end is not None and not _FIRST_STEP < end < _LAST_STEP:  # so is NaN
            raise ConfigError(f"{field} is {end!r}: give a number on the axis.", field=field)
    if first is not None and last is not None and first > last:
        raise ConfigError(f"last is {last!r}, before first, {first!r}: swap them.", field="last")


def _read_scales(db: Queryable, run_ids: Sequence[str], metric: str) -> dict[int, _Scale]:
    """Return the scale of each run that logged it, by its place; 0 at step 0, before the first point."""
    lows, highs = [_FIRST_STEP] * len(run_ids), [_LAST_STEP] * len(run_ids)
    places = list(range(len(run_ids)))
    points = db.query(_CURVES, [list(run_ids), lows, highs, metric, MAX_BUCKETS, "step", None, None, places])
    return {
        place: _Scale(np.append(0.0, steps), np.append(0.0, values))
        for place, steps, values in _iterate_runs(points)
    }


def _iterate_runs(table: pa.Table) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield place, steps and finite values of each run."""
    places = table["run"].to_numpy()
    steps = table["step"].to_numpy().astype(np.float64)
    values = table["value"].to_numpy(zero_copy_only=False).astype(np.float64)
    for place in np.unique(places):
        own = (places == place) & np.isfinite(values)
        if own.any():
            yield int(place), steps[own], values[own]


def _convert_ends(
    scale: _Scale | None, first: float | None, last: float | None
) -> tuple[float | None, float | None]:
    if scale is None:
        return first, last
    low, high = (
        None if end is None else float(np.interp(end, scale.places, scale.steps)) for end in (first, last)
    )
    return low, high if last is None or last < scale.places[-1] else None


def _convert_to_scale(table: pa.Table, scales: dict[int, _Scale]) -> pa.Table:
    """Replace x by the place on the scale, interpolated linearly; drop runs without one."""
    table = table.filter(pa.array(np.isin(table["run"].to_numpy(), list(scales))))
    places, steps = table["run"].to_numpy(), table["step"].to_numpy().astype(np.float64)
    x = np.empty(len(steps))
    for place, scale in scales.items():
        own = places == place
        x[own] = np.interp(steps[own], scale.steps, scale.places)
    return table.set_column(table.schema.get_field_index("x"), "x", pa.array(x))


# rowid is the order of arrival; non-finite values are null in `point`, so that aggregates skip them.
_CURVES = """
    WITH asked AS (
        SELECT unnest($1::VARCHAR[]) AS run_id, unnest($9::INTEGER[]) AS run,
               unnest($2::BIGINT[]) AS low, unnest($3::BIGINT[]) AS high
    ), start AS (
        SELECT run_id, min(first_at) AS at FROM metric_summary
        WHERE list_contains($1::VARCHAR[], run_id) GROUP BY run_id
    ), point AS MATERIALIZED (
        SELECT asked.run, step, CASE WHEN isfinite(value) THEN value END AS value, metric.rowid AS place,
               CASE $6 WHEN 'time' THEN epoch(logged_at)
                       WHEN 'hours' THEN epoch(logged_at - start.at) / 3600
                       ELSE step END::DOUBLE AS x
        FROM metric JOIN asked USING (run_id) LEFT JOIN start USING (run_id)
        WHERE name = $4 AND list_contains($1::VARCHAR[], metric.run_id) AND step BETWEEN low AND high
    ), seen AS MATERIALIZED (
        SELECT * FROM point
        WHERE ($7::DOUBLE IS NULL OR x >= $7::DOUBLE) AND ($8::DOUBLE IS NULL OR x <= $8::DOUBLE)
    ), width AS (
        SELECT run, CASE WHEN count(*) > $5
               THEN (2 ** ceil(log2(greatest((max(step) - min(step) + 1) / $5, 1))))::BIGINT END AS width
        FROM seen GROUP BY run
    )
    SELECT run, max(x) AS x, max(step) AS step, arg_max(value, (step, place)) AS value,
           min(value) AS min, max(value) AS max,
           count(*) AS count, count(*) - count(value) AS nonfinite
    FROM seen JOIN width USING (run)
    GROUP BY run, CASE WHEN width IS NULL THEN place ELSE step // width END
    ORDER BY run, step, min(place)
"""
