"""Data sets: the rows of table `dataset`, their Parquet files and signals, and the work orders for workers.

Paths in query results are absolute, built from the setting `home`, so that they are valid for any client of
the engine. Text that a user typed reaches SQL as a parameter, never as part of a statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.row_schemas import ProfileResult
from store.data.cleaning import OF_OTHERS
from store.data.schemas import CanonicalRow, Dataset, NewDataset, SignalRow, SkippedRow
from store.data.signals import GROUPS
from store.db.named_query import named_query, register_reference
from store.db.records import read_records, read_scalar, to_json
from store.jobs.schemas import DataWork, OrderDataset, SplitFields
from store.training.split import Split

if TYPE_CHECKING:
    import pyarrow as pa

    from store.db.database import Queryable, Transaction


JSON_COLUMNS = ("columns", "source", "stats", "recipe", "fates")
_SELECT = """
    SELECT * EXCLUDE home, home || '/datasets/' || fingerprint || '/rows.parquet' AS rows_path,
           home || '/datasets/' || fingerprint || '/skipped.parquet' AS skipped_path
    FROM dataset, (SELECT value AS home FROM setting WHERE name = 'home')
"""


@named_query
def list_datasets(db: Queryable) -> list[Dataset]:
    """Return all data sets, newest first."""
    return _read(db, "ORDER BY created_at DESC, dataset_id", [])


@named_query
def get_dataset(db: Queryable, dataset: str) -> Dataset:
    """Return the data set with that id, or else with that name. Raises NotFoundError."""
    rows = _read(db, "WHERE dataset_id = $1 OR name = $1 ORDER BY dataset_id = $1 DESC LIMIT 1", [dataset])
    if not rows:
        raise NotFoundError(
            f"There is no data set {dataset!r}.",
            fix="Import it first, or choose an existing one.",
            field="dataset",
        )
    return rows[0]


register_reference(Dataset, lambda dataset: dataset.dataset_id, get_dataset)


def find_dataset(db: Queryable, dataset_id: str) -> Dataset | None:
    """Return the data set with that id, or None if it was deleted."""
    rows = _read(db, "WHERE dataset_id = $1", [dataset_id])
    return rows[0] if rows else None


def find_imported_dataset(db: Queryable, fingerprint: str) -> Dataset | None:
    """Return the import that these rows derive from, through any versions; None if there is none."""
    ids = db.query("SELECT dataset_id FROM dataset WHERE fingerprint = ? ORDER BY created_at", [fingerprint])
    dataset = find_dataset(db, ids["dataset_id"][0].as_py()) if len(ids) else None
    while dataset and dataset.parent_id:
        dataset = find_dataset(db, dataset.parent_id)
    return dataset


def is_named(db: Queryable, fingerprint: str) -> bool:
    """Return whether any data set has the rows with this fingerprint."""
    return bool(read_scalar(db.query("SELECT count(*) FROM dataset WHERE fingerprint = ?", [fingerprint])))


@named_query
def get_rows(db: Queryable, dataset: Dataset, row_ids: Sequence[int]) -> list[CanonicalRow]:
    """Return the rows with these ids, in the given order. Raises NotFoundError for an unknown id."""
    table = db.query(
        "SELECT * FROM read_parquet($1) WHERE list_contains($2::BIGINT[], row_id)"
        " ORDER BY list_position($2::BIGINT[], row_id)",
        [dataset.rows_path, list(row_ids)],
    )
    rows = read_records(table, CanonicalRow, ["source"])
    if missing := set(row_ids) - {row["row_id"] for row in rows}:
        raise NotFoundError(f"{dataset.name} has no row {min(missing)}; it has {dataset.row_count} rows.")
    return rows


@named_query
def skipped(
    db: Queryable, dataset: Dataset, *, limit: int = 20, offset: int = 0, from_line: int = 0
) -> list[SkippedRow]:
    """Return skipped rows of the source file, starting from a line."""
    sql = "SELECT * FROM read_parquet($1) WHERE line >= $4 ORDER BY line LIMIT $2 OFFSET $3"
    return read_records(db.query(sql, [dataset.skipped_path, limit, offset, from_line]), SkippedRow)


def get_split_fields(dataset: NewDataset) -> SplitFields:
    """Return the split settings of a data set as a document."""
    return {
        "split_seed": dataset.split_seed,
        "validation_size": dataset.validation_size,
        "test_size": dataset.test_size,
        "split_by": dataset.split_by,
        "split_column": dataset.split_column,
    }


def insert_dataset(tx: Transaction, dataset: NewDataset) -> None:
    """Record a data set. Raises ConfigError if the name is taken."""
    _check_name(tx, dataset.name, dataset.dataset_id)
    values = {
        name: to_json(value) if name in JSON_COLUMNS and value is not None else value
        for name, value in vars(dataset).items()
    }
    places = ", ".join(f"${name}" for name in values)
    tx.execute(f"INSERT INTO dataset ({', '.join(values)}) VALUES ({places})", values)


def rename_dataset(tx: Transaction, dataset: str, name: str) -> None:
    """Rename a data set (id or name). Raises NotFoundError, ConfigError (field name)."""
    present = get_dataset(tx, dataset)
    name = name.strip()
    if not 0 < len(name) <= 80:
        raise ConfigError(f"The name has {len(name)} characters; use 1 to 80.", field="name")
    _check_name(tx, name, present.dataset_id)
    tx.execute("UPDATE dataset SET name = ? WHERE dataset_id = ?", [name, present.dataset_id])


def set_split(tx: Transaction, dataset: str, split: Split) -> None:
    """Set the split of a data set for future runs; existing runs keep theirs."""
    present = get_dataset(tx, dataset)
    fields = split.model_dump()
    tx.execute(
        f"UPDATE dataset SET {', '.join(f'{name} = ?' for name in fields)} WHERE dataset_id = ?",
        [*fields.values(), present.dataset_id],
    )


def delete_dataset(tx: Transaction, dataset: str) -> str | None:
    """Delete a data set and return the fingerprint whose folder is no longer referenced, or None.

    The caller removes that folder once the transaction is committed. Raises StateError if a run, finished or
    not, uses the rows: without them its verdict can't be examined, nor the run repeated. Also raises
    StateError if a version was derived from this data set: the outcomes of its rows refer to texts stored
    only here, those of dropped rows above all.
    """
    present = get_dataset(tx, dataset)
    _check_unused(
        present,
        tx.query("SELECT name FROM run WHERE dataset_id = ? ORDER BY number", [present.dataset_id]),
        "is used by the run",
        "Delete the run first.",
    )
    _check_unused(
        present,
        tx.query("SELECT name FROM dataset WHERE parent_id = ? ORDER BY created_at", [present.dataset_id]),
        "is what a version was made from:",
        "Delete that version first.",
    )
    tx.execute("DELETE FROM dataset WHERE dataset_id = ?", [present.dataset_id])
    return None if is_named(tx, present.fingerprint) else str(present.fingerprint)


def _check_unused(dataset: Dataset, users: pa.Table, how: str, fix: str) -> None:
    """Raise StateError if the data set has users, given by name."""
    if len(users):
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        raise StateError(f"{dataset.name} {how} {users['name'][0].as_py()}{more}.", fix=fix)


def _read(db: Queryable, rest: str, params: list[str]) -> list[Dataset]:
    return read_records(db.query(f"{_SELECT} {rest}", params), Dataset, JSON_COLUMNS)


def _check_name(tx: Transaction, name: str, dataset_id: str) -> None:
    taken = tx.query("SELECT 1 FROM dataset WHERE name = ? AND dataset_id <> ?", [name, dataset_id])
    if len(taken):
        raise ConfigError(
            f"A data set named {name!r} already exists.", fix="Choose another name.", field="name"
        )


@named_query
def signals(db: Queryable, fingerprint: str) -> dict[str, SignalRow]:
    """Return the signal groups measured for these rows by group name."""
    table = db.query(
        "SELECT s.*, home.value || '/datasets/' || fingerprint || '/signals/' || s.name || '.parquet' AS path"
        " FROM signal s, (SELECT value FROM setting WHERE name = 'home') home WHERE fingerprint = ?",
        [fingerprint],
    )
    rows = read_records(table, SignalRow, ["options", "figures"])
    measured = {row.name: row for row in rows if row.name in GROUPS}
    for name, row in measured.items():
        row.outdated = row.version < GROUPS[name].version
    return measured


def list_current_signals(measured: Mapping[str, SignalRow]) -> dict[str, SignalRow]:
    """Return the signals that aren't outdated."""
    return {name: row for name, row in measured.items() if not row.outdated}


