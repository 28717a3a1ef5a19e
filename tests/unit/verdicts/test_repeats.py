"""What duplicates did, told from rows with known effects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from engine.evaluation.verdicts import duplicates
from engine.evaluation.verdicts.duplicates import MeasuredTraining, RowLossPair
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import ExtractedCount

RANDOM = np.random.default_rng(2)
TOKENS = RANDOM.integers(5, 20, 80)
BASE = 3.0 * TOKENS


def leaks(base: Any, tuned: Any, tokens: Any, kinds: Any, near: bool) -> Any:
    return duplicates.assess_leaks(RowLossPair(base, tuned, tokens), kinds, near)


def training(
    times: Any, base: Any, tuned: Any, tokens: Any, others: Any, written: Any, row_ids: Any, counts: Any
) -> Any:
    losses = RowLossPair(base, tuned, tokens)
    return duplicates.assess_training_repeats(
        MeasuredTraining(row_ids, times, losses, others, written, *counts)
    )


def losses(drop: np.ndarray) -> np.ndarray:
    return BASE - (drop + RANDOM.normal(0, 0.1, 80)) * TOKENS


def test_repeated_held_out_rows_flatter_the_gain() -> None:
    hit = np.arange(80) < 20
    assessment = leaks(
        BASE, losses(np.where(hit, 2.0, 0.5)), TOKENS, {"exact": hit, "near": hit & False}, True
    )
    assert (assessment.rows, assessment.kinds) == (20, {"exact": 20, "near": 0})
    assert assessment.clean.value == pytest.approx(0.5, abs=0.05)
    assert assessment.difference.low > 1
    assert "20 of 80 held-out rows repeat a training row (20 word for word)" in assessment.sentence
    assert "they inflate the gain" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_no_effect_is_not_called_one() -> None:
    hit = np.arange(80) < 20
    assessment = leaks(BASE, losses(np.full(80, 0.5)), TOKENS, {"exact": hit}, False)
    assert "can't be distinguished from noise" in assessment.sentence
    none = leaks(BASE, losses(np.full(80, 0.5)), TOKENS, {"exact": hit & False}, False)
    assert none.repeated is None
    assert "None of 80 held-out rows" in none.sentence
    assert "near duplicates were not searched" in none.sentence


def test_training_rows_that_occur_more_than_once() -> None:
    times = np.where(np.arange(80) < 25, 3, 1)
    tuned = losses(np.where(times > 1, 2.0, 0.5))
    written = {i: i < 20 for i in range(40)}
    assessment = training(times, BASE, tuned, TOKENS, np.full(50, 2.5), written, np.arange(80), (400, 60))
    assert assessment.drop.difference.low > 1
    assert assessment.auc.repeated.value == 1
    assert assessment.written.repeated == ExtractedCount(rows=20, n=25)
    assert assessment.written.difference.low > 0.5
    assert "60 of 400 training rows occur more than once" in assessment.sentence
    assert "25 against 55 measured rows" in assessment.sentence
    json.dumps(assessment, default=as_json, allow_nan=False)


def test_rows_without_an_interval_say_why() -> None:
    tokens = np.where(np.arange(60) == 0, 10_000, 20)
    fell = tokens * np.linspace(0.5, 1.0, 60)
    times = np.where(np.arange(60) < 20, 3, 1)
    assessment = training(
        times, 3.0 * tokens, 3.0 * tokens - fell, tokens, np.full(9, 2.0), {}, np.arange(60), (60, 20)
    )
    assert assessment.sentence.endswith(
        "for those that occur more than once, one of 20 rows has 96% of the weight."
    )


def test_few_or_no_repeated_rows_say_nothing() -> None:
    args = (BASE, losses(np.full(80, 0.5)), TOKENS, np.full(50, 2.5), {}, np.arange(80))
    once = training(np.ones(80), *args, (400, 0))
    assert (once.drop, once.sentence) == (None, "Each of 400 training rows occurs once.")
    few = training(np.where(np.arange(80) < 1, 2, 1), *args, (400, 3))
    assert few.drop is None
    assert "too few to measure" in few.sentence
