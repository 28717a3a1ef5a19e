"""The job `import`: a source, row by row, into a data set of its own in the home folder.

Rows read + rows skipped = rows of the file. The data set is made aside in the job's folder and moved
into place when it is whole, so that a failed, cancelled or killed import leaves nothing half-made.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from engine.data.convert.column_watch import ColumnWatch
from engine.data.convert.convert import Convert
from engine.data.convert.file_reading import RowReading, decide, look, reading_problems, taught_rows
from engine.data.convert.turns import RowSkipped
from engine.data.convert.unused_columns import find_undecided, refuse_undecided
from engine.data.convert.writer import DatasetWriter
from engine.data.deal.split_column import check_split_column
from engine.data.readers.builtin import LABEL
from engine.data.readers.first_rows import read_first
from engine.data.readers.raw_rows import Reader, ReadRow, Skipped, SourceProblem, skipped
from engine.data.readers.readers import open_source
from engine.data.readers.source_json import encode
from engine.worker.garbage import uncollected
from engine.worker.job import WorkerJob
from engine.worker.phases import ONE_PHASE
from engine.worker.progress import ProgressReporter
from engine.worker.temporary_folder import publish_dataset, temporary_folder
from store.catalog.formats import FORMATS
from store.config.data.import_config import ImportConfig
from store.contract.errors import ConfigError, DataError
from store.documents.data.import_result import ImportResult

HEAD_ROWS = 500  # from which format and columns are recognised
MOST_IGNORED = 200  # columns that are named
CHECK_EVERY = 256  # rows between two looks at the clock and at a request to stop


phases = ONE_PHASE


def run(job: WorkerJob) -> ImportResult:
    """Import what the job's ImportConfig says; the result document of docs/architecture.md.

    Raises DataError and ConfigError that name the file, column or field, and what to do.
    """
    config = ImportConfig.parse(job.config)
    with temporary_folder(job, what="the data set", again="import again") as folder:
        return _import(job, config, folder / "dataset")


def _import(job: WorkerJob, config: ImportConfig, folder: Path) -> ImportResult:
    with contextlib.closing(_open(job, config)) as reader:
        rows = reader.rows()
        head = read_first(rows, HEAD_ROWS)
        reading, problems, watch = _agree(config, reader, head)
        every = watch.rows(itertools.chain(head, rows))
        items = reading.items(every, lambda: _again(job, config))
        with DatasetWriter(folder) as writer, uncollected():
            _write(job, reader, items, reading.convert(), writer)
            fingerprint = writer.close()
    if not writer.row_count:
        raise _nothing_read(config.name, writer.reasons, writer.first_skipped)
    check_split_column(folder, config)
    publish_dataset(job, folder, fingerprint)
    notices = _notices([*reader.problems, *problems, *watch.problems()])
    for notice in notices:
        job.alert(notice, level="info")
    result = _result(config, fingerprint, reading, reader, writer, notices)
    result["stats"]["left_out"] = dict(watch.left_out)
    return result


def _open(job: WorkerJob, config: ImportConfig) -> Reader:
    return open_source(
        job.home,
        config.source,
        has_header=config.has_header,
        encoding=config.encoding,
        ignore_files=config.ignore_files,
    )


def _again(job: WorkerJob, config: ImportConfig) -> Iterator[ReadRow]:
    """The rows from the beginning, for a format that looks at all of them first."""
    with contextlib.closing(_open(job, config)) as reader:
        for number, item in enumerate(reader.rows()):
            if number % CHECK_EVERY == 0:
                job.check_cancelled()
            yield item


def _agree(
    config: ImportConfig, reader: Reader, head: list[ReadRow]
) -> tuple[RowReading, list[SourceProblem], ColumnWatch]:
    """How the rows are read, what to tell the user about it, and who watches the columns of all of them.
    Raises DataError for a column of which it has to be said what it is."""
    if not any(isinstance(row, dict) for _, row in head):
        faults = [(line, row.reason) for line, row in head if isinstance(row, Skipped)]
        first = {reason: line for line, reason in reversed(faults)}
        raise _nothing_read(config.name, Counter(reason for _, reason in faults), first)
    seen = look(reader.columns, [*head, *reader.further], reader.marks)
    reading = decide(seen, config, LABEL if config.source.builtin else None)
    if config.instruction and reading.chosen.format != "text_label":
        title = FORMATS[reading.chosen.format].title.lower()
        raise ConfigError(
            f"An instruction goes before texts with a label; these rows are {title}.",
            fix="Leave instruction empty, or choose the format text_label.",
            field="instruction",
        )
    taught = taught_rows(reading, seen)
    if undecided := find_undecided(taught, config.ignore):
        raise refuse_undecided(undecided, config.source)
    return reading, reading_problems(reading, seen.rows), ColumnWatch(taught, config)


def _write(
    job: WorkerJob, reader: Reader, rows: Iterator[ReadRow], convert: Convert, writer: DatasetWriter
) -> None:
    report = ProgressReporter(job, reader.total, reader.unit)
    for number, (line, row) in enumerate(rows):
        if number % CHECK_EVERY == 0:
            report(reader.position(), message=f"{number:,} rows")
        if isinstance(row, Skipped):
            writer.skip(line, row)
            continue
        try:
            source = encode(row)
        except RecursionError:
            writer.skip(line, skipped("nests too deeply", ""))
            continue
        try:
            writer.add(line, convert(row), source)
        except RowSkipped as fault:
            writer.skip(line, skipped(str(fault), source.decode("utf-8")))
        except UnicodeEncodeError:
            fault_text = "holds half of a surrogate pair, which is no character"
            writer.skip(line, skipped(fault_text, source.decode("utf-8")))


def _nothing_read(name: str, reasons: Counter[str], first: dict[str, int]) -> DataError:
    if not reasons:
        return DataError(
            f"There is no row to import for {name!r}.", fix="Give a file with rows.", field="source"
        )
    (reason, count), total = reasons.most_common(1)[0], reasons.total()
    return DataError(
        f"None of {total:,} rows could be read for {name!r}. Most often ({count:,} rows, the first at line"
        f" {first[reason]}): {reason}.",
        fix="Repair the file, or check format, columns and header.",
        field="source",
    )


def _notices(problems: list[SourceProblem]) -> list[str]:
    return [f"Line {line}: {reason}" if line else reason for line, reason, _ in problems[:50]]


def _result(
    config: ImportConfig,
    fingerprint: str,
    reading: RowReading,
    reader: Reader,
    writer: DatasetWriter,
    notices: list[str],
) -> ImportResult:
    chosen = reading.chosen
    return {
        "fingerprint": fingerprint,
        "kind": FORMATS[chosen.format].kind,
        "split_by": "given" if writer.parts and config.split_by == "random" else config.split_by,
        "format": chosen.format,
        "columns": {**chosen.mapping, **({"part": reading.part_column} if reading.part_column else {})},
        "row_count": writer.row_count,
        "skipped_count": writer.skipped_count,
        "duplicate_count": writer.duplicate_count(),
        "source_bytes": reader.bytes,
        "stats": {
            **writer.sizes(),
            "labels": dict(writer.labels.most_common(20)),
            "label_count": len(writer.labels),
            "skipped_reasons": dict(writer.reasons.most_common(100)),
            "reader": reader.name,
            "encoding": reader.encoding,
            "answers": chosen.answers,
            "values": dict(chosen.values),
            "ignored": reading.ignored[:MOST_IGNORED],
            "ignored_count": len(reading.ignored),
            "parts": dict(writer.parts),
            "notices": notices,
        },
    }
