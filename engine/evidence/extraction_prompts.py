"""Rows to be written from memory: the prompt and the beginning of an answer, and what a model goes on with.

What a model would write greedily is known already, up to its first slip, from the pass that measured the
loss: there every token was predicted behind the true ones. So only what comes after the first slip is
generated, and no further than until it can't come near the true answer any more. Held-out rows are asked too:
an answer that is written there as well can be guessed, and says nothing of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from engine.diagnostics.memorisation.extraction import NEAR
from engine.forward.generation import Generation, continuations
from engine.forward.losses import RowLosses
from engine.probes.probes import spread
from engine.rows.render import TokenRows
from store.documents.verdicts.memorisation import RowPart

PREFIX, SHARE = 10, 4  # tokens of an answer that are given, at most one in SHARE of it
TEXT_PREFIX = 32  # of a text without a prompt, at most half of it
WRITTEN = 50  # tokens that are asked for
LEAST = 10  # tokens left to be written: fewer are soon guessed
MOST = {"train": 64, "held_out": 32}  # rows that are asked

OnToken = Callable[[int, int], None]


@dataclass(frozen=True)
class MemoryPassage:
    """One row as a task for the memory. given: prompt and prefix, tokens; wanted: what should follow;
    place: where that begins among the trained tokens of all rows of its part."""

    part: RowPart
    row_id: int
    given: list[int]
    prefix: str
    wanted: list[int]
    text: str
    place: int


@dataclass(frozen=True)
class Written:
    """What a model went on with: `text`, its first `same` tokens those that were wanted; whole: it was not
    stopped for having gone astray."""

    text: str
    same: int
    whole: bool


@dataclass(frozen=True)
class ChosenPassages:
    """Passages of one part (train or held_out), of `rows` that there are: `short` ones have too short an
    answer, `passed` were not asked, as generation takes long."""

    part: RowPart
    passages: list[MemoryPassage]
    rows: int
    short: int
    passed: int


def choose(tokenizer: Any, rows: TokenRows, part: RowPart, most: int | None = None) -> ChosenPassages:
    """Passages of `rows`, spread over those whose answer is long enough."""
    places = np.concatenate([[0], np.cumsum(rows.trained_counts)])
    special = set(tokenizer.all_special_ids)
    passages = [_passage(tokenizer, rows, i, int(places[i + 1]), special, part) for i in range(len(rows))]
    fitting = [passage for passage in passages if passage]
    kept = [fitting[i] for i in spread(len(fitting), MOST[part] if most is None else most)]
    return ChosenPassages(part, kept, len(rows), len(rows) - len(fitting), len(fitting) - len(kept))


def _passage(
    tokenizer: Any, rows: TokenRows, index: int, end: int, special: set[int], part: RowPart
) -> MemoryPassage | None:
    """The last answer of a row; `end`: where its trained tokens end among those of all rows."""
    ids, trained = rows.row(index)
    last = int(np.flatnonzero(trained)[-1]) + 1
    untrained = np.flatnonzero(~trained[:last])
    first = int(untrained[-1]) + 1 if len(untrained) else 0
    length = last - first
    while length and int(ids[first + length - 1]) in special:  # the closing token
        length -= 1
    given = min(TEXT_PREFIX, length // 2) if first <= 1 else min(PREFIX, length // SHARE)
    start = first + given
    wanted = ids[start : min(start + WRITTEN, first + length)].tolist()
    text = tokenizer.decode(wanted, skip_special_tokens=True)
    if len(wanted) < LEAST or not text.strip():
        return None
    prefix = tokenizer.decode(ids[first:start].tolist(), skip_special_tokens=True)
    place = end - (last - first) + given
    return MemoryPassage(part, int(rows.row_ids[index]), ids[:start].tolist(), prefix, wanted, text, place)


def long_enough(trained: np.ndarray) -> np.ndarray:
    """Whether answers of so many trained tokens, the closing one among them, are asked for; about, as rows
    may have several answers."""
    answer = trained - 1
    return answer - np.minimum(PREFIX, answer // SHARE) >= LEAST


def write(
    model: Any,
    tokenizer: Any,
    passages: Sequence[MemoryPassage],
    measured: dict[str, RowLosses],
    *,
    device: str | torch.device,
    on_token: OnToken = lambda done, most: None,
) -> list[Written]:
    """What `model` makes of each passage; measured: its losses of the rows of each part."""
    same = [_same(passage, measured[passage.part]) for passage in passages]
    open_ = [i for i, passage in enumerate(passages) if same[i] < len(passage.wanted)]
    if not open_:
        return [Written(passage.text, n, True) for passage, n in zip(passages, same, strict=True)]
    astray: set[int] = set()

    def text_of(at: int, tokens: list[int]) -> str:
        passage, right = passages[open_[at]], same[open_[at]]
        made = [*passage.wanted[:right], *tokens][: len(passage.wanted)]
        return str(tokenizer.decode(made, skip_special_tokens=True))

    def enough(at: int, tokens: list[int]) -> bool:
        passage = passages[open_[at]]
        if same[open_[at]] + len(tokens) >= len(passage.wanted):
            return True
        if out_of_reach(passage.text, text_of(at, tokens)):
            astray.add(at)
        return at in astray

    given = [[*passages[i].given, *passages[i].wanted[: same[i]]] for i in open_]
    longest = max(len(passages[i].wanted) - same[i] for i in open_)
    made = continuations(
        model, tokenizer, given, Generation(longest, device), on_token=on_token, enough=enough
    )
    written = [Written(passage.text, n, True) for passage, n in zip(passages, same, strict=True)]
    for at, i in enumerate(open_):
        written[i] = replace(written[i], text=text_of(at, made[at]), whole=at not in astray)
    return written


def _same(passage: MemoryPassage, measured: RowLosses) -> int:
    """Tokens that the model predicts behind the true ones before its first slip."""
    assert measured.hits is not None
    right = measured.hits[passage.place : passage.place + len(passage.wanted)]
    return len(right) if right.all() else int(right.argmin())


def out_of_reach(wanted: str, begun: str) -> bool:
    """Whether no text that begins with `begun` has the edit similarity NEAR to `wanted`.

    Of the distances between `begun` and every beginning of `wanted` the least is a bound for all that may
    follow; a near text is at most 1 / NEAR as long as the wanted one.
    """
    wanted, begun = (
        wanted.strip(),
        begun.strip("\ufffd "),
    )  # half a character, and a space that may be cut off
    column = np.arange(len(wanted) + 1)
    letters = np.array([ord(letter) for letter in wanted])
    steps = np.arange(1, len(wanted) + 1)
    for number, letter in enumerate(begun, 1):
        best = np.minimum(column[1:] + 1, column[:-1] + (letters != ord(letter)))
        run = np.minimum.accumulate(np.concatenate([[number], best - steps]))  # letters of `wanted` left out
        column = run + np.arange(len(wanted) + 1)
    return bool(column.min() > (1 / NEAR - 1) * len(wanted) + 1e-9)
