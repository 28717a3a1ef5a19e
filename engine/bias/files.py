"""A file of bias items, read row by row: every row is an item, or counted with the reason why it is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from engine.bias.forms import READ, Pronouns, recognise, renamed
from engine.bias.items import Item, PronounItem, UnreadableItem
from engine.data.readers.raw_rows import FileRow, Skipped
from engine.data.readers.readers import open_file
from engine.data.readers.source import locate
from store.config.judging.bias_config import ROLES, BiasFile
from store.config.judging.round_config import FileOfRows
from store.contract.errors import DataError
from store.contract.home import Home

FIELD = "files"
MOST_ROWS = 200_000
LOOK_EVERY = 256  # rows between two looks at a request to stop


@dataclass
class ItemFile:
    """rows: of the file. left_out: reason -> rows that are no items."""

    name: str
    form: str
    items: list[Item]
    rows: int
    left_out: Counter[str] = field(default_factory=Counter)
    notices: list[str] = field(default_factory=list)


def read(home: Home, asked: BiasFile, seed: int, check: Callable[[], None]) -> ItemFile:
    """The items of a file. Raises DataError (files) for one that can't be read, or has none."""
    read_rows = rows_of(home, asked, FIELD, check)
    name, left_out = read_rows.name, read_rows.left_out
    rows = [renamed(row, asked.columns) for row in read_rows.rows]
    form = _form(name, asked, read_rows.columns | set(asked.columns))
    items = _items(form, rows, left_out)
    read_file = ItemFile(name, form, items, len(items) + sum(left_out.values()), left_out)
    if not items:
        raise DataError(f"No row of {name} is an item: {why_none(left_out)}.",
                        fix="Say by `columns` which of its columns is which.", field=FIELD)  # fmt: skip
    _sample(read_file, asked.max_rows, seed)
    return read_file


@dataclass
class RowsOfFile:
    """left_out: reason -> rows that could not be read."""

    name: str
    rows: list[FileRow]
    columns: set[str]
    left_out: Counter[str]


def rows_of(home: Home, asked: FileOfRows, field: str, check: Callable[[], None]) -> RowsOfFile:
    """Its rows as they are. Raises DataError at `field` for one that can't be read, or has too many."""
    try:
        path = locate(home, asked.source())
        with closing(open_file(home, path, has_header=True)) as reader:
            read_rows = RowsOfFile(path.name, [], set(reader.columns), Counter())
            for number, (_, row) in enumerate(reader.rows()):
                if number % LOOK_EVERY == 0:
                    check()
                if number == MOST_ROWS:
                    raise DataError(
                        f"{path.name} has more than {MOST_ROWS:,} rows.", fix="Give a part of it."
                    )
                if isinstance(row, Skipped):
                    read_rows.left_out[row.reason] += 1
                    continue
                read_rows.rows.append(row)
                read_rows.columns |= set(row)
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=field) from error
    return read_rows


def why_none(left_out: Counter[str]) -> str:
    """Why a file has nothing to ask."""
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in left_out.most_common(3))
    return reasons or "it is empty"


def _form(name: str, asked: BiasFile, columns: set[str]) -> str:
    if asked.form != "auto":
        if missing := sorted(set(ROLES[asked.form][0]) - columns):
            raise DataError(
                f"{name} has no column {missing[0]!r}, which {asked.form.replace('_', ' ')} need.",
                fix=f"Name its column for {missing[0]} by `columns`.",
                field=FIELD,
            )
        return asked.form
    form = recognise(sorted(columns))
    if form is None:
        wanted = "; ".join(
            f"{form.replace('_', ' ')}: {', '.join(must)}" for form, (must, _) in ROLES.items()
        )
        raise DataError(
            f"{name} is none of the forms that a bias check reads ({wanted}).",
            fix="Say by `form` and `columns` which of its columns is which.",
            field=FIELD,
        )
    return form


def _items(form: str, rows: list[FileRow], left_out: Counter[str]) -> list[Item]:
    make: Callable[[FileRow], Item] = Pronouns(rows).item if form == "coreference" else READ[form]
    items = []
    for row in rows:
        try:
            items.append(make(row))
        except UnreadableItem as fault:
            left_out[str(fault)] += 1
    return items


def _sample(read_file: ItemFile, most: int | None, seed: int) -> None:
    """Sentences that differ in the pronoun alone stay together: apart they are no pair."""
    count = len(read_file.items)
    if most is None or count <= most:
        return
    alike: dict[str, list[int]] = {}
    for place, item in enumerate(read_file.items):
        alike.setdefault(item.alike if isinstance(item, PronounItem) else str(place), []).append(place)
    together = list(alike.values())
    kept: list[int] = []
    for number in np.random.default_rng([seed, 16]).permutation(len(together)):
        if len(kept) + len(together[number]) > most:
            break
        kept += together[number]
    read_file.items = [read_file.items[place] for place in sorted(kept)]
    read_file.notices.append(f"A random sample of {len(kept):,} of {count:,} items.")
