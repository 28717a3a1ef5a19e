"""Points, summaries and curves, against the same figures computed with numpy from the raw points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from store.core.errors import ConfigError
from store.db.database import Database
from store.jobs import metric_points
from store.jobs.schemas import MetricSummary
from tests.unit.store_samples import POINTS, new_store

START = datetime(2026, 1, 1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    _, database = new_store(tmp_path)
    yield database
    database.close()


def add(database: Database, run_id: str, name: str, steps: list[int], values: list[float]) -> None:
    """One flush; a point is logged at START + its step in seconds."""
    size = len(steps)
    columns = {
        "run_id": [run_id] * size,
        "name": [name] * size,
        "step": steps,
        "value": pa.array(values, pa.float64()),
        "logged_at": [START + timedelta(seconds=step % 10**6) for step in steps],
        "ordinal": list(range(size)),
    }
    with database.transaction() as tx:
        metric_points.add(tx, pa.table(columns, schema=POINTS))


def summary(database: Database, run_id: str = "r", name: str = "loss") -> MetricSummary:
    (row,) = [row for row in metric_points.summaries(database, [run_id]) if row.name == name]
    return row


def test_a_summary_says_what_its_points_say(database: Database) -> None:
    add(database, "r", "loss", [0, 1, 2, 3, 4], [3.0, 1.0, math.nan, 1.0, math.inf])
    assert vars(summary(database)) == {
        **{"run_id": "r", "name": "loss", "count": 5, "nonfinite": 2},
        **{"min": 1.0, "max": 3.0, "sum": 5.0, "min_step": 1, "max_step": 0},
        **{"first_step": 0, "first_value": 3.0, "first_at": START},
        **{"last_step": 3, "last_value": 1.0, "last_at": START + timedelta(seconds=3)},
    }


def test_portions_make_no_difference(database: Database) -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 50, 400).tolist()  # many steps logged more than once, and out of order
    values = rng.choice([-1.0, 0.0, 0.25, 2.0, math.nan, math.inf, -math.inf], 400).tolist()
    add(database, "whole", "loss", steps, values)
    cuts = [0, 1, 2, 50, 51, 200, 399, 400]
    for begin, end in itertools.pairwise(cuts):
        add(database, "parts", "loss", steps[begin:end], values[begin:end])
    whole, parts = summary(database, "whole"), summary(database, "parts")
    assert replace(parts, run_id="whole") == whole
    finite = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    assert whole.count == 400
    assert whole.nonfinite == 400 - len(finite)
    assert whole.min_step == min(s for s, v in finite if v == whole.min)
    assert whole.max_step == min(s for s, v in finite if v == whole.max)
    assert whole.first_value == next(v for s, v in finite if s == whole.first_step)
    assert whole.last_value == [v for s, v in finite if s == whole.last_step][-1]


def test_a_run_whose_points_are_all_nan_has_a_summary_without_figures(database: Database) -> None:
    add(database, "r", "loss", [1, 2], [math.nan, math.nan])
    row = summary(database)
    assert (row.count, row.nonfinite, row.min, row.last_step) == (2, 2, None, None)
    add(database, "r", "loss", [3], [0.5])
    row = summary(database)
    assert (row.count, row.nonfinite, row.sum, row.first_step, row.min_step) == (
        3,
        2,
        0.5,
        3,
        3,
    )


def test_huge_values_do_not_stop_the_store(database: Database) -> None:
    add(database, "r", "loss", [1, 2], [1.7e308, 1.7e308])
    add(database, "r", "loss", [3], [1.7e308])
    assert summary(database).sum == math.inf


def test_rewind_voids_points_after_the_step_and_summarises_anew(database: Database) -> None:
    add(database, "r", "loss", [0, 1, 2, 3], [3.0, 2.0, 0.1, 9.0])
    add(database, "r", "late", [3], [1.0])
    add(database, "other", "loss", [0, 9], [1.0, 2.0])
    kept = summary(database, "other")
    with database.transaction() as tx:
        assert metric_points.rewind(tx, "r", 1) == 3
    row = summary(database)
    assert (row.count, row.min, row.min_step, row.max, row.last_step) == (2, 2.0, 1, 3.0, 1)
    assert [row.name for row in metric_points.summaries(database, ["r"])] == ["loss"]
    assert summary(database, "other") == kept
    add(database, "r", "loss", [2], [1.5])  # the resumed run goes on
    assert (summary(database).count, summary(database).last_value) == (3, 1.5)


def test_summaries_come_in_the_order_asked_for(database: Database) -> None:
    for run in ("a", "b", "c"):
        add(database, run, "z", [0], [1.0])
        add(database, run, "y", [0], [1.0])
    rows = metric_points.summaries(database, ["c", "a", "missing"])
    assert [(row.run_id, row.name) for row in rows] == [("c", "y"), ("c", "z"), ("a", "y"), ("a", "z")]
    assert metric_points.summaries(database, []) == []


def test_few_points_come_one_by_one(database: Database) -> None:
    add(database, "r", "loss", [0, 10, 10, 30], [4.0, 3.0, 2.0, math.nan])
    rows = metric_points.curve(database, "r", "loss", buckets=4).to_pylist()
    assert [row["step"] for row in rows] == [0, 10, 10, 30]
    assert [row["value"] for row in rows] == [4.0, 3.0, 2.0, None]
    assert [row["nonfinite"] for row in rows] == [0, 0, 0, 1]
    assert all(row["count"] == 1 and row["first_step"] == row["step"] for row in rows)


def test_a_curve_of_many_points_keeps_extremes_count_and_nonfinite(database: Database) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=10_000)
    values[[17, 5_000]] = math.nan
    values[123], values[9_000] = 50, -50
    add(database, "r", "loss", list(range(10_000)), values.tolist())
    table = metric_points.curve(database, "r", "loss", buckets=600)
    assert table.column_names == ["step", "first_step", "value", "min", "max", "mean", "count", "nonfinite"]
    width = 32  # the power of two that gives at most 600 buckets
    assert table.num_rows == math.ceil(10_000 / width) <= 600
    for row in table.to_pylist():
        bucket = values[row["first_step"] : row["step"] + 1]
        finite = bucket[np.isfinite(bucket)]
        assert row["first_step"] % width == 0
        assert (row["min"], row["max"], row["value"]) == (finite.min(), finite.max(), finite[-1])
        assert row["mean"] == pytest.approx(finite.mean())
        assert (row["count"], row["nonfinite"]) == (len(bucket), len(bucket) - len(finite))


def test_history_is_not_redrawn_while_a_run_is_live(database: Database) -> None:
    add(database, "r", "loss", list(range(1000)), np.linspace(3, 1, 1000).tolist())
    before = metric_points.curve(database, "r", "loss", buckets=64).to_pylist()
    add(database, "r", "loss", list(range(1000, 1020)), [1.0] * 20)
    after = metric_points.curve(database, "r", "loss", buckets=64).to_pylist()
    assert after[: len(before) - 1] == before[:-1]  # only the last bucket may grow


def test_zooming_in_gives_more_detail_within_the_bounds(database: Database) -> None:
    add(database, "r", "loss", list(range(10_000)), [1.0] * 10_000)
    table = metric_points.curve(database, "r", "loss", buckets=100, first=9_900)
    assert table.column("step").to_pylist() == list(range(9_900, 10_000))
    assert metric_points.curve(database, "r", "loss", first=20_000).num_rows == 0


def test_sparse_steps_that_are_far_apart(database: Database) -> None:
    steps = [0, 2**52, *range(10, 400)]
    add(database, "r", "loss", steps, [1.0] * len(steps))
    table = metric_points.curve(database, "r", "loss", buckets=100)
    assert sum(table.column("count").to_pylist()) == len(steps)
    assert table.num_rows <= 100


def test_no_buckets_is_an_error(database: Database) -> None:
    with pytest.raises(ConfigError, match="buckets is 0"):
        metric_points.curve(database, "r", "loss", buckets=0)
