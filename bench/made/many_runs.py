"""A home folder with a thousand runs of twenty metrics and 38 million points, for benches of the dashboard.

Ten runs have 10,000 steps, the others share the rest of the points. Learning rate and rank differ between
runs, and the losses depend on them. Points of a run lie beside each other, step by step, as ingestion leaves
them.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.made.run_values import METRICS, RANKS, RATES, ManyRuns, build_values
from store.core.home import Home
from store.db.database import Database
from store.jobs import metric_points
from tests.pages.seeds.seed import seed

SETS = 60
RUNS_AT_ONCE = 20  # whose points are added in one transaction


def make_many_runs(path: Path, size: ManyRuns | None = None) -> Home:
    """Make the home folder; takes about a minute for the default size."""
    size = size or ManyRuns()
    home = seed(path, runs=size.runs, sets=SETS, probed=True)
    database = Database(home.database, [home.datasets])
    try:
        _vary_settings(database, size.runs)
        for begin in range(0, size.runs, RUNS_AT_ONCE):
            places = range(begin, min(begin + RUNS_AT_ONCE, size.runs))
            table = pa.concat_tables([_build_points(place, size.count_steps(place)) for place in places])
            table = table.append_column("ordinal", pa.array(np.arange(table.num_rows)))
            with database.transaction() as tx:
                metric_points.add(tx, table)
    finally:
        database.close()
    return home


def _vary_settings(database: Database, runs: int) -> None:
    changes = [
        {"learning_rate": RATES[place % len(RATES)], "r": RANKS[place // len(RATES) % len(RANKS)]}
        for place in range(runs)
    ]
    table = pa.table({"run_id": [f"r{i:06}" for i in range(runs)], "patch": [json.dumps(c) for c in changes]})
    with database.transaction() as tx, tx.table("changed", table):
        tx.execute("DELETE FROM metric")
        tx.execute("DELETE FROM metric_summary")
        for name, key in (("run", "run_id"), ("job", "job_id")):
            tx.execute(
                f"UPDATE {name} SET config = json_merge_patch({name}.config, changed.patch) FROM changed"
                f" WHERE {name}.{key} = changed.run_id"
            )


def _build_points(place: int, steps: int) -> pa.Table:
    values = build_values(place, steps)
    seconds = np.repeat(np.arange(steps), len(METRICS)).astype("timedelta64[s]")
    start = np.datetime64("2026-11-01T00:00:00", "us") + np.timedelta64(timedelta(minutes=7 * place))
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.arange(len(METRICS), dtype=np.int32), steps)), pa.array(METRICS)
    )
    return pa.table(
        {
            "run_id": pa.array([f"r{place:06}"] * values.size),
            "name": names.cast(pa.string()),
            "step": np.repeat(np.arange(1, steps + 1), len(METRICS)),
            "value": values.ravel(),
            "logged_at": start + seconds,
        }
    )
