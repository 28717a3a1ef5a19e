"""Exploring a data set: its columns, counting and paging filtered rows, its map, and SQL over the table
`rows`.

A column belongs to every data set (`store.data.filters.BASE`), to the file that the rows came from
(`source.NAME`), or is a measured signal. Only the files that a query needs are read. Sidecars have one row
per row of the data set in the same order, so they are joined by position (POSITIONAL JOIN) without reading
row ids; texts are joined by row id, because then two threads read them. User input reaches SQL as a parameter
or as a checked column name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from store.core.schemas import JsonObject
from store.data import datasets
from store.data.filters import SOURCE, Filter, build_column_sql, check_column, quote_identifier
from store.data.schemas import Dataset, SignalRow
from store.data.signals import GROUP_OF, GROUPS
from store.db.named_query import named_query, register_reference
from store.db.records import read_records, read_scalar

if TYPE_CHECKING:
    from store.db.database import Queryable


Type = Literal["number", "flag", "category", "group", "text"]
MeasuredColumn = Mapping[str, SignalRow]  # store.data.datasets.signals
JOINED = 2  # maximum sidecars joined to texts by row id; hashing more costs more than it saves
MATCHING = 20_000  # maximum rows found by a search for their ids to replace it
EXCERPT = 2_000  # maximum characters of a text in a page of rows


@dataclass(frozen=True)
class TableColumn:
    """Column of a data set's table.

    `title` and `means` (an explanation) are displayed. `type` text: too many distinct values to count.
    """

    name: str
    type: Type
    title: str
    unit: str = ""
    means: str = ""


def columns(
    dataset: Dataset, measured: MeasuredColumn, example: Mapping[str, object]
) -> dict[str, TableColumn]:
    """Return all columns of a data set by name. `example`: one row as it was in the file (`example_row`)."""
    listed = [TableColumn("row_id", "number", "Row"), TableColumn("line", "number", "Line in the file")]
    if dataset.kind == "text":
        listed += [TableColumn("text", "text", "Text")]
    else:
        listed += [TableColumn("prompt", "text", "Prompt"), TableColumn("answer", "text", "Answer")]
        listed += [TableColumn("text", "text", "Prompt and answer"), TableColumn("turns", "number", "Turns")]
    if dataset.stats.get("label_count"):
        listed.append(TableColumn("label", "category", "Label"))
    if dataset.kind == "preference":
        listed.append(TableColumn("rejected", "text", "Rejected answer"))
    for name in measured:
        for signal in GROUPS[name].signals:
            listed.append(TableColumn(signal.column, signal.type, signal.title, signal.unit, signal.means))
    used = [name for name in dataset.columns.values() if name in example or "." not in name]
    named = [*dict.fromkeys([*used, *example])]
    listed += [
        TableColumn(
            f"{SOURCE}{name}",
            "number" if type(example.get(name)) in (int, float) else "category",
            name,
            means="As in the file",
        )
        for name in named
    ]
    return {column.name: column for column in listed}


@dataclass(kw_only=True)
class _SourceRow:
    source: JsonObject | None


@named_query
def example_row(db: Queryable, dataset: Dataset) -> JsonObject:
    """Return the first row as it was in the file."""
    sql = "SELECT source FROM read_parquet($1) WHERE row_id = 0"
    rows = read_records(db.query(sql, [dataset.rows_path]), _SourceRow, ["source"])
    return (rows[0].source or {}) if rows else {}


@dataclass(frozen=True)
class DatasetTable:
    """A data set as SQL sees it: the files of its rows and of its measured signals."""

    dataset: Dataset
    measured: MeasuredColumn
    columns: Mapping[str, TableColumn]

    def relation(self, names: Iterable[str], shorten: int = 0) -> tuple[str, list[Any]]:
        """Return a SELECT of row_id and the named columns, with its parameters.

        Only the files that contain them are read. `shorten`: truncate texts to this many characters. Raises
        ConfigError.
        """
        wanted = list(dict.fromkeys(["row_id", *names]))
        for name in wanted:
            check_column(name, self.columns)
        groups = list(dict.fromkeys(GROUP_OF[name] for name in wanted if name in GROUP_OF))
        in_rows = [name for name in wanted if name not in GROUP_OF and name != "row_id"]
        files = [("r", self.dataset.rows_path)] if in_rows or not groups else []
        files += [(group, self.measured[group].path) for group in groups]
        selected = [f"{files[0][0]}.row_id AS row_id"]
        for name in wanted[1:]:
            sql = build_column_sql(name)
            if name.startswith(SOURCE) and self.columns[name].type == "number":
                sql = f"TRY_CAST({sql} AS DOUBLE)"
            if shorten and self.columns[name].type in ("text", "category"):
                sql = f"CASE WHEN strlen({sql}) > {shorten} THEN left({sql}, {shorten}) || '…' ELSE {sql} END"
            selected.append(f"{sql} AS {quote_identifier(name)}")
        read = [f"read_parquet(?) AS {alias}" for alias, _ in files]
        joined = " POSITIONAL JOIN ".join(read)
        if files[0][0] == "r" and len(groups) <= JOINED:
            joined = " JOIN ".join([read[0], *(f"{table} USING (row_id)" for table in read[1:])])
        return f"SELECT {', '.join(selected)} FROM {joined}", [path for _, path in files]

    def condition(self, where: Filter) -> tuple[str, list[Any]]:
        """Return the filter as SQL over `relation(self.needed(where))`. Raises ConfigError."""
        return where.where({name: column.type for name, column in self.columns.items()})

    def needed(self, where: Filter) -> list[str]:
        """Return the columns that the filter uses; an expression may use all of them."""
        if where.expression.strip():
            return list(self.columns)
        return [*sorted(where.columns()), *(["text"] if where.search or where.regex else [])]


def get_dataset_table(db: Queryable, dataset_id: str) -> DatasetTable:
    """Return a data set with all of its columns except outdated signals. Raises NotFoundError."""
    dataset = datasets.get_dataset(db, dataset_id)
    measured = datasets.list_current_signals(datasets.signals(db, dataset.fingerprint))
    return DatasetTable(dataset, measured, columns(dataset, measured, example_row(db, dataset)))


register_reference(DatasetTable, lambda table: table.dataset.dataset_id, get_dataset_table)


@dataclass(frozen=True)
class Sort:
    """Sort order of rows: by a column, missing values last, ties in file order."""

    column: str = "row_id"
    descending: bool = False

    @property
    def sql(self) -> str:
        """The expression after ORDER BY."""
        return f"{quote_identifier(self.column)} {'DESC' if self.descending else 'ASC'} NULLS LAST, row_id"


IN_ORDER = Sort()


@dataclass(frozen=True)
class TablePage:
    """Page of a table of rows: columns, sort order, limit and offset."""

    names: tuple[str, ...]
    sort: Sort = IN_ORDER
    limit: int = 20
    offset: int = 0


@named_query
def count(db: Queryable, rows: DatasetTable, where: Filter) -> int:
    """Return the number of rows that match the filter."""
    if (listed := _list_rows_sql(rows, where)) is not None:
        return len(listed)
    relation, files = rows.relation(rows.needed(where))
    condition, params = rows.condition(where)
    return int(
        read_scalar(db.query(f"SELECT count(*) FROM ({relation}) WHERE {condition}", [*files, *params]))
    )


@named_query
def row_ids(
    db: Queryable,
    rows: DatasetTable,
    where: Filter,
    sort: Sort = IN_ORDER,
    *,
    limit: int = 20,
    offset: int = 0,
) -> list[int]:
    """Return the ids of the rows that match the filter, sorted."""
    check_column(sort.column, rows.columns)
    if sort.column == "row_id" and (listed := _list_rows_sql(rows, where)) is not None:
        return list((listed[::-1] if sort.descending else listed)[offset : offset + limit])
    selection, params = _select_rows_sql(rows, where, sort.column)
    sql = f"SELECT row_id FROM ({selection}) ORDER BY {sort.sql} LIMIT ? OFFSET ?"
    ids: list[int] = db.query(sql, [*params, limit, offset]).column("row_id").to_pylist()
    return ids


@named_query
def find(
    db: Queryable, rows: DatasetTable, where: Filter, sort: Sort = IN_ORDER, *, limit: int = 20
) -> tuple[int, list[int]]:
    """Return `count` and the first `row_ids` in one pass over the rows: half the time when texts are
    searched.
    """
    check_column(sort.column, rows.columns)
    if (listed := _list_rows_sql(rows, where)) is not None:
        return len(listed), row_ids(db, rows, where, sort, limit=limit)
    selection, params = _select_rows_sql(rows, where, sort.column)
    sql = (
        f"WITH found AS MATERIALIZED ({selection})"
        " SELECT row_id, (SELECT count(*) FROM found) AS n FROM found"
        f" ORDER BY {sort.sql} LIMIT ?"
    )
    table = db.query(sql, [*params, limit])
    return (int(table["n"][0].as_py()) if table.num_rows else 0), table["row_id"].to_pylist()


@named_query
def matching(db: Queryable, rows: DatasetTable, search: str, regex: str) -> list[int] | None:
    """Return the ids of the rows that match a search or regular expression; None if more than `MATCHING`."""
    ids = row_ids(db, rows, Filter(search=search, regex=regex), limit=MATCHING + 1)
    return ids if len(ids) <= MATCHING else None


def narrow_filter(where: Filter, ids: Sequence[int]) -> Filter:
    """Replace the search in a filter with the rows it found, so that texts aren't read again."""
    if where.row_ids is not None:
        kept = set(where.row_ids)
        ids = [row_id for row_id in ids if row_id in kept]
    return where.model_copy(update={"search": "", "regex": "", "row_ids": list(ids)})


