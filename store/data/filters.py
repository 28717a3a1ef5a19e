"""Filters for the rows of a data set: a search, conditions on columns, an SQL expression, a list of rows.

The same model serves the tables on screen, slices, recipes and the command line. `where` builds SQL over the
columns it is given; user input goes into parameters, except for `expression`, which the caller must have
checked (`store.db.sql_guard` for /sql, `engine.data.cleaning.row_queries` in a worker).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from store.core.config import Config
from store.core.errors import ConfigError
from store.data.signals import GROUP_OF, GROUPS, SIGNALS

Op = Literal[
    "is", "is not", "<", "<=", ">", ">=", "between", "contains", "matches", "is empty", "is not empty"
]

# Columns of every data set, as SQL over rows.parquet (alias r).
BASE: dict[str, str] = {
    "row_id": "r.row_id",
    "line": "r.line",
    "text": "r.text",
    "label": "r.label",
    "rejected": "r.rejected",
    "turns": "coalesce(len(r.messages), 0)",
    "prompt": "CASE WHEN r.messages IS NULL THEN '' ELSE"
    " array_to_string(list_transform(r.messages[:-2], lambda m: m.content), chr(10) || chr(10)) END",
    "answer": "CASE WHEN r.messages IS NULL THEN r.text ELSE r.messages[-1].content END",
}
SOURCE = "source."  # prefix of columns of the file that the rows came from
COMPARISONS = {"is": "=", "is not": "IS DISTINCT FROM", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Condition(Config):
    """Comparison of a column with a value; `between` takes [low, high), `is` also a list of values."""

    column: str
    op: Op = "is"
    value: Any = None

    @model_validator(mode="after")
    def _value_fits(self) -> Condition:
        if self.op == "between" and not (isinstance(self.value, list | tuple) and len(self.value) == 2):
            raise ValueError("between takes a list of two values")
        if self.op not in ("is empty", "is not empty", "is", "is not") and self.value is None:
            raise ValueError(f"{self.op} needs a value")
        for value in self.value if isinstance(self.value, list | tuple) else [self.value]:
            if value is not None and not isinstance(value, str | int | float):
                raise ValueError(
                    f"a value of {self.column} is {type(value).__name__}, not text, a number, true or false;"
                    " put a date in quotes"
                )
            if isinstance(value, str) and not value.isascii():
                value.encode()  # rejects lone surrogates: UnicodeEncodeError is a ValueError
        return self


class Filter(Config):
    """Row filter whose parts must all match; an empty filter matches every row."""

    search: str = Field("", description="Text to find, ignoring case")
    regex: str = Field("", description="Regular expression (RE2), matched anywhere in the text")
    conditions: list[Condition] = Field(default_factory=list)
    expression: str = Field("", description="SQL condition on a row")
    row_ids: list[int] | None = None

    def columns(self) -> set[str]:
        """Return the columns that the conditions name; those in `expression` are not known here."""
        return {condition.column for condition in self.conditions}

    @property
    def written_sql(self) -> str:
        """The user-written SQL of the filter; it runs in a separate process (`store.db.named_query`)."""
        return self.expression.strip()

    def __bool__(self) -> bool:
        return bool(self.search or self.regex or self.conditions or self.expression.strip()) or (
            self.row_ids is not None
        )

    def where(self, columns: Collection[str]) -> tuple[str, list[Any]]:
        """Return an SQL condition with `?` parameters over a relation that has these columns by name.

        If `columns` is a mapping to their types (number, flag, category, group, text), values are checked
        against the types before any row is read. Raises ConfigError (field `filter`) for an unknown column or
        an invalid value.
        """
        parts: list[str] = ["true"]
        params: list[Any] = []
        if self.search:  # twice as fast as lower() on both sides, and as correct with accents
            parts.append("regexp_matches(text, regexp_escape(?), 'i')")
            params.append(self.search)
        if self.regex:
            parts.append("regexp_matches(text, ?)")
            params.append(self.regex)
        for condition in self.conditions:
            check_column(condition.column, columns)
            if isinstance(columns, Mapping):
                check_value(condition, columns[condition.column])
            sql, values = _build_condition_sql(condition)
            parts.append(sql)
            params += values
        if self.row_ids is not None:
            parts.append("row_id IN (SELECT unnest(?::BIGINT[]))")  # a hash join: a selection may be long
            params.append(self.row_ids)
        if self.expression.strip():
            parts.append(f"({self.expression}\n)")
        return " AND ".join(parts), params


def quote_identifier(column: str) -> str:
    """Quote a column name as an SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def build_column_sql(column: str) -> str:
    """Return the SQL of a column over rows.parquet as `r` and sidecars under their group names."""
    if column in BASE:
        return BASE[column]
    if column.startswith(SOURCE):
        # A JSON pointer can address every key, including the empty one and those with dots, quotes or dollar
        # signs.
        key = column.removeprefix(SOURCE).replace("~", "~0").replace("/", "~1")
        return f"json_extract_string(r.source, '/{key.replace(chr(39), chr(39) * 2)}')"
    return f"{GROUP_OF[column]}.{quote_identifier(column)}"


