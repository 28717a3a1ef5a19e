"""Texts with labels for a classifier: token ids of the text alone, and the classes that training knows.

A text is encoded as `tokenizer(text)` does it: no chat template, and no closing token that the tokenizer
doesn't add itself. Every pipeline encodes texts in this way and reads the last token that isn't padding,
which is often the very token that closes a turn; so the saved model gives the same probabilities wherever it
is loaded. The classes are those of the training rows, sorted. A held-out row whose label is none of them is
kept: it can't be right, which accuracy counts, and it has no loss. A row without a label is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.rows import dataset
from engine.rows.render import EMPTY, TokenRows
from store.contract.errors import ConfigError, DataError
from store.contract.home import Home

UNSEEN = -1  # the class of a label that no training row has
MOST_CLASSES = 10_000  # more labels than this are not classes but texts


@dataclass(frozen=True)
class Labels:
    """The labels of a run's rows. `names`: the classes; `ids` of `row_ids` (sorted): each row's class."""

    names: list[str]
    row_ids: np.ndarray
    ids: np.ndarray
    texts: list[str]
    counts: np.ndarray  # training rows of each class

    @property
    def all_names(self) -> list[str]:
        """The classes, and after them the labels of held-out rows that training doesn't know."""
        return [*self.names, *sorted(set(self.texts) - set(self.names))]

    def place_of(self, row_ids: np.ndarray) -> np.ndarray:
        """The place of each row's label in `all_names`."""
        places = {name: i for i, name in enumerate(self.all_names)}
        return np.array([places[text] for text in self.text_of(row_ids)], np.int64)

    def of(self, row_ids: np.ndarray) -> np.ndarray:
        """The class of each row, `UNSEEN` for a label that training doesn't know."""
        return self.ids[np.searchsorted(self.row_ids, row_ids)]

    def text_of(self, row_ids: np.ndarray) -> list[str]:
        """The label of each row as it stands in the data set."""
        return [self.texts[i] for i in np.searchsorted(self.row_ids, row_ids)]

    def unseen(self, row_ids: np.ndarray) -> dict[str, int]:
        """Labels of these rows that training doesn't know, with their rows."""
        found: dict[str, int] = {}
        for row, text in zip(self.of(row_ids), self.text_of(row_ids), strict=True):
            if row == UNSEEN:
                found[text] = found.get(text, 0) + 1
        return found


def labelled(
    home: Home, fingerprint: str, dealt: Mapping[str, np.ndarray]
) -> tuple[Labels, dict[str, np.ndarray], int]:
    """The labels of the dealt rows, those of the rows that have one, and how many have none.

    Raises ConfigError where no row has a label, DataError where training has one class alone, too many, or
    where a part is left without a row.
    """
    all_ids = np.sort(np.concatenate(list(dealt.values())))
    texts = dataset.load(home, fingerprint, columns=["label"], row_ids=all_ids)["label"].to_pylist()
    known = np.array([bool(text) for text in texts], bool)
    if not known.any():
        raise ConfigError(
            "The data set has no labels, and text classification learns to tell labels apart.",
            fix="Import the file in the format Text and label, or choose Instruction tuning.",
            field="task",
        )
    row_ids = all_ids[known]
    kept = {part: ids[np.isin(ids, row_ids)] for part, ids in dealt.items()}
    for part in ("train", "validation"):
        if not len(kept[part]):
            raise DataError(f"No {part} row has a label.", fix="Take more rows.", field="dataset")
    own = [text for text in texts if text]
    place = dict(zip(row_ids.tolist(), own, strict=True))
    names = sorted({place[i] for i in kept["train"].tolist()})
    _check(names, len(kept["train"]))
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index.get(text, UNSEEN) for text in own], np.int64)
    train = ids[np.searchsorted(row_ids, kept["train"])]
    labels = Labels(names, row_ids, ids, own, np.bincount(train, minlength=len(names)))
    if (labels.of(kept["validation"]) == UNSEEN).all():
        raise DataError(
            "No validation row has a label that the training rows have.",
            fix="Train on more rows, or split by strata of label.",
            field="dataset",
        )
    return labels, kept, int((~known).sum())


def _check(names: list[str], rows: int) -> None:
    if len(names) == 1:
        raise DataError(
            f"The training rows have one class only, {names[0]!r}: there is nothing to tell apart.",
            fix="Train on more rows, or choose a data set with several labels.",
            field="dataset",
        )
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"The {rows:,} training rows have {len(names):,} different labels; those are texts, not classes.",
            fix="Choose Instruction tuning, or map another column to label.",
            field="dataset",
        )


def texts(home: Home, fingerprint: str, row_ids: np.ndarray) -> list[str]:
    """What is to be classified: the turns before the answer, without roles."""
    rows = dataset.load(home, fingerprint, columns=["messages", "text"], row_ids=row_ids)
    return [
        asked(messages) if messages else text
        for messages, text in zip(rows["messages"].to_pylist(), rows["text"].to_pylist(), strict=True)
    ]


def asked(messages: Sequence[Mapping[str, str]]) -> str:
    """The turns before the last answer as one text."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages))
    return "\n\n".join(m["content"] for m in messages[:last])


def encode(tokenizer: Any, row_ids: Sequence[int] | np.ndarray, texts: Sequence[str]) -> TokenRows:
    """Texts to token ids; no token of them is trained."""
    ids = tokenizer(list(texts), return_attention_mask=False).input_ids if len(texts) else []
    lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
    flat = np.concatenate([*(np.asarray(row, np.int32) for row in ids), np.zeros(0, np.int32)])
    reasons = np.where(lengths == 0, EMPTY, 0).astype(np.uint8)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return TokenRows(
        np.asarray(row_ids, np.int64), starts, flat.astype(np.int32), np.zeros(len(flat), bool), reasons
    )


def cut(tokenizer: Any, rows: TokenRows, max_length: int) -> tuple[TokenRows, int, int]:
    """Rows cut to `max_length` as the tokenizer cuts, the rows cut, and the tokens lost; a token that it
    closes every text with stays the last."""
    long = np.flatnonzero(rows.lengths > max_length)
    shorter, _, _ = rows.truncated(max_length)
    closing = tokenizer("a").input_ids[-1:]
    if closing and closing[0] in tokenizer.all_special_ids:
        shorter.ids[shorter.starts[1:][long] - 1] = closing[0]
    shorter.reasons[:] = rows.reasons
    return shorter, len(long), len(rows.ids) - len(shorter.ids)
