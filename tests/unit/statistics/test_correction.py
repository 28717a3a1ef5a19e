"""Corrections by runs of the past: right on average, honest about few, and covering what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from engine.evaluation.statistics.cost_prediction import MEMORY, TIME, MeasuredPrediction, correct_prediction


def test_without_a_run_the_prediction_stands() -> None:
    correction = correct_prediction([], "lora", MEMORY)
    assert (correction.factor, correction.n, correction.same) == (1.0, 0, 0)
    assert correction.low < 0.9
    assert correction.high > 1.1
    assert "No run" in correction.sentence("memory")


def test_one_run_moves_it_half_of_the_way_and_many_all_of_it() -> None:
    single = correct_prediction([MeasuredPrediction(1.0, 1.2, "lora")], "lora", MEMORY)
    assert single.factor == pytest.approx(1.2**0.5)
    many = correct_prediction([MeasuredPrediction(1.0, 1.2, "lora")] * 50, "lora", MEMORY)
    assert many.factor == pytest.approx(1.2, rel=0.01)
    assert many.high / many.low < single.high / single.low


def test_runs_with_the_same_method_count_for_more() -> None:
    pairs = [MeasuredPrediction(1.0, 1.3, "full")] * 3 + [MeasuredPrediction(1.0, 1.0, "lora")] * 3
    lora, full = (correct_prediction(pairs, method, MEMORY) for method in ("lora", "full"))
    assert 1.0 < lora.factor < full.factor < 1.3
    assert (lora.n, lora.same) == (6, 3)
    assert "6 runs on this device (3 with this method and task)" in lora.sentence("memory")


def test_a_first_time_is_as_unsure_as_benchmarks_were_and_no_more() -> None:
    """Measured over predicted in bench/costs/time.py; the first was the first prediction on its machine."""
    ratios = [0.26, 1.10, 1.01, 1.80, 1.04, 0.98, 1.34, 1.05, 1.09, 1.19, 1.78, 1.49]
    first = correct_prediction([], "lora", TIME)
    assert sum(first.low <= ratio <= first.high for ratio in ratios) >= 11
    assert first.high / first.low < 12
    second = correct_prediction([MeasuredPrediction(1.0, ratios[1], "lora")], "lora", TIME)
    assert all(second.low <= ratio <= second.high for ratio in ratios[1:])
    assert second.high / second.low < 5


def test_odd_numbers_are_left_out() -> None:
    pairs = [
        MeasuredPrediction(0.0, 1.0, "lora"),
        MeasuredPrediction(1.0, -1.0, "lora"),
        MeasuredPrediction(1.0, float("nan"), "lora"),
    ]
    assert correct_prediction(pairs, "lora", TIME).n == 0


@pytest.mark.parametrize("runs", [1, 3, 10, 40])
@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_the_interval_covers_the_next_run_as_often_as_it_says(runs: int, spread: float) -> None:
    """Devices differ by some per cent; the prior's spread is right, or four times too small."""
    noise = np.random.default_rng(runs)
    hits = 0
    for _ in range(400):
        bias = noise.normal(0, 0.06)
        ratios = np.exp(bias + noise.normal(0, spread, runs + 1))
        correction = correct_prediction(
            [MeasuredPrediction(1.0, float(r), "lora") for r in ratios[:-1]], "lora", MEMORY
        )
        hits += correction.low <= ratios[-1] <= correction.high
    assert hits / 400 >= (0.93 if spread == 0.05 else 0.55 if runs < 10 else 0.8)
