"""Fewer epochs are advised where an earlier step gained nearly as much and forgot less, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.evaluation.training_curve.run_curve import Validation
from engine.evaluation.verdicts import forgetting_tradeoff
from engine.evaluation.verdicts.forgetting_tradeoff import ProseCurve
from store.evaluation.forgetting_schemas import AdviceItem
from store.evaluation.verdict_schemas import TrainingStop
from tests.unit.probe_rows import table, texts

ROWS = np.random.default_rng(0).normal(20, 2, 80)
STOPPED = TrainingStop(reason="epochs", step=60, restored_step=60)


def validation(step: int, gain: float) -> Validation:
    losses = ROWS - 10 * gain - np.random.default_rng(step).normal(0, 0.5, 80) * (step > 0)
    return Validation(step=step, row_ids=list(range(80)), loss_sums=losses, tokens=np.full(80, 10))


def prose(rise: float) -> pa.Table:
    return table(texts(rise, noise=0.05, seed=round(1_000 * rise)))


def advised(gains: dict[int, float], rises: dict[int, float], **stopped: Any) -> AdviceItem | None:
    return forgetting_tradeoff.advise_earlier_stop(
        [validation(step, gain) for step, gain in gains.items()],
        ProseCurve({step: prose(rise) for step, rise in rises.items()}, prose(rises[max(gains)])),
        replace(STOPPED, **stopped),
        {"num_train_epochs": 3.0},
    )


GAINS = {0: 0.0, 20: 0.30, 40: 0.39, 60: 0.40}


def test_the_step_that_forgot_least_with_nine_tenths_of_the_gain() -> None:
    advice = advised(GAINS, {20: 0.05, 40: 0.1, 60: 0.4})
    assert advice is not None
    assert advice.change == {"num_train_epochs": 2.0}
    assert advice.kind == "epochs"
    assert "after 2 epochs instead of 3: at step 40 of 60" in advice.text
    assert "80 validation rows" in advice.text
    assert "prose had lost 0.290 nats a token less" in advice.text
    assert "passages)" in advice.text


def test_a_run_that_did_not_end_by_its_epochs_is_given_steps() -> None:
    advice = advised(GAINS, {40: 0.1, 60: 0.4}, reason="early_stopping")
    assert advice is not None
    assert advice.change == {"max_steps": 40}


@pytest.mark.parametrize(
    ("gains", "rises"),
    [
        (GAINS, {20: 0.05, 60: 0.4}),  # it had three quarters of the gain
        (GAINS, {40: 0.399, 60: 0.4}),  # it forgot no less
        (GAINS, {40: 0.6, 60: 0.4}),
        (GAINS, {60: 0.4}),  # no probe on the way
        ({0: 0.0, 40: 0.0, 60: 0.001}, {40: 0.1, 60: 0.4}),  # nothing was gained
        ({0: 0.0, 60: 0.4}, {40: 0.1, 60: 0.4}),  # not validated there
    ],
)
def test_no_step_will_do(gains: dict[int, float], rises: dict[int, float]) -> None:
    assert advised(gains, rises) is None


def test_an_earlier_step_that_was_restored_is_what_counts() -> None:
    assert advised(GAINS, {40: 0.1, 60: 0.4}, restored_step=40) is None
