"""The job `import`: import a source, row by row, as a new data set in the home folder.

Rows read + rows skipped = rows of the file. The first rows decide how the file is read. A sorted file may
have its bad answers last, so all later rows are watched for values that the first rows did not show, and
non-empty values of ignored columns are counted. The data set is written to a temporary folder of the job and
moved into place once complete, so a failed, cancelled or killed import leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from engine.data.conversion.dataset_writer import DatasetWriter
from engine.data.conversion.reading_plan import (
    ReadingPlan,
    build_row_sample,
    find_reading_problems,
    inspect_head,
    plan_reading,
)
from engine.data.conversion.row_conversion import RowConverter
from engine.data.conversion.unused_columns import (
    ANSWER_WORDS,
    JUDGING_WORDS,
    RowSample,
    extract_text,
    find_undecided,
    find_unused_columns,
    is_covered,
    is_neutral,
    judge_column,
    make_undecided_error,
    repeats_answer,
    split_name,
)
from engine.data.readers.file_rows import (
    FileRow,
    Reader,
    ReadRow,
    RowSkipped,
    SkippedRow,
    SourceProblem,
    encode_row,
    list_values,
    make_skipped_row,
    read_first,
    read_path,
)
from engine.data.readers.named_datasets import LABEL
from engine.data.readers.source_reader import open_source
from engine.data.split.partition import check_split_column
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.machine_load import pause_garbage_collection
from engine.worker.progress import RowProgressReporter
from engine.worker.temporary_folder import publish_dataset, use_temporary_folder
from store.core.errors import ConfigError, DataError
from store.core.row_schemas import ImportResult
from store.data.config import ImportConfig, ImportOptions
from store.data.formats import FORMATS
from store.data.schemas import UndecidedColumn

MAX_LATE = 200  # later rows that are judged together with the first rows


class ColumnWatch:
    """Watch the unused columns while all rows are read.

    left_out: ignored column -> number of rows in which it is not empty.
    """

    def __init__(self, taught: RowSample, wishes: ImportOptions) -> None:
        self.left_out: Counter[str] = Counter(dict.fromkeys(wishes.ignore, 0))
        self._taught, self._source = taught, wishes.source
        self._columns = set(taught.columns)
        self._single: dict[str, object] = {}  # column or path -> its only value so far, None if empty
        self._repeating: list[str] = []  # columns that may hold another answer than the trained one
        self._late: list[FileRow] = []
        for name in find_unused_columns(taught):
            values = list_values(taught.rows, name)
            if (
                is_covered(name, wishes.ignore)
                or is_neutral(name)
                or any(isinstance(v, dict) for v in values)
            ):
                continue
            if len({extract_text(value) for value in values} - {""}) < 2:
                self._single[name] = next(iter(values), None)
            elif split_name(name) & (ANSWER_WORDS | JUDGING_WORDS) and repeats_answer(name, taught):
                self._repeating.append(name)

    def rows(self, rows: Iterator[ReadRow]) -> Iterator[ReadRow]:
        """Yield the rows unchanged. Raises DataError at the first row that makes a column undecided."""
        for line, row in rows:
            if isinstance(row, dict):
                for name in self.left_out:
                    self.left_out[name] += read_path(row, name) not in (None, "", [], {})
                if undecided := self._look(row):
                    raise make_undecided_error([undecided], self._source, line)
            yield line, row

    def problems(self) -> list[SourceProblem]:
        """Return the ignored columns that are empty in every row."""
        return [
            SourceProblem(None, f"The column {name!r} was set to be ignored, but it is empty in every row.")
            for name, count in self.left_out.items()
            if not count
        ]

    def _look(self, row: FileRow) -> UndecidedColumn | None:
        for name in self._shown_by(row):
            self._late = [*self._late[1 - MAX_LATE :], {**row, name: read_path(row, name)}]
            rows = [*self._taught.rows, *self._late]
            if undecided := judge_column(name, self._taught._replace(rows=rows)):
                return undecided
        return None

    def _shown_by(self, row: FileRow) -> list[str]:
        """Return the columns for which the row has something new."""
        for name in row.keys() - self._columns:
            self._columns.add(name)
            if name not in self.left_out and not is_neutral(name):
                self._single[name] = None
        news = [name for name, value in self._single.items() if _is_different(row, name, value)]
        for name in news:
            if self._single[name] is None:
                self._single[name] = read_path(row, name)
            else:
                del self._single[name]
        if not self._repeating:
            return news
        alone = self._taught._replace(rows=[row])
        return [*news, *(name for name in self._repeating if not repeats_answer(name, alone))]


def _is_different(row: FileRow, name: str, value: object) -> bool:
    """Return whether the row has another value at `name`. Equality is checked first, as the fastest test."""
    own = row[name] if name in row else read_path(row, name) if "." in name else None
    if own is None or own == value:
        return False
    text = extract_text(own) if own == own else ""
    return bool(text) and text != extract_text(value)


HEAD_ROWS = 500  # rows used to detect format and columns
MAX_IGNORED = 200  # ignored columns listed in the result
CHECK_EVERY = 256  # rows between progress reports and checks for cancellation


phases = ONE_PHASE


def run(job: WorkerJob) -> ImportResult:
    """Run the job's ImportConfig and return the result document (docs/results.md).

    Raises DataError and ConfigError that name the file, column or field, and the fix.
    """
    config = ImportConfig.parse(job.config)
    with use_temporary_folder(job, what="the data set", again="import again") as folder:
        return _import(job, config, folder / "dataset")


def _import(job: WorkerJob, config: ImportConfig, folder: Path) -> ImportResult:
    with contextlib.closing(_open(job, config)) as reader:
        rows = reader.rows()
        head = read_first(rows, HEAD_ROWS)
        reading, problems, watch = _plan_reading(config, reader, head)
        every = watch.rows(itertools.chain(head, rows))
        items = reading.items(every, lambda: _reread_rows(job, config))
        with DatasetWriter(folder) as writer, pause_garbage_collection():
            _write(job, reader, items, reading.convert(), writer)
            fingerprint = writer.close()
    if not writer.row_count:
        raise _make_empty_error(config.name, writer.reasons, writer.first_skipped)
    check_split_column(folder, config)
    publish_dataset(job, folder, fingerprint)
    remarks = [*reader.problems, *problems, *watch.problems()]
    notices = [f"Line {line}: {reason}" if line else reason for line, reason, _ in remarks[:50]]
    for notice in notices:
        job.alert(notice, level="info")
    result = _build_result(config, fingerprint, reading, reader, writer, notices)
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


def _reread_rows(job: WorkerJob, config: ImportConfig) -> Iterator[ReadRow]:
    """Yield the rows from the start, for a format that needs a first pass over all rows."""
    with contextlib.closing(_open(job, config)) as reader:
        for number, item in enumerate(reader.rows()):
            if number % CHECK_EVERY == 0:
                job.check_cancelled()
            yield item


def _plan_reading(
    config: ImportConfig, reader: Reader, head: list[ReadRow]
) -> tuple[ReadingPlan, list[SourceProblem], ColumnWatch]:
    """Return how the rows are read, the problems to report, and the watch of the unused columns.

    Raises DataError for an undecided column.
    """
    if not any(isinstance(row, dict) for _, row in head):
        faults = [(line, row.reason) for line, row in head if isinstance(row, SkippedRow)]
        first = {reason: line for line, reason in reversed(faults)}
        raise _make_empty_error(config.name, Counter(reason for _, reason in faults), first)
    seen = inspect_head(reader.columns, [*head, *reader.further], reader.marks)
    reading = plan_reading(seen, config, LABEL if config.source.builtin else None)
    if config.instruction and reading.chosen.format != "text_label":
        title = FORMATS[reading.chosen.format].title.lower()
        raise ConfigError(
            f"An instruction is only for texts with a label; these rows are {title}.",
            fix="Leave instruction empty, or choose the format text_label.",
            field="instruction",
        )
    taught = build_row_sample(reading, seen)
    if undecided := find_undecided(taught, config.ignore):
        raise make_undecided_error(undecided, config.source)
    return reading, find_reading_problems(reading, seen.rows), ColumnWatch(taught, config)


def _write(
    job: WorkerJob, reader: Reader, rows: Iterator[ReadRow], convert: RowConverter, writer: DatasetWriter
) -> None:
    report = RowProgressReporter(job, reader.total, reader.unit)
    for number, (line, row) in enumerate(rows):
        if number % CHECK_EVERY == 0:
            report(reader.position(), message=f"{number:,} rows")
        if isinstance(row, SkippedRow):
            writer.skip(line, row)
            continue
        try:
            source = encode_row(row)
        except RecursionError:
            writer.skip(line, make_skipped_row("nests too deeply", ""))
            continue
        try:
            writer.add(line, convert(row), source)
        except RowSkipped as fault:
            writer.skip(line, make_skipped_row(str(fault), source.decode("utf-8")))
        except UnicodeEncodeError:
            fault_text = "contains half of a surrogate pair, which is not a character"
            writer.skip(line, make_skipped_row(fault_text, source.decode("utf-8")))


def _make_empty_error(name: str, reasons: Counter[str], first: dict[str, int]) -> DataError:
    if not reasons:
        return DataError(f"No rows to import for {name!r}.", fix="Give a file with rows.", field="source")
    (reason, count), total = reasons.most_common(1)[0], reasons.total()
    return DataError(
        f"None of {total:,} rows could be read for {name!r}. Most often ({count:,} rows, the first at line"
        f" {first[reason]}): {reason}.",
        fix="Fix the file, or check format, columns and header.",
        field="source",
    )


def _build_result(
    config: ImportConfig,
    fingerprint: str,
    reading: ReadingPlan,
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
            "ignored": reading.ignored[:MAX_IGNORED],
            "ignored_count": len(reading.ignored),
            "parts": dict(writer.parts),
            "notices": notices,
        },
    }
