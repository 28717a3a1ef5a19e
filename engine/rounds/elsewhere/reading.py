"""A file of ratings, opened, understood from its first rows, and read: the same for the look at it
beforehand and the import.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from engine.data.convert.turns import RowSkipped
from engine.data.readers.column_values import column_names, paths_of, value_at, values_of, with_paths
from engine.data.readers.first_rows import read_first
from engine.data.readers.raw_rows import Reader, ReadRow, Skipped
from engine.rounds.elsewhere.collected import Collected
from engine.rounds.elsewhere.columns import FileHead, RatedColumns, choose_columns, number_of, separator_of
from engine.rounds.elsewhere.meanings import Meanings, find_meanings
from engine.rounds.elsewhere.rows import RowReader
from engine.rounds.elsewhere.unused import find_undecided
from store.catalog.rated_forms import RATED_FORMS
from store.config.judging.round_config import ImportRound
from store.contract.errors import DataError
from store.documents.rating.rated_file import UnusedColumn

HEAD_ROWS = 500
LOOK_EVERY = 256  # rows between two looks at a request to stop
MAX_NAMED = 5  # columns or values that an error names


class RatingsFile(NamedTuple):
    """How a file is read. rows: all of it, once."""

    head: FileHead
    chosen: RatedColumns
    meanings: Meanings
    undecided: list[UnusedColumn]
    rows: Iterator[ReadRow]


def understand(reader: Reader, config: ImportRound) -> RatingsFile:
    """What the first rows show. Raises DataError where none can be read, ConfigError for a mapping
    that can't be."""
    rows = reader.rows()
    first = read_first(rows, HEAD_ROWS)
    if not any(isinstance(row, dict) for _, row in first):
        raise DataError(
            "No row of the file could be read.", fix="Give JSON, JSONL, CSV or Parquet.", field="path"
        )
    own = [row for _, row in first if isinstance(row, dict)]
    columns = column_names(reader.columns, own)
    paths = paths_of(columns, own)
    head = FileHead([*columns, *paths], [with_paths(row, paths) for row in own] if paths else own)
    chosen = choose_columns(head, config)
    meanings = find_meanings(chosen, head.rows, config)
    undecided: list[UnusedColumn] = []
    if chosen.form and not chosen.problem:
        undecided = find_undecided(head._replace(columns=columns), chosen.form, chosen.mapping, config.ignore)
    return RatingsFile(head, chosen, meanings, undecided, itertools.chain(first, rows))


def refuse_open_questions(file: RatingsFile) -> None:
    """Raise DataError where something is missing, unclear, or would be left out without a word."""
    form, mapping, problem = file.chosen
    if problem:
        columns = ", ".join(file.head.columns[:20])
        roles = ", ".join((form or RATED_FORMS["votes"]).roles[:10])
        raise DataError(
            f"{problem} The file has {columns}.",
            fix=f"Say which column is what: --column role=column, with the roles {roles} …, or what a row is:"
            f" --form {', '.join(RATED_FORMS)}.",
            field="columns",
        )
    if file.meanings.unclear and form:
        values = ", ".join(
            f"{value!r} ({rows:,})" for value, rows in file.meanings.unclear.most_common(MAX_NAMED)
        )
        first = next(iter(file.meanings.unclear))
        means = " or ".join(form.meanings) or "a number"
        example = shlex.quote(f"{first}={(*form.meanings, 3)[0]}")
        raise DataError(
            f"It is not clear what these values of {mapping.get(form.deciding)} mean: {values}.",
            fix=f"Say what each means ({means}), such as --value {example}.",
            field="values",
        )
    if file.undecided:
        raise _undecided(file.undecided)


def _undecided(undecided: Sequence[UnusedColumn]) -> DataError:
    named = "; ".join(
        f"{column['name']!r} ({', '.join(column['values'])}) {column['why']}"
        for column in undecided[:MAX_NAMED]
    )
    more = f", and {len(undecided) - MAX_NAMED} more" if len(undecided) > MAX_NAMED else ""
    uses = [
        f"--column {shlex.quote('='.join((role, column['name'])))}"
        for column in undecided
        for role in column["roles"][:2]
    ]
    left = " ".join(f"--ignore {shlex.quote(column['name'])}" for column in undecided)
    which = "a column" if len(undecided) == 1 else "columns"
    use = f"Say how they are used, such as {' or '.join(uses[:2])}. " if uses else ""
    return DataError(
        f"Nothing would be used of {which} that may matter: {named}{more}.",
        fix=f"{use}To leave {'it' if len(undecided) == 1 else 'them'} out on purpose: {left}.",
        field="ignore",
    )


def collect(
    file: RatingsFile, config: ImportRound, look: Callable[[int], bool] = lambda rows: True
) -> tuple[Collected, int, bool]:
    """All ratings, the rows that were read, and whether these are all. look: called with the number of rows
    now and then; where it says no, reading ends there. Raises DataError where the file is too large."""
    form, mapping = file.chosen.form, file.chosen.mapping
    if form is None:
        raise DataError("No kind of ratings was recognised.", fix="Say what a row is.", field="form")
    reader = _row_reader(file, config)
    single = {"model_a", "models", "rater"} & set(mapping) or form.name in ("scores", "passes", "labels")
    collected = Collected(
        form,
        merges=(bool(single) and len(reader.deciding) < 2) or "model" in mapping,
        tells_raters="rater" in mapping,
    )
    if form.name == "votes" and not {"model_a", "models"} & set(mapping):
        collected.name(reader.sides)
    paths = [column for column in mapping.values() if "." in column]
    number = 0
    for number, (_, row) in enumerate(file.rows, 1):
        if number % LOOK_EVERY == 0 and not look(number):
            return collected, number, False
        try:
            if isinstance(row, Skipped):
                raise RowSkipped(row.reason)
            collected.add(reader.read(number, with_paths(row, paths) if paths else row))
        except RowSkipped as fault:
            collected.reasons[str(fault)] += 1
    return collected, number, True


def _row_reader(file: RatingsFile, config: ImportRound) -> RowReader:
    form, mapping = file.chosen.form, file.chosen.mapping
    rows = file.head.rows
    sides = (
        config.first or mapping.get("answer_a") or mapping.get("answer") or "first answer",
        config.second or mapping.get("answer_b") or "second answer",
    )
    separator = separator_of(values_of(rows, mapping["models"])) if "models" in mapping else None
    soft = (
        [number_of(value_at(row, mapping["preference_b"])) for row in rows]
        if "preference_b" in mapping
        else []
    )
    return RowReader(
        form or RATED_FORMS["votes"],
        mapping,
        file.meanings.values,
        sides=sides,
        separator=separator,
        one_to_two=any(number is not None and number > 1 for number in soft),
    )
