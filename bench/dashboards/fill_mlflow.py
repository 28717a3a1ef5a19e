"""Fill an MLflow store with the runs of `bench.made.run_values`: run by the Python that has MLflow.

    PEER_PYTHON -m bench.dashboards.fill_mlflow FOLDER RUNS POINTS

The schema is made by MLflow, the points are written straight into its tables: its client would take hours.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np

from bench.made.run_values import METRICS, RANKS, RATES, ManyRuns, build_values

START_MS = 1_790_000_000_000
INSERT = "INSERT OR IGNORE INTO {} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"


def main() -> None:
    folder, size = Path(sys.argv[1]), ManyRuns(int(sys.argv[2]), int(sys.argv[3]))
    folder.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("bench", artifact_location=str(folder / "artifacts"))
    run_ids = []
    for place in range(size.runs):
        run = client.create_run(experiment, run_name=f"LoRA {place}", start_time=START_MS + 420_000 * place)
        run_ids.append(run.info.run_id)
    connection = sqlite3.connect(folder / "mlflow.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    for place, run_id in enumerate(run_ids):
        _write_run(connection, run_id, place, size)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _write_run(connection: sqlite3.Connection, run_id: str, place: int, size: ManyRuns) -> None:
    values = build_values(place, size.count_steps(place))
    settings = {
        "learning_rate": RATES[place % len(RATES)],
        "r": RANKS[place // len(RATES) % len(RANKS)],
        "seed": place,
    }
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
        [(name, str(value), run_id) for name, value in settings.items()],
    )
    connection.executemany(INSERT.format("metrics"), _list_points(values, run_id))
    connection.executemany(INSERT.format("latest_metrics"), _list_points(values, run_id, len(values) - 1))
    connection.execute(
        "UPDATE runs SET status = 'FINISHED', end_time = start_time + 300000 WHERE run_uuid = ?", [run_id]
    )
    connection.execute("COMMIT")


def _list_points(values: np.ndarray, run_id: str, first: int = 0) -> Iterator[tuple[object, ...]]:
    for column, name in enumerate(METRICS):
        for step in range(first, len(values)):
            value = float(values[step, column])
            is_nan = value != value
            yield name, 0.0 if is_nan else value, START_MS + step * 1000, step + 1, is_nan, run_id


if __name__ == "__main__":
    main()
