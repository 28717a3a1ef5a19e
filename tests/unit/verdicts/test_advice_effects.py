"""No piece of advice changes what another setting overrides: each is launched on paper, with every setting
that could stand in its way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.evaluation.run_evaluation import build_verdict_config
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.training_curve import advice
from engine.evaluation.training_curve.run_curve import RunCurves
from engine.evaluation.verdicts import forgetting_text, preference_verdict
from engine.models import memory_advice
from engine.models.batching import count_total_steps
from store.core.figure_schemas import Estimate
from store.evaluation.forgetting_schemas import AdviceItem
from store.evaluation.verdict_schemas import PreferenceFigures, TrainingStop
from store.training.methods import METHODS
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import assess
from tests.unit.verdicts.test_overfitting import blown_up, falling, validations

ROWS = 320  # 20 steps an epoch
SETTINGS: list[dict[str, Any]] = [
    {"max_steps": limit, "early_stopping": stops, **others}
    for limit in (None, 30, 70, 1_000)
    for stops in (True, False)
    for others in (
        {},
        {"split_by": "given", "max_eval_rows": 100},
        {"test_size": 0.5, "validation_size": 0.5, "load_best_model_at_end": False},
        {
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "max_grad_norm": 0,
            "early_stopping_patience": 100,
        },
        {"learning_rate": 0.02, "replay_share": 0.1},
        {"task": "dpo", "num_train_epochs": 0.5, "max_forgetting": 0.1},
        {"task": "dpo", "loss_type": "robust", "label_smoothing": 0.1, "max_eval_rows": 500},
    )
]


def ends(config: TrainConfig) -> Iterator[TrainingStop]:
    """Each way in which a run with these settings may have ended."""
    steps = count_total_steps(config, ROWS)
    limited = steps < count_total_steps(config.model_copy(update={"max_steps": None}), ROWS)
    yield TrainingStop(reason="max_steps" if limited else "epochs", step=steps, restored_step=None)
    early = 1 + 2 * steps // 5
    if config.early_stopping:
        yield TrainingStop(reason="early_stopping", step=early, restored_step=None)
    if config.max_forgetting:
        yield TrainingStop(reason="forgetting", step=early, restored_step=None)


def shapes() -> Iterator[tuple[Any, Any]]:
    """Courses that fall, rise, are flat and diverge, with what is said of each."""
    curve = falling(80)
    for means in ([2.0, 1.5, 1.1], [2.0, 1.1, 1.5], [1.0, 1.4, 1.8], [1.0, 1.0, 1.0]):
        course = validations(means)
        yield course, assess(course, curve)
    head = [replace(validation, step=validation.step + 20) for validation in validations([2.0, 1.5, 1.1])]
    yield head, assess(head, curve)
    yield head, assess(head, blown_up(20))


def pieces_of(config: TrainConfig, stopped: TrainingStop) -> Iterator[AdviceItem]:
    """All advice that a run with these settings may be given."""
    read = build_verdict_config(config)
    gains = (None, Interval(0.1, -0.1, 0.3, 50, 0.1, 0.3), Interval(0.1, -0.1, 0.3, 100, 0.1, 0.3))
    for state, split, gain in itertools.product(
        ("learned", "no_gain", "undecided", "worse"), ("test", "validation"), gains
    ):
        for course, shape in shapes():
            if split == "validation" and config.test_size:
                continue  # test rows judge
            outcome = advice.VerdictOutcome(state, gain, split, shape)
            yield from advice.advise(outcome, RunCurves(validations=course, stopped=stopped), read)
    fallen = row_of(PreferenceFigures, chosen_change=row_of(Estimate, high=-0.1))
    if config.task == "dpo":
        yield from preference_verdict.advise_against_displacement(fallen, read)
    for lost in ("some", "much"):
        yield from forgetting_text.drop_incompatible_advice(
            forgetting_text.advise_against_forgetting(lost, read), stopped
        )


def takes_effect(field: str, before: TrainConfig, after: TrainConfig, stopped: TrainingStop) -> bool:
    """Whether the run would go otherwise for it."""
    steps = count_total_steps(before, ROWS), count_total_steps(after, ROWS)
    if field in ("num_train_epochs", "max_steps"):
        shorter = steps[1] < stopped.step
        longer = steps[1] > steps[0] and stopped.reason in ("epochs", "max_steps")
        return shorter or longer
    if field in ("early_stopping", "early_stopping_patience"):
        waits = after.early_stopping_patience > before.early_stopping_patience or not after.early_stopping
        return before.early_stopping and stopped.reason == "early_stopping" and waits
    if field in ("test_size", "validation_size"):
        if after.split_by == "given":  # which deals rows by shares to a part that the file has none of
            return not getattr(before, field)
        return (getattr(after, field) or 0) > (getattr(before, field) or 0)
    if field == "max_eval_rows":
        return after.max_eval_rows >= before.max_eval_rows
    if field == "warmup_steps":
        return after.lr_scheduler_type != "constant" and after.warmup_steps > before.warmup_steps
    if field in ("replay_share", "kl_beta"):
        return after.task == "sft" and after.replay_share > 0
    if field == "loss_type":  # of which only the robust one takes smoothing
        return after.loss_type != before.loss_type and not (
            after.label_smoothing and after.loss_type != "robust"
        )
    return bool(getattr(before, field) != getattr(after, field))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_advice_takes_effect(settings: dict[str, Any]) -> None:
    config = TrainConfig(dataset="d", **settings).resolved(ROWS)
    seen = 0
    for stopped in ends(config):
        for piece in pieces_of(config, stopped):
            after = TrainConfig.parse(config.model_dump() | piece.change)
            idle = [f for f in piece.change if not takes_effect(f, config, after, stopped)]
            assert not idle, (piece, stopped)
            assert not piece.change or after != config, piece
            assert set(list_conflicts(after)) <= set(list_conflicts(config)), piece
            seen += bool(piece.change)
    assert seen


HELD = ({}, {"load_in_4bit": True}, {"init_lora_weights": "pissa"}, {"gradient_checkpointing": True})
CHANGES = [
    (method, held, size, length)
    for method in METHODS
    for held in HELD
    for size in (1, 8)
    for length in (None, 40, 512)
]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dealt", [True, False])
def test_what_takes_less_memory_is_never_refused(device: str, dealt: bool) -> None:
    """The button of a run that memory ran out for leads to a launch that is taken."""
    for method, held, size, length in CHANGES:
        config = TrainConfig(
            dataset="d", method=method, per_device_train_batch_size=size, max_length=length, **held
        )
        sentence, _, change = memory_advice.advise_change(config, device, dealt=dealt)
        assert sentence.endswith(".")
        if change:
            after = TrainConfig.parse(config.model_dump() | change)
            assert after != config
            assert set(list_conflicts(after)) <= set(list_conflicts(config)), (method, held, change)


def test_a_longer_run_has_its_limit_of_steps_raised() -> None:
    config = TrainConfig(dataset="d", num_train_epochs=3, max_steps=70).resolved(ROWS)
    course = validations([2.0, 1.5, 1.1])
    outcome = advice.VerdictOutcome("learned", None, "test", assess(course, falling(60)))
    stopped = TrainingStop(reason="epochs", step=60, restored_step=None)
    (piece,) = advice.advise(
        outcome, RunCurves(validations=course, stopped=stopped), build_verdict_config(config)
    )
    assert piece.change == {"num_train_epochs": 6.0, "max_steps": 120}
    assert piece.text.endswith("try 6 epochs, and a limit of 120 steps.")
    assert np.isclose(count_total_steps(TrainConfig.parse(config.model_dump() | piece.change), ROWS), 120)