@named_query
def work_order(db: Queryable, config: Mapping[str, Any]) -> DataWork:
    """Return the data sets that a ProfileConfig, CleanConfig or ExportConfig refers to, as a worker needs
    them.

    Each comes with its measured signals. Raises NotFoundError, and ConfigError for any other config.
    """
    try:
        name, others = str(config["dataset"]), _list_other_datasets(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError("This config does not reference data sets.", field="config") from error
    dataset = get_dataset(db, name)
    parent = find_dataset(db, dataset.parent_id) if dataset.parent_id else None
    return {
        "dataset": _describe_for_worker(dataset, db),
        "parent": _describe_for_worker(parent, db) if parent else None,
        "mixed": {name: _describe_for_worker(get_dataset(db, name), db) for name in others},
    }


def _list_other_datasets(config: Mapping[str, Any]) -> list[str]:
    """Return the data sets that a recipe's steps add rows from, and those of the config's rows."""
    steps = config.get("recipe", {}).get("steps", [])
    mixed = [str(step["dataset"]) for step in steps if step["step"] in OF_OTHERS]
    return mixed + [str(rows["dataset"]) for rows in config.get("rows", []) if rows["source"] == "dataset"]


def _describe_for_worker(dataset: Dataset, db: Queryable) -> OrderDataset:
    measured = signals(db, dataset.fingerprint)
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "kind": dataset.kind,
        "format": dataset.format,
        "columns": dataset.columns,
        "fingerprint": dataset.fingerprint,
        "parent_id": dataset.parent_id,
        "row_count": dataset.row_count,
        **get_split_fields(dataset),
        "signals": {name: row.options for name, row in list_current_signals(measured).items()},
    }


def record_signals(tx: Transaction, fingerprint: str, name: str, result: ProfileResult, at: datetime) -> None:
    """Record an existing sidecar, replacing an older one."""
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
    """Delete the signals of rows that no data set uses any more."""
    tx.execute("DELETE FROM signal WHERE fingerprint = ?", [fingerprint])
