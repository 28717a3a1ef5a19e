"""Which text of an item a rating is about: that which a label, spans and words in a rater's own hand say
something of. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from store.documents.rating.rating_desk import PromptTurn, RatingSubject
from store.documents.rating.round import RoundItem


def last_asked(prompt: Sequence[PromptTurn]) -> str:
    """What the user said last."""
    return next((turn["content"] for turn in prompt[::-1] if turn["role"] == "user"), "")


def judged_text(subject: RatingSubject, item: RoundItem, systems: Sequence[int]) -> str:
    """The answer that was shown, or what was asked; `systems`: of the task."""
    return item["answers"][systems[0]] or "" if subject == "answer" else last_asked(item["prompt"])
