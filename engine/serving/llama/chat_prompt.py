"""A conversation as the template of a GGUF file writes it, rendered here: llama.cpp's Jinja has no limits, so
that a loop of a stranger's template runs for ever and a text grows until the memory is full, as soon as the
model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from engine.rows.template_limits import limit_templates
from engine.serving.llama.gguf_head import GgufHead
from engine.serving.protocol.bodies import ChatTurn
from engine.serving.protocol.refusals import Refused

TEMPLATE = "tokenizer.chat_template"
BEGIN, END = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"


class ChatTemplate:
    """That of one file; false where it has none."""

    def __init__(self, head: GgufHead) -> None:
        limit_templates()
        self._source = head.text(TEMPLATE)
        self.begin = head.token(BEGIN)
        self._names: dict[str, Any] = {"bos_token": self.begin, "eos_token": head.token(END)}

    def __bool__(self) -> bool:
        return bool(self._source)

    def prompt(self, turns: Sequence[ChatTurn]) -> str:
        """Raises Refused where the template takes no such conversation, ConfigError at its limits."""
        messages = [
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text}
            for turn in turns
        ]
        try:
            rendered = render_jinja_template(
                [messages], chat_template=self._source, add_generation_prompt=True, **self._names
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise Refused(
                f"The model's chat template refuses the conversation: {error}.", field="messages"
            ) from error
        return str(rendered[0][0])
