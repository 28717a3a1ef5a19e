"""What is known of data sets beyond their rows: sidecars of signals, saved recipes, named slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.catalog.signals import GROUPS
from store.config.filters import Filter
from store.config.recipe import Recipe
from store.config.train_config import Split
from store.contract.errors import ConfigError, NotFoundError
from store.db.records import records, to_json
from store.queries.data import datasets

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


def signals(db: Queryable, fingerprint: str) -> dict[str, dict[str, Any]]:
    """The groups that were measured for these rows, by name: the rows of table `signal`, with `path` (of the
    sidecar) and `outdated` (measured by an older version of the group)."""
    table = db.query(
        "SELECT s.*, home.value || '/datasets/' || fingerprint || '/signals/' || s.name || '.parquet' AS path"
        " FROM signal s, (SELECT value FROM setting WHERE name = 'home') home WHERE fingerprint = ?",
        [fingerprint],
    )
    found = {row["name"]: row for row in records(table, ["options", "figures"]) if row["name"] in GROUPS}
    for name, row in found.items():
        row["outdated"] = row["version"] < GROUPS[name].version
    return found


def work_order(db: Queryable, config: dict[str, Any]) -> dict[str, Any]:
    """What a worker is told of the data that a ProfileConfig, CleanConfig or ExportConfig names: `dataset`,
    `parent` (or None) and `mixed` (name in the recipe -> data set), each with what was measured of it."""
    dataset = _for_worker(datasets.get_dataset(db, config["dataset"]), db)
    parent = dataset["parent_id"] and datasets.find_dataset(db, dataset["parent_id"])
    steps = config.get("recipe", {}).get("steps", [])
    names = [step["dataset"] for step in steps if step["step"] == "mix"]
    return {
        "dataset": dataset,
        "parent": _for_worker(parent, db) if parent else None,
        "mixed": {name: _for_worker(datasets.get_dataset(db, name), db) for name in names},
    }


def _for_worker(dataset: dict[str, Any], db: Queryable) -> dict[str, Any]:
    fields = ("dataset_id", "name", "kind", "format", "columns", "fingerprint", "parent_id", "row_count")
    measured = signals(db, dataset["fingerprint"])
    return {key: dataset[key] for key in (*fields, *Split.model_fields)} | {
        "signals": {name: row["options"] for name, row in measured.items() if not row["outdated"]}
    }


def record_signals(tx: Transaction, fingerprint: str, name: str, measured: dict[str, Any], at: Any) -> None:
    """Note a sidecar that is there, in place of an older one. `measured`: options, row_count, reused_count,
    figures, seconds."""
    tx.execute(
        "INSERT OR REPLACE INTO signal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            fingerprint,
            name,
            GROUPS[name].version,
            to_json(measured["options"]),
            measured["row_count"],
            measured["reused_count"],
            to_json(measured["figures"]),
            measured["seconds"],
            at,
        ],
    )


def forget_signals(tx: Transaction, fingerprint: str) -> None:
    """Of rows that no data set has any more."""
    tx.execute("DELETE FROM signal WHERE fingerprint = ?", [fingerprint])


def recipes(db: Queryable) -> list[dict[str, Any]]:
    """Saved recipes by name: recipe_id, name, steps, created_at."""
    return records(db.query("SELECT * FROM recipe ORDER BY name"), ["steps"])


def save_recipe(tx: Transaction, recipe_id: str, name: str, recipe: Recipe, at: Any) -> None:
    """Keep a recipe under a name; one of the same name is replaced. Raises ConfigError (field name)."""
    if not name.strip():
        raise ConfigError("A recipe needs a name.", field="name")
    tx.execute("DELETE FROM recipe WHERE name = ?", [name.strip()])
    tx.execute(
        "INSERT INTO recipe VALUES (?, ?, ?, ?)",
        [recipe_id, name.strip(), to_json(recipe.model_dump()["steps"]), at],
    )


def delete_recipe(tx: Transaction, name: str) -> None:
    """Forget a saved recipe. Raises NotFoundError."""
    if not tx.execute("DELETE FROM recipe WHERE name = ?", [name]):
        raise NotFoundError(f"There is no recipe {name!r}.", field="name")


def slices(db: Queryable, dataset_id: str) -> list[dict[str, Any]]:
    """Named slices of a data set: name, filter (a Filter's document), created_at."""
    sql = "SELECT name, filter, created_at FROM slice WHERE dataset_id = ? ORDER BY name"
    return records(db.query(sql, [dataset_id]), ["filter"])


def save_slice(tx: Transaction, dataset_id: str, name: str, where: Filter, at: Any) -> None:
    """Name the rows that a filter means, in place of a slice of that name. Raises ConfigError (name)."""
    if not name.strip():
        raise ConfigError("A slice needs a name.", field="name")
    tx.execute(
        "INSERT OR REPLACE INTO slice VALUES (?, ?, ?, ?)",
        [dataset_id, name.strip(), to_json(where.model_dump()), at],
    )


def delete_slice(tx: Transaction, dataset_id: str, name: str) -> None:
    """Forget a slice. Raises NotFoundError."""
    if not tx.execute("DELETE FROM slice WHERE dataset_id = ? AND name = ?", [dataset_id, name]):
        raise NotFoundError(f"There is no slice {name!r}.", field="name")
