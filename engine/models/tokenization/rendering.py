"""Rendering of rows to token ids, with a flag per token of whether it is trained.

A conversation is rendered once by the model's own chat template. The assistant's turns are located by
rendering prefixes of it: the text up to a turn with the generation prompt is where the answer starts, the
text including the turn is where it ends. Both are checked to be prefixes of the whole; a row for which
they aren't is reported, never guessed. The closing token of a turn (such as <|im_end|>) is trained, the
white space after it is not. The first token of a row is never trained, since nothing precedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError

from engine.models.tokenization.tool_turns import has_tools, prepare_for_template, supports_tools
from store.core.row_schemas import Message

# Why a row has no trained token, by the code in `TokenRows.reasons`; 0 is a row with trained tokens.
REASONS = (
    "",
    "the chat template rejects the row",
    "the chat template renders the turns differently in the whole conversation",
    "the row has no assistant turn",
    "the row has nothing after its first token",
    "the answer is beyond max_length",
    "the chosen and the rejected answer are the same",
)
REFUSED, INCONSISTENT, UNANSWERED, EMPTY, CUT, EQUAL = range(1, len(REASONS))
Messages = list[Message]
Load = Callable[[np.ndarray], list[Any]]  # row ids to conversations or texts
Span = tuple[int, int]
MAX_EXTRA_SHARE = 0.05  # share of all rows' tokens that a longer default limit may add
STRETCH, LONG = 2, 512  # times the 99th percentile, and tokens: a longer row would cost memory


@dataclass
class TokenRows:
    """Tokenised rows, flat: row i is `ids[starts[i]:starts[i + 1]]`.

    row_ids int64 [n], starts int64 [n + 1], ids int32 [tokens], trained bool [tokens], reasons uint8 [n]
    (index into `REASONS`).
    """

    row_ids: np.ndarray
    starts: np.ndarray
    ids: np.ndarray
    trained: np.ndarray
    reasons: np.ndarray

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each row."""
        return np.diff(self.starts)

    @property
    def sequence_lengths(self) -> np.ndarray:
        """Number of tokens of each sequence that the model reads: one per row."""
        return self.lengths

    @property
    def trained_counts(self) -> np.ndarray:
        """Number of trained tokens of each row."""
        sums = np.concatenate([[0], np.cumsum(self.trained, dtype=np.int64)])
        counts: np.ndarray = sums[self.starts[1:]] - sums[self.starts[:-1]]
        return counts

    @property
    def reason_counts(self) -> dict[str, int]:
        """Number of rows without a trained token, by the reason in words."""
        counts = np.bincount(self.reasons, minlength=len(REASONS))
        return {REASONS[code]: int(n) for code, n in enumerate(counts) if code and n}

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and trained flags of one row."""
        part = slice(self.starts[index], self.starts[index + 1])
        return self.ids[part], self.trained[part]

    def take(self, indices: np.ndarray) -> TokenRows:
        """Return the rows at `indices`, in that order."""
        lengths = self.lengths[indices]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        # position in the old arrays of each token of the new ones
        old = np.repeat(self.starts[:-1][indices] - starts[:-1], lengths) + np.arange(starts[-1])
        return TokenRows(
            self.row_ids[indices], starts, self.ids[old], self.trained[old], self.reasons[indices]
        )

    @classmethod
    def joined(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Concatenate the rows of all parts."""
        lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(part.row_ids for part in parts)]),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.trained for part in parts)]),
            np.concatenate([np.zeros(0, np.uint8), *(part.reasons for part in parts)]),
        )

    def select(self, row_ids: Sequence[int] | np.ndarray) -> TokenRows:
        """Return the rows with these ids, in that order; every id must exist."""
        order = np.argsort(self.row_ids, kind="stable")
        places = order[np.searchsorted(self.row_ids, np.asarray(row_ids), sorter=order)]
        return self.take(places)

    def truncated(self, max_length: int) -> tuple[TokenRows, int, int]:
        """Truncate rows to `max_length` tokens.

        Returns the rows, the number of truncated ones, and the trained tokens lost.
        """
        lengths = np.minimum(self.lengths, max_length)
        keep = np.arange(len(self.ids)) - np.repeat(self.starts[:-1], self.lengths) < max_length
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        cut = TokenRows(self.row_ids, starts, self.ids[keep], self.trained[keep], self.reasons.copy())
        cut.reasons[(cut.reasons == 0) & (cut.trained_counts == 0)] = CUT
        lost = int(self.trained.sum()) - int(cut.trained.sum())
        return cut, int((self.lengths > max_length).sum()), lost


