"""Time before a launch: what passes through the model, in proportion to rows, weights and switches."""

from __future__ import annotations

from typing import Any

import pytest

from engine.evaluation.statistics import cost_prediction
from engine.models.hardware import DeviceRates
from engine.training.costs import estimate
from engine.training.costs.footprint import Rehearsal
from engine.training.costs.run_costs import list_timed_runs
from store.core.training_schemas import MeasuredRun, TimeEstimate
from tests.engine.rehearsed import BF16, CPU, SMALL, SMOLLM2, config, padded, rehearse
from tests.unit.store_samples import row_of

RATES = DeviceRates(4e11, 1e11, 1.2e10, 4e-6)


def test_time_grows_with_work_and_says_what_it_rests_on() -> None:
    chosen = config()
    tried, footprint = rehearse(SMOLLM2, chosen)
    untold = cost_prediction.correct_prediction([], "lora", cost_prediction.TIME)

    step = estimate.CountedStep(tried.counts, footprint, chosen, BF16, CPU, 30)

    def seconds(tokens: float) -> TimeEstimate:
        work = estimate.RunWork(tokens, tokens / 4, tokens / 1024, 10_000, 2_500, 128, 128, 100)
        return estimate.estimate_seconds(step, work, RATES, untold)

    short, long = seconds(30_000), seconds(300_000)
    assert short.low_seconds < short.seconds < short.high_seconds
    assert 4 < long.seconds / short.seconds < 10
    assert "400 GFLOP/s" in short.basis
    assert "12 GB/s" in short.basis
    assert sum(long.parts.values()) == pytest.approx(long.counted_seconds)


def test_work_is_that_of_the_weights_and_tokens() -> None:
    """Two operations a weight and token for every pass: forward, gradients of activations, of weights."""
    linear = Rehearsal(SMOLLM2, config(), BF16, "cpu").counts.linear

    def passes(**fields: Any) -> float:
        chosen = config(per_device_train_batch_size=8, **fields)
        piece = rehearse(padded(SMOLLM2), chosen)[1].piece
        return float(piece.layers[0] / (2 * linear * piece.tokens))

    lora, full = passes(), passes(method="full")
    assert lora == pytest.approx(2, rel=0.02)  # padding after a row's last trained token is not computed
    assert full == pytest.approx(3, rel=0.02)
    assert passes(gradient_checkpointing=True) == pytest.approx(3, rel=0.02)
    # of 30 layers two are trained: no gradients below them, and no weight gradients elsewhere
    assert passes(method="freeze", trainable_layers=2) == pytest.approx(1 + 2 * 2 / 30, rel=0.03)
    assert passes(method="freeze", trainable_layers=20) == pytest.approx(1 + 2 * 20 / 30, rel=0.03)


def test_work_is_in_proportion_to_tokens_and_calls_to_batches() -> None:
    small, large = (rehearse(padded(SMALL), config(per_device_train_batch_size=n))[1].piece for n in (4, 8))
    assert large.tokens == 2 * small.tokens
    assert large.layers[:2] == pytest.approx(2 * small.layers[:2])
    assert large.layers[2] == pytest.approx(2 * small.layers[2], rel=0.1)  # weights are read once
    assert large.layers[3] == small.layers[3]
    as_large = small.step(large.tokens, large.trained, large.length, 1)
    assert as_large == pytest.approx(large.layers + large.loss, rel=0.1)
    longer = rehearse(padded(SMALL), config(per_device_train_batch_size=4), length=256)[1].piece
    assert longer.layers[1] == pytest.approx(4 * small.layers[1], rel=0.02)  # attention
    assert small.step(longer.tokens, longer.trained, longer.length, 1)[:2] == pytest.approx(
        (longer.layers + longer.loss)[:2], rel=0.02
    )


def test_an_evaluation_is_a_forward() -> None:
    piece = rehearse(SMOLLM2, config(gradient_checkpointing=True))[1].piece
    done = piece.evaluation(piece.tokens, piece.trained, piece.length)
    assert done == pytest.approx(piece.forward + piece.judged)
    assert done[0] < (piece.layers + piece.loss)[0] / 2.5
    assert piece.judged[0] == pytest.approx(piece.loss[0] / 2, rel=0.02)  # logits, and their gradient


def test_making_matrices_dense_takes_time_in_every_pass() -> None:
    untold = cost_prediction.correct_prediction([], "lora", cost_prediction.TIME)
    work = estimate.RunWork(1e5, 2e4, 100, 0, 0, 0, 128, 50)

    def training(**fields: Any) -> float:
        chosen = config(**fields)
        tried, footprint = rehearse(SMOLLM2, chosen)
        step = estimate.CountedStep(tried.counts, footprint, chosen, BF16, CPU, 30)
        estimated = estimate.estimate_seconds(step, work, RATES, untold)
        return float(estimated.parts["training"])

    linear = Rehearsal(SMOLLM2, config(), BF16, "cpu").counts.linear
    dense = 100 * 2 * linear * estimate.DEQUANTISE_BYTES["nf4"] / RATES.moved
    assert training(method="qlora") - training() == pytest.approx(dense)


def past(**more: Any) -> MeasuredRun:
    seconds = {"counted_seconds": 600.0, "run_seconds": 400.0, "course_seconds": 300.0}
    run = {"method": "lora", "task": "sft", "stopped": "epochs", "course": 1.0, "settings": ""}
    return row_of(MeasuredRun, **{**seconds, **run, "steps_timed": False, **more})


def test_runs_that_were_stopped_count_by_their_course_or_not_at_all() -> None:
    for reason in ("early_stopping", "forgetting"):
        assert list_timed_runs([past(stopped=reason, course=None)]) == []
        (timed,) = list_timed_runs([past(stopped=reason, course=0.5)])
        assert timed.whole == pytest.approx(400 / 0.75)
    assert list_timed_runs([past(course=None)])[0].whole == pytest.approx(400)


def test_runs_correct_counts_of_their_own_kind_and_none_that_was_beside_other_work() -> None:
    """Two runs under load made every later one "times 6" for good."""
    assert list_timed_runs([past(other_work=0.1)])
    assert list_timed_runs([past(other_work=0.6)]) == []
    assert list_timed_runs([past(steps_timed=True)]) == []
    assert list_timed_runs([past(steps_timed=True)], steps_timed=True)
    assert list_timed_runs([past()], steps_timed=True) == []
