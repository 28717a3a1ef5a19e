"""CSV that a spreadsheet opens as what it is: no cell, and no name of a column, becomes a formula there.

A text that a spreadsheet would take for a formula gets an apostrophe before it, numbers apart. A text that
begins with apostrophes and then as a formula gets one too, so that the first can be taken away again: an
import does so with a file that an export of rows has written.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pyarrow.csv

from store.contract.calendar import spelled_out

_SIGNS = r"[=+\-@\t\r\n＝＋－＠]"
_is_formula = re.compile(f"'*{_SIGNS}").match
_is_number = re.compile(r"[-+]?[0-9.,]+(e[-+]?[0-9]+)?%?", re.IGNORECASE).fullmatch
_is_guarded = re.compile(f"'+{_SIGNS}").match


def guarded(text: str) -> str:
    """The text as a cell."""
    return f"'{text}" if _is_formula(text) and not _is_number(text) else text


def unguarded(cell: str) -> str:
    """The text of a cell that was `guarded`."""
    return cell[1:] if _is_guarded(cell) else cell


def write_csv(table: pa.Table, out: Any) -> None:
    """Write a table to a binary file; lists and structs are JSON, and decimals their digits."""
    table = spelled_out(table)
    for place, field in enumerate(table.schema):
        table = table.set_column(place, guarded(field.name), _cells(table.column(place)))
    pyarrow.csv.write_csv(table, out)


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_decimal(kind):
        write = str if pa.types.is_decimal(kind) else _json
        texts = [None if value is None else write(value) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    elif pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    texts = [None if value is None else guarded(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, column.type)])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # times and bytes within are their text
