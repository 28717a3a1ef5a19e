"""Held-out answers after the prompts of other rows, for `engine.diagnostics.verdicts.question_part`.

What is swapped are tokens, turn by turn: the trained tokens of one row stay as they are, what stands before
each of them comes from the other. So both losses are of the very same tokens, and no template is asked twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.diagnostics.verdicts.held_out import DealtPrompts, OtherPrompts, SwappedLosses
from engine.diagnostics.verdicts.question_part import MAX_ROWS, MIN_PROMPTS, deal_prompts
from engine.probes.base_answers import CachedProbe
from engine.probes.probes import Probe, ProbeMeasurement, TextProbe, spread
from engine.rows.pairs import TokenPairs
from engine.rows.render import Load, Messages, TokenRows
from store.config.training.train_config import TrainConfig
from store.contract.home import Home
from store.documents.tables.job_order import JobOrder

NAME = "other_prompts"
STRETCH = 2  # times the longest row: longer pairs are left out where the model has no limit of its own

Turn = tuple[np.ndarray, np.ndarray]  # tokens that are not trained, and the trained ones after them


@dataclass(frozen=True)
class SwappedPrompts:
    """What both models are asked; nothing where `why` says for what reason, or where there is no question:
    then `why` is empty. dealt: places among the held-out rows. parts: sequences a pair of `dealt`, of
    preference pairs the chosen answer and the rejected one."""

    probe: Probe | None = None
    dealt: DealtPrompts | None = None
    parts: int = 1
    why: str = ""

    def as_base(self, home: Home, tokenizer: Any, folder: Path) -> SwappedPrompts:
        """The same asked of the base model whose weights lie in `folder`, which is asked once."""
        return replace(self, probe=self.probe and CachedProbe(self.probe, home, tokenizer, folder))

    def losses(self, base: ProbeMeasurement | None, tuned: ProbeMeasurement | None) -> OtherPrompts | str:
        """What both models lose on these answers; else why that was not measured, empty where there is no
        question. Of pairs by how much likelier the chosen answer is, with its sign turned."""
        if self.dealt is None or base is None or tuned is None:
            return self.why
        losses = (_of_pairs(model.loss_sum, self.parts) for model in (base, tuned))
        return OtherPrompts(self.dealt, SwappedLosses(*losses))


def _of_pairs(loss_sum: np.ndarray, parts: int) -> np.ndarray:
    """Of answers their loss, of two answers to one prompt that of the first less that of the second."""
    return loss_sum if parts == 1 else loss_sum[::parts] - loss_sum[1::parts]


def has_question(order: JobOrder, config: TrainConfig) -> bool:
    """Whether the run of `order` trains on answers to prompts, and on nothing else."""
    trained_too = config.task == "sft" and not config.completion_only_loss
    return order["dataset"]["kind"] != "text" and config.task != "classification" and not trained_too


def swap_prompts_of(
    order: JobOrder, config: TrainConfig, rows: TokenRows, load: Load, positions: int | None
) -> SwappedPrompts:
    """What is asked of the run of `order`, whose held-out rows are `rows`; `load` has their words."""
    if order["dataset"]["kind"] == "text":
        return SwappedPrompts()
    if not has_question(order, config):
        return SwappedPrompts(
            why="prompts were trained as answers are; with completion_only_loss it would be measured"
        )
    return swap_prompts(rows, load(rows.row_ids), int(order["split"]["split_seed"]), positions)


def swap_prompts(
    rows: TokenRows, conversations: Sequence[Messages], seed: int, positions: int | None
) -> SwappedPrompts:
    """The answers of `rows` after prompts of others. conversations: the same rows as messages; positions: the
    most tokens that the model sees."""
    sequences = rows.sequences if isinstance(rows, TokenPairs) else rows
    parts = len(sequences) // max(1, len(rows))
    asked = spread(len(rows), MAX_ROWS)
    turns = [[_turns(*sequences.row(parts * int(row) + part)) for part in range(parts)] for row in asked]
    prompts = [_key(untrained for untrained, _ in row[0]) for row in turns]
    if len(set(prompts)) < 2:
        return SwappedPrompts()  # all are asked the same: an answer has no question that tells it from others
    answers = [_key(trained for part in row for _, trained in part) for row in turns]
    groups = _groups([len(row[0]) for row in turns], [conversations[int(row)] for row in asked])
    sizes = np.array([sum(len(untrained) for untrained, _ in row[0]) for row in turns])
    room = positions or STRETCH * int(sequences.lengths.max())
    dealt = deal_prompts(
        np.unique(answers, return_inverse=True)[1], groups, sizes, seed, _fits(turns, sizes, room)
    )
    if not len(dealt):
        return SwappedPrompts(
            why="too few held-out rows have like prompts that fit; more held-out rows may help"
        )
    swapped = [
        _swapped(turns[answer][part], turns[prompt][part])
        for answer, prompt in zip(dealt.answers.tolist(), dealt.prompts.tolist(), strict=True)
        for part in range(parts)
    ]
    probe = _probe(swapped)
    own = replace(dealt, answers=asked[dealt.answers], prompts=asked[dealt.prompts])
    return SwappedPrompts(probe, own, parts)


def _turns(ids: np.ndarray, trained: np.ndarray) -> list[Turn]:
    """A row up to its last trained token: what is not trained and what is, in turn."""
    flags = np.concatenate([[False], trained, [False]])
    begins = np.flatnonzero(flags[1:] & ~flags[:-1])
    ends = np.flatnonzero(~flags[1:] & flags[:-1])
    before = np.concatenate([[0], ends[:-1]])
    return [(ids[last:begin], ids[begin:end]) for last, begin, end in zip(before, begins, ends, strict=True)]


def _key(pieces: Iterable[np.ndarray]) -> str:
    """Equal where all pieces are."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece.astype(np.int32).tobytes())
    return digest.hexdigest()


