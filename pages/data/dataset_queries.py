"""Queries of the data set pages: measurements, rows, recipes, previews, versions, and results of sync jobs.

Results are cached briefly; fates and comparisons of versions never change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import streamlit as st

from pages.data.cleaning.draft import StepDocument
from pages.shared import cached_queries
from pages.shared.session import cached, get_client
from pages.shared.text_display import Cell
from store.core.documents import Document
from store.core.row_schemas import Fate, Overlap, SplitCounts
from store.core.schemas import Job, JsonObject
from store.core.training_schemas import Rendering
from store.data import dataset_versions, datasets, exploration, histogram, saved_recipes
from store.data.config import RenderingQuery
from store.data.filters import Condition, Filter
from store.data.schemas import (
    CanonicalRow,
    CleanPreview,
    RecipeRow,
    RowFates,
    SignalRow,
    SimilarRows,
    Version,
    VersionComparison,
)
from store.data.signals import GROUPS
from store.training.split import Split

FULL_PREVIEW_SECONDS = 150.0  # the engine's own timeout of a sync job
EXAMPLES = 8  # example rows of each fate and step in a preview


def read_signals(fingerprint: str) -> dict[str, SignalRow]:
    """Signal measurements of these rows, by group; read anew once a measurement has ended.

    A page that shows running measurements has to list them first: one that ends in between would be neither
    running nor measured, and nothing would draw the page again.
    """
    running = tuple(job.job_id for job in cached_queries.list_queue() if job.kind == "profile")
    return _read_signals(fingerprint, running)


@cached(cached_queries.CALM, max_entries=64)
def _read_signals(fingerprint: str, running: tuple[str, ...]) -> dict[str, SignalRow]:
    """`running`: the measurements that are not among these, which identify their state in the cache."""
    return datasets.signals(get_client(), fingerprint)


@cached(cached_queries.CALM, max_entries=4)
def list_recipes(person_id: str) -> list[RecipeRow]:
    """A person's own recipes and the shared ones, by name."""
    return saved_recipes.recipes(get_client(), person_id)


def list_measurement_jobs(dataset_id: str) -> list[Job]:
    """Running and queued measurement jobs of this data set."""
    return [
        job
        for job in cached_queries.list_queue()
        if job.kind == "profile" and job.config.get("dataset") == dataset_id
    ]


def preview_cleaning(dataset_id: str, steps: list[StepDocument], *, whole: bool = False) -> CleanPreview:
    """Preview the effect of a valid recipe: the result of the sync job `clean_preview`.

    `whole`: on all rows, however long it takes.
    """
    return _preview_cleaning(
        dataset_id, json.dumps(steps, sort_keys=True), whole, _measurement_stamp(dataset_id)
    )


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def _preview_cleaning(dataset_id: str, steps: str, whole: bool, measured: str) -> CleanPreview:
    recipe = {"steps": json.loads(steps)}
    order = datasets.work_order(get_client(), {"dataset": dataset_id, "recipe": recipe})
    body = {**order, "recipe": recipe, "examples": EXAMPLES, "whole": whole}
    return get_client().ask("clean_preview", body, CleanPreview, timeout=FULL_PREVIEW_SECONDS)


def _measurement_stamp(dataset_id: str) -> str:
    """Cache key of a filter's result besides the rows: the measured signals and their times."""
    measured = read_signals(cached_queries.read_dataset(dataset_id).fingerprint)
    return json.dumps({name: str(row.computed_at) for name, row in measured.items()}, sort_keys=True)


# Filters are passed as compact JSON, so that equal queries share a cache entry. `stamp` identifies the
# measurements: a new measurement invalidates the cache.

CACHE_SECONDS = 600  # seconds; the rows of a fingerprint never change


class RowWithValue(CanonicalRow):
    """A row with its value of a column."""

    value: Any  # value of the column, of its type
    group: int | str | None  # the value rows are grouped by


@cached(CACHE_SECONDS, max_entries=64)
def read_example(dataset_id: str) -> JsonObject:
    return exploration.example_row(get_client(), cached_queries.read_dataset(dataset_id))


