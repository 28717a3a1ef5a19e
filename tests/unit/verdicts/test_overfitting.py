"""Overfitting is called where validation loss surely rose, and nowhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.evaluation.training_curve.overfitting import (
    compute_generalisation_loss,
    compute_progress_quotient,
    compute_training_progress,
)
from engine.evaluation.training_curve.run_curve import MetricValues, Validation
from store.evaluation.forgetting_schemas import Extraction, Membership
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import assess


def validations(means: list[float], noise: float = 0.02, n: int = 100, seed: int = 0) -> list[Validation]:
    """Validations every 20 steps with these mean losses; rows differ, and keep differing the same way."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(10, 50, n)
    row = generator.normal(0, 0.5, n)
    row -= (row * tokens).sum() / tokens.sum()
    return [
        Validation(
            step=20 * index,
            row_ids=np.arange(n),
            loss_sums=tokens * (mean + row + generator.normal(0, noise, n)),
            tokens=tokens,
        )
        for index, mean in enumerate(means)
    ]


def falling(steps: int, noise: float = 0.05) -> list[tuple[int, float]]:
    generator = np.random.default_rng(1)
    return [(s, 2 * math.exp(-s / 60) + 0.3 + abs(generator.normal(0, noise))) for s in range(1, steps + 1)]


def test_a_u_curve_overfits_since_the_turn() -> None:
    assessment = assess(validations([2.0, 1.4, 1.1, 1.05, 1.2, 1.35]), falling(100))
    assert assessment.state == "overfits"
    assert (assessment.best_step, assessment.since_step, assessment.last_step) == (60, 80, 100)
    assert assessment.rise.low < 0.3 < assessment.rise.high
    assert assessment.rise.n == 100
    assert assessment.gl == pytest.approx(100 * (1.35 / 1.05 - 1), abs=1.5)
    assert assessment.pq > 0
    assert "between step 60 and step 100 (on 100 rows)" in assessment.sentence


def test_a_falling_curve_does_not() -> None:
    assessment = assess(validations([2.0, 1.5, 1.2, 1.1, 1.05]), falling(80))
    assert (assessment.state, assessment.since_step, assessment.rise, assessment.gl) == (
        "none",
        None,
        None,
        0.0,
    )


def test_a_rise_within_the_noise_is_unclear() -> None:
    assessment = assess(validations([2.0, 1.0, 1.03, 1.02], noise=0.6, n=30), falling(60))
    assert assessment.state in {"unclear", "none"}
    assert assessment.since_step is None


def test_a_sure_but_tiny_rise_is_not_called_overfitting() -> None:
    assessment = assess(validations([2.0, 1.000, 1.006], noise=0.001, n=400), falling(40))
    assert assessment.state == "none"
    assert "less than 1%" in assessment.sentence


def test_a_flat_curve_is_rarely_called_overfitting() -> None:
    """The minimum of a flat, noisy curve lies below its end every time; it is not evidence."""
    called = 0
    for seed in range(100):
        assessment = assess(validations([1.0] * 8, noise=0.3, n=60, seed=seed), falling(140))
        called += assessment.state == "overfits"
    assert called <= 5


RISES = validations([2.0, 1.4, 1.1, 2.5, 3.2])


def blown_up(since: int, steps: int = 80) -> list[tuple[int, float]]:
    return [(s, (1.0 if s < since else 3.0) + 0.01 * (s % 3)) for s in range(1, steps + 1)]


def test_training_that_blows_up_has_diverged_and_nothing_else_is_said() -> None:
    remembers = row_of(Membership, state="remembers", sentence="It remembers.")
    writes = row_of(Extraction, state="extracts", sentence="It writes rows.")
    metric = [
        MetricValues(step=20 * i, row_ids=range(100), values=np.full(100, 0.1 * i), weights=np.ones(100))
        for i in range(5)
    ]
    assessment = assess(
        RISES, blown_up(41), train_probe=RISES, metric=("accuracy", metric), membership=remembers,
        extraction=writes,
    )  # fmt: skip
    sentence = "Training diverged: the training loss rose from 1.0 (step 1) to 3.0 (steps 66 to 80)."
    assert (assessment.state, assessment.stage) == ("diverged", "diverged")
    assert assessment.sentence == assessment.stage_sentence == sentence
    assert (assessment.gap_sentence, assessment.parting, assessment.since_step) == ("", None, 41)


def test_training_that_blows_up_at_the_very_end_is_unstable() -> None:
    """It may yet heal, as spikes do."""
    assessment = assess(RISES, blown_up(74))
    assert assessment.state == "unclear"
    assert "unstable" in assessment.sentence


def test_training_that_rose_from_the_first_step_is_never_said_not_to() -> None:
    """Too short a run to call it diverged; the base model is the best."""
    seen = validations([2.9, 10.6, 11.0])
    for index, validation in enumerate(seen):
        validation.step = 8 * index
    assessment = assess(seen, [(step, min(11.0, 2 + step)) for step in range(1, 17)])
    assert assessment.state == "unclear"
    assert "training loss rose with it" in assessment.sentence


def test_a_validation_that_is_not_a_number() -> None:
    seen = validations([2.0, 1.5, 1.2])
    seen[2].loss_sums = np.full(100, math.nan)
    assessment = assess([*seen, *validations([1.3] * 4)[3:]], falling(40))
    assert (assessment.state, assessment.since_step, assessment.last_step) == ("diverged", 40, 60)
    assert "diverged" in assessment.sentence


def test_too_few_validations() -> None:
    assert assess([], []).state == "unclear"
    assert "validation loss was not measured" in assess([], []).sentence
    assert assess(validations([2.0]), []).best_step == 0


def test_different_rows_are_refused() -> None:
    seen = validations([1.0, 1.5])
    seen[1].row_ids = np.arange(1, 101)
    with pytest.raises(ValueError, match="different rows"):
        assess(seen, falling(20))


def test_prechelt_by_hand() -> None:
    assert compute_generalisation_loss([2.0, 1.0, 1.1]) == pytest.approx([0, 0, 10])
    assert compute_training_progress([1.0, 1.0, 1.3]) == pytest.approx(100)
    curve = [(1, 1.0), (2, 1.0), (3, 1.3), (4, 0.5)]
    quotients = compute_progress_quotient([1.0, 1.1], [0, 3], curve)
    assert math.isnan(quotients[0])
    assert quotients[1] == pytest.approx(0.1)
