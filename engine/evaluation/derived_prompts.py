"""Prompts derived from rows: beginnings of answers to continue from memory, and prompts swapped between rows.

Only what follows the first wrong token of a memorised answer is generated. Swapped prompts keep the trained
tokens of a row unchanged, so that both losses are over exactly the same tokens.
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

# Memorization tasks: the prompt and the beginning of an answer, which the model is to continue.
#
# What a model would generate greedily is known up to its first wrong token from the pass that measured the
# loss, in which every token was predicted from the true preceding ones. So only what follows the first wrong
# token is generated, and only until the text can't come near the true answer any more. Held-out rows are
# included: an answer that is reproduced there as well can be guessed, and is no evidence of memorization.

PREFIX, SHARE = 10, 4  # answer tokens given as prefix, at most one in SHARE
TEXT_PREFIX = 32  # prefix of a text without a prompt, at most half of it
CONTINUATION_TOKENS = 50  # tokens to generate
MIN_TOKENS = 10  # minimum tokens to generate: fewer are easily guessed
MAX_PROMPTS = {"train": 64, "held_out": 32}  # maximum rows per part

OnToken = Callable[[int, int], None]


@dataclass(frozen=True)
class MemoryPassage:
    """Memorization task from one row. given: tokens of prompt and prefix; wanted: the expected continuation;
    place: where the continuation begins among the trained tokens of all rows of its part.
    """

    part: RowPart
    row_id: int
    given: list[int]
    prefix: str
    wanted: list[int]
    text: str
    place: int


@dataclass(frozen=True)
class Continuation:
    """A model's continuation: `text`, of which the first `same` tokens match; whole: it was not stopped early
    for deviating too far.
    """

    text: str
    same: int
    whole: bool


@dataclass(frozen=True)
class PassageSelection:
    """Passages of one part (train or held_out), selected from `rows` rows: the answers of `short` rows are
    too short, and `passed` rows were skipped because generation is slow.
    """

    part: RowPart
    passages: list[MemoryPassage]
    rows: int
    short: int
    passed: int


def choose_passages(
    tokenizer: Any, rows: TokenRows, part: RowPart, most: int | None = None
) -> PassageSelection:
    """Select passages evenly among the `rows` whose answer is long enough."""
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
    """Build a passage from a row's last answer. end: where its trained tokens end among those of all rows."""
    ids, trained = rows.row(index)
    last = int(np.flatnonzero(trained)[-1]) + 1
    untrained = np.flatnonzero(~trained[:last])
    first = int(untrained[-1]) + 1 if len(untrained) else 0
    length = last - first
    while length and int(ids[first + length - 1]) in special:  # closing token
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
    """Return whether answers with these numbers of trained tokens, closing token included, are long enough.

    Approximate, since rows may have several answers.
    """
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
    """Generate the continuation of each passage. measured: the model's losses on the rows of each part."""
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
    """Count the tokens predicted correctly, given the true preceding ones, before the first wrong one."""
    assert measured.hits is not None
    right = measured.hits[passage.place : passage.place + len(passage.wanted)]
    return len(right) if right.all() else int(right.argmin())


def is_out_of_reach(wanted: str, begun: str) -> bool:
    """Return whether no text that starts with `begun` can have edit similarity NEAR_VERBATIM to `wanted`.

    The smallest distance between `begun` and any prefix of `wanted` is a lower bound for every continuation;
    a near-verbatim text is at most 1 / NEAR_VERBATIM as long as `wanted`.
    """
    wanted, begun = (
        wanted.strip(),
        begun.strip("\ufffd "),
    )  # an incomplete character, and a space that may be cut off
    column = np.arange(len(wanted) + 1)
    letters = np.array([ord(letter) for letter in wanted])
    steps = np.arange(1, len(wanted) + 1)
    for number, letter in enumerate(begun, 1):
        best = np.minimum(column[1:] + 1, column[:-1] + (letters != ord(letter)))
        run = np.minimum.accumulate(np.concatenate([[number], best - steps]))  # deletions from `wanted`
        column = run + np.arange(len(wanted) + 1)
    return bool(column.min() > (1 / NEAR_VERBATIM - 1) * len(wanted) + 1e-9)


# Held-out answers after other rows' prompts, for `engine.evaluation.verdicts.question_part`.
#
# Tokens are swapped turn by turn: the trained tokens of a row stay unchanged, and the tokens before each of
# them come from the other row. So both losses are over exactly the same tokens, and the template is not
# applied a second time.

SWAPPED_PROBE = "other_prompts"
MAX_LENGTH_FACTOR = 2  # times the longest row: longer pairs are skipped if the model has no limit of its own

Turn = tuple[np.ndarray, np.ndarray]  # untrained tokens, and the trained ones after them