def _list_rows_sql(rows: DatasetTable, where: Filter) -> Sequence[int] | None:
    """Return the ids of the matching rows in file order if no column has to be read, else None."""
    end = int(rows.dataset.row_count)  # row ids start at 0
    if not where:
        return range(end)
    if where.row_ids is None or where != Filter(row_ids=where.row_ids):
        return None
    return sorted(row_id for row_id in set(where.row_ids) if 0 <= row_id < end)


def _select_rows_sql(rows: DatasetTable, where: Filter, order_by: str) -> tuple[str, list[Any]]:
    """Return a SELECT of row_id and the sort column of the rows that match the filter."""
    relation, files = rows.relation([order_by, *rows.needed(where)])
    condition, params = rows.condition(where)
    named = dict.fromkeys(["row_id", quote_identifier(order_by)]) if order_by != "row_id" else ["row_id"]
    return f"SELECT {', '.join(named)} FROM ({relation}) WHERE {condition}", [*files, *params]


@named_query
def page(db: Queryable, rows: DatasetTable, where: Filter, part: TablePage) -> list[JsonObject]:
    """Return a page of the rows that match the filter, with row_id and the named columns; long texts are
    truncated.
    """
    ids = row_ids(db, rows, where, part.sort, limit=part.limit, offset=part.offset)
    return values_of(db, rows, ids, part.names, shorten=EXCERPT)


