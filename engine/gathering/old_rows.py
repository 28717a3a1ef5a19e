"""The rows that a run was trained and judged on, and those that judge or were trained on elsewhere, as new
rows are compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.data.convert.convert import Canonical
from engine.data.deal.asked import UNSPOKEN, AskedQuestions, asked_in
from engine.data.deal.kept_deal import parts_by_split
from engine.gathering.reworded import QuestionsAnswered
from engine.near.digest import digest, normalise
from engine.recipe.added_rows import Answer, answer_of
from engine.recipe.recipe_rows import canonicals
from engine.rows.dataset import batches, open_rows
from store.config.training.train_config import Split
from store.contract.home import Home
from store.documents.tables.job_order import BesideRows

BATCH_ROWS = 10_000
ELSEWHERE = {"judge": "judges elsewhere", "train": "trained elsewhere"}  # parts of rows beside the run's own


class ComparedRows(NamedTuple):
    """Rows as they are compared. digests: uint64, equal where texts are equal when folded. prompts: of all
    turns but the last, 0 for plain texts. asked: what they ask, however the caller put it. texts: what is
    looked at for near duplicates. answered: what is looked at for repeats in other words."""

    digests: np.ndarray
    prompts: np.ndarray
    asked: AskedQuestions
    answers: list[Answer]
    texts: list[str]
    answered: QuestionsAnswered


class OldRows(NamedTuple):
    """The run's own rows, then those beside them. `parts`: object, of each row train, validation or test, one
    of `ELSEWHERE`, or None where the run did not take it. questions: the keys of what is asked and is no
    instruction among the rows of its own data set. own: how many rows are the run's. origins: of each row the
    fingerprint of its data set and its number there."""

    rows: ComparedRows
    parts: np.ndarray
    labels: list[str]  # of the run's training rows, sorted
    questions: np.ndarray
    own: int
    origins: list[tuple[str, int]]

    @property
    def held(self) -> np.ndarray:
        """Which rows have judged the run: bool."""
        return np.isin(self.parts.astype(str), ["validation", "test"])

    @property
    def held_elsewhere(self) -> np.ndarray:
        """Which others judge: bool."""
        return self.parts.astype(str) == ELSEWHERE["judge"]

    @property
    def trained(self) -> np.ndarray:
        """Which rows the run was trained on: bool."""
        return self.parts.astype(str) == "train"

    @property
    def learned(self) -> np.ndarray:
        """Which rows the model was trained on, by this run or before: bool."""
        return np.isin(self.parts.astype(str), ["train", ELSEWHERE["train"]])


def read_old(home: Home, fingerprint: str, parts: np.ndarray, beside: Sequence[BesideRows] = ()) -> OldRows:
    """The rows of the run's data set, and those beside. A row that the run did not take may be one of these
    too; what it took stays what it is."""
    rows = _rows(home, fingerprint)
    origins = [(fingerprint, number) for number in range(len(rows))]
    labels = {
        row.label for row, part in zip(rows, parts, strict=True) if part == "train" and row.label is not None
    }
    parts = parts.copy()
    every = [parts]
    untaken = np.array([part is None for part in parts], bool)
    for other in beside:
        mine = meant(home, other)
        if other["fingerprint"] == fingerprint:
            parts[mine & untaken] = ELSEWHERE[other["why"]]
            continue
        others = _rows(home, other["fingerprint"])
        rows += [row for row, meant in zip(others, mine, strict=True) if meant]
        origins += [(other["fingerprint"], number) for number in np.flatnonzero(mine).tolist()]
        every.append(np.full(int(mine.sum()), ELSEWHERE[other["why"]], object))
    old = compared(rows)
    ends = np.cumsum([len(some) for some in every]).tolist()
    asked = [
        old.asked.between(end - len(some), end).questions() for some, end in zip(every, ends, strict=True)
    ]
    questions = np.unique(np.concatenate(asked))
    return OldRows(old, np.concatenate(every), sorted(labels), questions, ends[0], origins)


def _rows(home: Home, fingerprint: str) -> list[Canonical]:
    return [row for batch in batches(open_rows(home, fingerprint), BATCH_ROWS) for row in canonicals(batch)]


def meant(home: Home, other: BesideRows) -> np.ndarray:
    """Which rows of its data set: bool."""
    if other["part"] == "all":
        return np.ones(open_rows(home, other["fingerprint"]).metadata.num_rows, bool)
    parts = parts_by_split(home, other["fingerprint"], Split.parse(other["split"]))
    return np.array([part == other["part"] for part in parts], bool)


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
        asked_in(
            [] if row.roles is None else list(zip(row.roles, row.contents, strict=True)) for row in rows
        ),
        [answer_of(row.contents[-1] if row.contents else "", row.rejected, row.label) for row in rows],
        [_looked_at(row) for row in rows],
        QuestionsAnswered(
            [_question(row) for row in rows],
            [normalise(row.text if row.roles is None else row.contents[-1]) for row in rows],
            np.array([_is_labelled(row) for row in rows], bool),
        ),
    )


def _looked_at(row: Canonical) -> str:
    """Its text without what is said with every row, and without an answer that is a label: one word of
    another class makes no other question."""
    if row.roles is None:
        return row.text
    return _question(row) if _is_labelled(row) else "\n\n".join(_spoken(row))


def _question(row: Canonical) -> str:
    """What it asks, with the turns before; "" of plain texts."""
    return "" if row.roles is None else "\n\n".join(_spoken(row)[:-1])


def _spoken(row: Canonical) -> list[str]:
    """Its turns without those of system and tools; the last one is the answer."""
    turns = list(zip(row.roles or (), row.contents, strict=True))
    last = len(turns) - 1
    return [content for place, (role, content) in enumerate(turns) if role not in UNSPOKEN or place == last]


def _is_labelled(row: Canonical) -> bool:
    """Whether its answer is its label."""
    return row.label is not None and row.roles is not None and row.contents[-1].strip() == row.label
