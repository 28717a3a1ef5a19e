"""A data set whose signals were measured, and a version of it that a recipe made, as the engine leaves them.

The rows are those of `seed`, with rows 100 to 119 saying what rows 0 to 19 say, and e-mail addresses in three
rows. The version "Sums 0 v2" lacks the 20 duplicates, has the three rows redacted, and one row is mixed in.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.core.home import Home
from store.core.row_schemas import Fates, StepCounts
from store.data import datasets
from store.data.schemas import NewDataset
from store.data.signals import GROUPS
from store.db.database import Database, Transaction, utc_now
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed import ARROW, ROWS, seed

COUNT, REPEATED, WITH_MAIL = 200, 20, (3, 5, 7)
OLD, NEW = f"{0:064x}", "e" * 64
NEW_ID = "data-new"
RECIPE = {"steps": [{"step": "drop_duplicates"}, {"step": "redact", "kinds": ["email"]},
                    {"step": "mix", "dataset": "Sums 1", "share": 0.005}]}  # fmt: skip
TITLES = ("Drop exact duplicates, keep the first", "Redact e-mail addresses", "Mix in Sums 1 (1%)")
STEPS = ((200, 20, 0, 0), (180, 0, 3, 0), (180, 0, 0, 1))  # rows in, dropped, changed, added
FATES = Fates(kept=177, changed=3, dropped=20, added=1, steps=[
    StepCounts(title=t, rows_in=n, dropped=d, changed=c, added=a, rows_out=n - d + a)
    for t, (n, d, c, a) in zip(TITLES, STEPS, strict=True)])  # fmt: skip
FATES_SCHEMA = pa.schema(
    [
        ("parent_row_id", pa.int64()),
        ("row_id", pa.int64()),
        ("fate", pa.string()),
        ("step", pa.int32()),
        ("steps", pa.list_(pa.int32())),
        ("reason", pa.string()),
    ]
)


@made_once
def seed_quality(path: Path) -> Home:
    """Two data sets, the first measured and cleaned once; the second as it was imported."""
    home = seed(path, runs=1, sets=2, rows=COUNT)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        rows = _spoiled(home)
        measured = _sidecars(home, rows)
        with database.transaction() as tx:
            for group, figures in measured.items():
                record(tx, OLD, group, figures)
            _insert_version(tx, home, rows)
    finally:
        database.close()
    return home


def record(tx: Transaction, fingerprint: str, group: str, figures: dict[str, Any], n: int = COUNT) -> None:
    """Note figures of a group as measured just now."""
    measurement = {"options": {}, "row_count": n, "reused_count": 0, "figures": figures, "seconds": 0.1}
    datasets.record_signals(tx, fingerprint, group, measurement, utc_now())


def _spoiled(home: Home) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(home.rows(OLD)).to_pylist()
    for i in range(REPEATED):
        twin = rows[i]
        rows[100 + i] |= {name: twin[name] for name in ("messages", "text", "digest", "source")}
    for i in WITH_MAIL:
        _say(rows[i], f"Ask a.person{i}@example.org about it.")
    pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), home.rows(OLD))
    return rows


def _say(row: dict[str, Any], answer: str) -> None:
    row["messages"] = [row["messages"][0], {"role": "assistant", "content": answer}]
    row["text"] = f"{row['messages'][0]['content']}\n{answer}"


def _sidecars(home: Home, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Write what was measured; the figures of each group."""
    twins = {i: i for i in range(REPEATED)} | {100 + i: i for i in range(REPEATED)}
    groups = [twins.get(row["row_id"]) for row in rows]
    mails = [int(row["row_id"] in WITH_MAIL) for row in rows]
    columns = {
        "duplicates": {"exact_group": groups, "prompt_group": groups, "conflict": [False] * len(rows)},
        "privacy": {"email": mails},
    }
    for group, values in columns.items():
        file = home.signals(OLD, group)
        file.parent.mkdir(exist_ok=True)
        nulls = {
            signal.column: pa.nulls(len(rows), ARROW[signal.type])
            for signal in GROUPS[group].signals
            if signal.column not in values
        }
        pq.write_table(pa.table({"row_id": [row["row_id"] for row in rows], **values, **nulls}), file)
    group_figures = {"n": COUNT, "groups": REPEATED, "rows": 2 * REPEATED, "extra": REPEATED}
    mail = {"n": COUNT, "min": 0, "mean": 0.015, "median": 0, "p95": 0, "max": 1, "positive": len(WITH_MAIL)}
    return {
        "duplicates": {"exact_group": group_figures, "conflict": {"n": COUNT, "flagged": 0}},
        "privacy": {"email": mail},
    }


def _insert_version(tx: Transaction, home: Home, rows: list[dict[str, Any]]) -> None:
    kept = [dict(row) for row in rows if not 100 <= row["row_id"] < 100 + REPEATED]
    fates = []
    for number, row in enumerate(kept):
        old = row["row_id"]
        row["row_id"] = number
        changed = old in WITH_MAIL
        if changed:
            _say(row, "Ask [EMAIL] about it.")
        fates.append(_fate(old, number, "changed" if changed else "kept", 1 if changed else None))
    fates += [_fate(100 + i, None, "dropped", 0, f"the same text as row {i}") for i in range(REPEATED)]
    fates.append(_fate(None, len(kept), "added", 2, "from Sums 1"))
    kept.append({**kept[0], "row_id": len(kept)})
    home.rows(NEW).parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(kept, schema=ROWS), home.rows(NEW))
    pq.write_table(pa.Table.from_pylist(fates, schema=FATES_SCHEMA), home.fates(NEW))
    old_set = datasets.get_dataset(tx, "d00000")
    recorded = {field.name: getattr(old_set, field.name) for field in fields(NewDataset)}
    new = {"dataset_id": NEW_ID, "name": "Sums 0 v2", "parent_id": "d00000", "recipe": RECIPE}
    new |= {"fates": FATES, "fingerprint": NEW, "row_count": len(kept), "skipped_count": 0}
    new |= {"created_at": utc_now() + timedelta(seconds=1)}
    datasets.insert_dataset(tx, NewDataset(**{**recorded, **new}))


def _fate(old: int | None, new: int | None, fate: str, step: int | None, reason: str = "") -> dict[str, Any]:
    steps = [step] if fate == "changed" else []
    return {"parent_row_id": old, "row_id": new, "fate": fate, "step": step, "steps": steps, "reason": reason}


def example(row_id: int, fate: str, before: str, after: str | None, reason: str = "") -> dict[str, Any]:
    """One example of a preview, a text each."""
    row = {"messages": None, "text": before, "label": None, "rejected": None}
    return {
        "row_id": row_id,
        "fate": fate,
        "step": 0,
        "steps": [0],
        "reason": reason,
        "before": row,
        "after": None if after is None else row | {"text": after},
    }
