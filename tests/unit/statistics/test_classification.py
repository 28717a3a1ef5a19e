"""The figures of a classifier, held against scikit-learn, and their intervals against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from engine.diagnostics.statistics.class_figures import (
    Confusion,
    average_intervals,
    f1_averages,
    figures,
    most_confused,
)

LABELS = [f"class {i}" for i in range(6)]


def drawn(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of six classes of very different size, and a classifier that is right on most."""
    random = np.random.default_rng(seed)
    truth = random.choice(6, n, p=[0.5, 0.25, 0.15, 0.06, 0.03, 0.01])
    guess = np.where(random.random(n) < 0.8, truth, random.choice(6, n))
    return truth, guess


def test_every_figure_is_that_of_scikit_learn() -> None:
    truth, guess = drawn()
    scores = figures(truth, guess, LABELS)
    assert scores["n"] == 400
    assert scores["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(truth, guess))
    for name in ("macro", "weighted"):
        expected = metrics.f1_score(truth, guess, average=name)
        assert scores[f"f1_{name}"]["value"] == pytest.approx(expected)
        assert scores[f"f1_{name}"]["low"] < expected < scores[f"f1_{name}"]["high"]
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, guess)
    for row in scores["classes"]:
        i = LABELS.index(row["label"])
        values = [row[part]["value"] for part in ("precision", "recall", "f1")]
        assert values == pytest.approx([precision[i], recall[i], f1[i]])
        assert (row["n"], row["predicted"]) == (support[i], (guess == i).sum())
        assert all(row[p]["low"] < row[p]["value"] < row[p]["high"] or row[p]["value"] in (0, 1)
                   for p in ("precision", "recall", "f1"))  # fmt: skip
    matrix = metrics.confusion_matrix(truth, guess)
    for label, predicted, count in scores["confusion"]:
        assert count == matrix[LABELS.index(label), LABELS.index(predicted)]
    assert sum(count for _, _, count in scores["confusion"]) == 400


def test_a_class_nobody_predicts_and_one_that_is_not_there() -> None:
    """scikit-learn's averages are over the labels that are present or predicted."""
    truth, guess = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 3, 1])
    scores = figures(truth, guess, LABELS)
    assert scores["f1_macro"]["value"] == pytest.approx(
        metrics.f1_score(truth, guess, average="macro", zero_division=0)
    )
    rows = {row["label"]: row for row in scores["classes"]}
    assert set(rows) == set(LABELS[:4])
    assert rows["class 2"]["precision"] is None
    assert rows["class 3"]["recall"] is None
    assert rows["class 2"]["f1"]["value"] == rows["class 3"]["f1"]["value"] == 0


def test_nothing_wrong_is_not_certainty() -> None:
    truth = np.arange(12) % 3
    scores = figures(truth, truth, LABELS[:3])
    for name in ("accuracy", "f1_macro", "f1_weighted"):
        assert scores[name]["value"] == scores[name]["high"] == 1
        assert scores[name]["low"] < 0.8
    assert all(row["f1"]["low"] < 0.75 for row in scores["classes"])  # four rows a class
    assert figures(truth, (truth + 1) % 3, LABELS[:3])["f1_macro"]["value"] == 0


def test_intervals_of_macro_f1_hold_the_truth() -> None:
    """20 classes on 150 rows: seven rows a class, where percentiles of resamples lie too low."""
    random = np.random.default_rng(3)

    def classified(n: int) -> Confusion:
        truth = random.choice(20, n)
        return Confusion.of(truth, np.where(random.random(n) < 0.85, truth, random.choice(20, n)), 20)

    target = float(f1_averages(*classified(400_000).sums())[0][0])
    held = 0
    for trial in range(100):
        macro, _ = average_intervals(classified(150), seed=trial)
        assert macro.low is not None
        assert macro.high is not None
        held += macro.low <= target <= macro.high
    assert held >= 90


def test_equal_evidence_gives_equal_figures() -> None:
    assert figures(*drawn(), LABELS) == figures(*drawn(), LABELS)


def test_long_lists_are_cut_to_the_largest(monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.diagnostics.statistics.class_figures.MOST_CLASSES", 2)
    monkeypatch.setattr("engine.diagnostics.statistics.class_figures.MOST_PAIRS", 3)
    scores = figures(*drawn(), LABELS)
    assert [row["label"] for row in scores["classes"]] == LABELS[:2]
    assert (scores["class_count"], len(scores["confusion"])) == (6, 3)
    assert scores["pair_count"] > 3


def test_lengths_that_differ_and_no_row_are_refused() -> None:
    with pytest.raises(ValueError, match="3 true and 2 predicted"):
        figures([0, 1, 1], [0, 1], LABELS)
    with pytest.raises(ValueError, match="0 true"):
        figures([], [], LABELS)


def test_the_pairs_that_are_confused_most_count_both_ways() -> None:
    cells = [["a", "b", 3], ["b", "a", 5], ["a", "a", 90], ["c", "a", 7]]
    first, second = most_confused(cells)
    assert first == {"labels": ["b", "a"], "rows": 8, "forth": 5, "back": 3}
    assert second == {"labels": ["c", "a"], "rows": 7, "forth": 7, "back": 0}
