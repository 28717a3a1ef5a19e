"""Apply a recipe to the rows of a version step by step, count what each step does, and write the new version.

An error names its step: "Step 2 (Drop rows where …): …", field `recipe.steps.1.where`. A step that leaves no
row is an error. `fates.parquet` records what happened to every old row. The fingerprint covers rows, fates
and the parent version. A recipe that changes nothing therefore makes another version, and two recipes with
the same resulting rows never share a folder, where the fates of one of them would be lost.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.data.cleaning import added_rows, content_steps, row_selection, text_steps
from engine.data.cleaning.row_queries import RowQueries
from engine.data.cleaning.working_rows import WorkingRows
from engine.data.conversion.dataset_writer import FLUSH_BYTES, FLUSH_ROWS, DatasetWriter
from store.core.errors import ConfigError, TunebenchError
from store.core.row_schemas import CleanResult, FateCounts, Fates, StepCounts
from store.data.cleaning import (
    AddRows,
    Balance,
    CapLength,
    DropDuplicates,
    EditRows,
    FilterRows,
    FixEncoding,
    MapColumns,
    Mix,
    Normalise,
    Recipe,
    Redact,
    Relabel,
    Sample,
    Step,
    Strip,
)
from store.data.cleaning_text import describe_step
from store.data.dataset_files import ContentHash

MAX_REASONS = 3  # reasons listed in the error about a step that leaves no row


def apply_recipe(work: WorkingRows, recipe: Recipe) -> list[StepCounts]:
    """Run the steps on the rows; return title, rows_in, changed, dropped, added and rows_out of each step.

    Raises the error of the step that failed, and JobCancelled.
    """
    counted: list[StepCounts] = []
    work.progress.plan([*(estimate_step_cost(step) for step in recipe.steps), 2.0])
    with closing(RowQueries(work)) as ask:
        for index, step in enumerate(recipe.steps):
            name = describe_step(step)
            work.progress.begin(index, name)
            before, total = work.count, work.total
            try:
                _run_step(work, ask, step, index)
                if not work.count and not work.limited:
                    raise _make_empty_error(work, index, before)
            except TunebenchError as error:
                raise _add_step_to_error(error, index, name) from error
            added = work.total - total
            changed = sum(len(rows) for at, rows in work.changes if at == index)
            counted.append(
                StepCounts(
                    title=name,
                    rows_in=before,
                    changed=changed,
                    dropped=before + added - work.count,
                    added=added,
                    rows_out=work.count,
                )
            )
            if not work.count:
                work.notices.append(f"Step {index + 1} ({name}) drops all of the first rows that were tried.")
                break
    work.progress.begin(len(recipe.steps), "Writing the new version")
    return counted


def _run_step(work: WorkingRows, ask: RowQueries, step: Step, index: int) -> None:
    match step:
        case FixEncoding() | Normalise() | Strip() | Redact():
            text_steps.change_texts(work, step, index)
        case MapColumns():
            content_steps.map_columns(work, step, index)
        case FilterRows():
            row_selection.filter_rows(work, ask, step, index)
        case DropDuplicates():
            row_selection.drop_duplicates(work, step, index)
        case CapLength():
            content_steps.cap_length(work, step, index)
        case Balance():
            row_selection.balance(work, ask, step, index)
        case Sample():
            row_selection.sample(work, ask, step, index)
        case Relabel():
            content_steps.fix_label_errors(work, ask, step, index)
        case Mix():
            row_selection.mix(work, step, index)
        case AddRows():
            added_rows.add_rows(work, step, index)
        case EditRows():
            content_steps.edit_rows(work, step, index)


def depends_on_other_rows(step: Step) -> bool:
    """Return whether what a step does to a row depends on other rows.

    A preview of the first rows can't predict such a step.
    """
    across = isinstance(step, DropDuplicates | Balance | Sample | Mix | AddRows)
    return across or (isinstance(step, Relabel) and step.most is not None)


def estimate_step_cost(step: Step) -> float:
    """Estimate the duration of a step, in passes over the rows."""
    if isinstance(step, CapLength):
        return 30.0 if step.unit == "tokens" else 3.0
    if isinstance(step, DropDuplicates):
        return 30.0 if step.kind == "near" else 1.0
    if isinstance(step, Redact):
        return 20.0
    return 5.0 if isinstance(step, FixEncoding | Normalise | Strip | MapColumns) else 1.0


def _make_empty_error(work: WorkingRows, index: int, before: int) -> ConfigError:
    reasons: dict[str, int] = {}
    for drop in work.drops:
        if drop.step == index:
            given = [drop.reasons] * len(drop.rows) if isinstance(drop.reasons, str) else drop.reasons
            for reason in given:
                reasons[reason] = reasons.get(reason, 0) + 1
    most = sorted(reasons, key=lambda reason: -reasons[reason])[:MAX_REASONS]
    return ConfigError(
        f"It would drop every one of {before:,} rows ({'; '.join(most)}).",
        fix="Change or remove this step.",
        field="",
    )


def _add_step_to_error(error: TunebenchError, index: int, name: str) -> TunebenchError:
    """Return the error with the failed step added to its message and its field."""
    part = f".{error.field}" if error.field else ""
    return type(error)(
        f"Step {index + 1} ({name}): {error.message}", fix=error.fix, field=f"recipe.steps.{index}{part}"
    )


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


def write_version(work: WorkingRows, folder: Path, steps: list[StepCounts]) -> CleanResult:
    """Write rows.parquet, skipped.parquet and fates.parquet into `folder`; return the result (docs/rows.md).

    The folder is not published yet. Raises JobCancelled.
    """
    with DatasetWriter(folder) as writer:
        source_bytes = _write_rows(work, writer)
        table = build_fates_table(work)
        pq.write_table(table, folder / "fates.parquet", compression="zstd")
        hash_fates(writer.fingerprint, table)
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
        "fates": Fates(**vars(count_fates(table)), steps=steps),
    }
    if work.given:
        result["parts"] = dict(writer.parts)
        result["stats"]["parts"] = dict(writer.parts)
    return result


def hash_fates(fingerprint: ContentHash, table: pa.Table) -> None:
    """Add the fates of the old rows to the fingerprint of the version."""
    flat = table["steps"].combine_chunks()
    fingerprint.add("fates.steps", flat.flatten())
    fingerprint.add("fates.counts", flat.value_lengths())
    for name in FATES_SCHEMA.names:
        if name != "steps":
            column = table[name].combine_chunks()
            fingerprint.add(f"fates.{name}", column if name in ("fate", "reason") else column.fill_null(-1))


def count_fates(table: pa.Table) -> FateCounts:
    """Count the rows of each fate."""
    rows_of = {
        count["values"]: count["counts"]
        for count in table["fate"].combine_chunks().value_counts().to_pylist()
    }
    return FateCounts(
        kept=rows_of.get("kept", 0),
        changed=rows_of.get("changed", 0),
        dropped=rows_of.get("dropped", 0),
        added=rows_of.get("added", 0),
    )


def _write_rows(work: WorkingRows, writer: DatasetWriter) -> int:
    """Write the living rows; return the total size of their sources in bytes."""
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


def build_fates_table(work: WorkingRows) -> pa.Table:
    """Build the FATES_SCHEMA table: the rows of the old version in order, then the surviving added rows."""
    changed, changers = _collect_changes(work)
    step = work.added_by.copy()
    for index, rows in work.changes:
        step[rows[rows < work.parents]] = index
    reasons = _collect_reasons(work)
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


def _collect_changes(work: WorkingRows) -> tuple[np.ndarray, pa.Array]:
    """Return which rows were changed (bool), and the steps that changed each, in order, as a list column."""
    rows = np.concatenate([*(rows for _, rows in work.changes), np.zeros(0, np.int64)])
    steps = np.concatenate([*(np.full(len(r), i, np.int32) for i, r in work.changes), np.zeros(0, np.int32)])
    counts = np.bincount(rows, minlength=work.total)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    ordered = steps[np.argsort(rows, kind="stable")]
    return counts > 0, pa.ListArray.from_arrays(pa.array(offsets), pa.array(ordered, pa.int32()))


def _collect_reasons(work: WorkingRows) -> pa.Array:
    """Return why each row was dropped, or where it was added from; empty for the other rows.

    The redactions of the recipe are applied to the reasons as well, because a reason may quote a value of the
    row.
    """
    reasons = np.full(work.total, "", dtype=object)
    for drop in work.drops:
        reasons[drop.rows] = drop.reasons
    for number in np.flatnonzero(work.alive[work.parents :]) + work.parents:
        reasons[number] = work.name(int(number))
    for redact in work.redactors:
        redacted = {reason: redact(reason) for reason in set(reasons.tolist())}
        reasons = np.array([redacted[reason] for reason in reasons.tolist()], dtype=object)
    return pa.array(reasons, pa.string())
