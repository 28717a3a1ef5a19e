"""What a verdict advises against forgetting: what the course shows before a guess, only what can be done."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.evaluation import run_evaluation
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.evaluation.run_evaluation import ModelEvaluation
from engine.models.losses import RowLosses
from store.evaluation.forgetting_schemas import AdviceItem
from store.evaluation.verdict_schemas import (
    Overfitting,
    OverfittingState,
    TrainingStop,
    Verdict,
    VerdictState,
)
from store.training.train_config import TrainConfig
from tests.unit.probe_rows import choices, table, texts
from tests.unit.store_samples import row_of

LOSSES = RowLosses(*(np.ones(1, np.int64) for _ in range(4)))
EARLIER = AdviceItem(text="Stop earlier.", change={"num_train_epochs": 1.2}, kind="epochs")
LONGER = AdviceItem(text="Try 6 epochs.", change={"num_train_epochs": 6.0})


def model(rise: float) -> ModelEvaluation:
    parts = (texts(rise), choices(40 if rise > 0.1 else 0))
    return ModelEvaluation(LOSSES, [], [ProbeMeasurement.of(table(part)) for part in parts])


def advised(
    earlier: AdviceItem | None = None,
    rise: float = 0.5,
    state: VerdictState = "learned",
    shape: OverfittingState = "none",
    **config: Any,
) -> Verdict:
    settings = {"dataset": "d", "learning_rate": 1e-3, "num_train_epochs": 3} | config
    verdict = row_of(
        Verdict,
        advice=[LONGER],
        stopped=TrainingStop(reason="epochs", step=90, restored_step=None),
        state=state,
        overfitting=row_of(Overfitting, state=shape),
    )
    run_evaluation.add_forgetting(verdict, model(0), model(rise), TrainConfig.parse(settings), earlier)
    return verdict


def test_a_step_on_the_front_takes_the_place_of_guesses_at_the_length() -> None:
    verdict = advised(EARLIER)
    assert verdict.forgetting.advice[0] == EARLIER
    assert [piece.kind for piece in verdict.forgetting.advice].count("epochs") == 1
    assert LONGER not in verdict.advice
    assert [piece.kind for piece in verdict.advice] == [
        *("epochs", "learning_rate", "replay", "kl", "interpolation")
    ]


def test_without_one_half_the_epochs_is_a_guess_that_yields_to_the_verdict() -> None:
    verdict = advised()
    assert "epochs" in [piece.kind for piece in verdict.forgetting.advice]
    assert verdict.advice[0] == LONGER
    assert "epochs" not in [piece.kind for piece in verdict.advice]


def test_nothing_is_advised_where_nothing_was_forgotten() -> None:
    verdict = advised(EARLIER, rise=0.001)
    assert verdict.advice == [LONGER]


def test_mixing_is_advised_where_there_is_something_in_between() -> None:
    for method, there in (("lora", True), ("full", True), ("oft", False), ("prompt_tuning", False)):
        kinds = [piece.kind for piece in advised(method=method).advice]
        assert ("interpolation" in kinds) == there, method


def test_the_distance_to_the_base_is_advised_where_the_base_is_there() -> None:
    for method, there in (("lora", True), ("qlora", True), ("full", False), ("freeze", False)):
        kinds = [piece.kind for piece in advised(method=method).advice]
        assert ("kl" in kinds) == there, method
        assert "replay" in kinds


def test_a_model_without_a_gain_to_keep_is_advised_of_its_rate_alone() -> None:
    for worse in (advised(EARLIER, state="worse"), advised(EARLIER, shape="diverged")):
        assert [piece.kind for piece in worse.forgetting.advice] == ["learning_rate"]
        assert [piece.kind for piece in worse.advice] == [None, "learning_rate"]
        assert worse.advice[0] == LONGER