@named_query
def values_of(
    db: Queryable, rows: DatasetTable, ids: Sequence[int], names: Sequence[str], *, shorten: int = 0
) -> list[JsonObject]:
    """Return these rows, in this order, with row_id and the named columns.

    Each file is queried separately, because then only the parts that contain these rows are read.
    """
    by_id: dict[int, JsonObject] = {row_id: {"row_id": row_id} for row_id in ids}
    files: dict[str, list[str]] = {}
    for name in names:
        if name != "row_id":
            files.setdefault(GROUP_OF.get(name, "rows"), []).append(name)
    listed = ", ".join(str(int(row_id)) for row_id in ids) or "NULL"
    for part in files.values():
        relation, paths = rows.relation(part, shorten)
        table = db.query(f"SELECT * FROM ({relation}) WHERE row_id IN ({listed})", paths)
        for row in read_records(table, JsonObject):
            by_id[row["row_id"]].update(row)
    return [by_id[row_id] for row_id in ids]


@named_query
def companions(
    db: Queryable, rows: DatasetTable, column: str, row_id: int, limit: int = 20
) -> tuple[int, list[int]]:
    """Return how many rows share this row's value of a group column, and the ids of the first ones."""
    relation, files = rows.relation([column])
    name = quote_identifier(column)
    sql = (
        f"WITH g AS ({relation}) SELECT row_id, count(*) OVER () AS n FROM g"
        f" WHERE {name} = (SELECT {name} FROM g WHERE row_id = ?) ORDER BY row_id LIMIT ?"
    )
    table = db.query(sql, [*files, row_id, limit])
    return (int(table["n"][0].as_py()) if table.num_rows else 0), table["row_id"].to_pylist()


def format_filter_json(where: Filter) -> str:
    """Return the filter as compact JSON, for links and cache keys; "" for every row."""
    document = where.model_dump(exclude_defaults=True)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True) if where else ""


