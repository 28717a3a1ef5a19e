"""The job `import`: a source, row by row, into a data set of its own in the home folder.

Rows read + rows skipped = rows of the file. Columns are watched to the last row for what the first did not
show. The data set is made aside and moved into place when it is whole, so a failed or killed import leaves
nothing.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from engine.data.conversion.conversation_turns import RowSkipped
from engine.data.conversion.dataset_writer import DatasetWriter
from engine.data.conversion.reading_plan import RowReading, decide, look, reading_problems, taught_rows
from engine.data.conversion.row_conversion import Convert
from engine.data.conversion.unused_columns import (
    ANSWERING,
    JUDGING,
    TaughtRows,
    as_text,
    find_undecided,
    is_covered,
    is_neutral,
    judge_column,
    refuse_undecided,
    repeats_answer,
    unused_columns,
    words_in,
)
from engine.data.readers.file_rows import (
    FileRow,
    Reader,
    ReadRow,
    Skipped,
    SourceProblem,
    encode,
    read_first,
    skipped,
    value_at,
    values_of,
)
from engine.data.readers.named_datasets import LABEL
from engine.data.readers.source_reader import open_source
from engine.data.split.partition import check_split_column
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.machine_load import uncollected
from engine.worker.progress import ProgressReporter
from engine.worker.temporary_folder import publish_dataset, temporary_folder
from store.core.errors import ConfigError, DataError
from store.core.row_schemas import ImportResult
from store.data.config import ImportConfig, Wishes
from store.data.formats import FORMATS
from store.data.schemas import UndecidedColumn

# The columns of a file, watched while all of its rows are read.
#
# Its first rows say how it is read. A file that is sorted shows its bad answers last: so the rows after
# them are watched for what the first did not show, and what was left out on purpose is counted.

MAX_LATE = 200  # rows after the first that are judged with them


class ColumnWatch:
    """left_out: column left out on purpose -> rows that have something in it."""

    def __init__(self, taught: TaughtRows, wishes: Wishes) -> None:
        self.left_out: Counter[str] = Counter(dict.fromkeys(wishes.ignore, 0))
        self._taught, self._source = taught, wishes.source
        self._columns = set(taught.columns)
        self._single: dict[str, object] = {}  # column or path -> its only value so far, None for none
        self._repeating: list[str] = []  # that may say another answer than the one that is taught
        self._late: list[FileRow] = []
        for name in unused_columns(taught):
            values = values_of(taught.rows, name)
            if (
                is_covered(name, wishes.ignore)
                or is_neutral(name)
                or any(isinstance(v, dict) for v in values)
            ):
                continue
            if len({as_text(value) for value in values} - {""}) < 2:
                self._single[name] = next(iter(values), None)
            elif words_in(name) & (ANSWERING | JUDGING) and repeats_answer(name, taught):
                self._repeating.append(name)

    def rows(self, rows: Iterator[ReadRow]) -> Iterator[ReadRow]:
        """The rows as they come. Raises DataError at the first that shows a column to be undecided."""
        for line, row in rows:
            if isinstance(row, dict):
                for name in self.left_out:
                    self.left_out[name] += value_at(row, name) not in (None, "", [], {})
                if undecided := self._look(row):
                    raise refuse_undecided([undecided], self._source, line)
            yield line, row

    def problems(self) -> list[SourceProblem]:
        """Columns to leave out that no row has."""
        return [
            SourceProblem(None, f"The column {name!r} was to be left out; no row has anything in it.")
            for name, count in self.left_out.items()
            if not count
        ]

    def _look(self, row: FileRow) -> UndecidedColumn | None:
        for name in self._shown_by(row):
            self._late = [*self._late[1 - MAX_LATE :], {**row, name: value_at(row, name)}]
            rows = [*self._taught.rows, *self._late]
            if undecided := judge_column(name, self._taught._replace(rows=rows)):
                return undecided
        return None

    def _shown_by(self, row: FileRow) -> list[str]:
        """Columns of which the row shows something new."""
        for name in row.keys() - self._columns:
            self._columns.add(name)
            if name not in self.left_out and not is_neutral(name):
                self._single[name] = None
        news = [name for name, value in self._single.items() if _differs(row, name, value)]
        for name in news:
            if self._single[name] is None:
                self._single[name] = value_at(row, name)
            else:
                del self._single[name]
        if not self._repeating:
            return news
        alone = self._taught._replace(rows=[row])
        return [*news, *(name for name in self._repeating if not repeats_answer(name, alone))]


def _differs(row: FileRow, name: str, value: object) -> bool:
    """Whether the row has another value there. Most have the same one, so that is looked at first."""
    own = row[name] if name in row else value_at(row, name) if "." in name else None
    if own is None or own == value:
        return False
    text = as_text(own) if own == own else ""
    return bool(text) and text != as_text(value)


# The job `import`: a source, row by row, into a data set of its own in the home folder.
#
# Rows read + rows skipped = rows of the file. The data set is made aside in the job's folder and moved
# into place when it is whole, so that a failed, cancelled or killed import leaves nothing half-made.

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
