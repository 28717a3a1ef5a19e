"""The rows of a bundle, into the home folder.

They are written anew, column by column, and their fingerprint is worked out from what was written: a bundle
can't bring rows under the name of others.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.bundles import archive
from engine.data.convert.writer import DatasetWriter
from engine.data.readers.raw_rows import skipped
from engine.prepare import prepare
from engine.recipe.outcome import FATES_SCHEMA, add_fates
from engine.rows.dataset import LATER, SCHEMA, SKIPPED_SCHEMA
from engine.worker.job import WorkerJob
from engine.worker.temporary_folder import publish_dataset
from store.catalog.formats import FORMATS
from store.config.training.bundle_config import ReadRows
from store.contract.errors import DataError
from store.documents.data.import_result import RowsResult

BATCH = 5_000  # rows


def take_in(job: WorkerJob, unpacked: Path, bundled: ReadRows, aside: Path) -> RowsResult | None:
    """Make the data set of the bundle that lies in `unpacked`; None where the same rows are here already.

    Raises DataError for rows that are not those that the manifest names.
    """
    if bundled.format not in FORMATS or FORMATS[bundled.format].kind != bundled.kind:
        raise _refused(
            f"its rows are said to be {bundled.kind} of the format {bundled.format}, which there isn't"
        )
    if job.home.rows(bundled.fingerprint).exists():
        return None
    parts: Counter[str] = Counter()
    try:
        with DatasetWriter(aside) as writer:
            _write(job, writer, unpacked, parts, bundled.row_count)
            if (fates := unpacked / archive.FATES).exists():
                table = _checked(archive.open_parquet(fates).read(), FATES_SCHEMA)
                pq.write_table(table, aside / archive.FATES, compression="zstd")
                add_fates(writer.fingerprint, table)
                writer.fingerprint.add("parent", pa.array([bundled.parent_fingerprint or ""]))
            fingerprint = writer.close()
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # a full disk, say; Parquet's own have no number
            raise
        reason = " ".join(str(error).split())[:200]
        raise _refused(f"its rows can't be read ({reason})") from error
    if fingerprint != bundled.fingerprint or writer.row_count != bundled.row_count:
        raise _refused(f"its rows are not those of its manifest: {fingerprint}, not {bundled.fingerprint}")
    publish_dataset(job, aside, fingerprint)
    return _result(bundled, writer, parts, (unpacked / archive.ROWS).stat().st_size)


def check_split(file: Path, row_count: int) -> None:
    """Raise DataError unless the file deals some of so many rows to the parts of a run."""
    try:
        table = archive.open_parquet(file, row_count).read(columns=["row_id", "split"])
        names, ids = table["split"].to_numpy(zero_copy_only=False), table["row_id"].to_numpy()
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise _refused("its split can't be read") from error
    if not pa.types.is_integer(table["row_id"].type):
        raise _refused("its split has no ids of rows")
    prepare.check_split({part: ids[names == part] for part in prepare.PARTS}, row_count)


def same_split(first: Path, second: Path) -> bool | None:
    """Whether two splits deal each row to the same part; None where one is gone."""
    if not first.exists() or not second.exists():
        return None
    tables = [pq.read_table(path, columns=["row_id", "split"]) for path in (first, second)]
    dealt = [
        dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True)) for table in tables
    ]
    return dealt[0] == dealt[1]


def _write(
    job: WorkerJob, writer: DatasetWriter, unpacked: Path, parts: Counter[str], row_count: int
) -> None:
    file = archive.open_parquet(unpacked / archive.ROWS, row_count)
    total = file.metadata.num_rows
    for batch in file.iter_batches(BATCH):
        job.check_cancelled()
        table = _checked(pa.Table.from_batches([batch]), SCHEMA)
        writer.add_table(table)
        parts.update(part for part in table["part"].to_pylist() if part is not None)
        job.progress(writer.row_count, total, "rows", "Taking the rows in")
    for row in _checked(archive.open_parquet(unpacked / archive.SKIPPED).read(), SKIPPED_SCHEMA).to_pylist():
        writer.skip(row["line"], skipped(row["reason"], row["excerpt"]))


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, as it has them; those that older data sets lack are null."""
    for name in LATER & set(schema.names) - set(table.column_names):
        table = table.append_column(name, pa.nulls(table.num_rows, schema.field(name).type))
    return table.select(schema.names).cast(schema)


def _result(bundled: ReadRows, writer: DatasetWriter, parts: Counter[str], size: int) -> RowsResult:
    return {
        "fingerprint": bundled.fingerprint,
        "kind": bundled.kind,
        "format": bundled.format,
        "columns": bundled.columns,
        "row_count": writer.row_count,
        "skipped_count": writer.skipped_count,
        "duplicate_count": writer.duplicate_count(),
        "source_bytes": size,
        "stats": {
            **writer.sizes(),
            "labels": dict(writer.labels.most_common(20)),
            "label_count": len(writer.labels),
            "skipped_reasons": dict(writer.reasons.most_common(100)),
            "reader": "bundle",
            "encoding": "utf-8",
            "parts": dict(parts),
            "notices": [],
        },
    }


def _refused(why: str) -> DataError:
    return DataError(f"The bundle can't be taken: {why}.", fix=archive.AGAIN, field="bundle")
