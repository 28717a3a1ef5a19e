"""Tokenised rows and pairs of answers, kept in the cache by what they depend on: rows, tokenizer, template,
mask.

A pair is one row: its chosen sequence, then its rejected one. Whether the right tokens are trained is
checked by another way than they were chosen: the turns' contents are looked up in the rendered text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.models.tokenization.rendering import (
    EQUAL,
    INCONSISTENT,
    REFUSED,
    Messages,
    Span,
    TokenRows,
    render,
    render_conversation,
)
from engine.models.tokenization.tool_turns import prepare_for_template, supports_tools
from store.core.home import Home
from store.core.job_folder import write_atomically
from store.core.training_schemas import MaskChecks, RenderedRow, RowTokens

# Pairs of answers to one prompt, tokenised: prompt + chosen answer and prompt + rejected answer.
#
# A pair is a row like any other, so that splitting, batching and cutting need not know of it: its tokens are
# those of the chosen sequence, then those of the rejected one. Only the last answer is trained, as what comes
# before it is the same in both. A pair of which one answer has no trained token, or whose two sequences are
# equal, has none at all, and its reason.


@dataclass
class TokenPairs(TokenRows):
    """splits int64 [n]: how many tokens of a row are its chosen sequence's."""

    splits: np.ndarray

    @property
    def sequences(self) -> TokenRows:
        """Both sequences as rows: 2i is the chosen one of pair i, 2i + 1 the rejected one."""
        starts = np.empty(2 * len(self) + 1, np.int64)
        starts[:-1:2], starts[1::2] = self.starts[:-1], self.starts[:-1] + self.splits
        starts[-1] = self.starts[-1]
        both = np.repeat(self.row_ids, 2), np.repeat(self.reasons, 2)
        return TokenRows(both[0], starts, self.ids, self.trained, both[1])

    @property
    def chosen(self) -> TokenRows:
        """The chosen sequences alone."""
        return self.sequences.take(np.arange(0, 2 * len(self), 2))

    @property
    def rejected(self) -> TokenRows:
        """The rejected sequences alone."""
        return self.sequences.take(np.arange(1, 2 * len(self), 2))

    @property
    def sequence_lengths(self) -> np.ndarray:
        """Tokens of each sequence that the model reads: two for each pair."""
        return self.sequences.lengths

    def take(self, indices: np.ndarray) -> TokenPairs:
        """The pairs at `indices`, in that order."""
        rows = super().take(indices)
        return TokenPairs(
            rows.row_ids, rows.starts, rows.ids, rows.trained, rows.reasons, self.splits[indices]
        )

    def truncated(self, max_length: int) -> tuple[TokenPairs, int, int]:
        """Both sequences cut to `max_length` tokens, how many pairs were cut, and the trained tokens lost."""
        shorter, _, _ = self.sequences.truncated(max_length)
        cut = _build_pairs(shorter)
        long = (self.sequence_lengths > max_length).reshape(-1, 2).any(axis=1)
        return cut, int(long.sum()), int(self.trained.sum()) - int(cut.trained.sum())


def join_pairs(chosen: TokenRows, rejected: TokenRows) -> TokenPairs:
    """The pairs of two renderings of the same rows in the same order."""
    order = np.arange(2 * len(chosen)).reshape(2, -1).T.ravel()
    return _build_pairs(_keep_last_answers(_concatenate_rows(chosen, rejected)).take(order))


def _concatenate_rows(first: TokenRows, second: TokenRows) -> TokenRows:
    return TokenRows(
        np.concatenate([first.row_ids, second.row_ids]),
        np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.trained, second.trained]),
        np.concatenate([first.reasons, second.reasons]),
    )


def _keep_last_answers(rows: TokenRows) -> TokenRows:
    """The rows with their last run of trained tokens alone: the first token of a row is never trained, so
    that no run crosses into the next row."""
    places = np.arange(len(rows.ids))
    row_of = np.repeat(np.arange(len(rows)), rows.lengths)
    last = np.full(len(rows), -1)
    last[row_of[rows.trained]] = places[rows.trained]  # the last assignment to a row wins
    before = np.maximum.accumulate(np.where(rows.trained, -1, places)) if len(places) else places
    begin = before[last] if len(places) else last
    trained = (places > begin[row_of]) & (places <= last[row_of])
    return TokenRows(rows.row_ids, rows.starts, rows.ids, trained, rows.reasons)


