"""The losses of a pair against their closed forms, worked out by hand for single numbers."""

from __future__ import annotations

import math

import pytest
import torch

from engine.training.preference import compute_pair_losses
from store.training.train_config import TrainConfig

CHOSEN, REJECTED, COUNTS, BETA = 1.5, -2.0, (5, 8), 0.2
MARGIN = BETA * (CHOSEN - REJECTED)  # 0.7


def loss(loss_type: str, chosen: float = CHOSEN, rejected: float = REJECTED, **fields: float) -> float:
    config = TrainConfig.parse(
        {"dataset": "d", "task": "dpo", "beta": BETA, "loss_type": loss_type, **fields}
    )
    counts = torch.tensor(COUNTS).view(2, 1)
    return float(compute_pair_losses(torch.tensor([chosen]), torch.tensor([rejected]), counts, config))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("sigmoid", -math.log(sigmoid(MARGIN))),
        ("hinge", 1 - MARGIN),
        ("ipo", (CHOSEN / 5 - REJECTED / 8 - 1 / (2 * BETA)) ** 2),
        ("sigmoid_norm", -math.log(sigmoid(BETA * (CHOSEN / 5 - REJECTED / 8)))),
        ("apo_zero", 1 - sigmoid(BETA * CHOSEN) + sigmoid(BETA * REJECTED)),
    ],
)
def test_closed_forms(loss_type: str, expected: float) -> None:
    assert loss(loss_type) == pytest.approx(expected, abs=1e-6)


def test_robust_is_unbiased_under_flipped_pairs() -> None:
    """Over pairs of which a tenth is flipped, the robust loss has the mean of the plain one without flips."""
    smoothed = {"label_smoothing": 0.1}
    right = loss("robust", **smoothed)
    flipped = loss("robust", REJECTED, CHOSEN, **smoothed)
    assert 0.9 * right + 0.1 * flipped == pytest.approx(loss("sigmoid"), abs=1e-6)
    assert loss("robust") == pytest.approx(loss("sigmoid"), abs=1e-6)


def test_a_hinge_that_is_won_costs_nothing() -> None:
    assert loss("hinge", 5.0, -5.0) == 0


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [("sigmoid", math.log(2)), ("robust", math.log(2)), ("hinge", 1), ("apo_zero", 1), ("ipo", 6.25)],
)
def test_before_training_every_pair_has_the_same_loss(loss_type: str, expected: float) -> None:
    assert loss(loss_type, 0.0, 0.0) == pytest.approx(expected, abs=1e-6)
