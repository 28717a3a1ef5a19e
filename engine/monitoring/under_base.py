"""Perplexity of served answers under their base: which answers are measured, and what is said of the others.

A look measures MOST_ANSWERS at most, drawn by a number of their place alone: what an answer is like has no
part in it, so that the tests stay valid. Bases are loaded one at a time, those of most answers first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from engine.diagnostics.drift.base_words import MOST_ANSWERS
from engine.monitoring.served_answers import ServedAnswer
from store.contract.errors import TunebenchError
from store.documents.data.row import Message
from store.documents.serving.served_base import BaseLook, ServedBase

MOST_BASES = 2
THIRD = f"of a look {MOST_BASES} bases are loaded, and this answer has another"


@dataclass(frozen=True)
class ScoredAnswers:
    """nats: of a token of each answer, None where `reasons` has why, at the same place. cut: of the measured.
    loading, seconds: until the base was there, and for all answers."""

    nats: list[float | None]
    reasons: list[str]
    cut: int
    loading: float
    seconds: float


class BaseModels(Protocol):
    """Finds bases and asks them."""

    def find(self, base: ServedBase) -> str:
        """What tells this base from others. Raises TunebenchError where it is not there."""
        ...

    def score(self, key: str, conversations: Sequence[list[Message]]) -> ScoredAnswers:
        """How likely the last turn of each is. Raises TunebenchError where the base can't be loaded."""
        ...


class UnderBase(NamedTuple):
    """nats: of a token of each answer, None where it wasn't measured."""

    nats: list[float | None]
    look: BaseLook

    @property
    def why(self) -> str:
        """That no answer could be measured; empty where one was."""
        if self.look["measured"]:
            return ""
        reason = max(self.look["reasons"], key=lambda each: self.look["reasons"][each], default="no answer")
        return (
            f"No answer of the reference can be measured: {reason.rstrip('.')}. To try again, take it out of"
            " what is watched, save, and put it back."
        )


def measure_answers(
    answers: Sequence[ServedAnswer],
    bases: Mapping[str, ServedBase],
    models: BaseModels,
    most: int = MOST_ANSWERS,
) -> UnderBase:
    """Of answers in any order."""
    reasons: Counter[str] = Counter()
    asked, keys = _with_bases(answers, bases, models, reasons)
    common = [key for key, _ in Counter(keys[i] for i in asked).most_common()]
    reasons[THIRD] += sum(keys[i] not in common[:MOST_BASES] for i in asked)
    asked = [i for i in asked if keys[i] in common[:MOST_BASES]]
    drawn = sorted(asked, key=lambda i: float(np.random.default_rng(answers[i].place).random()))[:most]
    nats: list[float | None] = [None] * len(answers)
    cut, loading, seconds = 0, 0.0, 0.0
    for key in common[:MOST_BASES]:
        mine = [i for i in drawn if keys[i] == key]
        if not mine:
            continue
        try:
            scored = models.score(key, [answers[i].messages or [] for i in mine])
        except TunebenchError as error:
            reasons[error.message] += len(mine)
            continue
        for i, value in zip(mine, scored.nats, strict=True):
            nats[i] = value
        reasons.update(reason for reason in scored.reasons if reason)
        cut, loading, seconds = cut + scored.cut, loading + scored.loading, seconds + scored.seconds
    measured = sum(value is not None for value in nats)
    look: BaseLook = {
        "measured": measured, "left_out": len(asked) - len(drawn), "cut": cut,
        "reasons": {reason: n for reason, n in reasons.most_common() if n},
        "seconds": seconds / max(1, measured), "loading": loading,
    }  # fmt: skip
    return UnderBase(nats, look)


def _with_bases(
    answers: Sequence[ServedAnswer],
    bases: Mapping[str, ServedBase],
    models: BaseModels,
    reasons: Counter[str],
) -> tuple[list[int], dict[int, str]]:
    """Which answers can be measured, and under which base each; why the others can't goes into `reasons`."""
    by_version: dict[str, str] = {}
    lacking: dict[str, str] = {}
    keys: dict[int, str] = {}
    for i, answer in enumerate(answers):
        version = answer.version
        if answer.messages is None:
            reasons[answer.why] += 1
            continue
        if version not in by_version and version not in lacking:
            try:
                by_version[version] = models.find(bases[version])
            except TunebenchError as error:
                lacking[version] = error.message
        if version in lacking:
            reasons[lacking[version]] += 1
        else:
            keys[i] = by_version[version]
    return list(keys), keys
