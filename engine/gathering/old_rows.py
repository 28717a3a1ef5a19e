"""The rows that a run was trained and judged on, as new rows are compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.data.convert.convert import Canonical
from engine.data.deal.leakage import questions
from engine.near.digest import digest
from engine.recipe.added_rows import Answer, answer_of
from engine.recipe.recipe_rows import canonicals
from engine.rows.dataset import batches, open_rows
from store.contract.home import Home

BATCH_ROWS = 10_000
UNSPOKEN = ("system", "tools")  # said to the model with every row: it would make rows alike


class ComparedRows(NamedTuple):
    """Rows as they are compared. digests: uint64, equal where texts are equal when folded. prompts: of all
    turns but the last, 0 for plain texts. texts: what is looked at for near duplicates."""

    digests: np.ndarray
    prompts: np.ndarray
    answers: list[Answer]
    texts: list[str]


class OldRows(NamedTuple):
    """`parts`: object, of each row train, validation or test, or None where the run did not take it."""

    rows: ComparedRows
    parts: np.ndarray
    labels: list[str]  # of its training rows, sorted

    @property
    def held(self) -> np.ndarray:
        """Which rows have judged: bool."""
        return np.isin(self.parts.astype(str), ["validation", "test"])

    @property
    def trained(self) -> np.ndarray:
        """Which rows were trained on: bool."""
        return self.parts.astype(str) == "train"

    @property
    def questions(self) -> np.ndarray:
        """The prompts that are questions and no instruction which many rows share."""
        return questions(self.rows.prompts)


def read_old(home: Home, fingerprint: str, parts: np.ndarray) -> OldRows:
    """The rows of the run's data set."""
    rows: list[Canonical] = []
    for batch in batches(open_rows(home, fingerprint), BATCH_ROWS):
        rows += canonicals(batch)
    labels = {
        row.label for row, part in zip(rows, parts, strict=True) if part == "train" and row.label is not None
    }
    return OldRows(compared(rows), parts, sorted(labels))


def compared(rows: Sequence[Canonical]) -> ComparedRows:
    """What of these rows is compared."""
    digests = b"".join(digest(row.text) for row in rows)
    prompts = [
        0 if row.roles is None else int.from_bytes(digest("\n\n".join(row.contents[:-1])), "little")
        for row in rows
    ]
    return ComparedRows(
        np.frombuffer(digests, "<u8").copy(),
        np.array(prompts, np.uint64),
        [answer_of(row.contents[-1] if row.contents else "", row.rejected, row.label) for row in rows],
        [_looked_at(row) for row in rows],
    )


def _looked_at(row: Canonical) -> str:
    """Its text without what is said with every row, and without an answer that is a label: one word of
    another class makes no other question."""
    if row.roles is None:
        return row.text
    turns = list(zip(row.roles, row.contents, strict=True))
    if row.label is not None and row.contents[-1].strip() == row.label:
        turns = turns[:-1]
    return "\n\n".join(content for role, content in turns if role not in UNSPOKEN)
