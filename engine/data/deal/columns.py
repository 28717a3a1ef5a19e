"""A column of a data set, by the name that `store.config.data.filters` gives it, as numbers to deal by."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.deal.split_column import not_measured, unknown
from engine.rows.dataset import open_rows
from store.catalog.signals import GROUP_OF
from store.config.data.filters import BASE, SOURCE, column_sql
from store.contract.errors import ConfigError
from store.contract.home import Home


def read_column(home: Home, fingerprint: str, column: str) -> pa.Array:
    """The column as texts, null where a row has none, in the order of the rows.

    `column`: one of store.config.data.filters.BASE, `source.NAME`, or a signal that was measured. Raises
    ConfigError (field split_column) where the rows have no such column.
    """
    open_rows(home, fingerprint)  # says where they are gone
    if column in GROUP_OF:
        return _signal(home, fingerprint, column)
    if column not in BASE and not column.startswith(SOURCE):
        raise unknown(home.rows(fingerprint), column)
    with duckdb.connect(":memory:") as database:
        database.execute("SET threads = 2")
        sql = f"SELECT ({column_sql(column)})::VARCHAR AS v FROM read_parquet(?) r ORDER BY row_id"
        table = database.sql(sql, params=[str(home.rows(fingerprint))]).to_arrow_table()
        values = table["v"].combine_chunks().cast(pa.string())
    if values.null_count == len(values):
        raise unknown(home.rows(fingerprint), column)
    return values


def _signal(home: Home, fingerprint: str, column: str) -> pa.Array:
    path = home.signals(fingerprint, GROUP_OF[column])
    if not path.exists():
        raise not_measured(column)
    return pq.read_table(path, columns=[column])[column].combine_chunks().cast(pa.string())


def read_values(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """A number from 0 for each row, equal where the column is; -1 where a row has no value. int64."""
    codes = pc.dictionary_encode(read_column(home, fingerprint, column)).indices
    return np.asarray(pc.fill_null(codes, -1), dtype=np.int64)


def read_strata(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """As `read_values` in the order of the values' texts; rows without a value are a stratum of their own."""
    texts: np.ndarray = read_column(home, fingerprint, column).to_numpy(zero_copy_only=False).astype(object)
    missing = pd.isna(texts)
    names, codes = np.unique(texts[~missing].astype(str), return_inverse=True)
    strata = np.full(len(texts), len(names), dtype=np.int64)
    strata[~missing] = codes
    return strata


def read_times(home: Home, fingerprint: str, column: str) -> np.ndarray:
    """The column as times, float64: the numbers as they are where every row has one, else seconds since 1970
    of dates in ISO 8601 (a time without a zone counts as UTC). Raises ConfigError that names the first row
    which is neither."""
    texts = pd.Series(read_column(home, fingerprint, column).to_numpy(zero_copy_only=False), dtype=object)
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.notna().all() and np.isfinite(numbers).all():
        return numbers.to_numpy(dtype=np.float64)
    times = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        value: str = "nothing" if pd.isna(texts[row]) else repr(texts[row][:60])
        raise ConfigError(
            f"Row {row} has {value} in {column}, which is no time"
            f" ({int(times.isna().sum()):,} of {len(texts):,} rows have none).",
            fix="Give every row a date in ISO 8601 (2026-11-25T14:30) or a number, or split another way.",
            field="split_column",
        )
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
