"""How a question of multiple choice shows its choices: one rule for import, screens and evaluation.

After the question an empty line, then a line for each choice with its letter: "A. Paris". The answer is the
text of the right choice, as it is listed and without its letter, so that a model can be asked for the
log-probability of each choice after the very prompt that it was trained on, as a sum or by byte.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

MOST = len(string.ascii_uppercase)


def lettered(choices: Sequence[str]) -> list[tuple[str, str]]:
    """Each of at most 26 choices with its letter."""
    return list(zip(string.ascii_uppercase, choices, strict=False))


def with_choices(question: str, choices: Sequence[str]) -> str:
    """The question with its choices after it."""
    return question + _ending(choices)


def without_choices(prompt: str, choices: Sequence[str]) -> str:
    """The question alone. A prompt that doesn't end with the choices is given back as it is."""
    return prompt.removesuffix(_ending(choices))


def shows(prompt: str, choices: Sequence[str]) -> bool:
    """Whether the prompt ends with these choices."""
    return prompt.endswith(_ending(choices))


def _ending(choices: Sequence[str]) -> str:
    return "\n\n" + "\n".join(f"{letter}. {choice}" for letter, choice in lettered(choices))