def _groups(turns: Sequence[int], conversations: Sequence[Messages]) -> np.ndarray:
    """Rows that may exchange prompts: of as many turns, under the same system prompt. One that hardly any
    other row has is part of what its row asks: such rows are one group."""
    systems = [
        next((message["content"] for message in messages if message["role"] == "system"), "")
        for messages in conversations
    ]
    keys = list(zip(turns, systems, strict=True))
    rows_of = Counter(keys)
    kinds = [(count, system if rows_of[count, system] > MIN_PROMPTS else None) for count, system in keys]
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    return np.array([places[kind] for kind in kinds])


def _fits(turns: Sequence[list[list[Turn]]], sizes: np.ndarray, room: int) -> Callable[[int, int], bool]:
    """Whether an answer of one row after the prompt of another is short enough for the model."""
    lengths = [max(sum(len(trained) for _, trained in part) for part in row) for row in turns]
    return lambda answer, prompt: lengths[answer] + int(sizes[prompt]) <= room


def _swapped(answer: Sequence[Turn], prompt: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and flags of the answer's turns after those of the prompt."""
    pieces = [
        piece
        for (_, trained), (untrained, _) in zip(answer, prompt, strict=True)
        for piece in (untrained, trained)
    ]
    flags = [np.full(len(piece), place % 2 == 1) for place, piece in enumerate(pieces)]
    return np.concatenate(pieces), np.concatenate(flags)


def _probe(swapped: Sequence[tuple[np.ndarray, np.ndarray]]) -> TextProbe:
    """Named by what it asks, so that a base model's answers are remembered for these rows alone."""
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in swapped])])
    ids = np.concatenate([ids for ids, _ in swapped]).astype(np.int32)
    trained = np.concatenate([flags for _, flags in swapped])
    count = len(swapped)
    rows = TokenRows(np.arange(count), starts, ids, trained, np.zeros(count, np.uint8))
    names = [str(place) for place in range(count)]
    return TextProbe(NAME, names, [""] * count, [_key(pair) for pair in swapped], rows)
