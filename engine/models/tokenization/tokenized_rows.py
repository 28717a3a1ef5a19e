"""Tokenised rows and preference pairs, their cache, and checks of which tokens are trained."""

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
# A pair is a row like any other, so that splitting, batching and truncation need no special case: its tokens
# are those of the chosen sequence, then those of the rejected one. Only the last answer is trained, as what
# precedes it is the same in both. A pair in which one answer has no trained token, or whose two sequences are
# equal, has no trained token at all, and a reason.


@dataclass
class TokenPairs(TokenRows):
    """Tokenised pairs; splits int64 [n]: number of tokens of each row that belong to its chosen sequence."""

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
        """The chosen sequences only."""
        return self.sequences.take(np.arange(0, 2 * len(self), 2))

    @property
    def rejected(self) -> TokenRows:
        """The rejected sequences only."""
        return self.sequences.take(np.arange(1, 2 * len(self), 2))

    @property
    def sequence_lengths(self) -> np.ndarray:
        """Number of tokens of each sequence that the model reads: two per pair."""
        return self.sequences.lengths

    def take(self, indices: np.ndarray) -> TokenPairs:
        """Return the pairs at `indices`, in that order."""
        rows = super().take(indices)
        return TokenPairs(
            rows.row_ids, rows.starts, rows.ids, rows.trained, rows.reasons, self.splits[indices]
        )

    def truncated(self, max_length: int) -> tuple[TokenPairs, int, int]:
        """Truncate both sequences to `max_length` tokens.

        Returns the pairs, the number of truncated ones, and the trained tokens lost.
        """
        shorter, _, _ = self.sequences.truncated(max_length)
        cut = _build_pairs(shorter)
        long = (self.sequence_lengths > max_length).reshape(-1, 2).any(axis=1)
        return cut, int(long.sum()), int(self.trained.sum()) - int(cut.trained.sum())


def join_pairs(chosen: TokenRows, rejected: TokenRows) -> TokenPairs:
    """Build pairs from two renderings of the same rows in the same order."""
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
    """Restrict training to each row's last run of trained tokens.

    The first token of a row is never trained, so that no run extends into the next row.
    """
    places = np.arange(len(rows.ids))
    row_of = np.repeat(np.arange(len(rows)), rows.lengths)
    last = np.full(len(rows), -1)
    last[row_of[rows.trained]] = places[rows.trained]  # the last assignment per row wins
    before = np.maximum.accumulate(np.where(rows.trained, -1, places)) if len(places) else places
    begin = before[last] if len(places) else last
    trained = (places > begin[row_of]) & (places <= last[row_of])
    return TokenRows(rows.row_ids, rows.starts, rows.ids, trained, rows.reasons)


def _build_pairs(sequences: TokenRows) -> TokenPairs:
    """Build pairs from rows that alternate between chosen and rejected."""
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


# Cache of tokenised rows, keyed by rows, tokenizer, template and mask.
#
# A data set of up to `WHOLE` rows is tokenised as a whole, so that another split, seed or size is a cache
# hit. Files are safetensors, written to a temporary file and renamed; the oldest are deleted above
# `MAX_CACHED_FILES`.

VERSION = 1  # version of `render`, part of the key
WHOLE = 20_000
MAX_CACHED_FILES = 24
CHUNK = 5_000  # rows tokenised between progress reports

LoadRows = Callable[[np.ndarray], Sequence[Any]]  # row ids -> their messages or texts, in that order
Encode = Callable[[Any, np.ndarray, Any], TokenRows]  # tokenizer, row ids and what `LoadRows` gives -> rows


