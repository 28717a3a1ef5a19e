"""Answers that name their model: they unblind a rater, so they are flagged.

Looked for are the words of the models' own names that stand for a model rather than for a setting, and the
names of model families that answers are known to give away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FAMILIES = (
    "alpaca", "bard", "bloom", "chatglm", "chatgpt", "claude", "cohere", "deepseek", "dolly",
    "falcon", "gemini", "gemma", "gpt-2", "gpt-3", "gpt-4", "gpt-5", "granite", "grok", "koala",
    "llama", "mistral", "mixtral", "olmo", "openassistant", "pythia", "qwen", "smollm", "smollm2",
    "smollm3", "stablelm", "tulu", "vicuna", "wizardlm", "zephyr",
)  # fmt: skip
SELF = re.compile(
    r"\bI(?:'m| am) (?:an? )?(?:\w+ ){0,3}(?:model|assistant|AI)\b[^.]{0,40}\b"
    r"(?:trained|developed|created|made|built) by\b",
    re.IGNORECASE,
)
_SHORT = 4  # characters: shorter words of a name stand for too much else


def model_words(names: Iterable[str]) -> frozenset[str]:
    """Words to look for, in small letters: whole names, and the families that they belong to."""
    whole = {name.rpartition("/")[2].casefold() for name in names}
    return frozenset(name for name in whole if len(name) > _SHORT and not name.isdigit()) | frozenset(
        FAMILIES
    )


def names_model(text: str, words: frozenset[str]) -> bool:
    """Whether an answer names a model, or says who made it."""
    small = text.casefold()
    if any(word in small and _as_word(word, small) for word in words):
        return True
    return bool(SELF.search(text))


def _as_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", text) is not None
