"""Rows of an Arrow table as plain dicts, JSON columns decoded: one place for all query modules."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import pyarrow as pa

from store.contract.calendar import spelled_out

Row = TypeVar("Row")


def records(table: pa.Table, _row_type: type[Row], json_columns: Iterable[str] = ()) -> list[Row]:
    """The rows of `table`, which its statement makes as `_row_type`, a TypedDict, says; a JSON column that is
    null stays None. Nothing checks a row against the type: the statement stands beside it.

    Raises KeyError for a JSON column that the table does not have.
    """
    rows: list[dict[str, Any]] = spelled_out(table).to_pylist()
    for column in json_columns:
        if column not in table.column_names:
            raise KeyError(column)
        for row in rows:
            if row[column] is not None:
                row[column] = json.loads(row[column])
    return cast(list[Row], rows)  # Arrow gives dicts of any kind; see above


def scalar(table: pa.Table) -> Any:
    """The one value of a table of one row and one column."""
    return spelled_out(table).column(0)[0].as_py()


def to_json(document: Any) -> str:
    """JSON that DuckDB accepts: NaN and infinities, which JSON lacks, become the strings that name them."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and value - value != 0:  # NaN or an infinity
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value
