"""The table of runs against the runs themselves: every kind of column, order, filters, windows and counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from store.core.errors import ConfigError
from store.data.filters import Condition
from store.db.database import Database
from store.jobs import metric_points
from store.runs import runs
from store.runs.run_columns import run_columns
from store.runs.run_table import MAX_COLUMNS, MAX_CONDITIONS, MAX_ROWS, run_table
from tests.pages.seeds.seed import seed

RUNS = 40


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    home = seed(tmp_path_factory.mktemp("table"), runs=RUNS, sets=3, probed=True)
    database = Database(home.database, [home.datasets])
    with database.transaction() as tx:
        runs.change_tags(tx, ["r000003", "r000004"], add=["b", "a"], remove=[])
        runs.set_archived(tx, ["r000007"], archived=True)
        tx.execute("UPDATE run SET created_by = 'p-ada' WHERE run_id IN ('r000001', 'r000002')")
        figures = '[{"metric": "token_f1", "value": 0.5, "low": 0.4, "high": 0.6, "n": 90}]'
        for place, (run_id, checkpoint, value) in enumerate(
            [("r000001", "tuned", "0.3"), ("r000001", "tuned", "0.5"), ("r000002", "base", "0.9")]
        ):
            columns = {
                "evaluation_id": f"e{place}", "name": "E", "notes": "", "model": "m", "run_id": run_id,
                "checkpoint": checkpoint, "dataset_id": "d.1", "dataset_name": "News", "part": "test",
                "n": 90,
                "data_fingerprint": "f", "created_at": datetime(2026, 1, 1 + place), "config": "{}",
                "figures": figures.replace("0.5", value, 1), "details": "{}",
            }  # fmt: skip
            names = ", ".join(columns)
            marks = ", ".join("?" for _ in columns)
            tx.execute(f"INSERT INTO evaluation ({names}) VALUES ({marks})", list(columns.values()))
    yield database
    database.close()


def read(database: Database, *columns: str, **asked: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run_table(database, list(columns), **asked).to_pylist()
    return rows


def select(database: Database, column: str, op: Any, value: Any = None, **asked: Any) -> set[str]:
    condition = Condition(column=column, op=op, value=value)
    return {row["run_id"] for row in read(database, conditions=[condition], limit=MAX_ROWS, **asked)}


def test_values_are_those_of_the_runs(database: Database) -> None:
    columns = ["method", "best_eval_loss", "config.learning_rate", "config.optim", "verdict", "forgetting"]
    columns += ["figures.gain", "figures.text.prose", "facts.trainable_parameters", "tags", "created_at"]
    rows = {row["run_id"]: row for row in read(database, *columns, archived=True)}
    everything = runs.list_runs(database, archived=True, limit=RUNS)
    assert len(rows) == len(everything) == RUNS
    for run in everything:
        row, verdict = rows[run.run_id], run.verdict
        assert (row["name"], row["status"], row["number"]) == (run.name, run.status, run.number)
        assert (row["method"], row["best_eval_loss"]) == (run.method, run.best_eval_loss)
        assert row["config.learning_rate"] == run.config["learning_rate"]
        assert row["config.optim"] == run.config["optim"]
        assert (row["tags"], row["created_at"]) == (run.tags, run.created_at)
        assert row["facts.trainable_parameters"] == run.facts.get("trainable_parameters")
        assert row["verdict"] == (verdict.state if verdict else None)
        gain = verdict.gain if verdict else None
        parts = [row[f"figures.gain{end}"] for end in ("", ".low", ".high", ".n")]
        assert parts == ([gain.value, gain.low, gain.high, gain.n] if gain else [None] * 4)
        forgetting = verdict.forgetting if verdict else None
        assert row["forgetting"] == (forgetting.state if forgetting else None)
        prose = (
            next((text.change for text in forgetting.texts if text.probe == "prose"), None)
            if forgetting
            else None
        )
        assert row["figures.text.prose"] == (prose.value if prose else None)
    assert any(row["figures.text.prose"] is not None for row in rows.values())


def test_metrics_are_read_by_their_aggregation(database: Database) -> None:
    name = "train/loss"
    columns = [f"metrics.{name}.{part}" for part in ("last", "min", "max", "mean")]
    rows = {row["run_id"]: row for row in read(database, *columns, "metrics.no such.last", archived=True)}
    summaries = [row for row in metric_points.summaries(database, list(rows)) if row.name == name]
    assert summaries
    for summary in summaries:
        row = rows[summary.run_id]
        assert [row[column] for column in columns[:3]] == [summary.last_value, summary.min, summary.max]
        assert summary.min <= row[columns[3]] <= summary.max
    assert all(row["metrics.no such.last"] is None for row in rows.values())


def test_of_an_evaluation_the_newest_of_the_final_model_counts(database: Database) -> None:
    column = "evaluations.d.1.token_f1"
    (about,) = [each for each in run_columns(database) if each.group == "Evaluation"]
    assert (about.name, about.title, about.better) == (column, "Token F1 on News", "higher")
    rows = {row["run_id"]: row for row in read(database, column)}
    assert [rows["r000001"][column + end] for end in ("", ".low", ".high", ".n")] == [0.5, 0.4, 0.6, 90]
    assert rows["r000002"][column] is None  # evaluated at its base model alone


def test_every_column_can_be_read_sorted_and_filtered(database: Database) -> None:
    names = [column.name for column in run_columns(database)]
    assert len(names) == len(set(names))
    for name in names:
        rows = read(database, name, sort=name, descending=False, limit=MAX_ROWS)
        assert len(rows) == RUNS - 1
        values = [row[name] for row in rows]
        present = [value for value in values if value is not None]
        assert values == sorted(present) + [None] * (len(values) - len(present)), name
        assert select(database, name, "is not empty") | select(database, name, "is empty") == {
            row["run_id"] for row in rows
        }
    for start in range(0, len(names), MAX_COLUMNS):
        assert len(read(database, *names[start : start + MAX_COLUMNS])) == RUNS - 1


def test_windows_follow_one_another_in_one_order(database: Database) -> None:
    whole = [row["run_id"] for row in read(database, sort="method", archived=True)]
    pieces = [
        row["run_id"]
        for at in range(0, RUNS, 7)
        for row in read(database, sort="method", archived=True, limit=7, offset=at)
    ]
    assert pieces == whole
    assert whole == sorted(whole, reverse=True)  # of equal values, the newest first
    table = run_table(database, [], limit=5, offset=10_000)
    assert table.num_rows == 0
    assert table.schema.metadata == {b"matching": b"39", b"total": b"39", b"archived": b"1"}


def test_filters_agree_with_the_values(database: Database) -> None:
    rows = {row["run_id"]: row for row in read(database, "figures.gain", "status", "tags", "created_at")}
    better = {
        key for key, row in rows.items() if row["figures.gain"] is not None and row["figures.gain"] > 0.1
    }
    assert select(database, "figures.gain", ">", 0.1) == better
    assert 0 < len(better) < len(rows)
    assert select(database, "figures.gain", "is", None) == {
        key for key, row in rows.items() if row["figures.gain"] is None
    }
    assert select(database, "status", "is", ["failed", "lost"]) == {
        key for key, row in rows.items() if row["status"] in ("failed", "lost")
    }
    assert select(database, "tags", "is", "a") == {"r000003", "r000004"}
    assert len(select(database, "tags", "is not", ["a", "zzz"])) == len(rows) - 2
    assert len(select(database, "tags", "is empty")) == len(rows) - 2
    middle = sorted(row["created_at"] for row in rows.values())[len(rows) // 2]
    after = {key for key, row in rows.items() if row["created_at"] >= middle}
    assert select(database, "created_at", ">=", middle.isoformat()) == after
    assert select(database, "name", "contains", "#12") == {"r000012"}


def test_search_archive_and_owner_are_counted(database: Database) -> None:
    assert {row["run_id"] for row in read(database, search="#7")} == set()  # in the archive
    (row,) = read(database, search="#7", archived=True)
    assert (row["run_id"], row["archived"]) == ("r000007", True)
    assert {row["run_id"] for row in read(database, search="B")} >= {"r000003", "r000004"}  # by their tag
    table = run_table(database, [], created_by="p-ada")
    assert set(table["run_id"].to_pylist()) == {"r000001", "r000002"}
    assert table.schema.metadata[b"matching"] == b"2"


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("columns", {"columns": ["config.no_such"]}),
        ("columns", {"columns": ["figures.no_such"]}),
        ("columns", {"columns": ["metrics.loss"]}),
        ("columns", {"columns": ["metrics..last"]}),
        ("columns", {"columns": ["run_id; DROP TABLE run"]}),
        ("columns", {"columns": ["status"] * (MAX_COLUMNS + 1)}),
        ("columns", {"columns": [], "sort": "\""}),
        ("limit", {"columns": [], "limit": MAX_ROWS + 1}),
        ("offset", {"columns": [], "offset": -1}),
        ("conditions", {"columns": [], "conditions": [Condition(column="name")] * (MAX_CONDITIONS + 1)}),
        ("conditions", {"columns": [], "conditions": [Condition(column="created_at", op=">", value="soon")]}),
        ("conditions", {"columns": [], "conditions": [Condition(column="tags", op=">", value="a")]}),
        ("filter", {"columns": [], "conditions": [Condition(column="figures.gain", op=">", value="much")]}),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_by_its_field(
    database: Database, field: str, asked: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_table(database, **asked)
    assert caught.value.field == field


def test_names_of_metrics_are_data(database: Database) -> None:
    name = "metrics.x' OR 1=1; DROP TABLE run --.last"
    assert all(row[name] is None for row in read(database, name))
    assert len(read(database, archived=True)) == RUNS


def test_an_empty_store_has_an_empty_table(tmp_path: Path) -> None:
    home = seed(tmp_path / "none", runs=0, sets=0)
    database = Database(home.database, [home.datasets])
    table = run_table(database, ["figures.gain"])
    assert table.num_rows == 0
    assert table.schema.metadata == {b"matching": b"0", b"total": b"0", b"archived": b"0"}
    assert run_columns(database)
    database.close()
