"""The column names under which each role is met in the wild, the most telling first."""

from __future__ import annotations

import re
from collections.abc import Sequence

SYSTEM = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions", "available_tools")

# In the order in which formats are tried: the more particular before the more general.
ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "preference": {
        "chosen": ("chosen", "preferred", "accepted", "chosen_response", "response_chosen"),
        "rejected": (
            "rejected", "dispreferred", "rejected_response", "response_rejected", "non_preferred",
        ),
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "system": SYSTEM,
        "tools": TOOLS,
    },
    "comparison": {
        "prompt": ("prompt", "instruction", "question", "query", "input", "text", "article", "context"),
        "input": ("input",),
        "system": SYSTEM,
    },
    "marked_pairs": {},
    "marked": {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "completion": ("completion", "response", "output", "answer", "reply", "generation"),
        "system": SYSTEM,
    },
    "multiple_choice": {
        "question": (
            "question", "query", "q", "stem", "problem", "ctx", "goal", "prompt", "sentence", "premise",
            "input", "instruction", "text",
        ),
        "choices": ("choices", "options", "endings", "candidates", "alternatives", "mc1_targets"),
        "answer": (
            "answer", "answerkey", "answer_key", "answer_index", "answer_idx", "answer_id", "label", "target",
            "correct", "correct_answer", "correct_option", "correct_choice", "correct_index",
            "correct_answer_index", "right_answer", "gold", "gold_index", "cop", "solution", "key",
        ),
        "context": ("context", "passage", "article", "paragraph", "background", "story", "support"),
        "system": SYSTEM,
    },
    "instruction": {
        "instruction": ("instruction", "instructions"),
        "output": ("output", "response", "answer", "completion", "target", "result"),
        "input": ("input", "context"),
        "system": SYSTEM,
    },
    "question_answer": {
        "question": ("question", "query", "q", "problem"),
        "answer": ("answer", "response", "a", "solution", "reply", "output", "answers"),
        "context": ("context", "passage", "background", "paragraph"),
        "system": SYSTEM,
    },
    "text_label": {
        "text": (
            "text", "sentence", "utterance", "review", "tweet", "message", "comment", "content", "headline",
            "title", "question", "document",
        ),
        "label": (
            "label", "label_text", "labels", "category", "class", "intent", "sentiment", "emotion", "topic",
            "target", "tag", "class_name", "label_name", "coarse_label", "coarse",
        ),
        "instruction": ("instruction",),
    },
    "prompt_completion": {
        "prompt": (
            "prompt", "input", "query", "source", "src", "article", "document", "dialogue", "mr",
            "meaning_representation", "question", "instruction", "human", "user", "text", "sentence",
            "word", "term",
        ),
        "completion": (
            "completion", "response", "output", "answer", "target", "tgt", "reference", "ref", "summary",
            "highlights", "reply", "definition", "gloss", "translation", "gpt", "assistant",
        ),
        "system": SYSTEM,
    },
    "text": {"text": ("text", "content", "document", "body", "article", "full_text", "passage", "story")},
}  # fmt: skip

# Columns that hold one choice each: one of these and a number or a letter, or a letter alone.
CHOICE_STEMS = ("ans", "answer", "option", "opt", "op", "choice", "sol", "ending", "candidate", "alternative")

TURN_NAMES = ("messages", "conversations", "conversation", "chat", "dialogue", "turns", "message")

FLAG_PREFIXES = ("is_", "has_")
NUMBERING = frozenset({"row_id", "rowid", "row", "id", "idx", "index", "line", "number", "no", "unnamed:_0"})
GENERIC = ("text", "value", "content", "0")  # of a path, these say less than what they lie in

KNOWN_NAMES = frozenset(
    name for roles in ALIASES.values() for names in roles.values() for name in names if len(name) > 1
) | frozenset(TURN_NAMES)


def normalise(name: str) -> str:
    """`Label Text`, `label-text` and `LABEL_TEXT` are one name."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def names_of(columns: Sequence[str]) -> dict[str, str]:
    """Normalised name -> column, the first of those that share one."""
    return {normalise(column): column for column in reversed(columns)}


def names_within(columns: Sequence[str]) -> dict[str, list[str]]:
    """Normalised name -> paths, by the last part of a path, or by what that lies in where the part says
    nothing (`answer` for `answer.text`)."""
    names: dict[str, list[str]] = {}
    for column in columns:
        parts = column.split(".")
        while len(parts) > 1 and parts[-1] in GENERIC:
            parts.pop()
        if "." in column:
            names.setdefault(normalise(parts[-1]), []).append(column)
    return names
