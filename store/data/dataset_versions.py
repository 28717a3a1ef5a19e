"""Versions of a data set: the version tree, the fate of every row, and comparisons of two versions.

A family is an import and all versions derived from it by recipes. For any two versions of a family, each row
of one either is in the other as well, kept or changed, or it isn't. This is determined by chaining the fates
files of the versions between them through their last common ancestor. Contents are compared only if a recipe
on the way changed the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from store.core.errors import ConfigError, StateError
from store.core.row_schemas import Fate, FateCounts, RowContents
from store.data import datasets
from store.data.cleaning import Recipe
from store.data.cleaning_text import describe_step
from store.data.schemas import (
    Dataset,
    DatasetRun,
    RowComparison,
    RowFate,
    RowFates,
    Version,
    VersionComparison,
)
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.jobs.schemas import CardFacts, VersionSpec

if TYPE_CHECKING:
    from store.db.database import Queryable


SqlParams = dict[str, str | int | list[Fate]]  # parameters of a statement by name


@named_query
def tree(db: Queryable, dataset: str) -> list[Version]:
    """Return all versions of the family of a data set (id or name), each after its parent."""
    chosen = datasets.get_dataset(db, dataset)
    by_id = {row.dataset_id: row for row in datasets.list_datasets(db)}
    root = _list_ancestors(by_id, chosen)[-1]
    runs = _map_runs(db)
    versions: list[Version] = []

    def add(row: Dataset, depth: int) -> None:
        titles = [describe_step(step) for step in Recipe.parse(row.recipe).steps] if row.recipe else []
        versions.append(Version(**vars(row), depth=depth, titles=titles, runs=runs.get(row.dataset_id, [])))
        children = [other for other in by_id.values() if other.parent_id == row.dataset_id]
        for child in sorted(children, key=lambda other: (other.created_at, other.dataset_id)):
            add(child, depth + 1)

    add(root, 0)
    return versions


def list_lineage(db: Queryable, dataset: str) -> list[Dataset]:
    """Return the data set and its ancestors, the oldest first."""
    chosen = datasets.get_dataset(db, dataset)
    by_id = {row.dataset_id: row for row in datasets.list_datasets(db)}
    return _list_ancestors(by_id, chosen)[::-1]


def read_card_facts(db: Queryable, dataset: str) -> CardFacts:
    """Return the facts about a version for its data card."""
    chain = list_lineage(db, dataset)
    measured = datasets.signals(db, chain[-1].fingerprint)
    return {
        "history": [_describe_history_version(row) for row in chain],
        "figures": {
            name: {"options": row.options, "row_count": row.row_count, "figures": row.figures}
            for name, row in measured.items()
            if not row.outdated
        },
    }


def _describe_history_version(row: Dataset) -> VersionSpec:
    return VersionSpec(
        name=row.name,
        source=row.source,
        columns=row.columns,
        format=row.format,
        row_count=row.row_count,
        skipped_count=row.skipped_count,
        stats=row.stats,
        recipe=row.recipe,
        fates=row.fates,
        created_at=row.created_at.isoformat(),
    )


@dataclass(frozen=True)
class FateFilter:
    """Filter for rows of a version by outcome.

    fate: the outcome. step: rows that this step (index in the recipe) dropped, added or changed. search:
    case-insensitive search in the reason and in both texts.
    """

    fate: Fate | None = None
    step: int | None = None
    search: str = ""

    def where(self) -> tuple[str, SqlParams]:
        """Return the SQL condition over f (fates), p and r (rows before and after), and its parameters."""
        conditions, params = ["true"], SqlParams()
        if self.fate is not None:
            conditions.append("f.fate = $fate")
            params["fate"] = self.fate
        if self.step is not None:
            conditions.append("(f.step = $step OR list_contains(f.steps, $step))")
            params["step"] = self.step
        if self.search:
            texts = ("f.reason", "p.text", "r.text")
            hits = " OR ".join(f"contains(lower(coalesce({text}, '')), lower($search))" for text in texts)
            conditions.append(f"({hits})")
            params["search"] = self.search
        return " AND ".join(conditions), params


ALL_FATES = FateFilter()


@named_query
def fates(
    db: Queryable, dataset: str, which: FateFilter = ALL_FATES, *, limit: int = 50, offset: int = 0
) -> RowFates:
    """Return the outcomes of the parent version's rows; before and after are the texts.

    Raises StateError if the data set wasn't created by a recipe.
    """
    version = datasets.get_dataset(db, dataset)
    parent = _find_parent(db, version)
    where, params = which.where()
    files = {"old": parent.rows_path, "new": version.rows_path}
    params["fates"] = _get_fates_path(version)
    table = "read_parquet($fates) f"
    texts_of = (
        " LEFT JOIN read_parquet($old) p ON p.row_id = f.parent_row_id"
        " LEFT JOIN read_parquet($new) r ON r.row_id = f.row_id"
    )
    count = f"SELECT count(*) FROM {table}{texts_of if which.search else ''} WHERE {where}"
    counted = params | (files if which.search else {})
    page = f"""
        WITH page AS (SELECT f.* FROM {table}{texts_of if which.search else ""} WHERE {where}
                      ORDER BY f.parent_row_id NULLS LAST, f.row_id LIMIT $limit OFFSET $offset)
        SELECT f.*, p.text AS before, r.text AS after FROM page f {texts_of}
        ORDER BY f.parent_row_id NULLS LAST, f.row_id
    """
    rows = read_records(db.query(page, {**params, **files, "limit": limit, "offset": offset}), RowFate)
    return RowFates(total=int(read_scalar(db.query(count, counted))), rows=rows)


@dataclass(kw_only=True)
class _FateCount:
    fate: Fate
    n: int


@dataclass(kw_only=True)
class _VersionLink:
    row_id: int | None
    other_row_id: int | None
    fate: Fate


@named_query
def compare(
    db: Queryable, dataset: str, other: str, *, fate: Fate | None = None, limit: int = 20, offset: int = 0
) -> VersionComparison:
    """Compare two versions of a family row by row, from the point of view of `dataset`.

    A row that `other` lacks is dropped, one that only `other` has is added. `fate`: if omitted, all except
    kept rows. Raises ConfigError (field other) if the versions belong to different families.
    """
    first, second = datasets.get_dataset(db, dataset), datasets.get_dataset(db, other)
    links, params = _build_links_sql(db, first, second)
    counted = read_records(
        db.query(f"{links} SELECT fate, count(*) AS n FROM linked GROUP BY fate", params), _FateCount
    )
    rows_of = {row.fate: row.n for row in counted}
    wanted: list[Fate] = [fate] if fate else ["changed", "dropped", "added"]
    page = db.query(
        f"{links} SELECT * FROM linked WHERE list_contains($wanted::VARCHAR[], fate)"
        " ORDER BY row_id NULLS LAST, other_row_id LIMIT $limit OFFSET $offset",
        {**params, "wanted": wanted, "limit": limit, "offset": offset},
    )
    links_of_page = read_records(page, _VersionLink)
    before = _read_contents(db, first, [row.row_id for row in links_of_page])
    after = _read_contents(db, second, [row.other_row_id for row in links_of_page])
    rows: list[RowComparison] = [
        RowComparison(
            row_id=row.row_id,
            other_row_id=row.other_row_id,
            fate=row.fate,
            before=before.get(row.row_id),
            after=after.get(row.other_row_id),
        )
        for row in links_of_page
    ]
    counts = FateCounts(
        kept=rows_of.get("kept", 0),
        changed=rows_of.get("changed", 0),
        dropped=rows_of.get("dropped", 0),
        added=rows_of.get("added", 0),
    )
    return VersionComparison(counts=counts, total=sum(getattr(counts, name) for name in wanted), rows=rows)


def _build_links_sql(db: Queryable, first: Dataset, second: Dataset) -> tuple[str, SqlParams]:
    """Return the table `linked` (row_id, other_row_id, fate) as common table expressions, and their
    parameters.
    """
    by_id = {row.dataset_id: row for row in datasets.list_datasets(db)}
    ours, theirs = _list_ancestors(by_id, first), _list_ancestors(by_id, second)
    ids = [row.dataset_id for row in theirs]
    common = next((row for row in ours if row.dataset_id in ids), None)
    if common is None:
        raise ConfigError(
            f"{first.name} and {second.name} are not versions of one data set.",
            fix="Compare versions that come from the same import.",
            field="other",
        )
    params: SqlParams = {"first": first.rows_path, "second": second.rows_path}
    params["common"] = common.rows_path
    tables = [
        _build_chain_sql("a", ours[: ours.index(common)][::-1], params),
        _build_chain_sql("b", theirs[: ids.index(common.dataset_id)][::-1], params),
    ]
    return (
        f"""
        WITH {", ".join(tables)},
        pairs AS (SELECT a.row_id AS row_id, b.row_id AS other_row_id, a.touched OR b.touched AS touched
                  FROM a JOIN b USING (origin)),
        differing AS (
            SELECT pairs.row_id FROM pairs
            JOIN read_parquet($first) p ON p.row_id = pairs.row_id
            JOIN read_parquet($second) r ON r.row_id = pairs.other_row_id
            WHERE touched AND (p.text, p.label, p.rejected, p.messages)
                  IS DISTINCT FROM (r.text, r.label, r.rejected, r.messages)),
        linked AS (
            SELECT row_id, other_row_id,
                   CASE WHEN row_id IN (SELECT row_id FROM differing) THEN 'changed' ELSE 'kept' END AS fate
            FROM pairs
            UNION ALL SELECT p.row_id, NULL, 'dropped' FROM read_parquet($first) p
                      ANTI JOIN pairs ON pairs.row_id = p.row_id
            UNION ALL SELECT NULL, r.row_id, 'added' FROM read_parquet($second) r
                      ANTI JOIN pairs ON pairs.other_row_id = r.row_id)
        """,
        params,
    )


def _build_chain_sql(name: str, versions: list[Dataset], params: SqlParams) -> str:
    """Return tables that follow the rows of the common version to the last of `versions`.

    The last table is called `name` and has the columns origin (row id in the common version), row_id and
    touched (whether a recipe on the way changed the row).
    """
    sql = "SELECT row_id AS origin, row_id, false AS touched FROM read_parquet($common)"
    tables = [f"{name}0 AS ({sql})"]
    for depth, version in enumerate(versions, 1):
        params[f"{name}{depth}"] = _get_fates_path(version)
        tables.append(
            f"{name}{depth} AS (SELECT m.origin, f.row_id, m.touched OR f.fate = 'changed' AS touched"
            f" FROM {name}{depth - 1} m JOIN read_parquet(${name}{depth}) f ON f.parent_row_id = m.row_id"
            " WHERE f.row_id IS NOT NULL)"
        )
    tables.append(f"{name} AS (SELECT * FROM {name}{len(versions)})")
    return ", ".join(tables)


def _read_contents(
    db: Queryable, dataset: Dataset, row_ids: list[int | None]
) -> dict[int | None, RowContents]:
    wanted = [row_id for row_id in row_ids if row_id is not None]
    return {
        row["row_id"]: {
            "messages": row["messages"],
            "text": row["text"],
            "label": row["label"],
            "rejected": row["rejected"],
        }
        for row in (datasets.get_rows(db, dataset, wanted) if wanted else [])
    }


def _list_ancestors(by_id: dict[str, Dataset], row: Dataset) -> list[Dataset]:
    """Return the version, its parent, and so on."""
    chain = [row]
    while (parent := by_id.get(chain[-1].parent_id or "")) is not None:
        chain.append(parent)
    return chain


def _find_parent(db: Queryable, version: Dataset) -> Dataset:
    parent = datasets.find_dataset(db, version.parent_id) if version.parent_id else None
    if not parent:
        raise StateError(
            f"{version.name} was imported, not created by a recipe, so its rows have no outcomes.",
            fix="Choose a version that was created by a recipe.",
        )
    return parent


def _get_fates_path(version: Dataset) -> str:
    return str(Path(version.rows_path).with_name("fates.parquet"))


@dataclass(kw_only=True)
class _RunRow(DatasetRun):
    dataset_id: str


def _map_runs(db: Queryable) -> dict[str, list[DatasetRun]]:
    """Return the runs of each data set by data set id."""
    runs: dict[str, list[DatasetRun]] = {}
    table = db.query("SELECT run_id, name, status, dataset_id FROM run_overview ORDER BY number")
    for row in read_records(table, _RunRow):
        run = DatasetRun(run_id=row.run_id, name=row.name, status=row.status)
        runs.setdefault(row.dataset_id, []).append(run)
    return runs
