"""Prompts that are made of rows: beginnings of answers to go on with from memory, and prompts of other rows.

Only what comes after the first slip of a memorised answer is generated. Swapped prompts keep the trained
tokens of a row as they are, so that both losses are of the very same tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.evaluation.probes.probe_sets import CachedProbe, Probe, ProbeMeasurement, TextProbe, select_evenly
from engine.evaluation.verdicts.extraction import NEAR_VERBATIM
from engine.evaluation.verdicts.paired_measurements import (
    PromptAssignment,
    SwappedLosses,
    SwappedPromptLosses,
)
from engine.evaluation.verdicts.question_part import MAX_ROWS, MIN_PROMPTS, assign_prompts
from engine.models.generation import GenerationOptions, generate_continuations
from engine.models.losses import RowLosses
from engine.models.tokenization.rendering import Load, Messages, TokenRows
from engine.models.tokenization.tokenized_rows import TokenPairs
from store.core.home import Home
from store.evaluation.forgetting_schemas import RowPart
from store.jobs.schemas import JobSpec
from store.training.train_config import TrainConfig

# Rows to be written from memory: the prompt and the beginning of an answer, and what a model goes on with.
#
# What a model would write greedily is known already, up to its first slip, from the pass that measured the
# loss: there every token was predicted behind the true ones. So only what comes after the first slip is
# generated, and no further than until it can't come near the true answer any more. Held-out rows are asked
# too: an answer that is written there as well can be guessed, and says nothing of memory.

PREFIX, SHARE = 10, 4  # tokens of an answer that are given, at most one in SHARE of it
TEXT_PREFIX = 32  # of a text without a prompt, at most half of it
CONTINUATION_TOKENS = 50  # tokens that are asked for
MIN_TOKENS = 10  # tokens left to be written: fewer are soon guessed
MAX_PROMPTS = {"train": 64, "held_out": 32}  # rows that are asked

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
class Continuation:
    """What a model went on with: `text`, its first `same` tokens those that were wanted; whole: it was not
    stopped for having gone astray."""

    text: str
    same: int
    whole: bool


@dataclass(frozen=True)
class PassageSelection:
    """Passages of one part (train or held_out), of `rows` that there are: `short` ones have too short an
    answer, `passed` were not asked, as generation takes long."""

    part: RowPart
    passages: list[MemoryPassage]
    rows: int
    short: int
    passed: int


def choose_passages(
    tokenizer: Any, rows: TokenRows, part: RowPart, most: int | None = None
) -> PassageSelection:
    """Passages of `rows`, spread over those whose answer is long enough."""
    places = np.concatenate([[0], np.cumsum(rows.trained_counts)])
    special = set(tokenizer.all_special_ids)
    passages = [
        _build_passage(tokenizer, rows, i, int(places[i + 1]), special, part) for i in range(len(rows))
    ]
    fitting = [passage for passage in passages if passage]
    kept = [fitting[i] for i in select_evenly(len(fitting), MAX_PROMPTS[part] if most is None else most)]
    return PassageSelection(part, kept, len(rows), len(rows) - len(fitting), len(fitting) - len(kept))


def _build_passage(
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
    wanted = ids[start : min(start + CONTINUATION_TOKENS, first + length)].tolist()
    text = tokenizer.decode(wanted, skip_special_tokens=True)
    if len(wanted) < MIN_TOKENS or not text.strip():
        return None
    prefix = tokenizer.decode(ids[first:start].tolist(), skip_special_tokens=True)
    place = end - (last - first) + given
    return MemoryPassage(part, int(rows.row_ids[index]), ids[:start].tolist(), prefix, wanted, text, place)


def find_long_enough(trained: np.ndarray) -> np.ndarray:
    """Whether answers of so many trained tokens, the closing one among them, are asked for; about, as rows
    may have several answers."""
    answer = trained - 1
    enough: np.ndarray = answer - np.minimum(PREFIX, answer // SHARE) >= MIN_TOKENS
    return enough


def write_passages(
    model: Any,
    tokenizer: Any,
    passages: Sequence[MemoryPassage],
    measured: dict[str, RowLosses],
    *,
    device: str | torch.device,
    on_token: OnToken = lambda done, most: None,
) -> list[Continuation]:
    """What `model` makes of each passage; measured: its losses of the rows of each part."""
    same = [_count_matching_tokens(passage, measured[passage.part]) for passage in passages]
    open_ = [i for i, passage in enumerate(passages) if same[i] < len(passage.wanted)]
    if not open_:
        return [Continuation(passage.text, n, True) for passage, n in zip(passages, same, strict=True)]
    astray: set[int] = set()

    def text_of(at: int, tokens: list[int]) -> str:
        passage, right = passages[open_[at]], same[open_[at]]
        made = [*passage.wanted[:right], *tokens][: len(passage.wanted)]
        return str(tokenizer.decode(made, skip_special_tokens=True))

    def enough(at: int, tokens: list[int]) -> bool:
        passage = passages[open_[at]]
        if same[open_[at]] + len(tokens) >= len(passage.wanted):
            return True
        if is_out_of_reach(passage.text, text_of(at, tokens)):
            astray.add(at)
        return at in astray

    given = [[*passages[i].given, *passages[i].wanted[: same[i]]] for i in open_]
    longest = max(len(passages[i].wanted) - same[i] for i in open_)
    made = generate_continuations(
        model, tokenizer, given, GenerationOptions(longest, device), on_token=on_token, enough=enough
    )
    written = [Continuation(passage.text, n, True) for passage, n in zip(passages, same, strict=True)]
    for at, i in enumerate(open_):
        written[i] = replace(written[i], text=text_of(at, made[at]), whole=at not in astray)
    return written


def _count_matching_tokens(passage: MemoryPassage, measured: RowLosses) -> int:
    """Tokens that the model predicts behind the true ones before its first slip."""
    assert measured.hits is not None
    right = measured.hits[passage.place : passage.place + len(passage.wanted)]
    return len(right) if right.all() else int(right.argmin())


def is_out_of_reach(wanted: str, begun: str) -> bool:
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
    return bool(column.min() > (1 / NEAR_VERBATIM - 1) * len(wanted) + 1e-9)


# Held-out answers after the prompts of other rows, for `engine.evaluation.verdicts.question_part`.
#
# What is swapped are tokens, turn by turn: the trained tokens of one row stay as they are, what stands
# before each of them comes from the other. So both losses are of the very same tokens, and no template is
# asked twice.

SWAPPED_PROBE = "other_prompts"
MAX_LENGTH_FACTOR = (
    2  # times the longest row: longer pairs are left out where the model has no limit of its own
)

Turn = tuple[np.ndarray, np.ndarray]  # tokens that are not trained, and the trained ones after them


@dataclass(frozen=True)
class SwappedPrompts:
    """What both models are asked; nothing where `why` says for what reason, or where there is no question:
    then `why` is empty. dealt: places among the held-out rows. parts: sequences a pair of `dealt`, of
    preference pairs the chosen answer and the rejected one."""

    probe: Probe | None = None
    dealt: PromptAssignment | None = None
    parts: int = 1
    why: str = ""

    def as_base(self, home: Home, tokenizer: Any, folder: Path) -> SwappedPrompts:
        """The same asked of the base model whose weights lie in `folder`, which is asked once."""
        return replace(self, probe=self.probe and CachedProbe(self.probe, home, tokenizer, folder))

    def losses(
        self, base: ProbeMeasurement | None, tuned: ProbeMeasurement | None
    ) -> SwappedPromptLosses | str:
        """What both models lose on these answers; else why that was not measured, empty where there is no
        question. Of pairs by how much likelier the chosen answer is, with its sign turned."""
        if self.dealt is None or base is None or tuned is None:
            return self.why
        losses = (_compute_pair_differences(model.loss_sum, self.parts) for model in (base, tuned))
        return SwappedPromptLosses(self.dealt, SwappedLosses(*losses))


def _compute_pair_differences(loss_sum: np.ndarray, parts: int) -> np.ndarray:
    """Of answers their loss, of two answers to one prompt that of the first less that of the second."""
    return loss_sum if parts == 1 else loss_sum[::parts] - loss_sum[1::parts]


def has_question(spec: JobSpec, config: TrainConfig) -> bool:
    """Whether the run of `order` trains on answers to prompts, and on nothing else."""
    trained_too = config.task == "sft" and not config.completion_only_loss
    return spec["dataset"]["kind"] != "text" and config.task != "classification" and not trained_too


def build_swapped_prompts(
    spec: JobSpec, config: TrainConfig, rows: TokenRows, load: Load, positions: int | None
) -> SwappedPrompts:
    """What is asked of the run of `order`, whose held-out rows are `rows`; `load` has their words."""
    if spec["dataset"]["kind"] == "text":
        return SwappedPrompts()
    if not has_question(spec, config):
        return SwappedPrompts(
            why="prompts were trained as answers are; with completion_only_loss it would be measured"
        )
    return swap_prompts(rows, load(rows.row_ids), int(spec["split"]["split_seed"]), positions)


def swap_prompts(
    rows: TokenRows, conversations: Sequence[Messages], seed: int, positions: int | None
) -> SwappedPrompts:
    """The answers of `rows` after prompts of others. conversations: the same rows as messages; positions: the
    most tokens that the model sees."""
    sequences = rows.sequences if isinstance(rows, TokenPairs) else rows
    parts = len(sequences) // max(1, len(rows))
    asked = select_evenly(len(rows), MAX_ROWS)
    turns = [
        [_split_turns(*sequences.row(parts * int(row) + part)) for part in range(parts)] for row in asked
    ]
    prompts = [_hash_pieces(untrained for untrained, _ in row[0]) for row in turns]
    if len(set(prompts)) < 2:
        return SwappedPrompts()  # all are asked the same: an answer has no question that tells it from others
    answers = [_hash_pieces(trained for part in row for _, trained in part) for row in turns]
    groups = _group_exchangeable_rows(
        [len(row[0]) for row in turns], [conversations[int(row)] for row in asked]
    )
    sizes = np.array([sum(len(untrained) for untrained, _ in row[0]) for row in turns])
    room = positions or MAX_LENGTH_FACTOR * int(sequences.lengths.max())
    dealt = assign_prompts(
        np.unique(answers, return_inverse=True)[1],
        groups,
        sizes,
        seed,
        _build_length_check(turns, sizes, room),
    )
    if not len(dealt):
        return SwappedPrompts(
            why="too few held-out rows have like prompts that fit; more held-out rows may help"
        )
    swapped = [
        _join_swapped(turns[answer][part], turns[prompt][part])
        for answer, prompt in zip(dealt.answers.tolist(), dealt.prompts.tolist(), strict=True)
        for part in range(parts)
    ]
    probe = _build_probe(swapped)
    own = replace(dealt, answers=asked[dealt.answers], prompts=asked[dealt.prompts])
    return SwappedPrompts(probe, own, parts)


def _split_turns(ids: np.ndarray, trained: np.ndarray) -> list[Turn]:
    """A row up to its last trained token: what is not trained and what is, in turn."""
    flags = np.concatenate([[False], trained, [False]])
    begins = np.flatnonzero(flags[1:] & ~flags[:-1])
    ends = np.flatnonzero(~flags[1:] & flags[:-1])
    before = np.concatenate([[0], ends[:-1]])
    return [(ids[last:begin], ids[begin:end]) for last, begin, end in zip(before, begins, ends, strict=True)]


def _hash_pieces(pieces: Iterable[np.ndarray]) -> str:
    """Equal where all pieces are."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece.astype(np.int32).tobytes())
    return digest.hexdigest()


