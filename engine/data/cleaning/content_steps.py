"""Cleaning steps that change the contents of rows: map_columns, edit_rows, label_errors and cap_length.

cap_length drops rows that are too long, or cuts their last answer at a word boundary. Token counts are those
of the row as the model sees it, including its chat template and closing tokens. Of a preference row, the
preferred answer is counted and cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.cleaning.row_queries import RowQueries
from engine.data.cleaning.working_rows import (
    BatchChange,
    WorkingRows,
    build_batch_change,
    drop_stale_choices,
    read_canonical_rows,
    replace_texts,
)
from engine.data.conversion.conversation_turns import Turns, check_turns, read_turns
from engine.data.conversion.format_detection import FormatOptions, choose_format
from engine.data.conversion.row_conversion import CanonicalRow, RowConverter, make_converter
from engine.data.readers.file_rows import RowSkipped, list_column_names
from store.core.errors import ConfigError
from store.data.cleaning import CapLength, Edit, EditRows, MapColumns, Relabel
from store.data.formats import FORMATS

FIRST_ROWS = 500  # rows used to detect the meaning of the new columns


def map_columns(work: WorkingRows, step: MapColumns, index: int) -> None:
    """Convert every living row again from its `source`; drop rows that can't be converted, with the reason.

    Raises ConfigError for a role that the format doesn't have, a required role without a column, and a column
    that no row has.
    """
    format = FORMATS[step.format]
    for role in step.columns:
        if not format.has_role(role):
            raise ConfigError(
                f"{format.title} has no role {role!r}.",
                fix=f"It has {', '.join(format.roles)}.",
                field=f"columns.{role}",
            )
    convert = _make_converter(work, step)
    seen: set[str] = set()
    work.rewrite(index, lambda batch: _reread_batch(batch, convert, seen))
    for role, column in step.columns.items():
        if column and column not in seen:
            raise ConfigError(
                f"No row has the column {column!r}.",
                fix=f"The rows have {', '.join(sorted(seen)[:30])}.",
                field=f"columns.{role}",
            )
    work.kind, work.format, work.columns = format.kind, step.format, dict(step.columns)


def _make_converter(work: WorkingRows, step: MapColumns) -> RowConverter:
    """Make the function that converts a row again.

    How answers name choices, and what the deciding values mean, is detected from the first rows. Raises
    ConfigError and DataError if it can't be detected.
    """
    if step.format == "marked_pairs":
        raise ConfigError(
            "Pairs of good and bad answers are created at import, from rows that are not adjacent.",
            fix="Import the file again in this format.",
            field="format",
        )
    form = FORMATS[step.format]
    if not (form.meanings or form.several):
        return make_converter(step.format, step.columns, instruction=step.instruction)
    batch = next(work.scan(["source"]), None)
    rows = [json.loads(source) for source in batch["source"].to_pylist()[:FIRST_ROWS]] if batch else []
    chosen = choose_format(list_column_names([], rows), rows, FormatOptions(step.format, step.columns))
    return make_converter(step.format, chosen.mapping, answers=chosen.answers, values=chosen.values)


def _reread_batch(batch: pa.RecordBatch, convert: RowConverter, seen: set[str]) -> BatchChange | None:
    made: dict[int, CanonicalRow] = {}
    dropped: dict[int, str] = {}
    for at, (source, old) in enumerate(
        zip(batch["source"].to_pylist(), read_canonical_rows(batch), strict=True)
    ):
        row = json.loads(source)
        seen.update(row)
        try:
            new = convert(row)._replace(part=old.part)
        except RowSkipped as fault:
            dropped[at] = str(fault)
            continue
        if new != old:
            made[at] = new
    return build_batch_change(batch, made, dropped)


def edit_rows(work: WorkingRows, step: EditRows, index: int) -> None:
    """Replace rows by edited ones; add a notice for an edited row that an earlier step dropped.

    Raises ConfigError for a row that the old version doesn't have, a row that is edited twice, and contents
    that are invalid for the kind of the row.
    """
    edits: dict[int, Edit] = {}
    for number, edit in enumerate(step.edits):
        if edit.row_id >= work.whole or edit.row_id in edits:
            why = "is edited twice" if edit.row_id in edits else f"is none of {work.whole:,} rows"
            raise ConfigError(
                f"Row {edit.row_id} {why}.", fix="Remove this edit.", field=f"edits.{number}.row_id"
            )
        edits[edit.row_id] = edit
    for row_id in edits:
        if row_id < work.parents and not work.alive[row_id]:
            work.notices.append(f"The edit of row {row_id} has no effect: an earlier step drops the row.")
    _replace(work, index, {row_id: partial(apply_edit, edit=edit) for row_id, edit in edits.items()})


def apply_edit(row: CanonicalRow, edit: Edit) -> CanonicalRow:
    """Return the row with the edit applied. Raises ConfigError (field edits) if the edit is invalid."""
    if (edit.text is not None and row.roles is not None) or (edit.messages is not None and row.roles is None):
        form = "messages" if row.roles is not None else "a text"
        raise ConfigError(f"Row {edit.row_id} has {form}.", fix=f"Give {form}.", field="edits")
    label = row.label if edit.label is None else (edit.label.strip() or None)
    if edit.text is not None:
        if not edit.text.strip():
            raise ConfigError(f"The text of row {edit.row_id} is empty.", fix="Drop the row.", field="edits")
        return row._replace(text=edit.text, label=label)
    if edit.messages is None:
        return _replace_label(row, label)
    try:
        turns: Turns = read_turns(edit.messages, "messages")
        check_turns(turns)
    except RowSkipped as fault:
        raise ConfigError(
            f"Row {edit.row_id} can't be so: {fault}.", fix="Correct it.", field="edits"
        ) from fault
    roles, contents = zip(*turns, strict=True)
    if edit.label is None and label is not None and row.contents[-1].strip() == label:
        label = contents[-1].strip()  # the answer is the label
    return drop_stale_choices(
        row._replace(roles=roles, contents=contents, text="\n\n".join(contents), label=label)
    )


def fix_label_errors(work: WorkingRows, ask: RowQueries, step: Relabel, index: int) -> None:
    """Drop rows with suspected label errors, or apply the suggested labels.

    With `step.most`, only the most suspicious ones.
    """
    table = ask.values(["label_suspect", "label_rank", "label_suggested", "label"])
    suspect = table["label_suspect"].fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    suspects = table.filter(pa.array(suspect)).sort_by([("label_rank", "ascending"), ("row_id", "ascending")])
    chosen = suspects.slice(0, step.most).sort_by("row_id").to_pylist()
    if step.action == "drop":
        reasons = [
            f"labelled {row['label']!r}; the others suggest {row['label_suggested']!r}" for row in chosen
        ]
        work.drop(index, np.asarray([row["row_id"] for row in chosen], np.int64), reasons)
        return
    suggested = {row["row_id"]: row["label_suggested"] for row in chosen if row["label_suggested"]}
    _replace(
        work,
        index,
        {row_id: partial(_replace_label, label=label) for row_id, label in suggested.items()},
    )


def _replace_label(row: CanonicalRow, label: str | None) -> CanonicalRow:
    """Return the row with another label; the answer is replaced as well if it equals the label."""
    if row.roles is None or row.label is None or row.contents[-1].strip() != row.label or label is None:
        return row._replace(label=label)
    contents = (*row.contents[:-1], label)
    return row._replace(contents=contents, text="\n\n".join(contents), label=label)


def _replace(work: WorkingRows, index: int, rows: dict[int, Callable[[CanonicalRow], CanonicalRow]]) -> None:
    """Apply a function to each living row whose number is in `rows`."""

    def change(batch: pa.RecordBatch) -> BatchChange | None:
        numbers = batch["row_id"].to_pylist()
        places = [at for at, number in enumerate(numbers) if number in rows]
        if not places:
            return None
        old = dict(enumerate(read_canonical_rows(batch)))
        new = {at: rows[numbers[at]](old[at]) for at in places}
        return build_batch_change(batch, {at: row for at, row in new.items() if row != old[at]})

    if rows:
        work.rewrite(index, change)


_WORD = re.compile(r"\S+")

LengthMeasure = Callable[[Sequence[CanonicalRow]], np.ndarray]


def cap_length(work: WorkingRows, step: CapLength, index: int) -> None:
    """Drop or cut the rows longer than `step.most`.

    Raises ConfigError if tokens are counted and no model is given, and ModelError.
    """
    measure = _count_words if step.unit == "words" else _make_token_counter(work, step.model)
    unit = step.unit

    def change(batch: pa.RecordBatch) -> BatchChange | None:
        rows = list(read_canonical_rows(batch))
        lengths = measure(rows)
        made: dict[int, CanonicalRow] = {}
        dropped: dict[int, str] = {}
        for at in np.flatnonzero(lengths > step.most):
            shorter = _shorten_answer(rows[at], step.most, measure) if step.action == "cut" else None
            if shorter is not None:
                made[int(at)] = shorter
            else:
                why = ", and no shorter answer would fit" if step.action == "cut" else ""
                dropped[int(at)] = f"longer than {step.most:,} {unit}: {lengths[at]:,}{why}"
        return build_batch_change(batch, made, dropped)

    work.rewrite(index, change)


def _count_words(rows: Sequence[CanonicalRow]) -> np.ndarray:
    return np.fromiter((len(row.text.split()) for row in rows), np.int64, len(rows))


def _make_token_counter(work: WorkingRows, model: str) -> LengthMeasure:
    """Make a function that counts tokens with the model's tokenizer and chat template."""
    if not model:
        raise ConfigError(
            "Tokens are those of a model, and none is named.",
            fix="Name the model, or count words.",
            field="model",
        )
    from engine.models import loading
    from engine.models.bundled import ensure_bundled_model
    from engine.models.tokenization.rendering import (
        render,  # imports torch, which is slow and which most recipes don't need
    )

    if model in loading.BUNDLED:
        ensure_bundled_model(model, work.home)
    tokenizer = loading.load_tokenizer(loading.resolve_model(model, work.home))

    def measure(rows: Sequence[CanonicalRow]) -> np.ndarray:
        return render(tokenizer, np.arange(len(rows)), [_build_messages(row) for row in rows]).lengths

    return measure


def _build_messages(row: CanonicalRow) -> Any:
    if row.roles is None:
        return row.text
    return [{"role": role, "content": content} for role, content in zip(row.roles, row.contents, strict=True)]


def _shorten_answer(row: CanonicalRow, most: int, measure: LengthMeasure) -> CanonicalRow | None:
    """Return the row with as many words of its last answer as fit, or None if not even one word fits.

    Searches for the number of words by doubling, then by bisection, so that only little more than what fits
    of a very long answer is tokenized. Apart from rare merges, more words never make fewer tokens.
    """
    answer = row.text if row.roles is None else row.contents[-1]
    ends = [word.end() for word in _WORD.finditer(answer)]
    low, high, best = 1, len(ends) - 1, None
    doubling = True
    while low <= high:
        middle = min(2 * low, high) if doubling else (low + high) // 2
        shorter = answer[: ends[middle - 1]]
        try:
            candidate = (
                replace_texts(row, (), shorter, None)
                if row.roles is None
                else replace_texts(row, (*row.contents[:-1], shorter), row.text, row.rejected)
            )
        except RowSkipped:
            return None
        if int(measure([candidate])[0]) <= most:
            best, low = candidate, middle + 1
        else:
            high, doubling = middle - 1, False
    return best
