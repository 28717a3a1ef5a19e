"""Looking into a data set: its columns, the rows that a filter means, counted and paged, its map, and the
table `rows` as SQL that people write sees it.
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

# Looking into a data set: its columns, and the rows that a filter means, counted and paged.
#
# A column is one of every data set (`store.data.filters.BASE`), one of the file that the rows came from
# (`source.NAME`), or a signal that was measured. Only the files that a question needs are read. Sidecars hold
# a row for every row of the data set in the same order, so they are laid side by side (POSITIONAL JOIN)
# without a look at row numbers; texts are joined by row number, because then two threads read them. What a
# user typed reaches SQL as a parameter or as a checked column name.

Type = Literal["number", "flag", "category", "group", "text"]
MeasuredColumn = Mapping[str, SignalRow]  # store.data.datasets.signals
JOINED = 2  # sidecars that are joined to texts by row number; hashing more costs more than it saves
MATCHING = 20_000  # rows that a search may find for their numbers to stand in its place
EXCERPT = 2_000  # characters of a long text in a page of rows


@dataclass(frozen=True)
class TableColumn:
    """`title` for people, `means` for their questions. `type` text: too many values to count."""

    name: str
    type: Type
    title: str
    unit: str = ""
    means: str = ""


def columns(
    dataset: Dataset, measured: MeasuredColumn, example: Mapping[str, object]
) -> dict[str, TableColumn]:
    """Every column of a data set by name. `example`: one row as it stood in the file (`example_row`)."""
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
        TableColumn(f"{SOURCE}{name}", _infer_source_type(example.get(name)), name, means="As in the file")
        for name in named
    ]
    return {column.name: column for column in listed}


def _infer_source_type(value: object) -> Type:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return "category"


@dataclass(kw_only=True)
class _SourceRow:
    source: JsonObject | None


@named_query
def example_row(db: Queryable, dataset: Dataset) -> JsonObject:
    """The first row as it stood in the file."""
    sql = "SELECT source FROM read_parquet($1) WHERE row_id = 0"
    rows = read_records(db.query(sql, [dataset.rows_path]), _SourceRow, ["source"])
    return (rows[0].source or {}) if rows else {}


@dataclass(frozen=True)
class DatasetTable:
    """A data set as SQL sees it: the files of its rows and of what was measured of them."""

    dataset: Dataset
    measured: MeasuredColumn
    columns: Mapping[str, TableColumn]

    def relation(self, names: Iterable[str], shorten: int = 0) -> tuple[str, list[Any]]:
        """A SELECT of the columns by name (and row_id), reading only the files that hold them, with its
        parameters. `shorten`: texts are cut after so many characters. Raises ConfigError."""
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
        """The filter as SQL over `relation(self.needed(where))`. Raises ConfigError."""
        return where.where({name: column.type for name, column in self.columns.items()})

    def needed(self, where: Filter) -> list[str]:
        """The columns that the filter looks at; an expression may look at all of them."""
        if where.expression.strip():
            return list(self.columns)
        return [*sorted(where.columns()), *(["text"] if where.search or where.regex else [])]


def get_dataset_table(db: Queryable, dataset_id: str) -> DatasetTable:
    """A data set with all of its columns, without those that were measured in an older way. Raises
    NotFoundError."""
    dataset = datasets.get_dataset(db, dataset_id)
    measured = datasets.list_current_signals(datasets.signals(db, dataset.fingerprint))
    return DatasetTable(dataset, measured, columns(dataset, measured, example_row(db, dataset)))


register_reference(DatasetTable, lambda table: table.dataset.dataset_id, get_dataset_table)


@dataclass(frozen=True)
class Sort:
    """By which column rows are sorted; those without a value come last, and equal ones in the order of the
    file."""

    column: str = "row_id"
    descending: bool = False

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return f"{quote_identifier(self.column)} {'DESC' if self.descending else 'ASC'} NULLS LAST, row_id"


IN_ORDER = Sort()


@dataclass(frozen=True)
class TablePage:
    """A page of a table of rows: which columns, in which order, and which rows of that order."""

    names: tuple[str, ...]
    sort: Sort = IN_ORDER
    limit: int = 20
    offset: int = 0


@named_query
def count(db: Queryable, rows: DatasetTable, where: Filter) -> int:
    """How many rows the filter means."""
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
    """Numbers of the rows that the filter means, sorted."""
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
    """`count` and the first `row_ids` in one reading of the rows: half the time where texts are searched."""
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
    """The rows that a search or a regular expression finds; None where they are more than `MATCHING`."""
    ids = row_ids(db, rows, Filter(search=search, regex=regex), limit=MATCHING + 1)
    return ids if len(ids) <= MATCHING else None


def narrow_filter(where: Filter, ids: Sequence[int]) -> Filter:
    """The filter with the rows that its search found in place of the search: texts are not read once more."""
    if where.row_ids is not None:
        kept = set(where.row_ids)
        ids = [row_id for row_id in ids if row_id in kept]
    return where.model_copy(update={"search": "", "regex": "", "row_ids": list(ids)})


def _list_rows_sql(rows: DatasetTable, where: Filter) -> Sequence[int] | None:
    """The rows that the filter means, in the order of the file, where no column has to be looked at."""
    end = int(rows.dataset.row_count)  # row numbers count from 0
    if not where:
        return range(end)
    if where.row_ids is None or where != Filter(row_ids=where.row_ids):
        return None
    return sorted(row_id for row_id in set(where.row_ids) if 0 <= row_id < end)


def _select_rows_sql(rows: DatasetTable, where: Filter, order_by: str) -> tuple[str, list[Any]]:
    """row_id and the column to sort by of the rows that the filter means."""
    relation, files = rows.relation([order_by, *rows.needed(where)])
    condition, params = rows.condition(where)
    named = dict.fromkeys(["row_id", quote_identifier(order_by)]) if order_by != "row_id" else ["row_id"]
    return f"SELECT {', '.join(named)} FROM ({relation}) WHERE {condition}", [*files, *params]


@named_query
def page(db: Queryable, rows: DatasetTable, where: Filter, part: TablePage) -> list[JsonObject]:
    """Rows that the filter means, with row_id and the columns named; long texts as their beginning."""
    ids = row_ids(db, rows, where, part.sort, limit=part.limit, offset=part.offset)
    return values_of(db, rows, ids, part.names, shorten=EXCERPT)


@named_query
def values_of(
    db: Queryable, rows: DatasetTable, ids: Sequence[int], names: Sequence[str], *, shorten: int = 0
) -> list[JsonObject]:
    """These rows, in this order, with row_id and the columns named.

    Each file is asked for itself, because then only its parts that hold these rows are read.
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
    """The rows with the same value of a group column as this row: how many, and the first of them."""
    relation, files = rows.relation([column])
    name = quote_identifier(column)
    sql = (
        f"WITH g AS ({relation}) SELECT row_id, count(*) OVER () AS n FROM g"
        f" WHERE {name} = (SELECT {name} FROM g WHERE row_id = ?) ORDER BY row_id LIMIT ?"
    )
    table = db.query(sql, [*files, row_id, limit])
    return (int(table["n"][0].as_py()) if table.num_rows else 0), table["row_id"].to_pylist()


