"""Values in table cells: times that Python can't represent, and CSV in which no cell becomes a formula."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

# Times that Python can't represent: years before 1 and after 9999, and time zones unknown to this machine.
#
# Parquet and DuckDB support them, and a file may be full of them. They are converted to text by column; all
# other columns are unchanged.

T = TypeVar("T", pa.Table, pa.RecordBatch)
# Raised by pyarrow for such a year, number of days, or time zone.
NO_VALUE = (ArithmeticError, ValueError, LookupError, pa.ArrowException)


def convert_times_to_text(rows: T) -> T:
    """Return `rows` with each column that contains a timestamp which Python can't represent converted to
    text.
    """
    for place, field in enumerate(rows.schema):
        if _has_times(field.type) and not _has_values(rows.column(place)):
            text = _format_times(rows.column(place))
            rows = rows.set_column(place, field.name, text)
    return rows


def _has_times(kind: pa.DataType) -> bool:
    if pa.types.is_interval(kind):  # has its own Python type, and no order
        return False
    return pa.types.is_temporal(kind) or any(_has_times(kind.field(i).type) for i in range(kind.num_fields))


def _has_values(column: Any) -> bool:
    try:
        if pa.types.is_nested(column.type):
            column.to_pylist()
        else:
            pc.min_max(column).as_py()
    except NO_VALUE:
        return False
    return True


def _format_times(column: Any) -> Any:
    """Convert times in a column to text, after converting to UTC, since Arrow formats distant times with a
    time zone incorrectly.
    """
    return column.cast(_replace_time_types(column.type, None)).cast(
        _replace_time_types(column.type, pa.string())
    )


def _replace_time_types(kind: pa.DataType, text: pa.DataType | None) -> pa.DataType:
    """Return the type with all its temporal types replaced by `text`, or, if that is None, without time
    zones.
    """
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_replace_time_types(field.type, text)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_replace_time_types(kind.value_type, text)))
    if pa.types.is_map(kind):
        return pa.map_(_replace_time_types(kind.key_type, text), _replace_time_types(kind.item_type, text))
    if pa.types.is_temporal(kind):
        if text is not None:
            return text
        return pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else kind
    return kind


# CSV that is safe in spreadsheets: no cell and no column name becomes a formula.
#
# A text that a spreadsheet would interpret as a formula is prefixed with an apostrophe, except for numbers.
# So is a text with leading apostrophes before a formula, so that the prefix can be removed again, as an
# import does with an exported file of rows.

_SIGNS = r"[=+\-@\t\r\n＝＋－＠]"
_is_formula = re.compile(f"'*{_SIGNS}").match
_is_number = re.compile(r"[-+]?[0-9.,]+(e[-+]?[0-9]+)?%?", re.IGNORECASE).fullmatch
_is_guarded = re.compile(f"'+{_SIGNS}").match


def escape_cell(text: str) -> str:
    """Escape a text for a CSV cell."""
    return f"'{text}" if _is_formula(text) and not _is_number(text) else text


def unescape_cell(cell: str) -> str:
    """Undo `escape_cell`."""
    return cell[1:] if _is_guarded(cell) else cell


def write_csv(table: pa.Table, out: Any) -> None:
    """Write a table to a binary file as CSV; lists and structs as JSON, decimals with all digits."""
    table = convert_times_to_text(table)
    for place, field in enumerate(table.schema):
        table = table.set_column(place, escape_cell(field.name), _convert_cells(table.column(place)))
    pyarrow.csv.write_csv(table, out)


def _convert_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_decimal(kind):
        write = str if pa.types.is_decimal(kind) else _format_json
        texts = [None if value is None else write(value) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    elif pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    texts = [None if value is None else escape_cell(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, column.type)])


def _format_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # times and bytes inside as text
