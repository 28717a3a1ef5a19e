"""Whether a data set has the column that its rows are to be split by, asked before a split is kept.

Without it the first to find out would be a launch. pandas and numpy stay out: the engine asks as well.
"""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from store.catalog.signals import GROUP_OF, GROUPS
from store.config.data.filters import BASE, SOURCE, column_sql
from store.config.training.train_config import Split
from store.contract.errors import ConfigError


def check_split_column(folder: Path, split: Split) -> None:
    """Raise ConfigError (field split_column) unless some row of the data set in `folder` has a value in the
    column of the split. A split that is stratified goes by label where it names none."""
    if split.split_by == "given":
        check_given(folder / "rows.parquet")
    column = split.split_column or ("label" if split.split_by == "stratified" else None)
    if column is None:
        return
    rows = folder / "rows.parquet"
    if column in GROUP_OF:
        if not (folder / "signals" / f"{GROUP_OF[column]}.parquet").exists():
            raise not_measured(column)
    elif column not in BASE and not column.startswith(SOURCE):
        raise unknown(rows, column)
    else:
        with duckdb.connect(":memory:") as database:
            database.execute("SET threads = 2")
            sql = f"SELECT 1 FROM read_parquet(?) r WHERE ({column_sql(column)}) IS NOT NULL LIMIT 1"
            if database.execute(sql, [str(rows)]).fetchone() is None:
                raise unknown(rows, column)


def check_given(rows: Path) -> None:
    """Raise ConfigError (field split_by) unless some row says which part it is in."""
    file = pq.ParquetFile(rows)
    if "part" in file.schema_arrow.names:
        for batch in file.iter_batches(columns=["part"]):
            if batch["part"].null_count < batch.num_rows:
                return
    raise ConfigError(
        "The file did not say which part a row is in.",
        fix="Import it again with the column that says so, or split another way.",
        field="split_by",
    )


def unknown(rows: Path, column: str) -> ConfigError:
    """No row has the column: which ones there are."""
    head = next(pq.ParquetFile(rows).iter_batches(batch_size=1, columns=["source", "label"]))
    names = [SOURCE + name for name in json.loads(head["source"][0].as_py())]
    names = [*(["label"] if head["label"][0].is_valid else []), *names]
    return ConfigError(
        f"No row has a column {column!r} to split by.",
        fix=f"The first row has {', '.join(names[:30])}.",
        field="split_column",
    )


def not_measured(column: str) -> ConfigError:
    """A signal that may come to be a column."""
    return ConfigError(
        f"{column} was not measured for this data set yet.",
        fix=f"Measure the group {GROUPS[GROUP_OF[column]].title} first.",
        field="split_column",
    )
