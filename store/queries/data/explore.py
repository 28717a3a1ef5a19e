"""Looking into a data set: its columns, and the rows that a filter means, counted and paged.

A column is one of every data set (`store.config.data.filters.BASE`), one of the file that the rows came from
(`source.NAME`), or a signal that was measured. Only the files that a question needs are read. Sidecars hold
a row for every row of the data set in the same order, so they are laid side by side (POSITIONAL JOIN)
without a look at row numbers; texts are joined by row number, because then two threads read them. What a
user typed reaches SQL as a parameter or as a checked column name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from store.catalog.signals import GROUP_OF, GROUPS
from store.config.data.filters import SOURCE, Filter, check_column, column_sql, quoted
from store.db.named_query import named_query, refer
from store.db.records import records, scalar
from store.documents.tables.dataset import Dataset, SignalRow
from store.queries.data import datasets, quality

if TYPE_CHECKING:
    from store.db.database import Queryable

Type = Literal["number", "flag", "category", "group", "text"]
Measured = Mapping[str, SignalRow]  # store.queries.data.quality.signals
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


def columns(dataset: Dataset, measured: Measured, example: Mapping[str, object]) -> dict[str, TableColumn]:
    """Every column of a data set by name. `example`: one row as it stood in the file (`example_row`)."""
    listed = [TableColumn("row_id", "number", "Row"), TableColumn("line", "number", "Line in the file")]
    if dataset["kind"] == "text":
        listed += [TableColumn("text", "text", "Text")]
    else:
        listed += [TableColumn("prompt", "text", "Prompt"), TableColumn("answer", "text", "Answer")]
        listed += [TableColumn("text", "text", "Prompt and answer"), TableColumn("turns", "number", "Turns")]
    if dataset["stats"].get("label_count"):
        listed.append(TableColumn("label", "category", "Label"))
    if dataset["kind"] == "preference":
        listed.append(TableColumn("rejected", "text", "Rejected answer"))
    for name in measured:
        for signal in GROUPS[name].signals:
            listed.append(TableColumn(signal.column, signal.type, signal.title, signal.unit, signal.means))
    used = [name for name in dataset["columns"].values() if name in example or "." not in name]
    named = [*dict.fromkeys([*used, *example])]
    listed += [
        TableColumn(f"{SOURCE}{name}", _source_type(example.get(name)), name, means="As it stood in the file")
        for name in named
    ]
    return {column.name: column for column in listed}


def _source_type(value: object) -> Type:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return "category"


class _SourceRow(TypedDict):
    source: dict[str, Any] | None


@named_query
def example_row(db: Queryable, dataset: Dataset) -> dict[str, Any]:
    """The first row as it stood in the file."""
    sql = "SELECT source FROM read_parquet($1) WHERE row_id = 0"
    rows = records(db.query(sql, [dataset["rows_path"]]), _SourceRow, ["source"])
    return (rows[0]["source"] or {}) if rows else {}


@dataclass(frozen=True)
class DatasetTable:
    """A data set as SQL sees it: the files of its rows and of what was measured of them."""

    dataset: Dataset
    measured: Measured
    columns: Mapping[str, TableColumn]

    def relation(self, names: Iterable[str], shorten: int = 0) -> tuple[str, list[Any]]:
        """A SELECT of the columns by name (and row_id), reading only the files that hold them, with its
        parameters. `shorten`: texts are cut after so many characters. Raises ConfigError."""
        wanted = list(dict.fromkeys(["row_id", *names]))
        for name in wanted:
            check_column(name, self.columns)
        groups = list(dict.fromkeys(GROUP_OF[name] for name in wanted if name in GROUP_OF))
        in_rows = [name for name in wanted if name not in GROUP_OF and name != "row_id"]
        files = [("r", self.dataset["rows_path"])] if in_rows or not groups else []
        files += [(group, self.measured[group]["path"]) for group in groups]
        selected = [f"{files[0][0]}.row_id AS row_id"]
        for name in wanted[1:]:
            sql = column_sql(name)
            if name.startswith(SOURCE) and self.columns[name].type == "number":
                sql = f"TRY_CAST({sql} AS DOUBLE)"
            if shorten and self.columns[name].type in ("text", "category"):
                sql = f"CASE WHEN strlen({sql}) > {shorten} THEN left({sql}, {shorten}) || '…' ELSE {sql} END"
            selected.append(f"{sql} AS {quoted(name)}")
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


def table_of(db: Queryable, dataset_id: str) -> DatasetTable:
    """A data set with all of its columns, without those that were measured in an older way. Raises
    NotFoundError."""
    dataset = datasets.get_dataset(db, dataset_id)
    measured = quality.current_signals(quality.signals(db, dataset["fingerprint"]))
    return DatasetTable(dataset, measured, columns(dataset, measured, example_row(db, dataset)))


refer(DatasetTable, lambda table: table.dataset["dataset_id"], table_of)


@dataclass(frozen=True)
class Sort:
    """By which column rows are sorted; those without a value come last, and equal ones in the order of the
    file."""

    column: str = "row_id"
    descending: bool = False

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return f"{quoted(self.column)} {'DESC' if self.descending else 'ASC'} NULLS LAST, row_id"


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
    if (listed := _listed(rows, where)) is not None:
        return len(listed)
    relation, files = rows.relation(rows.needed(where))
    condition, params = rows.condition(where)
    return int(scalar(db.query(f"SELECT count(*) FROM ({relation}) WHERE {condition}", [*files, *params])))


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
    if sort.column == "row_id" and (listed := _listed(rows, where)) is not None:
        return list((listed[::-1] if sort.descending else listed)[offset : offset + limit])
    selection, params = _selected(rows, where, sort.column)
    sql = f"SELECT row_id FROM ({selection}) ORDER BY {sort.sql} LIMIT ? OFFSET ?"
    ids: list[int] = db.query(sql, [*params, limit, offset]).column("row_id").to_pylist()
    return ids


@named_query
def find(
    db: Queryable, rows: DatasetTable, where: Filter, sort: Sort = IN_ORDER, *, limit: int = 20
) -> tuple[int, list[int]]:
    """`count` and the first `row_ids` in one reading of the rows: half the time where texts are searched."""
    check_column(sort.column, rows.columns)
    if (listed := _listed(rows, where)) is not None:
        return len(listed), row_ids(db, rows, where, sort, limit=limit)
    selection, params = _selected(rows, where, sort.column)
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


def narrowed(where: Filter, ids: Sequence[int]) -> Filter:
    """The filter with the rows that its search found in place of the search: texts are not read once more."""
    if where.row_ids is not None:
        kept = set(where.row_ids)
        ids = [row_id for row_id in ids if row_id in kept]
    return where.model_copy(update={"search": "", "regex": "", "row_ids": list(ids)})


def _listed(rows: DatasetTable, where: Filter) -> Sequence[int] | None:
    """The rows that the filter means, in the order of the file, where no column has to be looked at."""
    end = int(rows.dataset["row_count"])  # row numbers count from 0
    if not where:
        return range(end)
    if where.row_ids is None or where != Filter(row_ids=where.row_ids):
        return None
    return sorted(row_id for row_id in set(where.row_ids) if 0 <= row_id < end)


def _selected(rows: DatasetTable, where: Filter, order_by: str) -> tuple[str, list[Any]]:
    """row_id and the column to sort by of the rows that the filter means."""
    relation, files = rows.relation([order_by, *rows.needed(where)])
    condition, params = rows.condition(where)
    named = dict.fromkeys(["row_id", quoted(order_by)]) if order_by != "row_id" else ["row_id"]
    return f"SELECT {', '.join(named)} FROM ({relation}) WHERE {condition}", [*files, *params]


@named_query
def page(db: Queryable, rows: DatasetTable, where: Filter, part: TablePage) -> list[dict[str, Any]]:
    """Rows that the filter means, with row_id and the columns named; long texts as their beginning."""
    ids = row_ids(db, rows, where, part.sort, limit=part.limit, offset=part.offset)
    return values_of(db, rows, ids, part.names, shorten=EXCERPT)


@named_query
def values_of(
    db: Queryable, rows: DatasetTable, ids: Sequence[int], names: Sequence[str], *, shorten: int = 0
) -> list[dict[str, Any]]:
    """These rows, in this order, with row_id and the columns named.

    Each file is asked for itself, because then only its parts that hold these rows are read.
    """
    by_id: dict[int, dict[str, Any]] = {row_id: {"row_id": row_id} for row_id in ids}
    files: dict[str, list[str]] = {}
    for name in names:
        if name != "row_id":
            files.setdefault(GROUP_OF.get(name, "rows"), []).append(name)
    listed = ", ".join(str(int(row_id)) for row_id in ids) or "NULL"
    for part in files.values():
        relation, paths = rows.relation(part, shorten)
        table = db.query(f"SELECT * FROM ({relation}) WHERE row_id IN ({listed})", paths)
        for row in records(table, dict[str, Any]):
            by_id[row["row_id"]].update(row)
    return [by_id[row_id] for row_id in ids]


@named_query
def companions(
    db: Queryable, rows: DatasetTable, column: str, row_id: int, limit: int = 20
) -> tuple[int, list[int]]:
    """The rows with the same value of a group column as this row: how many, and the first of them."""
    relation, files = rows.relation([column])
    name = quoted(column)
    sql = (
        f"WITH g AS ({relation}) SELECT row_id, count(*) OVER () AS n FROM g"
        f" WHERE {name} = (SELECT {name} FROM g WHERE row_id = ?) ORDER BY row_id LIMIT ?"
    )
    table = db.query(sql, [*files, row_id, limit])
    return (int(table["n"][0].as_py()) if table.num_rows else 0), table["row_id"].to_pylist()


def filter_json(where: Filter) -> str:
    """The filter as short as it goes, for links and as the name of a cached answer; "" for every row."""
    document = where.model_dump(exclude_defaults=True)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True) if where else ""