@dataclass(frozen=True)
class TokenisationRequest:
    """Request for the rows `row_ids` of a data set with `row_count` rows.

    - variant: names what `load` returns if that isn't the rows' own text
    - encode: replaces `render`, and needs a variant too
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
    """Return the requested rows, tokenised; `on_rows(done, total)` may raise to stop."""
    whole = order.row_count <= WHOLE
    wanted = np.arange(order.row_count) if whole else np.unique(order.row_ids)
    digest = hashlib.sha256(wanted.astype(np.int64).tobytes()).hexdigest()
    source = order.fingerprint + order.variant
    identity = [VERSION, source, compute_tokenizer_key(tokenizer), order.completion_only, digest]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
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
    """Hash everything in a tokenizer that affects ids and template."""
    parts = (
        tokenizer.backend_tokenizer.to_str(),
        str(tokenizer.chat_template),
        str(sorted(tokenizer.special_tokens_map.items())),
        # Tokens without an embedding row, which another model with the same tokenizer may have.
        *map(str, sorted(getattr(tokenizer, "beyond_rows", ()))),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_rows(path: Path) -> TokenRows | None:
    """Read the rows that `write_rows` wrote; None if there are none."""
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError):  # absent, or truncated by a full disk
        return None
    os.utime(path)
    return TokenRows(**arrays)


def write_rows(path: Path, rows: TokenRows) -> None:
    """Write the rows, and delete the folder's oldest files above `MAX_CACHED_FILES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path, flush=False) as unfinished:
        save_file({name: np.ascontiguousarray(value) for name, value in vars(rows).items()}, unfinished)
    files = sorted(path.parent.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for old in files[:-MAX_CACHED_FILES]:
        old.unlink(missing_ok=True)


def render_row(tokenizer: Any, rows: TokenRows, limit: int, index: int) -> RenderedRow:
    """Return one training row as the model sees it; `index` is clamped to the valid range.

    For a pair, the rejected answer is included under `rejected`.
    """
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
    """Return one training row as the model sees it; `index` is clamped to the valid range."""
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
    """Return the text of each token; if tokens share one character, the last has it, the others are empty."""
    texts, pending = [], []
    for token, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        pending.append(token)
        text = tokenizer.decode(pending, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and len(pending) < 4:
            texts.append("")
            continue
        if name.startswith("▁") and not text.startswith(" "):
            text = " " + text  # a single SentencePiece token loses its space
        texts.append(text)
        pending = []
    return texts


# Check, by an independent method, that the right tokens are trained.
#
# `render` finds the answers by rendering prefixes. Here the contents of the turns are searched for in the
# rendered text, in order, and compared with the trained tokens: a token that starts inside another role's
# content must not be trained, every token of an answer must be, and a token that ends the turn should be.

MAX_CHECKED_ROWS = 200  # rows checked; a template fails on many rows or on none


@dataclass(frozen=True)
class MaskCheckCounts:
    """Numbers of rows, out of `counted`, with a fault.

    - unlocated: the answers can't be located in the template
    - leaking: a token of a prompt is trained
    - missed: a token of an answer isn't trained
    - unclosed: the last trained token doesn't close the turn
    """

    counted: int
    unlocated: int
    leaking: int
    missed: int
    unclosed: int

    def document(self) -> MaskChecks:
        """Return the counts as in the response to a `rendering` request."""
        return MaskChecks(
            counted=self.counted,
            unlocated=self.unlocated,
            leaking=self.leaking,
            missed=self.missed,
            unclosed=self.unclosed,
        )


def check_masks(tokenizer: Any, messages: Sequence[Messages], rows: TokenRows) -> MaskCheckCounts:
    """Check the first `MAX_CHECKED_ROWS` of `rows` against their turns.

    `rows` must be rendered from `messages`, in the same order.
    """
    count = min(MAX_CHECKED_ROWS, len(rows))
    unlocated = np.isin(rows.reasons[:count], (REFUSED, INCONSISTENT))
    leaking = missed = 0
    for index in np.flatnonzero(~unlocated).tolist():
        text = render_conversation(tokenizer, messages[index])
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        begins = np.asarray([offset[0] for offset in offsets], np.int64)  # of each token, in the text
        trained = rows.row(index)[1]
        turn_spans = _find_contents(tokenizer, messages[index])
        if len(begins) != len(trained) or turn_spans is None:
            continue  # truncated, or the template rewrites the contents: nothing to compare with
        prompts, answers = turn_spans
        leaking += bool((trained & _find_inside(begins, prompts)).any())
        missed += bool((~trained & _find_inside(begins, answers)).any())
    return MaskCheckCounts(
        count, int(unlocated.sum()), leaking, missed, count_unclosed(tokenizer, rows.take(np.arange(count)))
    )


def count_unclosed(tokenizer: Any, rows: TokenRows) -> int:
    """Count rows whose last trained token is an ordinary one rather than one that closes a turn.

    White space after the closing token, which many templates write, is trained if whole rows are, and is
    ignored.
    """
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


def _find_contents(tokenizer: Any, messages: Messages) -> tuple[list[Span], list[Span]] | None:
    """Return the spans of the prompts' and of the assistant's contents in the rendered text.

    None if a content isn't there verbatim.
    """
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