def build_table(dataset_id: str) -> exploration.DatasetTable:
    """The data set with all of its columns, except signals measured by an outdated method."""
    dataset = cached_queries.read_dataset(dataset_id)
    current = datasets.list_current_signals(read_signals(dataset.fingerprint))
    return exploration.DatasetTable(
        dataset, current, exploration.columns(dataset, current, read_example(dataset_id))
    )


def measurement_stamp(dataset_rows: exploration.DatasetTable) -> str:
    """Cache key of the measurements: the groups and their times."""
    return " ".join(f"{name}:{row.computed_at}" for name, row in sorted(dataset_rows.measured.items()))


def parse_filter(where: str) -> Filter:
    """Parse a filter from compact JSON."""
    return Filter.parse(json.loads(where)) if where else Filter()


@st.cache_data(ttl=CACHE_SECONDS, max_entries=16, show_spinner=False)  # up to `exploration.MATCHING` ids each
def _find_matching_rows(dataset_id: str, search: str, regex: str, stamp: str) -> list[int] | None:
    return exploration.matching(get_client(), build_table(dataset_id), search, regex)


def parse_filter_with_search(dataset_id: str, where: str, stamp: str) -> Filter:
    """Parse a filter from compact JSON; its text search runs once for all queries (table, histograms,
    counts).
    """
    meant = parse_filter(where)
    if not meant.search and not meant.regex:
        return meant
    ids = _find_matching_rows(dataset_id, meant.search, meant.regex, stamp)
    return meant if ids is None else exploration.narrow_filter(meant, ids)


@cached(CACHE_SECONDS, max_entries=256)
def count_rows(dataset_id: str, where: str, stamp: str) -> int:
    meant = parse_filter_with_search(dataset_id, where, stamp)
    return exploration.count(get_client(), build_table(dataset_id), meant)


@cached(CACHE_SECONDS, max_entries=256)
def find_rows(
    dataset_id: str, where: str, sort: exploration.Sort, limit: int, stamp: str
) -> tuple[int, list[int]]:
    """Number of matching rows, and the numbers of the first ones."""
    dataset_rows, meant = build_table(dataset_id), parse_filter_with_search(dataset_id, where, stamp)
    return exploration.find(get_client(), dataset_rows, meant, sort, limit=limit)


@cached(60, max_entries=64)
def find_full_rows(
    dataset_id: str, where: str, together: str, column: str, limit: int, offset: int
) -> tuple[int, list[RowWithValue]]:
    """Number of matching rows, and a page of them in full.

    Each has the `value` of `column` and, if rows are shown in groups, the `group` they are sorted by.
    """
    dataset_rows, meant = build_table(dataset_id), parse_filter(where)
    total = exploration.count(get_client(), dataset_rows, meant)
    sort = exploration.Sort(together or "row_id")
    ids = exploration.row_ids(get_client(), dataset_rows, meant, sort, limit=limit, offset=offset)
    values = exploration.values_of(
        get_client(), dataset_rows, ids, [column, *([together] if together else [])]
    )
    contents = datasets.get_rows(get_client(), cached_queries.read_dataset(dataset_id), ids) if ids else []
    pairs = zip(contents, values, strict=True)
    return total, [{**row, "value": v.get(column), "group": v.get(together)} for row, v in pairs]


@cached(CACHE_SECONDS, max_entries=256)
def read_cells(dataset_id: str, row_ids: tuple[int, ...], names: tuple[str, ...], stamp: str) -> list[Cell]:
    """Cells of these rows and columns; long texts are cut to their beginning."""
    return exploration.values_of(
        get_client(), build_table(dataset_id), row_ids, names, shorten=exploration.EXCERPT
    )


@cached(CACHE_SECONDS, max_entries=256)
def read_page(dataset_id: str, where: str, part: exploration.TablePage, stamp: str) -> list[Cell]:
    meant = parse_filter_with_search(dataset_id, where, stamp)
    return exploration.page(get_client(), build_table(dataset_id), meant, part)


@cached(CACHE_SECONDS, max_entries=256)
def compute_histograms(
    dataset_id: str, names: tuple[str, ...], where: str, stamp: str
) -> dict[str, histogram.Histogram]:
    meant = parse_filter_with_search(dataset_id, where, stamp)
    return histogram.facets(get_client(), build_table(dataset_id), names, meant)


