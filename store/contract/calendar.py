"""Times that Python has no value for: years before 1 and after 9999, zones that this machine doesn't know.

Parquet and DuckDB hold them, and a file may be full of them. They are spelled as text, column by column, and
every other column stays what it is.
"""

from __future__ import annotations

from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

T = TypeVar("T", pa.Table, pa.RecordBatch)
# What pyarrow raises for them: of the year, of the number of days, of the zone.
NO_VALUE = (ArithmeticError, ValueError, LookupError, pa.ArrowException)


def spelled_out(rows: T) -> T:
    """`rows` with those columns as text that hold a time which Python has no value for."""
    for place, field in enumerate(rows.schema):
        if _holds_times(field.type) and not _has_values(rows.column(place)):
            text = _text(rows.column(place))
            rows = rows.set_column(place, field.name, text)
    return rows


def _holds_times(kind: pa.DataType) -> bool:
    if pa.types.is_interval(kind):  # has a value of its own, and no order
        return False
    return pa.types.is_temporal(kind) or any(_holds_times(kind.field(i).type) for i in range(kind.num_fields))


def _has_values(column: Any) -> bool:
    try:
        if pa.types.is_nested(column.type):
            column.to_pylist()
        else:
            pc.min_max(column).as_py()
    except NO_VALUE:
        return False
    return True


def _text(column: Any) -> Any:
    """The column with its times as text, first in UTC: Arrow spells far ones with a zone wrongly."""
    return column.cast(_changed(column.type, None)).cast(_changed(column.type, pa.string()))


def _changed(kind: pa.DataType, text: pa.DataType | None) -> pa.DataType:
    """The type with all its times as `text`, or without their zones where that is None."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_changed(field.type, text)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_changed(kind.value_type, text)))
    if pa.types.is_map(kind):
        return pa.map_(_changed(kind.key_type, text), _changed(kind.item_type, text))
    if pa.types.is_temporal(kind):
        if text is not None:
            return text
        return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind
    return kind
