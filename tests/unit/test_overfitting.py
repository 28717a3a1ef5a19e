"""Overfitting is called where validation loss surely rose, and nowhere else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.diagnostics.course.overfitting import (
    Validation,
    assess,
    generalisation_loss,
    progress_quotient,
    training_progress,
)


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
    found = assess(validations([2.0, 1.4, 1.1, 1.05, 1.2, 1.35]), falling(100))
    assert found["state"] == "overfits"
    assert (found["best_step"], found["since_step"], found["last_step"]) == (60, 80, 100)
    assert found["rise"]["low"] < 0.3 < found["rise"]["high"]
    assert found["rise"]["n"] == 100
    assert found["gl"] == pytest.approx(100 * (1.35 / 1.05 - 1), abs=1.5)
    assert found["pq"] > 0
    assert "between step 60 and step 100 (on 100 rows)" in found["sentence"]


def test_a_falling_curve_does_not() -> None:
    found = assess(validations([2.0, 1.5, 1.2, 1.1, 1.05]), falling(80))
    assert (found["state"], found["since_step"], found["rise"], found["gl"]) == ("none", None, None, 0.0)


def test_a_rise_within_the_noise_is_unclear() -> None:
    found = assess(validations([2.0, 1.0, 1.03, 1.02], noise=0.6, n=30), falling(60))
    assert found["state"] in {"unclear", "none"}
    assert found["since_step"] is None


def test_a_sure_but_tiny_rise_is_not_called_overfitting() -> None:
    found = assess(validations([2.0, 1.000, 1.006], noise=0.001, n=400), falling(40))
    assert found["state"] == "none"
    assert "less than 1%" in found["sentence"]


def test_a_flat_curve_is_rarely_called_overfitting() -> None:
    """The minimum of a flat, noisy curve lies below its end every time; it is not evidence."""
    called = 0
    for seed in range(100):
        found = assess(validations([1.0] * 8, noise=0.3, n=60, seed=seed), falling(140))
        called += found["state"] == "overfits"
    assert called <= 5


def test_training_that_blows_up_is_not_overfitting() -> None:
    curve = [(s, 1.0 + 0.01 * (s % 3)) for s in range(1, 41)] + [
        (s, 3.0 + 0.1 * (s % 3)) for s in range(41, 81)
    ]
    found = assess(validations([2.0, 1.4, 1.1, 2.5, 3.2]), curve)
    assert found["state"] == "unclear"
    assert "unstable" in found["sentence"]


def test_a_validation_that_is_not_a_number() -> None:
    seen = validations([2.0, 1.5, 1.2])
    seen[2]["loss_sums"] = np.full(100, math.nan)
    found = assess(seen, falling(40))
    assert (found["state"], found["last_step"]) == ("unclear", 20)
    assert "diverged" in found["sentence"]


def test_too_few_validations() -> None:
    assert assess([], [])["state"] == "unclear"
    assert assess(validations([2.0]), [])["best_step"] == 0


def test_different_rows_are_refused() -> None:
    seen = validations([1.0, 1.5])
    seen[1]["row_ids"] = np.arange(1, 101)
    with pytest.raises(ValueError, match="different rows"):
        assess(seen, falling(20))


def test_prechelt_by_hand() -> None:
    assert generalisation_loss([2.0, 1.0, 1.1]) == pytest.approx([0, 0, 10])
    assert training_progress([1.0, 1.0, 1.3]) == pytest.approx(100)
    curve = [(1, 1.0), (2, 1.0), (3, 1.3), (4, 0.5)]
    quotients = progress_quotient([1.0, 1.1], [0, 3], curve)
    assert math.isnan(quotients[0])
    assert quotients[1] == pytest.approx(0.1)