def format_filter_json(where: Filter) -> str:
    """The filter as short as it goes, for links and as the name of a cached answer; "" for every row."""
    document = where.model_dump(exclude_defaults=True)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True) if where else ""


# The table `rows` of a data set as SQL that people write sees it: the file's own columns by their own names,
# beside those of every data set and what was measured.
#
# The file's names come first: where it has a column `text` or `language`, that is what these names mean,
# and Tunebench's own is `tunebench_text` (SQL does not tell case apart). Only `row_id` is always the number
# of the row. Whether a statement may run is the engine's to say (`store.db.sql_guard`).

# A statement longer than this, with all columns of a wide file, names those alone that the user's text names.
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
    """Name in SQL -> name of the column in `rows.known`; the file's own first, then those of every data set,
    then signals."""
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
    """A column's name as it is written in a statement: in quotes where it needs them."""
    return name if _PLAIN.fullmatch(name) and name.lower() not in _RESERVED else quote_identifier(name)


def build_user_select(rows: DatasetTable, sql: str) -> tuple[str, list[Any]]:
    """A user's SELECT over `rows` as one statement, with its parameters."""
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


DRAWN_POINTS = 20_000  # points: a browser moves so many without delay
MAP_TEXT = 240  # characters of a row that hovering shows
MAX_VALUES = 2_000  # to choose from; a list of more is searched by nobody


@named_query
def map_points(db: Queryable, rows: DatasetTable, text: str, column: str) -> pa.Table:
    """row_id, x, y, topic, text and value (of the column) of at most `DRAWN` rows, always the same. text: the
    column of what a row says. Raises ConfigError for a column that is none."""
    relation, files = rows.relation(["x", "y", "cluster", text, column], MAP_TEXT)
    sql = (
        f"SELECT row_id, x, y, cluster AS topic, {quote_identifier(text)} AS text,"
        f" {quote_identifier(column)} AS value"
        f" FROM ({relation}) ORDER BY hash(row_id), row_id LIMIT {DRAWN_POINTS}"
    )
    return db.query(sql, files)


@named_query
def map_values(db: Queryable, rows: DatasetTable, column: str) -> list[str]:
    """The values of a category, the most frequent first. Raises ConfigError for a column that is none."""
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
    """row_id, x and y of every row."""
    relation, files = rows.relation(["x", "y"])
    return db.query(f"SELECT row_id, x, y FROM ({relation})", files)