def _build_pairs(sequences: TokenRows) -> TokenPairs:
    """Pairs from rows that lie chosen, rejected, chosen, rejected …"""
    lengths = sequences.lengths.reshape(-1, 2)
    reasons = sequences.reasons.reshape(-1, 2)
    reasons = np.where(reasons[:, 0] > 0, reasons[:, 0], reasons[:, 1]).astype(np.uint8)
    for pair in np.flatnonzero((reasons == 0) & (lengths[:, 0] == lengths[:, 1])).tolist():
        if np.array_equal(sequences.row(2 * pair)[0], sequences.row(2 * pair + 1)[0]):
            reasons[pair] = EQUAL
    trained = sequences.trained & np.repeat(reasons == 0, lengths.sum(axis=1))
    return TokenPairs(
        sequences.row_ids[::2], sequences.starts[::2], sequences.ids, trained, reasons, lengths[:, 0].copy()
    )


# Tokenised rows, kept in the cache by what they depend on: rows, tokenizer, template and mask.
#
# A data set of up to `WHOLE` rows is tokenised whole, so that another split, seed or size finds it there.
# The file is safetensors, written aside and renamed; the oldest files go when there are more than
# `MAX_CACHED_FILES`.
#
# One row for people to look at: the text of each token, and whether it is trained.

VERSION = 1  # of what `render` does: another number, another key
WHOLE = 20_000
MAX_CACHED_FILES = 24
CHUNK = 5_000  # rows tokenised between two reports

LoadRows = Callable[[np.ndarray], Sequence[Any]]  # row ids -> their messages or texts, in that order
Encode = Callable[[Any, np.ndarray, Any], TokenRows]  # tokenizer, row ids and what `LoadRows` gives -> rows


@dataclass(frozen=True)
class TokenisationRequest:
    """The rows `row_ids` of a data set of `row_count`.

    `variant` names what `load` makes of the rows where that is not their own text. encode: in place of
    `render`, which makes a variant too.
    """

    fingerprint: str
    row_count: int
    row_ids: np.ndarray
    completion_only: bool
    load: LoadRows
    variant: str = ""
    encode: Encode | None = None


