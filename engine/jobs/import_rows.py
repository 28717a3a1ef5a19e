"""The job `import`: a source, row by row, into a data set of its own in the home folder.

Rows read + rows skipped = rows of the file. The data set is made aside in the job's folder and moved
into place when it is whole, so that a failed, cancelled or killed import leaves nothing half-made.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.data.builtin import LABEL
from engine.data.convert import Convert, converter
from engine.data.first_rows import read_first, remarks
from engine.data.formats import Chosen, choose, column_names
from engine.data.readers import open_source
from engine.data.rows import Problem, Reader, Row, Skipped, skipped
from engine.data.source_json import encode
from engine.data.split_column import check_split_column
from engine.data.turns import RowSkipped
from engine.data.writer import DatasetWriter
from engine.job import Job
from engine.jobs.aside import aside, publish_dataset
from store.errors import ConfigError, DataError
from store.formats import FORMATS
from store.import_config import ImportConfig

HEAD_ROWS = 500  # from which format and columns are recognised
CHECK_EVERY = 256  # rows between two looks at the clock and at a request to stop


def run(job: Job) -> dict[str, Any]:
    """Import what the job's ImportConfig says; the result document of docs/architecture.md.

    Raises DataError and ConfigError that name the file, column or field, and what to do.
    """
    config = ImportConfig.parse(job.config)
    with aside(job, what="the data set", again="import again") as folder:
        return _import(job, config, folder / "dataset")


def _import(job: Job, config: ImportConfig, folder: Path) -> dict[str, Any]:
    source = open_source(job.home, config.source, has_header=config.has_header, encoding=config.encoding)
    with contextlib.closing(source) as reader:
        rows = reader.rows()
        head = read_first(rows, HEAD_ROWS)
        chosen, problems = _agree(config, reader, head)
        convert = converter(
            chosen.format,
            chosen.mapping,
            instruction=config.instruction,
            label_column=LABEL if config.source.builtin else None,
            answers=chosen.answers,
        )
        with DatasetWriter(folder) as writer, _without_gc():
            _write(job, reader, itertools.chain(head, rows), convert, writer)
            fingerprint = writer.close()
    if not writer.row_count:
        raise _nothing_read(config.name, writer.reasons, writer.first_skipped)
    check_split_column(folder, config)
    publish_dataset(job, folder, fingerprint)
    notices = _notices([*reader.problems, *problems])
    for notice in notices:
        job.alert(notice, level="info")
    return _result(fingerprint, chosen, reader, writer, notices)


@contextlib.contextmanager
def _without_gc() -> Iterator[None]:
    """Rows make no cycles; looking for some among those that wait to be written costs a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _agree(config: ImportConfig, reader: Reader, head: list[Row]) -> tuple[Chosen, list[Problem]]:
    """How the rows are read, and what to tell the user about it."""
    rows = [row for _, row in head if isinstance(row, dict)]
    if not rows:
        faults = [(line, row.reason) for line, row in head if isinstance(row, Skipped)]
        first = {reason: line for line, reason in reversed(faults)}
        raise _nothing_read(config.name, Counter(reason for _, reason in faults), first)
    names = column_names(reader.columns, rows)
    chosen = choose(names, rows, config.format, config.columns, config.answers)
    if config.instruction and chosen.format != "text_label":
        title = FORMATS[chosen.format].title.lower()
        raise ConfigError(
            f"An instruction goes before texts with a label; these rows are {title}.",
            fix="Leave instruction empty, or choose the format text_label.",
            field="instruction",
        )
    problems = remarks(chosen.mapping, rows)
    if chosen.guessed:
        used = ", ".join(f"{role} = {column}" for role, column in chosen.mapping.items())
        problems.append(
            Problem(None, f"The names of the columns fit no format: {used} was guessed from the values.")
        )
    return chosen, problems


def _write(job: Job, reader: Reader, rows: Iterator[Row], convert: Convert, writer: DatasetWriter) -> None:
    started = told = time.monotonic()
    for number, (line, row) in enumerate(rows):
        if number % CHECK_EVERY == 0:
            job.check_cancelled()
            if (now := time.monotonic()) - told >= 1:
                told = now
                _tell(job, reader, number, now - started)
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


def _tell(job: Job, reader: Reader, rows: int, seconds: float) -> None:
    done = reader.position()
    eta = seconds * (reader.total - done) / done if done and reader.total else None
    job.progress(done, reader.total, reader.unit, f"{rows:,} rows", eta)


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


def _notices(problems: list[Problem]) -> list[str]:
    return [f"Line {line}: {reason}" if line else reason for line, reason in problems[:50]]


def _result(
    fingerprint: str,
    chosen: Chosen,
    reader: Reader,
    writer: DatasetWriter,
    notices: list[str],
) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "kind": FORMATS[chosen.format].kind,
        "format": chosen.format,
        "columns": chosen.mapping,
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
            "notices": notices,
        },
    }
