"""The columns of an export beside what is trained on: the row's number, its part, and those of its file.

A column of the file from which nothing was read keeps its name, so that an id or a date goes on with its row;
where the name is one of the form's own it becomes source.NAME. In tables a column has one type: whole
numbers, numbers or flags where all of its values are, else text, JSON where a value is no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.deal.split import PARTS

OWN = ("row_id", "split")
FORMS = (  # what the forms of an export call their own
    *(
        "messages",
        "conversations",
        "prompt",
        "completion",
        "system",
        "instruction",
        "input",
        "output",
        "text",
    ),
    *("label", "chosen", "rejected", "tools", "choices", "answer_index"),
)
TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
Document = dict[str, Any]


@dataclass
class Columns:
    """codes: uint8 of each row of the version, its part; empty: no split is told. used: columns of the file
    that are in the rows already. `names`: file's column -> exported column, as `see` met them."""

    codes: np.ndarray
    used: frozenset[str]
    names: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, set[type]] = field(default_factory=dict)

    def see(self, batch: pa.RecordBatch) -> None:
        """Learn the columns of these rows and what they hold."""
        for row in map(json.loads, batch["source"].to_pylist()):
            for name, value in row.items():
                if name not in self.used:
                    self.names.setdefault(name, f"source.{name}" if name in (*OWN, *FORMS) else name)
                    self.kinds.setdefault(name, set()).add(type(value))

    def of(self, batch: pa.RecordBatch) -> Iterator[Document]:
        """Of each row its number, its part and the columns of its file; a column that it lacks is None."""
        for row_id, source in zip(batch["row_id"].to_pylist(), batch["source"].to_pylist(), strict=True):
            row = json.loads(source)
            part = {"split": PARTS[self.codes[row_id]]} if len(self.codes) else {}
            columns = {exported: row.get(name) for name, exported in self.names.items()}
            yield {"row_id": row_id, **part, **columns}

    def fields(self) -> list[pa.Field]:
        """The columns of a table."""
        own = [pa.field("row_id", pa.int64()), *([pa.field("split", pa.string())] if len(self.codes) else [])]
        return own + [pa.field(exported, self._type(name)) for name, exported in self.names.items()]

    def _type(self, name: str) -> pa.DataType:
        kinds = self.kinds[name] - {type(None)}
        if kinds == {int, float}:
            return pa.float64()
        return TYPES.get(next(iter(kinds)), pa.string()) if len(kinds) == 1 else pa.string()


def used_columns(columns: Mapping[str, Any]) -> frozenset[str]:
    """The columns of the file that a mapping reads: {role: column or columns}."""
    named = [value if isinstance(value, list | tuple) else [value] for value in columns.values()]
    return frozenset(name for some in named for name in some if isinstance(name, str))


def cell(value: Any, type: pa.DataType) -> Any:
    """A value as a column of that type holds it."""
    if value is None or not pa.types.is_string(type) or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def typed(rows: Iterable[Document], fields: list[pa.Field]) -> list[pa.Array]:
    """The columns of a table; a whole number too large for 64 bits is a number."""
    listed = list(rows)
    return [pa.array([cell(row.get(f.name), f.type) for row in listed], f.type) for f in fields]
