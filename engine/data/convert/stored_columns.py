"""Columns of rows that lie in the store already, from an import that asked nobody about them.

Each row has its row of the file beside it, so an old data set can be judged as a file is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args

import numpy as np

from engine.data.convert.choose import ChosenFormat
from engine.data.convert.file_reading import look
from engine.data.convert.unused_columns import TaughtRows, find_undecided
from engine.rows.dataset import load, open_rows
from store.catalog.formats import FORMATS, AnswerBy
from store.contract.home import Home
from store.documents.data.inspection import UndecidedColumn

ANSWERS: tuple[AnswerBy, ...] = get_args(AnswerBy)
LOOKED_AT = 500  # rows, from the beginning and the end of a large set


def undecided_columns(home: Home, fingerprint: str, imported: Mapping[str, object]) -> list[UndecidedColumn]:
    """The columns that were ignored and may be marks, answers or labels. imported:
    `store.documents.tables.job_order.ImportedAs`; a column of which the rows know nothing asks nothing."""
    form, columns = FORMATS.get(str(imported["format"])), imported["columns"]
    if form is None or not isinstance(columns, dict):
        return []
    count = open_rows(home, fingerprint).metadata.num_rows
    row_ids = np.unique(np.concatenate([np.arange(LOOKED_AT // 2), count - 1 - np.arange(LOOKED_AT // 2)]))
    row_ids = row_ids[(row_ids >= 0) & (row_ids < count)]
    sources = load(home, fingerprint, ["source"], row_ids)["source"].to_pylist()
    rows = [row for source in sources if isinstance(row := json.loads(source or "null"), dict)]
    seen = look([], list(enumerate(rows)))
    mapping = {role: column for role, column in columns.items() if form.has_role(role)}
    kept = frozenset(column for role, column in columns.items() if role not in mapping)
    answers = imported.get("answers")
    chosen = ChosenFormat(form.name, mapping, answers=next((by for by in ANSWERS if by == answers), None))
    names = [*seen.columns, *seen.paths]
    return find_undecided(TaughtRows(chosen, seen.rows, names, seen.recognised.mappings, kept), [])
