"""The table of runs: a window of the runs that match, with any columns, sorted by any of them.

One statement reads the window and counts what matches. What a column is comes from `run_columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from store.core.errors import ConfigError
from store.data.filters import Condition, Filter, quote_identifier
from store.db.named_query import named_query
from store.runs.run_columns import ColumnSource, find_column_source

if TYPE_CHECKING:
    from store.db.database import Queryable

MAX_ROWS, MAX_COLUMNS, MAX_CONDITIONS = 1_000, 60, 20
NEWEST = "created_at"
IDENTITY = ("run_id", "number", "archived", "progress_done", "progress_total")
ALWAYS = ("name", "status")  # columns that are read whether or not they are asked for
ENDS = ("low", "high", "n")  # of an estimate, beside its value
SEARCHED = "r.name, r.notes, r.dataset_name, r.model, r.method, r.run_id, array_to_string(r.tags, ' ')"
NUMBERS = ("number", "estimate")  # kinds of columns that are compared with numbers
TAG_OPERATIONS = ("is", "is not", "is empty", "is not empty")


@named_query
def run_table(
    db: Queryable,
    columns: Sequence[str],
    *,
    search: str = "",
    conditions: Sequence[Condition] = (),
    archived: bool = False,
    created_by: str = "",
    sort: str = NEWEST,
    descending: bool = True,
    limit: int = 200,
    offset: int = 0,
) -> pa.Table:
    """Return runs `offset` to `offset + limit` of those that match, sorted; runs without a value come last.

    Columns: those of IDENTITY and ALWAYS, each of `columns` by its name, and of an estimate also NAME.low,
    NAME.high and NAME.n (null without an interval). The metadata of the schema counts the runs that match
    (`matching`), all that are not archived (`total`) and those that are (`archived`). archived: whether
    archived runs are listed too; created_by: only runs launched by this person.

    Raises ConfigError for an unknown column, a condition that can't be, and numbers out of range.
    """
    _check(columns, conditions, limit, offset)
    displayed = list(dict.fromkeys([*ALWAYS, *columns]))
    read = dict.fromkeys([*displayed, *(condition.column for condition in conditions), sort, NEWEST])
    sources = {name: find_column_source(name, f"j{place}") for place, name in enumerate(read)}
    where, values = _build_where(search, conditions, sources)
    identity = ", ".join(f"r.{name}" for name in IDENTITY)
    parts, selected = _select_values(sources)
    named = ", ".join(_name_parts(place, *item) for place, item in enumerate(sources.items()))
    wanted = ", ".join(part for name in displayed for part in _list_names(name, sources[name]))
    order = (
        f"{quote_identifier(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, {NEWEST} DESC, run_id DESC"
    )
    table = db.query(
        f"""
        WITH source AS (
            SELECT {identity}, r.created_by AS launched_by, concat_ws(' ', {SEARCHED}) AS text, {selected}
            FROM (SELECT *, {parts} FROM run_overview) r {" ".join(s.join for s in sources.values())}
        ), listed AS (SELECT {", ".join(IDENTITY)}, launched_by, text, {named} FROM source),
        matched AS MATERIALIZED (
            SELECT * FROM listed
            WHERE {where} AND (NOT archived OR ?) AND (? = '' OR launched_by IS NOT DISTINCT FROM ?)
        ),
        page AS (
            SELECT {", ".join(IDENTITY)}, {wanted}, row_number() OVER (ORDER BY {order}) AS place FROM matched
            ORDER BY place LIMIT ? OFFSET ?
        )
        SELECT * FROM (SELECT count(*) AS matching FROM matched),
            (SELECT count(*) FILTER (NOT archived) AS total, count(*) FILTER (archived) AS hidden FROM run)
            LEFT JOIN page ON true ORDER BY place
        """,
        [
            *(value for source in sources.values() for value in source.params),
            *(*values, archived, created_by, created_by, limit, offset),
        ],
    )
    return _move_counts_to_metadata(table)


def _check(columns: Sequence[str], conditions: Sequence[Condition], limit: int, offset: int) -> None:
    for field, number, largest in (("columns", len(columns), MAX_COLUMNS), ("limit", limit, MAX_ROWS)):
        if not 0 <= number <= largest:
            raise ConfigError(f"{field} is {number}: at most {largest:,}.", field=field)
    if len(conditions) > MAX_CONDITIONS:
        raise ConfigError(
            f"{len(conditions)} conditions: at most {MAX_CONDITIONS}.",
            fix="Remove some of them, or search instead.",
            field="conditions",
        )
    if not 0 <= offset < 2**31:
        raise ConfigError(f"offset is {offset}: give the place of a run.", field="offset")


def _select_values(sources: Mapping[str, ColumnSource]) -> tuple[str, str]:
    """Return the SQL of the parts of documents and of the columns; each document is parsed once."""
    paths: dict[str, list[str]] = {}
    for source in sources.values():
        if source.document:
            paths.setdefault(source.document, []).append(source.path)
    parts = [f"json_extract({document}, {listed}) AS {document}_parts" for document, listed in paths.items()]
    values = []
    for place, source in enumerate(sources.values()):
        part = ""
        if source.document:
            part = f"r.{source.document}_parts[{paths[source.document].index(source.path) + 1}]"
        values.append(f"{source.value.replace('{part}', part)} AS c{place}")
    return ", ".join(parts) or "1 AS parts", ", ".join(values)


def _name_parts(place: int, name: str, source: ColumnSource) -> str:
    """Return the SQL that names a column of the statement, and the parts of an estimate."""
    if source.kind != "estimate":
        return f"c{place} AS {quote_identifier(name)}"
    parts = {"value": name} | {end: f"{name}.{end}" for end in ENDS}
    return ", ".join(
        f"TRY_CAST(c{place} ->> '$.{part}' AS {'BIGINT' if part == 'n' else 'DOUBLE'}) AS"
        f" {quote_identifier(called)}"
        for part, called in parts.items()
    )


def _list_names(name: str, source: ColumnSource) -> list[str]:
    parts = [f"{name}.{end}" for end in ENDS] if source.kind == "estimate" else []
    return [quote_identifier(part) for part in (name, *parts)]


def _build_where(
    search: str, conditions: Sequence[Condition], sources: Mapping[str, ColumnSource]
) -> tuple[str, list[Any]]:
    parts, values = ["true"], list[Any]()
    plain = []
    for condition in conditions:
        kind = sources[condition.column].kind
        if kind == "tags":
            part, value = _build_tag_condition(condition)
            parts.append(part)
            values += value
            continue
        if kind == "time":
            _check_times(condition)
        plain.append(condition)
    kinds = {name: "number" if source.kind in NUMBERS else "text" for name, source in sources.items()}
    where, params = Filter(search=search, conditions=plain).where(kinds)
    return " AND ".join([*parts, where]), [*values, *params]


def _build_tag_condition(condition: Condition) -> tuple[str, list[Any]]:
    if condition.op not in TAG_OPERATIONS:
        raise ConfigError(
            f"tags can't be compared by {condition.op!r}.",
            fix=f"Use one of {', '.join(TAG_OPERATIONS)}.",
            field="conditions",
        )
    if condition.op.endswith("empty"):
        return f"len(tags) {'>' if condition.op == 'is not empty' else '='} 0", []
    tags = condition.value if isinstance(condition.value, list | tuple) else [condition.value]
    part = "list_has_any(tags, ?::VARCHAR[])"
    return f"NOT {part}" if condition.op == "is not" else part, [[str(tag) for tag in tags]]


def _check_times(condition: Condition) -> None:
    values = condition.value if isinstance(condition.value, list | tuple) else [condition.value]
    for value in values if condition.op not in ("is empty", "is not empty") else []:
        try:
            datetime.fromisoformat(str(value))
        except ValueError:
            raise ConfigError(
                f"{condition.column} can't be compared with {value!r}.",
                fix="Give a date such as 2026-11-30.",
                field="conditions",
            ) from None


def _move_counts_to_metadata(table: pa.Table) -> pa.Table:
    """Drop what the statement counted, and the row without a run of a table that is empty."""
    counts = {name: str(table[name][0].as_py()) for name in ("matching", "total")}
    counts["archived"] = str(table["hidden"][0].as_py())
    rows = table.filter(table["place"].is_valid()).drop_columns(["matching", "total", "hidden", "place"])
    return rows.replace_schema_metadata(counts)
