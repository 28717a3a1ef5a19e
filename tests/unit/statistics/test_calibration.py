"""Calibration: errors by hand and by scikit-learn, temperatures of models whose heat is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from engine.evaluation.statistics.classification import compute_calibration, fit_temperature


def model(n: int = 3000, heat: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of five classes, labels drawn from their probabilities, and logits then divided by `heat`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 5))
    shares = special.softmax(logits, axis=1)
    truth = (random.random((n, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return special.log_softmax(logits / heat, axis=1), truth


def test_a_calibrated_model_is_within_what_chance_gives() -> None:
    figures = compute_calibration(*model())
    assert figures.ece.value < figures.ece.null < 0.05
    assert figures.temperature.low < 1 < figures.temperature.high
    assert not figures.overconfident
    assert len(figures.bins) == 15
    assert sum(row.n for row in figures.bins) == 3000


@pytest.mark.parametrize("heat", [0.4, 2.5])
def test_the_temperature_of_a_model_is_found(heat: float) -> None:
    logs, truth = model(heat=heat)
    figures = compute_calibration(logs, truth)
    temperature = figures.temperature
    assert temperature.low < 1 / heat < temperature.high
    assert temperature.high - temperature.low < 0.3 / heat
    assert figures.overconfident == (heat < 1)
    assert figures.ece.value > 2 * figures.ece.null
    cooled = special.log_softmax(logs / temperature.value, axis=1)
    losses = [
        metrics.log_loss(truth, np.exp(special.log_softmax(logs / t, axis=1)))
        for t in (0.97 * temperature.value, 1.03 * temperature.value)
    ]
    assert metrics.log_loss(truth, np.exp(cooled)) < min(losses)


def test_brier_is_the_squared_distance() -> None:
    logs, truth = model(500)
    binary = np.stack([logs[:, 0], np.log1p(-np.exp(logs[:, 0]))], axis=1)
    first = (truth == 0).astype(int)
    brier = compute_calibration(binary, 1 - first).brier
    assert brier.value == pytest.approx(2 * metrics.brier_score_loss(first, np.exp(logs[:, 0])))
    assert brier.low < brier.value < brier.high


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    figures = compute_calibration(np.log(shares), np.array([0, 0, 0, 1]))
    assert figures.ece.value == pytest.approx((0.1 + 0.1 + 0.4 + 0.6) / 4)  # a bin a row


def test_a_label_that_the_model_does_not_have_is_wrong() -> None:
    shares = np.log(np.array([[0.8, 0.2], [0.8, 0.2]]))
    figures = compute_calibration(shares, np.array([0, -1]))
    assert figures.bins[0].accuracy + figures.bins[1].accuracy == 1
    assert figures.brier.value == pytest.approx((0.04 + 0.04 + 0.64 + 0.04 + 1) / 2)
    assert figures.temperature is None  # one row is left to fit it on


def test_rows_that_are_all_right_bound_no_temperature() -> None:
    logs = special.log_softmax(np.eye(3)[np.arange(30) % 3] * 4, axis=1)
    assert fit_temperature(logs, np.arange(30) % 3) is None


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 3 rows"):
        compute_calibration(np.zeros((2, 2)), [0, 1, 1])
