"""The rows of an evaluation as questions: what each is asked as, what its reference is, and its label.

A row that can't be asked keeps its place, without a prompt, and says why: it is counted, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError

from engine.data.deal.columns import read_values
from engine.probes.sample_prompts import Prompt, prompt_of_chat, prompt_of_text
from engine.rows import dataset
from engine.rows.render import rendered
from store.contract.errors import ConfigError
from store.contract.home import Home

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


def questions(tokenizer: Any, home: Home, fingerprint: str, row_ids: np.ndarray) -> list[RowQuestion]:
    """One for each of the rows, in their order."""
    table = dataset.load(home, fingerprint, columns=["messages", "text", "label"], row_ids=row_ids)
    rows = zip(row_ids.tolist(), *(table[name].to_pylist() for name in table.column_names), strict=True)
    return [
        _question(tokenizer, row_id, messages or text, label or None)
        for row_id, messages, text, label in rows
    ]


def _question(tokenizer: Any, row_id: int, content: Any, label: str | None) -> RowQuestion:
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


def groups(home: Home, fingerprint: str, column: str | None, row_ids: np.ndarray) -> list[int | None] | None:
    """The group of each row by that column, None for one without a value. Raises ConfigError (group_by)."""
    if column is None:
        return None
    try:
        values = read_values(home, fingerprint, column)[row_ids]
    except ConfigError as error:
        raise ConfigError(error.message, fix=error.fix, field="group_by") from error
    return [None if value < 0 else value for value in values.tolist()]
