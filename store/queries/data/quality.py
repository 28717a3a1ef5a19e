"""What is known of data sets beyond their rows: sidecars of signals, and what workers are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from store.catalog.signals import GROUPS
from store.config.data.recipe import OF_OTHERS
from store.config.training.train_config import fields_of
from store.contract.errors import ConfigError
from store.db.named_query import named_query
from store.db.records import records, to_json
from store.documents.data.signal_figures import ProfileResult
from store.documents.tables.dataset import Dataset, SignalRow
from store.documents.tables.job_order import DataWork, OrderDataset
from store.queries.data import datasets

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


@named_query
def signals(db: Queryable, fingerprint: str) -> dict[str, SignalRow]:
    """The groups that were measured for these rows, by name."""
    table = db.query(
        "SELECT s.*, home.value || '/datasets/' || fingerprint || '/signals/' || s.name || '.parquet' AS path"
        " FROM signal s, (SELECT value FROM setting WHERE name = 'home') home WHERE fingerprint = ?",
        [fingerprint],
    )
    rows = records(table, SignalRow, ["options", "figures"])
    measured = {row["name"]: row for row in rows if row["name"] in GROUPS}
    for name, row in measured.items():
        row["outdated"] = row["version"] < GROUPS[name].version
    return measured


def current_signals(measured: Mapping[str, SignalRow]) -> dict[str, SignalRow]:
    """Those that were not measured in an older way."""
    return {name: row for name, row in measured.items() if not row["outdated"]}


@named_query
def work_order(db: Queryable, config: Mapping[str, Any]) -> DataWork:
    """What a worker is told of the data that a ProfileConfig, CleanConfig or ExportConfig names, each with
    what was measured of it. Raises NotFoundError, and ConfigError for what is no such config."""
    try:
        name, others = str(config["dataset"]), _others(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError("This is no config that names data sets.", field="config") from error
    dataset = datasets.get_dataset(db, name)
    parent = datasets.find_dataset(db, dataset["parent_id"]) if dataset["parent_id"] else None
    return {
        "dataset": _for_worker(dataset, db),
        "parent": _for_worker(parent, db) if parent else None,
        "mixed": {name: _for_worker(datasets.get_dataset(db, name), db) for name in others},
    }


def _others(config: Mapping[str, Any]) -> list[str]:
    """The data sets that its steps mix in, and those that its rows are of."""
    steps = config.get("recipe", {}).get("steps", [])
    mixed = [str(step["dataset"]) for step in steps if step["step"] in OF_OTHERS]
    return mixed + [str(rows["dataset"]) for rows in config.get("rows", []) if rows["source"] == "dataset"]


def _for_worker(dataset: Dataset, db: Queryable) -> OrderDataset:
    measured = signals(db, dataset["fingerprint"])
    return {
        "dataset_id": dataset["dataset_id"],
        "name": dataset["name"],
        "kind": dataset["kind"],
        "format": dataset["format"],
        "columns": dataset["columns"],
        "fingerprint": dataset["fingerprint"],
        "parent_id": dataset["parent_id"],
        "row_count": dataset["row_count"],
        **fields_of(dataset),
        "signals": {name: row["options"] for name, row in current_signals(measured).items()},
    }


def record_signals(tx: Transaction, fingerprint: str, name: str, result: ProfileResult, at: datetime) -> None:
    """Note a sidecar that is there, in place of an older one."""
    tx.execute(
        "INSERT OR REPLACE INTO signal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            fingerprint,
            name,
            GROUPS[name].version,
            to_json(result["options"]),
            result["row_count"],
            result["reused_count"],
            to_json(result["figures"]),
            result["seconds"],
            at,
        ],
    )


def forget_signals(tx: Transaction, fingerprint: str) -> None:
    """Of rows that no data set has any more."""
    tx.execute("DELETE FROM signal WHERE fingerprint = ?", [fingerprint])
