"""A row as a question: what it is asked as, what its reference is, and its label.

It needs a row's content and a tokenizer, no data set: other environments ask rows too. A row that can't be
asked keeps its place, without a prompt, and says why: it is counted, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from engine.probes.sample_prompts import Prompt, prompt_of_chat, prompt_of_text
from engine.rows.render import rendered

TOO_SHORT = "the text is too short to be continued"
REFUSED = "the chat template refuses the row"
NOTHING = "the row has no turn to answer"


@dataclass
class RowQuestion:
    """`rendered`: as the model is asked it, None where it can't be, which `reason` explains."""

    row_id: int
    readable: str | None
    rendered: str | None
    reference: str | None
    label: str | None
    reason: str = ""


def of_content(tokenizer: Any, row_id: int, content: Any, label: str | None) -> RowQuestion:
    """The question of a row's messages, or of its text."""
    reason = TOO_SHORT if isinstance(content, str) else NOTHING
    prompt: Prompt | None = None
    try:
        if isinstance(content, str):
            prompt = prompt_of_text(tokenizer, row_id, content)
        elif content:
            prompt = prompt_of_chat(tokenizer, row_id, content)
            if prompt is None and content[-1]["role"] == "user":
                text = rendered(tokenizer, content, generation_prompt=True)
                return RowQuestion(row_id, content[-1]["content"], text, None, label)
    except (TemplateError, TypeError):  # of a template that can't hold its tools
        reason = REFUSED
    if prompt is None:
        return RowQuestion(row_id, None, None, None, label, reason)
    return RowQuestion(row_id, prompt.readable, prompt.rendered, prompt.reference or None, label)
