"""Multiple-choice item as presented to every model, from the suite or a user's data set.

The text is that of lm-evaluation-harness' multiple_choice tasks: no chat template, and each option as a
continuation of the same prompt. The text never depends on the order of the options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.core.errors import DataError

MIN_OPTIONS = 2


@dataclass(frozen=True)
class ChoiceItem:
    """Multiple-choice item. `id` is stable (such as geography/017) and unique in its set; `right` is an index
    into `options`.
    """

    id: str
    category: str
    question: str
    options: tuple[str, ...]
    right: int

    @property
    def prompt(self) -> str:
        """Text before each option."""
        return f"Question: {self.question}\nAnswer:"

    @property
    def continuations(self) -> tuple[str, ...]:
        """Each option as it follows the prompt."""
        return tuple(f" {option}" for option in self.options)


def pick_options(scores: Sequence[np.ndarray], options: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """Return the index (int32) of the option with the highest sum for each item, the first one if tied; with
    `options`, their texts, the one with the highest sum per byte of its text.
    """
    if options is not None:
        sizes = [np.array([len(text.encode()) for text in some]) for some in options]
        scores = [each / size for each, size in zip(scores, sizes, strict=True)]
    return np.array([each.argmax() for each in scores], np.int32)


def check_items(items: Sequence[ChoiceItem]) -> None:
    """Raise DataError for the first item that is invalid, or whose ID is a duplicate."""
    seen: set[str] = set()
    for item in items:
        problem, fix = _find_item_error(item)
        if item.id in seen:
            problem, fix = "has the same id as an earlier item", "Give every item a unique id."
        if problem:
            raise DataError(f"The item {item.id!r} {problem}.", fix=fix)
        seen.add(item.id)


def _find_item_error(item: ChoiceItem) -> tuple[str, str]:
    """Return what is wrong with the item and how to fix it; two empty strings if it is valid."""
    if not item.question.strip():
        return "has no question", "Add the question, or remove the item."
    if len(item.options) < MIN_OPTIONS:
        return f"has {len(item.options)} options", f"Give it at least {MIN_OPTIONS} options."
    for place, option in enumerate(item.options, 1):
        if not option.strip():
            return f"has an empty option (number {place})", "Add the option, or remove it."
    texts = [" ".join(option.split()) for option in item.options]
    twice = next((option for option in texts if texts.count(option) > 1), None)
    if twice is not None:
        return f"has the option {twice!r} twice", "Remove one of the two."
    if not 0 <= item.right < len(item.options):
        many = len(item.options)
        return f"has the right option {item.right}, of {many}", f"Give a number from 0 to {many - 1}."
    return "", ""