def tokenise_rows(
    home: Home,
    tokenizer: Any,
    order: TokenisationRequest,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> TokenRows:
    """The rows of an order, tokenised; `on_rows(done, total)` may raise."""
    whole = order.row_count <= WHOLE
    wanted = np.arange(order.row_count) if whole else np.unique(order.row_ids)
    key = _compute_key(order.fingerprint + order.variant, tokenizer, order.completion_only, wanted)
    path = home.cache / "tokens" / f"{key}.safetensors"
    rows = read_rows(path)
    if rows is None:
        parts = []
        for first in range(0, len(wanted), CHUNK):
            on_rows(first, len(wanted))
            chunk = wanted[first : first + CHUNK]
            loaded = order.load(chunk)
            if order.encode is not None:
                parts.append(order.encode(tokenizer, chunk, loaded))
            else:
                parts.append(render(tokenizer, chunk, loaded, completion_only=order.completion_only))
        rows = TokenRows.joined(parts)
        write_rows(path, rows)
    return rows.select(order.row_ids)


def compute_tokenizer_key(tokenizer: Any) -> str:
    """Names everything of a tokenizer that decides ids and template."""
    parts = (
        tokenizer.backend_tokenizer.to_str(),
        str(tokenizer.chat_template),
        str(sorted(tokenizer.special_tokens_map.items())),
        # Tokens that another model with the same tokenizer may have rows for.
        *map(str, sorted(getattr(tokenizer, "beyond_rows", ()))),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compute_key(fingerprint: str, tokenizer: Any, completion_only: bool, row_ids: np.ndarray) -> str:
    digest = hashlib.sha256(row_ids.astype(np.int64).tobytes()).hexdigest()
    parts = [VERSION, fingerprint, compute_tokenizer_key(tokenizer), completion_only, digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def read_rows(path: Path) -> TokenRows | None:
    """The rows that `write_rows` left, or None."""
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError):  # absent, or cut off by a full disk
        return None
    os.utime(path)
    return TokenRows(**arrays)


def write_rows(path: Path, rows: TokenRows) -> None:
    """Keep the rows; of more than `MAX_CACHED_FILES` files of the folder the oldest go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, flush=False) as unfinished:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(rows).items()}, unfinished)
    files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for old in files[:-MAX_CACHED_FILES]:
        old.unlink(missing_ok=True)


def render_row(tokenizer: Any, rows: TokenRows, limit: int, index: int) -> RenderedRow:
    """One training row as the model will see it, of a pair the rejected answer too under `rejected`; `index`
    beyond the ends takes the nearest."""
    if not isinstance(rows, TokenPairs):
        return {**build_row_tokens(tokenizer, rows, limit, index)}
    index = min(max(index, 0), len(rows) - 1)
    pair = rows.take(np.asarray([index]))
    return {
        **build_row_tokens(tokenizer, pair.chosen, limit, 0),
        "index": index,
        "of": len(rows),
        "rejected": build_row_tokens(tokenizer, pair.rejected, limit, 0),
    }


def build_row_tokens(tokenizer: Any, rows: TokenRows, limit: int, index: int) -> RowTokens:
    """One training row as the model will see it; `index` beyond the ends takes the nearest."""
    index = min(max(index, 0), len(rows) - 1)
    ids, trained = rows.row(index)
    seen = ids[:limit].tolist()
    texts = list_token_texts(tokenizer, seen)
    return {
        "row_id": int(rows.row_ids[index]),
        "index": index,
        "of": len(rows),
        "tokens": [
            {"text": text, "id": token, "trained": bool(flag)}
            for text, token, flag in zip(texts, seen, trained, strict=False)
        ],
        "truncated": len(ids) > limit,
    }


def list_token_texts(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text of each token; of tokens that share one character, the last has it and the others none."""
    texts, pending = [], []
    for token, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        pending.append(token)
        text = tokenizer.decode(pending, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 4:
            texts.append("")
            continue
        if name.startswith("▁") and not text.startswith(" "):
            text = " " + text  # a lone token of SentencePiece loses its space
        texts.append(text)
        pending = []
    return texts


# Whether the tokens that are trained are the right ones, checked by another way than they were chosen.
#
# `render` finds the answers by rendering prefixes. Here the contents of the turns are looked up in the
# rendered text, one after the other, and the trained tokens held against them: a token that begins inside
# what somebody else said must not be trained, every answer must be, and a token that ends the turn should
# be.

MAX_CHECKED_ROWS = 200  # rows that are looked at; a template goes wrong in many rows or in none


@dataclass(frozen=True)
class MaskCheckCounts:
    """Rows of `counted` where: the answers can't be located in the template (`unlocated`), a token of a
    prompt is trained (`leaking`), a token of an answer is not (`missed`), the last trained token does not
    close the turn (`unclosed`)."""

    counted: int
    unlocated: int
    leaking: int
    missed: int
    unclosed: int

    def document(self) -> MaskChecks:
        """As the ask `rendering` answers it."""
        return MaskChecks(
            counted=self.counted,
            unlocated=self.unlocated,
            leaking=self.leaking,
            missed=self.missed,
            unclosed=self.unclosed,
        )


def check_masks(tokenizer: Any, messages: Sequence[Messages], rows: TokenRows) -> MaskCheckCounts:
    """Hold the first `MAX_CHECKED_ROWS` of `rows` (rendered from `messages`, in the same order) against
    their turns."""
    count = min(MAX_CHECKED_ROWS, len(rows))
    unlocated = np.isin(rows.reasons[:count], (REFUSED, INCONSISTENT))
    leaking = missed = 0
    for index in np.flatnonzero(~unlocated).tolist():
        begins, trained = _find_offsets(tokenizer, messages[index]), rows.row(index)[1]
        turn_spans = _find_contents(tokenizer, messages[index])
        if len(begins) != len(trained) or turn_spans is None:
            continue  # cut, or the template rewrites what was said: there is nothing to hold it against
        prompts, answers = turn_spans
        leaking += bool((trained & _find_inside(begins, prompts)).any())
        missed += bool((~trained & _find_inside(begins, answers)).any())
    return MaskCheckCounts(
        count, int(unlocated.sum()), leaking, missed, count_unclosed(tokenizer, rows.take(np.arange(count)))
    )


def count_unclosed(tokenizer: Any, rows: TokenRows) -> int:
    """Rows whose last trained token is an ordinary one, not one that closes a turn. White space behind that,
    which many templates write, is trained where whole rows are, and leaves it closed."""
    closing = {*tokenizer.added_tokens_decoder, tokenizer.eos_token_id}
    count = 0
    for index in range(len(rows)):
        ids, trained = rows.row(index)
        taught = reversed(ids[trained].tolist())
        last = next(
            (token for token in taught if token in closing or tokenizer.decode([token]).strip()), None
        )
        count += last is not None and last not in closing
    return count


def _find_offsets(tokenizer: Any, messages: Messages) -> np.ndarray:
    """Where each token begins in the rendered text."""
    text = render_conversation(tokenizer, messages)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    return np.asarray([offset[0] for offset in offsets], np.int64)


def _find_contents(tokenizer: Any, messages: Messages) -> tuple[list[Span], list[Span]] | None:
    """Where what the others and what the assistant said stands in the rendered text; None where it does not
    stand there word for word."""
    text, at = render_conversation(tokenizer, messages), 0
    prompts: list[Span] = []
    answers: list[Span] = []
    for message in prepare_for_template(messages, supports_tools(tokenizer))[0]:
        content = (message["content"] or "").strip()
        begin = text.find(content, at)
        if begin < 0:
            return None
        at = begin + len(content)
        (answers if message["role"] == "assistant" else prompts).append((begin, at))
    return prompts, answers


def _find_inside(begins: np.ndarray, spans: list[Span]) -> np.ndarray:
    inside = np.zeros(len(begins), bool)
    for start, end in spans:
        inside |= (begins >= start) & (begins < end)
    return inside