def _group_exchangeable_rows(turns: Sequence[int], conversations: Sequence[Messages]) -> np.ndarray:
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


def _build_length_check(
    turns: Sequence[list[list[Turn]]], sizes: np.ndarray, room: int
) -> Callable[[int, int], bool]:
    """Whether an answer of one row after the prompt of another is short enough for the model."""
    lengths = [max(sum(len(trained) for _, trained in part) for part in row) for row in turns]
    return lambda answer, prompt: lengths[answer] + int(sizes[prompt]) <= room


def _join_swapped(answer: Sequence[Turn], prompt: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and flags of the answer's turns after those of the prompt."""
    pieces = [
        piece
        for (_, trained), (untrained, _) in zip(answer, prompt, strict=True)
        for piece in (untrained, trained)
    ]
    flags = [np.full(len(piece), place % 2 == 1) for place, piece in enumerate(pieces)]
    return np.concatenate(pieces), np.concatenate(flags)


def _build_probe(swapped: Sequence[tuple[np.ndarray, np.ndarray]]) -> TextProbe:
    """Named by what it asks, so that a base model's answers are remembered for these rows alone."""
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in swapped])])
    ids = np.concatenate([ids for ids, _ in swapped]).astype(np.int32)
    trained = np.concatenate([flags for _, flags in swapped])
    count = len(swapped)
    rows = TokenRows(np.arange(count), starts, ids, trained, np.zeros(count, np.uint8))
    names = [str(place) for place in range(count)]
    return TextProbe(SWAPPED_PROBE, names, [""] * count, [_hash_pieces(pair) for pair in swapped], rows)
