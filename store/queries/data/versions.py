"""Versions of a data set: the tree that recipes grew, what became of every row, two versions side by side.

A family is an import and all that was made of it by recipes. Between any two versions of a family each row of
one is either also in the other, kept or changed, or it is not: the fates files of the versions between them,
chained through the last version that both come from, say which. Contents are compared only where some recipe
on the way changed the row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.config.recipe import FATES, Fate, Recipe
from store.contract.errors import ConfigError, StateError
from store.db.records import records, scalar
from store.queries.data import datasets, quality
from store.words.recipe_words import title

if TYPE_CHECKING:
    from store.db.database import Queryable

Document = dict[str, Any]


def tree(db: Queryable, dataset: str) -> list[Document]:
    """All versions of the family of a data set (id or name), each after the one that it was made from.

    Of each: what `store.queries.data.datasets` says of it, `depth` (0 for the first), `titles` (of the
    recipe's steps) and `runs` [{run_id, name, status}], those that use it.
    """
    chosen = datasets.get_dataset(db, dataset)
    known = {row["dataset_id"]: row for row in datasets.list_datasets(db)}
    root = _ancestors(known, chosen)[-1]
    runs = _runs(db)
    found: list[Document] = []

    def add(row: Document, depth: int) -> None:
        titles = [title(step) for step in Recipe.parse(row["recipe"]).steps] if row["recipe"] else []
        found.append({**row, "depth": depth, "titles": titles, "runs": runs.get(row["dataset_id"], [])})
        children = [other for other in known.values() if other["parent_id"] == row["dataset_id"]]
        for child in sorted(children, key=lambda other: (other["created_at"], other["dataset_id"])):
            add(child, depth + 1)

    add(root, 0)
    return found


def lineage(db: Queryable, dataset: str) -> list[Document]:
    """The data set and the versions that it comes from, the first one first."""
    chosen = datasets.get_dataset(db, dataset)
    known = {row["dataset_id"]: row for row in datasets.list_datasets(db)}
    return _ancestors(known, chosen)[::-1]


def told(db: Queryable, dataset: str) -> Document:
    """What a data card tells of a version: `history` (the versions from the first to this one: name, source,
    columns, format, row_count, skipped_count, stats, recipe, fates, created_at as text) and `figures` {group:
    {options, row_count, figures}}."""
    fields = ("name", "source", "columns", "format", "row_count", "skipped_count", "stats", "recipe", "fates")
    chain = lineage(db, dataset)
    history = [{f: row[f] for f in fields} | {"created_at": row["created_at"].isoformat()} for row in chain]
    measured = quality.signals(db, chain[-1]["fingerprint"])
    figures = {
        name: {field: row[field] for field in ("options", "row_count", "figures")}
        for name, row in measured.items()
        if not row["outdated"]
    }
    return {"history": history, "figures": figures}


def fates(
    db: Queryable,
    dataset: str,
    *,
    fate: Fate | None = None,
    step: int | None = None,
    search: str = "",
    limit: int = 50,
    offset: int = 0,
) -> Document:
    """What became of the rows of the version before: `{"total", "rows": [{parent_row_id, row_id, fate, step,
    steps, reason, before, after}]}`; before and after are the texts.

    step: those that this step (index in the recipe) dropped, added or changed. search: in the reason or in
    either text, in any case. Raises StateError for a data set that no recipe made.
    """
    version = datasets.get_dataset(db, dataset)
    parent = _parent(db, version)
    conditions = ["true"]
    params: Document = {
        "fates": _fates_path(version),
        "old": parent["rows_path"],
        "new": version["rows_path"],
    }
    if fate is not None:
        conditions.append("f.fate = $fate")
        params["fate"] = fate
    if step is not None:
        conditions.append("(f.step = $step OR list_contains(f.steps, $step))")
        params["step"] = step
    if search:
        texts = ("f.reason", "p.text", "r.text")
        found = " OR ".join(f"contains(lower(coalesce({text}, '')), lower($search))" for text in texts)
        conditions.append(f"({found})")
        params["search"] = search
    where = " AND ".join(conditions)
    table = "read_parquet($fates) f"
    texts_of = (
        " LEFT JOIN read_parquet($old) p ON p.row_id = f.parent_row_id"
        " LEFT JOIN read_parquet($new) r ON r.row_id = f.row_id"
    )
    count = f"SELECT count(*) FROM {table}{texts_of if search else ''} WHERE {where}"
    counted = params if search else {k: v for k, v in params.items() if k not in ("old", "new")}
    page = f"""
        WITH page AS (SELECT f.* FROM {table}{texts_of if search else ""} WHERE {where}
                      ORDER BY f.parent_row_id NULLS LAST, f.row_id LIMIT $limit OFFSET $offset)
        SELECT f.*, p.text AS before, r.text AS after FROM page f {texts_of}
        ORDER BY f.parent_row_id NULLS LAST, f.row_id
    """
    rows = records(db.query(page, {**params, "limit": limit, "offset": offset}))
    return {"total": int(scalar(db.query(count, counted))), "rows": rows}


def compare(
    db: Queryable, dataset: str, other: str, *, fate: Fate | None = None, limit: int = 20, offset: int = 0
) -> Document:
    """Two versions of a family row by row, seen from `dataset`: a row that `other` lacks is dropped, one that
    only `other` has is added.

    `{"counts": {kept, changed, dropped, added}, "total": rows of the fate asked for (all but the kept where
    left out), "rows": [{fate, row_id, other_row_id, before: row, after: row}]}`; a row has messages, text,
    label and rejected, and is None where the version lacks it. Raises ConfigError (field other) for versions
    of two families.
    """
    first, second = datasets.get_dataset(db, dataset), datasets.get_dataset(db, other)
    links, params = _links(db, first, second)
    counted = records(db.query(f"{links} SELECT fate, count(*) AS n FROM linked GROUP BY fate", params))
    counts: dict[str, int] = dict.fromkeys(FATES, 0) | {row["fate"]: row["n"] for row in counted}
    wanted = [fate] if fate else ["changed", "dropped", "added"]
    page = db.query(
        f"{links} SELECT * FROM linked WHERE list_contains($wanted::VARCHAR[], fate)"
        " ORDER BY row_id NULLS LAST, other_row_id LIMIT $limit OFFSET $offset",
        {**params, "wanted": wanted, "limit": limit, "offset": offset},
    )
    rows = records(page)
    before = _contents(db, first, [row["row_id"] for row in rows])
    after = _contents(db, second, [row["other_row_id"] for row in rows])
    for row in rows:
        row["before"], row["after"] = before.get(row["row_id"]), after.get(row["other_row_id"])
    return {"counts": counts, "total": sum(counts[name] for name in wanted), "rows": rows}


def _links(db: Queryable, first: Document, second: Document) -> tuple[str, Document]:
    """The table `linked` (row_id, other_row_id, fate) as common table expressions, and their parameters."""
    known = {row["dataset_id"]: row for row in datasets.list_datasets(db)}
    ours, theirs = _ancestors(known, first), _ancestors(known, second)
    ids = [row["dataset_id"] for row in theirs]
    common = next((row for row in ours if row["dataset_id"] in ids), None)
    if common is None:
        raise ConfigError(
            f"{first['name']} and {second['name']} are not versions of one data set.",
            fix="Compare versions that come from the same import.",
            field="other",
        )
    params: Document = {"first": first["rows_path"], "second": second["rows_path"]}
    params["common"] = common["rows_path"]
    tables = [
        _chain("a", ours[: ours.index(common)][::-1], params),
        _chain("b", theirs[: ids.index(common["dataset_id"])][::-1], params),
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


def _chain(name: str, versions: list[Document], params: Document) -> str:
    """Tables that follow the rows of the common version down to the last of `versions`; the last is `name`:
    origin (row id in the common version), row_id, touched (whether a recipe on the way changed it)."""
    sql = "SELECT row_id AS origin, row_id, false AS touched FROM read_parquet($common)"
    tables = [f"{name}0 AS ({sql})"]
    for depth, version in enumerate(versions, 1):
        params[f"{name}{depth}"] = _fates_path(version)
        tables.append(
            f"{name}{depth} AS (SELECT m.origin, f.row_id, m.touched OR f.fate = 'changed' AS touched"
            f" FROM {name}{depth - 1} m JOIN read_parquet(${name}{depth}) f ON f.parent_row_id = m.row_id"
            " WHERE f.row_id IS NOT NULL)"
        )
    tables.append(f"{name} AS (SELECT * FROM {name}{len(versions)})")
    return ", ".join(tables)


def _contents(db: Queryable, dataset: Document, row_ids: list[int | None]) -> dict[int | None, Document]:
    wanted = [row_id for row_id in row_ids if row_id is not None]
    fields = ("messages", "text", "label", "rejected")
    found = datasets.get_rows(db, dataset, wanted) if wanted else []
    return {row["row_id"]: {field: row[field] for field in fields} for row in found}


def _ancestors(known: dict[str, Document], row: Document) -> list[Document]:
    """The version, the one that it was made from, and so on."""
    chain = [row]
    while (parent := known.get(chain[-1]["parent_id"] or "")) is not None:
        chain.append(parent)
    return chain


def _parent(db: Queryable, version: Document) -> Document:
    parent = version["parent_id"] and datasets.find_dataset(db, version["parent_id"])
    if not parent:
        raise StateError(
            f"{version['name']} was imported, not made by a recipe: no row has a fate.",
            fix="Choose a version that a recipe made.",
        )
    return dict(parent)


def _fates_path(version: Document) -> str:
    return str(Path(version["rows_path"]).with_name("fates.parquet"))


def _runs(db: Queryable) -> dict[str, list[Document]]:
    """The runs of each data set, by its id."""
    found: dict[str, list[Document]] = {}
    table = db.query("SELECT run_id, name, status, dataset_id FROM run_overview ORDER BY number")
    for row in records(table):
        found.setdefault(row.pop("dataset_id"), []).append(row)
    return found
