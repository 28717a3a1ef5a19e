"""A multiple-choice item as every model is asked it, whether the suite's own or from a user's data set.

The text is that of lm-evaluation-harness' multiple_choice tasks: no chat template, and each option as the
continuation of the same prompt. What is asked about an item never depends on the order of its options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.core.errors import DataError

MIN_OPTIONS = 2


@dataclass(frozen=True)
class ChoiceItem:
    """`id` is stable (such as geography/017) and unique in its set; `right` is an index into `options`."""

    id: str
    category: str
    question: str
    options: tuple[str, ...]
    right: int

    @property
    def prompt(self) -> str:
        """What comes before each option."""
        return f"Question: {self.question}\nAnswer:"

    @property
    def continuations(self) -> tuple[str, ...]:
        """Each option as it follows the prompt."""
        return tuple(f" {option}" for option in self.options)


def pick_options(scores: Sequence[np.ndarray], options: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """Of each item the index of the option with the highest sum, int32, the first one of equals; with the
    texts of the `options` of the highest sum by byte of its text."""
    if options is not None:
        sizes = [np.array([len(text.encode()) for text in some]) for some in options]
        scores = [each / size for each, size in zip(scores, sizes, strict=True)]
    return np.array([each.argmax() for each in scores], np.int32)


def check_items(items: Sequence[ChoiceItem]) -> None:
    """Raise DataError for the first item that can't be asked, or whose id another one has."""
    seen: set[str] = set()
    for item in items:
        problem, fix = _find_item_error(item)
        if item.id in seen:
            problem, fix = "has the id of an item before it", "Give every item an id of its own."
        if problem:
            raise DataError(f"The item {item.id!r} {problem}.", fix=fix)
        seen.add(item.id)


def _find_item_error(item: ChoiceItem) -> tuple[str, str]:
    """What is wrong with the item and what to do; two empty strings where nothing is."""
    if not item.question.strip():
        return "has no question", "Write the question, or leave the item out."
    if len(item.options) < MIN_OPTIONS:
        return f"has {len(item.options)} options", f"Give it at least {MIN_OPTIONS} options."
    for place, option in enumerate(item.options, 1):
        if not option.strip():
            return f"has an empty option (number {place})", "Write the option, or leave it out."
    texts = [" ".join(option.split()) for option in item.options]
    twice = next((option for option in texts if texts.count(option) > 1), None)
    if twice is not None:
        return f"has the option {twice!r} twice", "Leave one of the two out."
    if not 0 <= item.right < len(item.options):
        many = len(item.options)
        return f"has the right option {item.right}, of {many}", f"Give a number from 0 to {many - 1}."
    return "", ""