def compute_fitting_length(lengths: np.ndarray, positions: int | None) -> int:
    """Choose a max_length of at least the 99th percentile of the rows' lengths, longer if that is cheap.

    It extends to the longest row for which all rows together have at most 5% more tokens than at the
    percentile, and which is at most twice the percentile (or 512), to save memory. The result is a multiple
    of 8, at most the model's positions.
    """
    usual = int(max(8, -(-np.ceil(np.percentile(lengths, 99)) // 8) * 8)) if len(lengths) else 8
    long = np.sort(lengths[(lengths > usual) & (lengths <= max(LONG, STRETCH * usual))])
    fitting = usual
    if len(long):
        most = (1 + MAX_EXTRA_SHARE) * np.minimum(lengths, usual).sum()
        candidates = np.unique(-(-long // 8) * 8)
        tokens = np.array([np.minimum(lengths, length).sum() for length in candidates])
        cheap = candidates[tokens <= most]
        fitting = int(cheap[-1]) if len(cheap) else usual
    return min(fitting, positions) if positions else fitting


def render(
    tokenizer: Any,
    row_ids: Sequence[int] | np.ndarray,
    rows: Sequence[Messages] | Sequence[str],
    *,
    completion_only: bool = True,
) -> TokenRows:
    """Tokenise conversations (lists of messages) or plain texts.

    In a plain text, and with `completion_only` off, every token but the first is trained. A row that the
    template rejects, or whose answers can't be located, has no trained token, and a reason.
    """
    reasons = np.zeros(len(rows), np.uint8)
    texts = [row for row in rows if isinstance(row, str)]
    if texts:
        text_ids = tokenizer(texts, return_attention_mask=False).input_ids
        end = tokenizer.eos_token_id
        ids = [np.asarray(row if row[-1:] == [end] else [*row, end], np.int32) for row in text_ids]
        trained = [np.ones(len(row), bool) for row in ids]
    else:
        turns = [row for row in rows if not isinstance(row, str)]
        ids, trained = _tokenise_conversations(tokenizer, turns, completion_only, reasons)
    lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    flat_ids = np.concatenate([*ids, np.zeros(0, np.int32)]).astype(np.int32)
    flat_trained = np.concatenate([*trained, np.zeros(0, bool)]).astype(bool)
    flat_trained[starts[:-1][lengths > 0]] = False
    tokenised = TokenRows(np.asarray(row_ids, np.int64), starts, flat_ids, flat_trained, reasons)
    reasons[(reasons == 0) & (tokenised.trained_counts == 0)] = EMPTY
    return tokenised


def render_prompt(tokenizer: Any, messages: Messages) -> tuple[str, str] | None:
    """Return the prompt up to the last answer as the model gets it, and that answer; None without one."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
    if not last:
        return None
    prompt = render_conversation(tokenizer, messages[:last], generation_prompt=True)
    return prompt, messages[last]["content"]


def render_conversation(tokenizer: Any, messages: Messages, *, generation_prompt: bool = False) -> str:
    """Render a conversation by the template, including tools."""
    turns, tools = prepare_for_template(messages, supports_tools(tokenizer))
    return str(_apply_template(tokenizer, turns, tools=tools, add_generation_prompt=generation_prompt))


def _apply_template(tokenizer: Any, turns: Any, **options: Any) -> Any:
    """Apply the template, with limits however the tokenizer was loaded, to one or several conversations."""
    from engine.models.tokenization.template_limits import (
        limit_templates,  # a tokenizer implies that transformers is imported
    )

    limit_templates()
    return tokenizer.apply_chat_template(turns, tokenize=False, **options)


def _tokenise_conversations(
    tokenizer: Any, rows: Sequence[Messages], completion_only: bool, reasons: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    whole = _render_all(tokenizer, list(rows), generation_prompt=False)
    reasons[[i for i, text in enumerate(whole) if text is None]] = REFUSED
    spans: list[list[Span]] = [[] for _ in rows]
    if completion_only:
        spans = _find_answer_spans(tokenizer, rows, whole, reasons)
    encoded = tokenizer(
        [text or "" for text in whole],
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
    )
    ids = [np.asarray(row, np.int32) for row in encoded.input_ids]
    if not completion_only:
        return ids, [np.ones(len(row), bool) for row in ids]
    trained = []
    for offsets, answer_spans in zip(encoded.offset_mapping, spans, strict=True):
        begins = np.asarray([offset[0] for offset in offsets], np.int64)
        mask = np.zeros(len(begins), bool)
        for start, end in answer_spans:
            mask |= (begins >= start) & (begins < end)
        trained.append(mask)
    return ids, trained


def _render_all(tokenizer: Any, rows: list[Messages], *, generation_prompt: bool) -> list[str | None]:
    """Render each row as text; None for a row that the template rejects (such as an unknown role)."""
    if not rows:
        return []
    if any(map(has_tools, rows)):  # schemas apply to a whole batch, so these rows are rendered one by one
        return [_render_one(tokenizer, row, generation_prompt) for row in rows]
    try:
        texts: list[str | None] = _apply_template(tokenizer, rows, add_generation_prompt=generation_prompt)
        return texts
    except TemplateError:
        if len(rows) == 1:
            return [None]
        half = len(rows) // 2  # bisect: few rows are rejected
        return [
            text
            for part in (rows[:half], rows[half:])
            for text in _render_all(tokenizer, part, generation_prompt=generation_prompt)
        ]


def _render_one(tokenizer: Any, row: Messages, generation_prompt: bool) -> str | None:
    try:
        return render_conversation(tokenizer, row, generation_prompt=generation_prompt)
    except (TemplateError, TypeError):  # the template doesn't support several calls, or arguments as text
        return None


def _find_answer_spans(
    tokenizer: Any, rows: Sequence[Messages], whole: list[str | None], reasons: np.ndarray
) -> list[list[Span]]:
    """Return the spans of the assistant's turns in each rendered row, in characters."""
    turns = [(r, t) for r, row in enumerate(rows) for t, m in enumerate(row) if m["role"] == "assistant"]
    before = _render_all(tokenizer, [rows[r][:t] for r, t in turns], generation_prompt=True)
    # The text through the last turn is the whole row, which saves one rendering for the usual rows with one
    # answer.
    inner = [(r, t) for r, t in turns if t + 1 < len(rows[r])]
    through = dict(
        zip(inner, _render_all(tokenizer, [rows[r][: t + 1] for r, t in inner], generation_prompt=False),
            strict=True)
    )  # fmt: skip
    closings = {str(token) for token in tokenizer.added_tokens_decoder.values()} | {tokenizer.eos_token}
    spans: list[list[Span]] = [[] for _ in rows]
    for (r, t), prompt in zip(turns, before, strict=True):
        text = whole[r]
        if text is None or reasons[r]:
            continue
        span = _locate(text, prompt, through.get((r, t), text), rows[r][t]["content"])
        if span is None:
            reasons[r], spans[r] = INCONSISTENT, []
        else:
            spans[r].append((span[0], _trim_span(text, span, closings)))
    answered = {r for r, _ in turns}
    for r in range(len(rows)):
        if r not in answered and not reasons[r]:
            reasons[r] = UNANSWERED
    return spans


def _locate(text: str, prompt: str | None, through: str | None, content: str) -> Span | None:
    """Return the turn between `prompt` and `through` in `text`; None if they aren't its prefixes.

    Some templates (Qwen3) drop the reasoning of earlier turns, so that `through` is not a prefix: then the
    turn's own content must follow the prompt, with the closing at the end of `through`.
    """
    if prompt is None or through is None or not text.startswith(prompt):
        return None
    if text.startswith(through) and through.startswith(prompt):
        return len(prompt), len(through)
    content = content.strip()
    closing = through.rpartition(content)[2] if content else ""
    if closing and text.startswith(content + closing, len(prompt)):
        return len(prompt), len(prompt) + len(content + closing)
    return None


def _trim_span(text: str, span: Span, closings: set[str]) -> int:
    """Return the end of the span without the white space after a closing token."""
    stripped = text[span[0] : span[1]].rstrip()
    if any(stripped.endswith(closing) for closing in closings):
        return span[0] + len(stripped)
    return span[1]
