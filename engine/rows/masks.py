"""Whether the tokens that are trained are the right ones, checked by another way than they were chosen.

`render` finds the answers by rendering prefixes. Here the contents of the turns are looked up in the rendered
text, one after the other, and the trained tokens held against them: a token that begins inside what somebody
else said must not be trained, every answer must be, and a token that ends the turn should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.rows.render import INCONSISTENT, REFUSED, Messages, Span, TokenRows, rendered
from engine.rows.tool_turns import for_template, knows_tools
from store.documents.data.rendering import MaskChecks

MOST = 200  # rows that are looked at; a template goes wrong in many rows or in none


@dataclass(frozen=True)
class Checks:
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
        return {
            "counted": self.counted,
            "unlocated": self.unlocated,
            "leaking": self.leaking,
            "missed": self.missed,
            "unclosed": self.unclosed,
        }


def check(tokenizer: Any, messages: Sequence[Messages], rows: TokenRows) -> Checks:
    """Hold the first `MOST` of `rows` (rendered from `messages`, in the same order) against their turns."""
    count = min(MOST, len(rows))
    unlocated = np.isin(rows.reasons[:count], (REFUSED, INCONSISTENT))
    leaking = missed = 0
    for index in np.flatnonzero(~unlocated).tolist():
        begins, trained = _offsets(tokenizer, messages[index]), rows.row(index)[1]
        turn_spans = _contents(tokenizer, messages[index])
        if len(begins) != len(trained) or turn_spans is None:
            continue  # cut, or the template rewrites what was said: there is nothing to hold it against
        prompts, answers = turn_spans
        leaking += bool((trained & _inside(begins, prompts)).any())
        missed += bool((~trained & _inside(begins, answers)).any())
    return Checks(
        count, int(unlocated.sum()), leaking, missed, unclosed(tokenizer, rows.take(np.arange(count)))
    )


def unclosed(tokenizer: Any, rows: TokenRows) -> int:
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


def _offsets(tokenizer: Any, messages: Messages) -> np.ndarray:
    """Where each token begins in the rendered text."""
    text = rendered(tokenizer, messages)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    return np.asarray([offset[0] for offset in offsets], np.int64)


def _contents(tokenizer: Any, messages: Messages) -> tuple[list[Span], list[Span]] | None:
    """Where what the others and what the assistant said stands in the rendered text; None where it does not
    stand there word for word."""
    text, at = rendered(tokenizer, messages), 0
    prompts: list[Span] = []
    answers: list[Span] = []
    for message in for_template(messages, knows_tools(tokenizer))[0]:
        content = (message["content"] or "").strip()
        begin = text.find(content, at)
        if begin < 0:
            return None
        at = begin + len(content)
        (answers if message["role"] == "assistant" else prompts).append((begin, at))
    return prompts, answers


def _inside(begins: np.ndarray, spans: list[Span]) -> np.ndarray:
    inside = np.zeros(len(begins), bool)
    for start, end in spans:
        inside |= (begins >= start) & (begins < end)
    return inside