def check_column(column: str, columns: Collection[str]) -> None:
    """Raise ConfigError if the data set has no such column, or has not measured it yet."""
    if column in columns:
        return
    if column in GROUP_OF:
        title = GROUPS[GROUP_OF[column]].title
        raise ConfigError(
            f"{column} has not been measured for this data set yet.",
            fix=f"Measure the group {title} first.",
            field="filter",
        )
    raise ConfigError(
        f"There is no column {column!r}.", fix=f"It has {', '.join(sorted(columns)[:30])}.", field="filter"
    )


def check_value(condition: Condition, kind: str) -> None:
    """Raise ConfigError if a column of this type can't have the value it is compared with."""
    if condition.op in ("is empty", "is not empty", "contains", "matches"):
        return
    values = condition.value if isinstance(condition.value, list | tuple) else [condition.value]
    for value in values:
        if value is None and condition.op in ("is", "is not"):
            continue
        if kind in ("number", "group") and not _is_number(value):
            _refuse(condition, value, "Its values are numbers.")
        if kind == "flag" and not isinstance(value, bool):
            _refuse(condition, value, "Its values are true and false.")
        if isinstance(value, dict | list | tuple):
            _refuse(condition, value, "Give one plain value.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse(condition: Condition, value: Any, fix: str) -> None:
    raise ConfigError(f"{condition.column} can't be compared with {value!r}.", fix=fix, field="filter")


def _build_condition_sql(condition: Condition) -> tuple[str, list[Any]]:
    name, value = quote_identifier(condition.column), condition.value
    values = value if isinstance(value, list | tuple) else [value]
    if condition.column.startswith(SOURCE) and values and all(map(_is_number, values)):
        name = f"TRY_CAST({name} AS DOUBLE)"  # columns of the file are read as text
    match condition.op:
        case "is empty":
            return _build_empty_sql(condition.column, name), []
        case "is not empty":
            return f"NOT {_build_empty_sql(condition.column, name)}", []
        case "between":
            return f"({name} >= ? AND {name} < ?)", list(value)
        case "contains":
            return f"regexp_matches({name}::VARCHAR, regexp_escape(?), 'i')", [str(value)]
        case "matches":
            return f"regexp_matches({name}::VARCHAR, ?)", [str(value)]
        case "is" if isinstance(value, list | tuple):
            return f"list_contains(?::VARCHAR[], {name}::VARCHAR)", [[_cast_to_text(v) for v in value]]
        case "is not" if isinstance(value, list | tuple):
            listed = f"list_contains(?::VARCHAR[], {name}::VARCHAR)"
            return f"NOT coalesce({listed}, false)", [[_cast_to_text(v) for v in value]]
        case "is" | "is not" if value is None:
            return f"{name} IS {'NOT ' if condition.op == 'is not' else ''}NULL", []
        case op:
            return f"{name} {COMPARISONS[op]} ?", [value]


def _build_empty_sql(column: str, name: str) -> str:
    """Return the SQL test for an empty value: null, no text, 0 or false. Group 0 is an id and not empty."""
    if column in SIGNALS and SIGNALS[column].type == "group":
        return f"({name} IS NULL)"
    return f"(coalesce({name}::VARCHAR, '') IN ('', '0', '0.0', 'false'))"


def _cast_to_text(value: Any) -> str:
    """Convert a value to text as DuckDB's cast to VARCHAR does."""
    return str(value).lower() if isinstance(value, bool) else str(value)
