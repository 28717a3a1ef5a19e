"""The row formats that an import recognises, as one table that forms, readers and tests share.

Each format names its roles; a mapping says which column of the file plays each role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FormatName = Literal[
    "messages",
    "sharegpt",
    "preference",
    "instruction",
    "question_answer",
    "prompt_completion",
    "text_label",
    "text",
]

Kind = Literal["chat", "text", "preference"]


@dataclass(frozen=True)
class Format:
    """How rows of one format are read. `kind` is the form in which they are stored."""

    name: FormatName
    title: str
    kind: Kind
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    help: str = ""


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "messages",
            "OpenAI messages",
            "chat",
            ("messages",),
            ("tools",),
            "A list of {role, content} turns, with tool_calls where functions are called.",
        ),
        Format(
            "sharegpt",
            "ShareGPT conversations",
            "chat",
            ("conversations",),
            ("system", "tools"),
            "A list of {from, value} turns.",
        ),
        Format(
            "preference",
            "Preferred and rejected answers",
            "preference",
            ("chosen", "rejected"),
            ("prompt", "system", "tools"),
            "The chosen answer is what is trained on.",
        ),
        Format(
            "instruction",
            "Instruction, input, output",
            "chat",
            ("instruction", "output"),
            ("input", "system"),
            "The input is appended to the instruction after an empty line.",
        ),
        Format(
            "question_answer",
            "Question and answer",
            "chat",
            ("question", "answer"),
            ("context", "system"),
            "A context is put before the question.",
        ),
        Format(
            "prompt_completion",
            "Prompt and completion",
            "chat",
            ("prompt", "completion"),
            ("system",),
            "The completion alone is trained on.",
        ),
        Format(
            "text_label",
            "Text and label",
            "chat",
            ("text", "label"),
            ("instruction",),
            "The model learns to answer the text with its label.",
        ),
        Format("text", "Plain text", "text", ("text",), (), "Every token is trained on."),
    )
}
