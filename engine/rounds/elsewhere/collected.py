"""The rows of a file of ratings put together: prompts with the answers of their models, and the ratings.

An item is a distinct prompt, with one answer of each model at most: where a model answered a prompt in two
ways, these are two items. A rater who rates the same again with sides swapped is a repeat; any other second
rating of the same is left out, and the first kept.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from engine.rounds.elsewhere.rows import PromptAndAnswers, RatedRow, SaidOf
from engine.rounds.elsewhere.scales import Scales
from store.catalog.rated_forms import RatedForm
from store.config.judging.round_config import MOST_LABELS
from store.contract.errors import DataError
from store.documents.rating.rating_desk import RatingAnswer
from store.documents.rating.round import Purpose

MAX_RATINGS = 1_000_000
MAX_MODELS = 1_000
MAX_RATERS = 100_000
MAX_CELLS = 10_000_000  # models times items: an item has a place for each model's answer
MAX_TEXT = 2**29  # characters of all prompts and answers
LOOKED_AT = 20  # items of the same prompt to which another answer may be added
AGAIN = "the same rater had rated the same before: the first rating is kept"

PromptKey = tuple[tuple[str, str], ...]  # turns: role and content


@dataclass
class CollectedItem:
    """A prompt. answers: by the place of the model."""

    prompt: PromptKey
    answers: dict[int, str] = field(default_factory=dict)


class CollectedRating(NamedTuple):
    """One rating; scores: of a rubric, whose points are known at the end."""

    task_id: str
    item_id: int
    rater: str
    place: int
    systems: tuple[int, ...]
    purpose: Purpose
    repeat_of: str | None
    verdict: SaidOf
    seconds: float
    time: datetime | None
    comment: str


class Collected:
    """What was read so far. merges: rows with the same prompt are one item; tells_raters: a second
    rating by a rater of the same is noticed."""

    def __init__(self, form: RatedForm, *, merges: bool, tells_raters: bool) -> None:
        self.form, self.merges, self.tells_raters = form, merges, tells_raters
        self.models: dict[str, int] = {}
        self.rated: Counter[str] = Counter()  # by model
        self.raters: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.scales = Scales()
        self.items: list[CollectedItem] = []
        self.ratings: list[CollectedRating] = []
        self.reasons: Counter[str] = Counter()
        self.soft = self.repeats = 0
        self._by_prompt: dict[PromptKey, list[int]] = {}
        self._by_answers: dict[tuple[PromptKey, tuple[int, ...], tuple[str | None, ...]], int] = {}
        self._seen: dict[tuple[str, int, tuple[int, ...]], tuple[str, tuple[int, ...]]] = {}
        self._text = 0

    def name(self, models: Sequence[str]) -> None:
        """Give models their places, before any row does."""
        for name in models:
            self.models.setdefault(name, len(self.models))

    def add(self, row: RatedRow) -> None:
        """Take a row in. Raises DataError where the file is too large."""
        self.reasons.update(row.missing)
        if not row.verdicts:
            return
        self.name(row.models)
        systems = tuple(self.models[name] for name in row.models)
        item_id = self._item_of(row.asked, systems)
        kept = sum(self._keep(item_id, systems, verdict, row) for verdict in row.verdicts)
        for name in row.models:
            self.rated[name] += kept
        self._check_size()

    def _item_of(self, asked: PromptAndAnswers, systems: tuple[int, ...]) -> int:
        prompt = tuple(asked.turns)
        key = (prompt, systems, asked.answers)
        if self.merges and (earlier_id := self._by_answers.get(key)) is not None:
            return earlier_id
        item_id = self._open_item(prompt, asked, systems) if self.merges else None
        if item_id is None:
            item_id = len(self.items)
            self.items.append(CollectedItem(prompt))
            self._by_prompt.setdefault(prompt, []).append(item_id)
            self._text += sum(len(text) for _, text in prompt)
        answers = self.items[item_id].answers
        for place, answer in zip(systems, asked.answers, strict=False):
            if answer is not None and place not in answers:
                answers[place] = answer
                self._text += len(answer)
        self._by_answers[key] = item_id
        return item_id

    def _open_item(self, prompt: PromptKey, asked: PromptAndAnswers, systems: tuple[int, ...]) -> int | None:
        """An item of the prompt in which these models have no other answer."""
        for item_id in self._by_prompt.get(prompt, ())[-LOOKED_AT:]:
            answers = self.items[item_id].answers
            pairs = zip(systems, asked.answers, strict=False)
            if all(answer is None or answers.get(place, answer) == answer for place, answer in pairs):
                return item_id
        return None

    def _keep(self, item_id: int, systems: tuple[int, ...], verdict: SaidOf, row: RatedRow) -> bool:
        purpose: Purpose = "first"
        repeat_of = None
        key = (verdict.rater, item_id, tuple(sorted(systems)))
        task_id = secrets.token_urlsafe(12)
        if self.tells_raters and (before := self._seen.get(key)):
            if before[1] == systems:
                self.reasons[AGAIN] += 1
                return False
            purpose, repeat_of = "repeat", before[0]
            self.repeats += 1
        self._seen[key] = (task_id, systems)
        if "label" in (verdict.answer or {}):
            self.labels[str(verdict.answer["label"])] += 1  # type: ignore[index,typeddict-item]
        self.soft += "preference" in (verdict.answer or {})
        self.scales.add(verdict.scores)
        self.ratings.append(
            CollectedRating(
                *(task_id, item_id, verdict.rater, self.raters[verdict.rater], systems, purpose, repeat_of),
                *(verdict, row.seconds, row.time, row.comment),
            )
        )
        self.raters[verdict.rater] += 1
        return True

    def _check_size(self) -> None:
        for count, most, what in (
            (len(self.models), MAX_MODELS, "models"),
            (len(self.raters), MAX_RATERS, "raters"),
            (len(self.ratings), MAX_RATINGS, "ratings"),
            (len(self.items) * len(self.models), MAX_CELLS, "models times prompts"),
            (self._text, MAX_TEXT, "characters of prompts and answers"),
            (len(self.labels), MOST_LABELS, "labels"),
        ):
            if count > most:
                raise DataError(
                    f"The file has more than {most:,} {what}.",
                    fix="Give a part of it, or map another column.",
                    field="columns",
                )

    def answer_of(self, rating: CollectedRating) -> RatingAnswer:
        """As a round has it. Raises DataError where scores have more points than a rubric."""
        if rating.verdict.answer is not None:
            return rating.verdict.answer
        return {"scores": self.scales.points_of(rating.verdict.scores)}
