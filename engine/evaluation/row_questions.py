"""Rows as questions: the prompt for a model, the row's own answer as reference, and its label.

This needs only a row's content and a tokenizer, no data set: other environments build questions too, so
nothing heavy is imported here. A row without a prompt keeps its place and has a reason: it is counted,
never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError

from engine.models.tokenization.rendering import Messages, TokenRows, render_conversation, render_prompt
from engine.models.tokenization.tool_turns import TOOLS

PROMPT_TOKENS = 32  # of a plain text, to be continued


@dataclass
class Prompt:
    """A held-out row as a question: the rendered prompt, and the row's own answer."""

    row_id: int
    readable: str
    rendered: str
    reference: str


def choose_prompts(
    tokenizer: Any, rows: TokenRows, load: Callable[[np.ndarray], list[Any]], count: int, seed: int
) -> list[Prompt]:
    """Choose `count` of the rows by `seed`, skipping rows without an answer."""
    order = np.random.default_rng([seed, 7]).permutation(len(rows))
    prompts: list[Prompt] = []
    for index in order:
        if len(prompts) == count:
            break
        row_id = int(rows.row_ids[index])
        content = load(np.asarray([row_id]))[0]
        prompt = build_text_prompt(tokenizer, row_id, content) if isinstance(content, str) else None
        if prompt is None and not isinstance(content, str):
            prompt = build_chat_prompt(tokenizer, row_id, content)
        if prompt is not None:
            prompts.append(prompt)
    return prompts


def build_chat_prompt(tokenizer: Any, row_id: int, messages: Messages) -> Prompt | None:
    """Build the prompt of the turns before the last answer; None if there is no answer."""
    rendered = render_prompt(tokenizer, messages)
    if rendered is None:
        return None
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    return Prompt(row_id, format_turns(messages[:last]), rendered[0], rendered[1])


def format_turns(messages: Messages) -> str:
    """Format turns for display, without those that set up the conversation."""
    turns = [m for m in messages if m["role"] not in ("system", TOOLS)]
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n".join(f"{m['role']}: {m['content']}" for m in turns)


def build_text_prompt(tokenizer: Any, row_id: int, text: str) -> Prompt | None:
    """Build a prompt from the beginning of a text, to be continued; None if the text is too short."""
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False).offset_mapping
    if len(offsets) < 4:
        return None
    end = offsets[min(PROMPT_TOKENS, len(offsets) // 2) - 1][1]
    bos = tokenizer.bos_token or ""
    begins = bos and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return Prompt(row_id, text[:end], (bos if begins else "") + text[:end], text[end:].strip())


TOO_SHORT = "the text is too short to continue"
TEMPLATE_REFUSED = "the chat template rejects the row"
NO_TURN_TO_ANSWER = "the row has no message to answer"


@dataclass
class RowQuestion:
    """A row as a question. `rendered`: the model's prompt, None if there is none, as explained by
    `reason`.
    """

    row_id: int
    readable: str | None
    rendered: str | None
    reference: str | None
    label: str | None
    reason: str = ""


def build_question(tokenizer: Any, row_id: int, content: Any, label: str | None) -> RowQuestion:
    """Build the question from a row's messages or text."""
    reason = TOO_SHORT if isinstance(content, str) else NO_TURN_TO_ANSWER
    prompt: Prompt | None = None
    try:
        if isinstance(content, str):
            prompt = build_text_prompt(tokenizer, row_id, content)
        elif content:
            prompt = build_chat_prompt(tokenizer, row_id, content)
            if prompt is None and content[-1]["role"] == "user":
                text = render_conversation(tokenizer, content, generation_prompt=True)
                return RowQuestion(row_id, content[-1]["content"], text, None, label)
    except (TemplateError, TypeError):  # raised by templates that don't support its tools
        reason = TEMPLATE_REFUSED
    if prompt is None:
        return RowQuestion(row_id, None, None, None, label, reason)
    return RowQuestion(row_id, prompt.readable, prompt.rendered, prompt.reference or None, label)