@cached(CACHE_SECONDS, max_entries=64)
def read_row_signals(dataset_id: str, row_id: int, stamp: str) -> JsonObject:
    """All signals measured for one row."""
    dataset_rows = build_table(dataset_id)
    names = [s.column for group in dataset_rows.measured for s in GROUPS[group].signals]
    return exploration.values_of(get_client(), dataset_rows, [row_id], names)[0]


@cached(CACHE_SECONDS, max_entries=64)
def find_group_rows(
    dataset_id: str, column: str, row_id: int, limit: int, stamp: str
) -> tuple[int, list[int]]:
    return exploration.companions(get_client(), build_table(dataset_id), column, row_id, limit)


@cached(CACHE_SECONDS, max_entries=64)
def find_adjacent_row(dataset_id: str, where: str, row_id: int, forward: bool, stamp: str) -> int | None:
    """The next or previous row that matches the filter, or None."""
    dataset_rows, meant = build_table(dataset_id), parse_filter_with_search(dataset_id, where, stamp)
    meant.conditions = [
        *meant.conditions,
        Condition(column="row_id", op=">" if forward else "<", value=row_id),
    ]
    ids = exploration.row_ids(
        get_client(), dataset_rows, meant, exploration.Sort(descending=not forward), limit=1
    )
    return ids[0] if ids else None


@st.cache_data(ttl=60, max_entries=32, show_spinner="Loading …")
def run_select(dataset_id: str, sql: str, limit: int, stamp: str) -> tuple[pa.Table, int]:
    """The first rows of a user's SELECT, and the total number of rows. Raises QueryError."""
    statement, files = exploration.build_user_select(build_table(dataset_id), sql)
    table = get_client().people.query(f"{statement} LIMIT {int(limit) + 1}", files)
    if table.num_rows <= limit:
        return table, table.num_rows
    counted = get_client().people.query(f"SELECT count(*) AS n FROM ({statement})", files)
    return table.slice(0, limit), int(counted["n"][0].as_py())


@cached(cached_queries.CALM, max_entries=16)
def list_versions(dataset_id: str) -> list[Version]:
    """The family of a data set, each version after its parent."""
    return dataset_versions.tree(get_client(), dataset_id)


@cached(60, max_entries=64)
def read_row_fates(
    dataset_id: str, fate: Fate | None, step: int | None, search: str, limit: int, offset: int
) -> RowFates:
    """A page of the fates of the previous version's rows, and their total number."""
    which = dataset_versions.FateFilter(fate, step, search)
    return dataset_versions.fates(get_client(), dataset_id, which, limit=limit, offset=offset)


@cached(60, max_entries=64)
def compare_versions(
    dataset_id: str, other: str, fate: Fate | None, limit: int, offset: int
) -> VersionComparison:
    """A page of the rows in which two versions differ, or of one fate, and the counts of all fates."""
    return dataset_versions.compare(get_client(), dataset_id, other, fate=fate, limit=limit, offset=offset)


def find_similar_rows(fingerprint: str, row_id: int, count: int) -> SimilarRows:
    """The rows closest in meaning to one row."""
    return _query("neighbours", {"fingerprint": fingerprint, "row_id": row_id, "count": count}, SimilarRows)


def find_overlap(fingerprint: str, other: str) -> Overlap:
    """The rows of the first data set that the other one also contains."""
    return _query("overlap", {"fingerprint": fingerprint, "other": other}, Overlap)


def count_split_rows(fingerprint: str, split: Split) -> SplitCounts:
    """Row counts of each part for these split settings."""
    return _query("split", {"fingerprint": fingerprint, "split": split.model_dump()}, SplitCounts)


def render_row(question: RenderingQuery) -> Rendering:
    """One row as the model will see it, and statistics of the whole set."""
    return _query("rendering", question.model_dump(), Rendering)


def _query(name: str, question: Mapping[str, Any], answer: type[Document]) -> Document:
    return cached_queries.query_engine(name, json.dumps(question, sort_keys=True), answer)
