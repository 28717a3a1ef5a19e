"""What the page of a data set reads: what was measured, the rows as SQL sees them, counts and histograms.

A filter goes into these as its compact JSON, so that equal questions are asked once. `stamp` says what was
measured when: a new measurement is a new question.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import streamlit as st

from pages.data.rows import clean_reads
from pages.shared import reads
from pages.shared.common_start import Cell
from pages.shared.session import client, kept_for
from store.catalog.signals import GROUPS
from store.config.data.filters import Condition, Filter
from store.documents.tables.dataset import CanonicalRow
from store.queries.data import datasets, explore, histogram, quality, sql_rows

KEPT = 600  # seconds; the rows of a fingerprint never change


class ValuedRow(CanonicalRow):
    """A row with what a column says of it."""

    value: Any  # of the column, by its type
    group: int | str | None  # by which rows stand together


@kept_for(KEPT, most=64)
def example(dataset_id: str) -> dict[str, Any]:
    return explore.example_row(client(), reads.dataset(dataset_id))


def rows(dataset_id: str) -> explore.DatasetTable:
    """The data set with all of its columns, without those that were measured in an older way."""
    dataset = reads.dataset(dataset_id)
    current = quality.current_signals(clean_reads.signals(dataset["fingerprint"]))
    return explore.DatasetTable(dataset, current, explore.columns(dataset, current, example(dataset_id)))


def stamp(dataset_rows: explore.DatasetTable) -> str:
    """What was measured, and when."""
    return " ".join(f"{name}:{row['computed_at']}" for name, row in sorted(dataset_rows.measured.items()))


def _contents(dataset_id: str, ids: list[int]) -> list[CanonicalRow]:
    return datasets.get_rows(client(), reads.dataset(dataset_id), ids) if ids else []


def parsed(where: str) -> Filter:
    """The filter of a compact JSON."""
    return Filter.parse(json.loads(where)) if where else Filter()


@st.cache_data(ttl=KEPT, max_entries=16, show_spinner=False)  # each up to `explore.MATCHING` numbers
def _matching(dataset_id: str, search: str, regex: str, stamp: str) -> list[int] | None:
    return explore.matching(client(), rows(dataset_id), search, regex)


def narrowed(dataset_id: str, where: str, stamp: str) -> Filter:
    """The filter of a compact JSON, its search done once for all questions about it: table, bars, counts."""
    meant = parsed(where)
    if not meant.search and not meant.regex:
        return meant
    ids = _matching(dataset_id, meant.search, meant.regex, stamp)
    return meant if ids is None else explore.narrowed(meant, ids)


@kept_for(KEPT, most=256)
def count(dataset_id: str, where: str, stamp: str) -> int:
    meant = narrowed(dataset_id, where, stamp)
    return explore.count(client(), rows(dataset_id), meant)


@kept_for(KEPT, most=256)
def find(dataset_id: str, where: str, sort: explore.Sort, limit: int, stamp: str) -> tuple[int, list[int]]:
    """How many rows, and the first of them."""
    dataset_rows, meant = rows(dataset_id), narrowed(dataset_id, where, stamp)
    return explore.find(client(), dataset_rows, meant, sort, limit=limit)


@kept_for(60, most=64)
def whole_rows(
    dataset_id: str, where: str, together: str, column: str, limit: int, offset: int
) -> tuple[int, list[ValuedRow]]:
    """How many rows the filter means, and a page of them whole, with `value` of the column and, where rows
    are shown together, the `group` by which they are sorted."""
    dataset_rows, meant = rows(dataset_id), parsed(where)
    total = explore.count(client(), dataset_rows, meant)
    sort = explore.Sort(together or "row_id")
    ids = explore.row_ids(client(), dataset_rows, meant, sort, limit=limit, offset=offset)
    values = explore.values_of(client(), dataset_rows, ids, [column, *([together] if together else [])])
    contents = _contents(dataset_id, ids)
    pairs = zip(contents, values, strict=True)
    return total, [{**row, "value": v.get(column), "group": v.get(together)} for row, v in pairs]


@kept_for(KEPT, most=256)
def cells(dataset_id: str, row_ids: tuple[int, ...], names: tuple[str, ...], stamp: str) -> list[Cell]:
    """These rows with these columns, long texts as their beginning."""
    return explore.values_of(client(), rows(dataset_id), row_ids, names, shorten=explore.EXCERPT)


@kept_for(KEPT, most=256)
def page(dataset_id: str, where: str, part: explore.TablePage, stamp: str) -> list[Cell]:
    meant = narrowed(dataset_id, where, stamp)
    return explore.page(client(), rows(dataset_id), meant, part)


@kept_for(KEPT, most=256)
def facets(dataset_id: str, names: tuple[str, ...], where: str, stamp: str) -> dict[str, histogram.Histogram]:
    meant = narrowed(dataset_id, where, stamp)
    return histogram.facets(client(), rows(dataset_id), names, meant)


@kept_for(KEPT, most=64)
def signals_of(dataset_id: str, row_id: int, stamp: str) -> dict[str, Any]:
    """Everything that was measured of one row."""
    dataset_rows = rows(dataset_id)
    names = [s.column for group in dataset_rows.measured for s in GROUPS[group].signals]
    return explore.values_of(client(), dataset_rows, [row_id], names)[0]


@kept_for(KEPT, most=64)
def companions(dataset_id: str, column: str, row_id: int, limit: int, stamp: str) -> tuple[int, list[int]]:
    return explore.companions(client(), rows(dataset_id), column, row_id, limit)


@kept_for(KEPT, most=64)
def neighbour(dataset_id: str, where: str, row_id: int, forward: bool, stamp: str) -> int | None:
    """The next or the previous row that the filter means."""
    dataset_rows, meant = rows(dataset_id), narrowed(dataset_id, where, stamp)
    meant.conditions = [
        *meant.conditions,
        Condition(column="row_id", op=">" if forward else "<", value=row_id),
    ]
    ids = explore.row_ids(client(), dataset_rows, meant, explore.Sort(descending=not forward), limit=1)
    return ids[0] if ids else None


@st.cache_data(ttl=60, max_entries=32, show_spinner="Asking the store …")
def select(dataset_id: str, sql: str, limit: int, stamp: str) -> tuple[pa.Table, int]:
    """The first rows of a user's SELECT, and how many there are in all. Raises QueryError."""
    statement, files = sql_rows.select_over(rows(dataset_id), sql)
    table = client().people.query(f"{statement} LIMIT {int(limit) + 1}", files)
    if table.num_rows <= limit:
        return table, table.num_rows
    counted = client().people.query(f"SELECT count(*) AS n FROM ({statement})", files)
    return table.slice(0, limit), int(counted["n"][0].as_py())