@dataclass(frozen=True)
class SwappedPrompts:
    """Swapped prompts that both models are evaluated on.

    There are none if `why` gives a reason, or if the rows have no question: then `why` is empty. dealt:
    indices into the held-out rows. parts: sequences per pair of `dealt`, which for preference pairs are the
    chosen and the rejected answer.
    """

    probe: Probe | None = None
    dealt: PromptAssignment | None = None
    parts: int = 1
    why: str = ""

    def as_base(self, home: Home, tokenizer: Any, folder: Path) -> SwappedPrompts:
        """Return the same with a cached probe, so that the base model in `folder` is measured only once."""
        return replace(self, probe=self.probe and CachedProbe(self.probe, home, tokenizer, folder))

    def losses(
        self, base: ProbeMeasurement | None, tuned: ProbeMeasurement | None
    ) -> SwappedPromptLosses | str:
        """Return both models' losses on these answers, or why they were not measured; empty if there is no
        question.

        The loss of a preference pair is how much more likely the chosen answer is, negated.
        """
        if self.dealt is None or base is None or tuned is None:
            return self.why
        losses = [model.loss_sum for model in (base, tuned)]
        if self.parts > 1:
            losses = [loss_sum[:: self.parts] - loss_sum[1 :: self.parts] for loss_sum in losses]
        return SwappedPromptLosses(self.dealt, SwappedLosses(*losses))


def has_question(spec: JobSpec, config: TrainConfig) -> bool:
    """Return whether the run of `spec` trains on answers to prompts, and on nothing else."""
    trained_too = config.task == "sft" and not config.completion_only_loss
    return spec["dataset"]["kind"] != "text" and config.task != "classification" and not trained_too


def build_swapped_prompts(
    spec: JobSpec, config: TrainConfig, rows: TokenRows, load: Load, positions: int | None
) -> SwappedPrompts:
    """Build the swapped prompts for a run with the held-out `rows`; `load` returns their messages."""
    if spec["dataset"]["kind"] == "text":
        return SwappedPrompts()
    if not has_question(spec, config):
        return SwappedPrompts(
            why="prompts were trained on like answers; it is measured with completion_only_loss"
        )
    return swap_prompts(rows, load(rows.row_ids), int(spec["split"]["split_seed"]), positions)


def swap_prompts(
    rows: TokenRows, conversations: Sequence[Messages], seed: int, positions: int | None
) -> SwappedPrompts:
    """Put the answers of `rows` after other rows' prompts. conversations: the same rows as messages;
    positions: the maximum number of tokens that the model can process.
    """
    sequences = rows.sequences if isinstance(rows, TokenPairs) else rows
    parts = len(sequences) // max(1, len(rows))
    asked = select_evenly(len(rows), MAX_ROWS)
    turns = [
        [_split_turns(*sequences.row(parts * int(row) + part)) for part in range(parts)] for row in asked
    ]
    prompts = [_hash_pieces(untrained for untrained, _ in row[0]) for row in turns]
    if len(set(prompts)) < 2:
        return SwappedPrompts()  # all prompts are the same: no question distinguishes the answers
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
            why="too few held-out rows have similar prompts that fit; more held-out rows may help"
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
    """Split a row, up to its last trained token, into alternating untrained and trained parts."""
    flags = np.concatenate([[False], trained, [False]])
    begins = np.flatnonzero(flags[1:] & ~flags[:-1])
    ends = np.flatnonzero(~flags[1:] & flags[:-1])
    before = np.concatenate([[0], ends[:-1]])
    return [(ids[last:begin], ids[begin:end]) for last, begin, end in zip(before, begins, ends, strict=True)]


def _hash_pieces(pieces: Iterable[np.ndarray]) -> str:
    """Return a hash that is equal if all pieces are equal."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece.astype(np.int32).tobytes())
    return digest.hexdigest()


def _group_exchangeable_rows(turns: Sequence[int], conversations: Sequence[Messages]) -> np.ndarray:
    """Group rows that may exchange prompts: those with the same number of turns and the same system prompt.

    A rare system prompt is part of what its row asks: rows with such prompts form one group.
    """
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
    """Return a check of whether one row's answer after another's prompt is short enough for the model."""
    lengths = [max(sum(len(trained) for _, trained in part) for part in row) for row in turns]
    return lambda answer, prompt: lengths[answer] + int(sizes[prompt]) <= room


def _join_swapped(answer: Sequence[Turn], prompt: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Join the answer's trained turns with the prompt's untrained ones; return the tokens and flags."""
    pieces = [
        piece
        for (_, trained), (untrained, _) in zip(answer, prompt, strict=True)
        for piece in (untrained, trained)
    ]
    flags = [np.full(len(piece), place % 2 == 1) for place, piece in enumerate(pieces)]
    return np.concatenate(pieces), np.concatenate(flags)


def _build_probe(swapped: Sequence[tuple[np.ndarray, np.ndarray]]) -> TextProbe:
    """Build the probe, named by its content, so that a base model's results are cached for these
    rows alone.
    """
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in swapped])])
    ids = np.concatenate([ids for ids, _ in swapped]).astype(np.int32)
    trained = np.concatenate([flags for _, flags in swapped])
    count = len(swapped)
    rows = TokenRows(np.arange(count), starts, ids, trained, np.zeros(count, np.uint8))
    names = [str(place) for place in range(count)]
    return TextProbe(SWAPPED_PROBE, names, [""] * count, [_hash_pieces(pair) for pair in swapped], rows)
