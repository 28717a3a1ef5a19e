"""The rows of an evaluation as questions, and the groups that they are in."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.data.deal.columns import read_values
from engine.evaluation.row_question import RowQuestion, of_content
from engine.rows import dataset
from store.contract.errors import ConfigError
from store.contract.home import Home


def questions(tokenizer: Any, home: Home, fingerprint: str, row_ids: np.ndarray) -> list[RowQuestion]:
    """One for each of the rows, in their order."""
    rows = contents(home, fingerprint, row_ids)
    return [
        of_content(tokenizer, row_id, content, label)
        for row_id, (content, label) in zip(row_ids.tolist(), rows, strict=True)
    ]


def contents(home: Home, fingerprint: str, row_ids: np.ndarray) -> list[tuple[Any, str | None]]:
    """Of each row its messages or its text, and its label."""
    table = dataset.load(home, fingerprint, columns=["messages", "text", "label"], row_ids=row_ids)
    rows = zip(*(table[name].to_pylist() for name in ("messages", "text", "label")), strict=True)
    return [(messages or text, label or None) for messages, text, label in rows]


def groups(home: Home, fingerprint: str, column: str | None, row_ids: np.ndarray) -> list[int | None] | None:
    """The group of each row by that column, None for one without a value. Raises ConfigError (group_by)."""
    if column is None:
        return None
    try:
        values = read_values(home, fingerprint, column)[row_ids]
    except ConfigError as error:
        raise ConfigError(error.message, fix=error.fix, field="group_by") from error
    return [None if value < 0 else value for value in values.tolist()]
