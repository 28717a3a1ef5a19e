"""Curves of many runs in one answer, against numpy over the raw points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from store.core.errors import ConfigError
from store.db.database import Database
from store.jobs import metric_curves, metric_points
from tests.unit.store_samples import POINTS, new_store

START = datetime(2026, 1, 1)
HOUR = 3600


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    _, database = new_store(tmp_path)
    yield database
    database.close()


def add(
    database: Database,
    run_id: str,
    values: list[float],
    *,
    name: str = "loss",
    every: int = 1,
    pace: float = 1.0,
) -> None:
    """Log values from step `every` on, one each `every` steps, `pace` seconds a step."""
    steps = [every * (place + 1) for place in range(len(values))]
    columns = {
        "run_id": [run_id] * len(values),
        "name": [name] * len(values),
        "step": steps,
        "value": pa.array(values, pa.float64()),
        "logged_at": [START + timedelta(seconds=pace * step) for step in steps],
        "ordinal": list(range(len(values))),
    }
    with database.transaction() as tx:
        metric_points.add(tx, pa.table(columns, schema=POINTS))


def read(database: Database, *run_ids: str, **asked: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = metric_curves.curves(database, list(run_ids), "loss", **asked).to_pylist()
    return rows


def test_each_point_of_a_short_run_is_a_row_in_the_order_of_runs_and_steps(database: Database) -> None:
    add(database, "b", [3.0, 2.0])
    add(database, "a", [5.0], every=7)
    add(database, "a", [9.0], name="other")
    rows = read(database, "b", "gone", "a")
    assert [(row["run"], row["x"], row["value"]) for row in rows] == [(0, 1, 3.0), (0, 2, 2.0), (2, 7, 5.0)]
    assert all(row["count"] == 1 for row in rows)
    assert read(database, "gone") == []


@pytest.mark.parametrize("seed", range(6))
def test_buckets_keep_every_extreme_and_every_value_that_is_not_finite(database: Database, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = {}
    for run_id, size in (("long", 5_000), ("short", 40), ("odd", 777)):
        values = rng.standard_cauchy(size)
        for place, bad in zip(rng.integers(size, size=3), (np.nan, np.inf, -np.inf), strict=True):
            values[place] = bad
        raw[run_id] = values
        add(database, run_id, values.tolist())
    rows = read(database, *raw, buckets=100)
    for place, values in enumerate(raw.values()):
        own = [row for row in rows if row["run"] == place]
        finite = values[np.isfinite(values)]
        assert max(row["max"] for row in own if row["max"] is not None) == finite.max()
        assert min(row["min"] for row in own if row["min"] is not None) == finite.min()
        assert sum(row["count"] for row in own) == len(values)
        assert sum(row["nonfinite"] for row in own) == len(values) - len(finite)
        assert len(own) <= 101
        at = 0
        for row in own:
            part = values[at : at + row["count"]]
            at += row["count"]
            seen = part[np.isfinite(part)]
            assert row["step"] == at
            assert row["value"] == (seen[-1] if len(seen) else None)
            assert row["min"] == (seen.min() if len(seen) else None)


def test_a_zoom_gives_finer_buckets_and_only_its_range(database: Database) -> None:
    add(database, "r", list(np.arange(10_000.0)))
    assert max(row["count"] for row in read(database, "r", buckets=100)) == 128
    rows = read(database, "r", buckets=100, first=5_000, last=5_399)
    assert {row["count"] for row in rows[1:-1]} == {4}
    assert sum(row["count"] for row in rows) == 400
    points = read(database, "r", buckets=100, first=5_000.2, last=5_050)
    assert [row["count"] for row in points] == [1] * 51


def test_one_point_and_values_that_are_all_not_a_number(database: Database) -> None:
    add(database, "one", [1.5])
    add(database, "lost", [math.nan] * 3)
    rows = read(database, "one", "lost", buckets=2)
    assert rows[0]["value"] == 1.5
    lost = rows[1:]
    assert [row["value"] for row in lost] == [None] * len(lost)
    assert sum(row["nonfinite"] for row in lost) == 3


@pytest.mark.parametrize(("axis", "metric"), [("tokens", "train/tokens_seen"), ("epoch", "train/epoch")])
def test_along_a_logged_axis_places_lie_between_logged_ones(
    database: Database, axis: metric_curves.Axis, metric: str
) -> None:
    add(database, "r", [3.0, 2.0, 1.0, 0.5])
    add(database, "r", [100.0, 300.0], name=metric, every=2)
    add(database, "without", [1.0, 1.0])
    rows = read(database, "r", "without", axis=axis)
    assert [(row["run"], row["x"]) for row in rows] == [(0, 50), (0, 100), (0, 200), (0, 300)]
    assert [row["x"] for row in read(database, "r", axis=axis, first=100, last=200)] == [100, 200]


def test_along_time_places_are_hours_since_the_first_point_or_seconds(database: Database) -> None:
    add(database, "r", [3.0, 2.0, 1.0], pace=HOUR)
    assert [row["x"] for row in read(database, "r", axis="hours")] == pytest.approx([0, 1, 2])
    assert [row["x"] for row in read(database, "r", axis="hours", first=0.5, last=1.5)] == pytest.approx([1])
    first, *_ = read(database, "r", axis="time")
    assert first["x"] == (START + timedelta(hours=1) - datetime(1970, 1, 1)).total_seconds()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"first": 9, "last": 3}, "last"),
        ({"first": math.nan}, "first"),
        ({"last": math.inf}, "last"),
        ({"first": -1e300}, "first"),
        ({"first": 10**400}, "first"),
        ({"buckets": 0}, "buckets"),
        ({"buckets": 10**6}, "buckets"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(
    database: Database, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read(database, "r", **asked)
    assert refused.value.field == field


def test_two_hundred_runs_are_read_and_more_are_refused(database: Database) -> None:
    for place in range(metric_curves.MAX_RUNS):
        add(database, f"r{place}", [float(place)])
    every = [f"r{place}" for place in range(metric_curves.MAX_RUNS)]
    assert [row["value"] for row in read(database, *every)] == list(range(metric_curves.MAX_RUNS))
    for run_ids in ([], [*every, "more"]):
        with pytest.raises(ConfigError, match="run_ids"):
            read(database, *run_ids)