# The table `rows` of a data set in user-written SQL has the file's columns under their own names, the columns
# of every data set, and the measured signals.
#
# The file's names take precedence: if it has a column `text` or `language`, that is what these names refer
# to, and Tunebench's own is `tunebench_text` (SQL names are case-insensitive). Only `row_id` is always the
# row id. The engine decides whether a statement may run (`store.db.sql_guard`).

# If all columns of a wide file would make a statement longer than this, it includes only those that occur in
# the user's text.
MAX_BYTES = 32 * 1024
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
_WORDS = """
all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
default deferrable desc describe distinct do else end except false fetch for foreign from grant group having
in initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer
pivot_wider placing primary qualify references returning select show some summarize symmetric table then to
trailing true union unique unpivot using variadic when where window with
"""
_RESERVED = frozenset(_WORDS.split())


def map_sql_columns(rows: DatasetTable) -> dict[str, str]:
    """Map SQL names to column names in `rows.columns`.

    Columns of the file come first, then those of every data set, then signals.
    """
    named = {"row_id": "row_id"}
    taken = {"row_id"}
    own = [name for name in rows.columns if name.startswith(SOURCE)]
    others = [name for name in rows.columns if not name.startswith(SOURCE) and name != "row_id"]
    for name in [*own, *others]:
        before = "file_" if name.startswith(SOURCE) else "tunebench_"
        free = name.removeprefix(SOURCE) or before
        while free.lower() in taken:
            free = f"{before}{free}"
        taken.add(free.lower())
        named[free] = name
    return named


def quote_if_needed(name: str) -> str:
    """Quote a column name for use in a statement if it needs quotes."""
    return name if _PLAIN.fullmatch(name) and name.lower() not in _RESERVED else quote_identifier(name)


def build_user_select(rows: DatasetTable, sql: str) -> tuple[str, list[Any]]:
    """Build one statement from a user's SELECT over `rows`, with its parameters."""
    named = map_sql_columns(rows)
    statement, files = _build_select(rows, sql, named)
    if len(statement.encode()) - len(sql.encode()) > MAX_BYTES:
        text = sql.lower()
        named = {name: column for name, column in named.items() if name.lower() in text}
        statement, files = _build_select(rows, sql, named)
    return statement, files


def _build_select(rows: DatasetTable, sql: str, named: dict[str, str]) -> tuple[str, list[Any]]:
    relation, files = rows.relation(named.values())
    taken = [
        f"{quote_identifier(column)} AS {quote_identifier(name)}"
        for name, column in named.items()
        if name != "row_id"
    ]
    selected = f"SELECT {', '.join(['row_id', *taken])} FROM ({relation})"
    return f"WITH rows AS ({selected})\nSELECT * FROM (\n{sql.strip().rstrip(';')}\n)", files


DRAWN_POINTS = 20_000  # number of points that a browser pans and zooms without delay
MAP_TEXT = 240  # characters of a row shown on hover
MAX_VALUES = 2_000  # maximum values to choose from; longer lists aren't usable


@named_query
def map_points(db: Queryable, rows: DatasetTable, text: str, column: str) -> pa.Table:
    """Return row_id, x, y, topic, text and value of at most `DRAWN_POINTS` rows, always the same ones.

    text: the column with a row's text. column: the column of the values. Raises ConfigError for an unknown
    column.
    """
    relation, files = rows.relation(["x", "y", "cluster", text, column], MAP_TEXT)
    sql = (
        f"SELECT row_id, x, y, cluster AS topic, {quote_identifier(text)} AS text,"
        f" {quote_identifier(column)} AS value"
        f" FROM ({relation}) ORDER BY hash(row_id), row_id LIMIT {DRAWN_POINTS}"
    )
    return db.query(sql, files)


@named_query
def map_values(db: Queryable, rows: DatasetTable, column: str) -> list[str]:
    """Return the values of a category, the most frequent first. Raises ConfigError for an unknown column."""
    relation, files = rows.relation([column])
    name = quote_identifier(column)
    sql = (
        f"SELECT {name}::VARCHAR AS value FROM ({relation}) WHERE {name} IS NOT NULL"
        f" GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {MAX_VALUES}"
    )
    listed: list[str] = db.query(sql, files)["value"].to_pylist()
    return listed


@named_query
def map_places(db: Queryable, rows: DatasetTable) -> pa.Table:
    """Return row_id, x and y of every row."""
    relation, files = rows.relation(["x", "y"])
    return db.query(f"SELECT row_id, x, y FROM ({relation})", files)
