"""The new version that a recipe leaves: its rows, and `fates.parquet`, what became of every old one.

The fingerprint of a version covers rows, fates and the version before: a recipe that changes nothing is
another version still, and two ways to the same rows never share a folder, where one's fates would be lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.convert.writer import FLUSH_BYTES, FLUSH_ROWS, DatasetWriter
from engine.recipe.working import Working
from engine.rows.dataset import ContentHash
from store.documents.data.fates import FateCounts, StepCounts
from store.documents.data.import_result import CleanResult

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


def write(work: Working, folder: Path, steps: list[StepCounts]) -> CleanResult:
    """Write rows.parquet, skipped.parquet and fates.parquet into `folder`; the result, as in
    docs/architecture.md.

    The folder is not published yet. Raises Cancelled.
    """
    with DatasetWriter(folder) as writer:
        source_bytes = _rows(work, writer)
        table = fates(work)
        pq.write_table(table, folder / "fates.parquet", compression="zstd")
        add_fates(writer.fingerprint, table)
        writer.fingerprint.add("parent", pa.array([work.origins[0].dataset["fingerprint"]]))
        fingerprint = writer.close()
    result: CleanResult = {
        "fingerprint": fingerprint,
        "kind": work.kind,
        "format": work.format,
        "columns": work.columns,
        "row_count": writer.row_count,
        "skipped_count": 0,
        "duplicate_count": writer.duplicate_count(),
        "source_bytes": source_bytes,
        "stats": {
            **writer.sizes(),
            "labels": dict(writer.labels.most_common(20)),
            "label_count": len(writer.labels),
            "skipped_reasons": {},
            "reader": "recipe",
            "encoding": "utf-8",
            "notices": work.notices,
        },
        "fates": {**counts(table), "steps": steps},
    }
    if work.given:
        result["parts"] = dict(writer.parts)
        result["stats"]["parts"] = dict(writer.parts)
    return result


def add_fates(fingerprint: ContentHash, table: pa.Table) -> None:
    """The part of a version's fingerprint that covers what became of the rows before."""
    flat = table["steps"].combine_chunks()
    fingerprint.add("fates.steps", flat.flatten())
    fingerprint.add("fates.counts", flat.value_lengths())
    for name in FATES_SCHEMA.names:
        if name != "steps":
            column = table[name].combine_chunks()
            fingerprint.add(f"fates.{name}", column if name in ("fate", "reason") else column.fill_null(-1))


def counts(table: pa.Table) -> FateCounts:
    """Rows of each fate."""
    rows_of = {
        count["values"]: count["counts"]
        for count in table["fate"].combine_chunks().value_counts().to_pylist()
    }
    return {
        "kept": rows_of.get("kept", 0),
        "changed": rows_of.get("changed", 0),
        "dropped": rows_of.get("dropped", 0),
        "added": rows_of.get("added", 0),
    }


def _rows(work: Working, writer: DatasetWriter) -> int:
    """Write the living rows; the bytes that they had in their file."""
    waiting: list[pa.RecordBatch] = []
    source_bytes = 0
    for batch in work.scan():
        if sum(part.nbytes for part in waiting) + batch.nbytes >= FLUSH_BYTES and waiting:
            writer.add_table(pa.Table.from_batches(waiting))
            waiting = []
        waiting.append(batch)
        source_bytes += int(pc.sum(pc.binary_length(batch["source"])).as_py())
        if sum(part.num_rows for part in waiting) >= FLUSH_ROWS:
            writer.add_table(pa.Table.from_batches(waiting))
            waiting = []
    if waiting:
        writer.add_table(pa.Table.from_batches(waiting))
    return source_bytes


def fates(work: Working) -> pa.Table:
    """FATES_SCHEMA: the rows of the old version in their order, then those that were mixed in and stayed."""
    changed, changers = _changes(work)
    step = work.added_by.copy()
    for index, rows in work.changes:
        step[rows[rows < work.parents]] = index
    reasons = _reasons(work)
    for drop in work.drops:
        step[drop.rows] = drop.step
    new_ids = np.cumsum(work.alive) - 1
    fate = np.where(changed, "changed", "kept").astype(object)
    fate[~work.alive] = "dropped"
    fate[work.parents :] = "added"
    listed = np.flatnonzero(work.alive | (np.arange(work.total) < work.parents))
    taken = pa.array(listed)
    table = pa.table(
        {
            "parent_row_id": pa.array(np.arange(work.total), mask=np.arange(work.total) >= work.parents),
            "row_id": pa.array(new_ids, mask=~work.alive),
            "fate": pa.array(fate, pa.string()),
            "step": pa.array(step, pa.int32(), mask=step < 0),
            "steps": changers,
            "reason": reasons,
        },
        schema=FATES_SCHEMA,
    )
    return table.take(taken) if len(listed) < work.total else table


def _changes(work: Working) -> tuple[np.ndarray, pa.Array]:
    """Which rows some step changed (bool), and the steps that did, in order, as a list column."""
    rows = np.concatenate([*(rows for _, rows in work.changes), np.zeros(0, np.int64)])
    steps = np.concatenate([*(np.full(len(r), i, np.int32) for i, r in work.changes), np.zeros(0, np.int32)])
    counts = np.bincount(rows, minlength=work.total)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    ordered = steps[np.argsort(rows, kind="stable")]
    return counts > 0, pa.ListArray.from_arrays(pa.array(offsets), pa.array(ordered, pa.int32()))


def _reasons(work: Working) -> pa.Array:
    """Why each row was dropped, or where it was added from; empty for the others. What the recipe redacts is
    redacted here too: a reason may name a value of the row."""
    reasons = np.full(work.total, "", dtype=object)
    for drop in work.drops:
        reasons[drop.rows] = drop.reasons
    for number in np.flatnonzero(work.alive[work.parents :]) + work.parents:
        reasons[number] = work.name(int(number))
    for redact in work.redactors:
        redacted = {reason: redact(reason) for reason in set(reasons.tolist())}
        reasons = np.array([redacted[reason] for reason in reasons.tolist()], dtype=object)
    return pa.array(reasons, pa.string())
