"""Grades of a language model as a metric, and which of two models' answers it prefers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.diagnostics.statistics.scored import Scored
from engine.metrics.answer_rows import Answers, MetricInput, MetricScores
from engine.metrics.judge import AnswerPairs, grade, prefer
from engine.metrics.judge_client import JudgeClient
from store.config.measuring.judge_config import JudgeChoice
from store.contract.addresses import AddressPolicy
from store.contract.home import Home


def graded(choice: Any, asked: MetricInput) -> MetricScores:
    """The grade of each answer. Raises ConfigError where a key is named that isn't there, or the address is
    refused."""
    rows = asked.rows
    prompts = [text or "" for text in rows.prompts or ()]
    references = list(rows.references) if rows.references is not None else [None] * len(rows)
    client = JudgeClient(choice, asked.policy, asked.home.judgements)
    try:
        scores, reasons, details = grade(
            client, choice, prompts, asked.predictions, references, lambda done: asked.check()
        )
    finally:
        client.close()
    return MetricScores(scores, reasons=reasons, details={**details})


def preferred(
    choice: JudgeChoice,
    first: Answers,
    second: Answers,
    home: Home,
    policy: AddressPolicy,
    *,
    check: Callable[[int], None] = lambda done: None,
) -> Scored:
    """Which of two models' answers to the same rows is better: 1 where it is the first's, so that above 0.5
    the first wins more often. Raises ConfigError where a key is named that isn't there, or the address is
    refused; ValueError for other rows."""
    if not np.array_equal(first.row_ids, second.row_ids):
        raise ValueError("The two models answered other rows.")
    needs = ("prompt", "prediction")
    scored = Scored(choice.key, first.row_ids, np.full(len(first), np.nan), bounds=(0.0, 1.0))
    scored.unit = "share of pairs won"
    scored.failed = first.missing(needs) or second.missing(needs)
    if scored.failed:
        return scored
    scored.reasons = first.gaps(needs) | second.gaps(needs)
    places = np.array([i for i in range(len(first)) if i not in scored.reasons], np.int64)
    if not len(places):
        return scored
    pairs = _pairs(first.take(places), second.take(places))
    client = JudgeClient(choice, policy, home.judgements)
    try:
        wins, missing, details = prefer(client, choice, pairs, check)
    finally:
        client.close()
    own = dict(zip(places.tolist(), details["orders"], strict=True))
    scored.details = {**details, "orders": [own.get(place, [None, None]) for place in range(len(first))]}
    scored.scores[places] = wins
    scored.reasons |= {int(places[row]): reason for row, reason in missing.items()}
    scored.empty = first.empty + second.empty
    if np.isnan(wins).all():
        scored.failed = f"No pair could be judged; the first: {missing[0]}."
    return scored


def _pairs(first: Answers, second: Answers) -> AnswerPairs:
    """Two models' answers to the same rows, as the judge reads them."""
    references = list(first.references) if first.references is not None else [None] * len(first)
    return AnswerPairs(
        prompts=[text or "" for text in first.prompts or ()],
        first=[text or "" for text in first.predictions or ()],
        second=[text or "" for text in second.predictions or ()],
        references=references,
    )
