"""The figures of a classifier, held against scikit-learn, and their intervals against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from engine.evaluation.statistics.classification import (
    compute_average_intervals,
    compute_class_figures,
    list_most_confused,
)
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores, compute_difference
from engine.models.confusion import Confusion, compute_f1_averages
from store.evaluation.schemas import ClassConfusion

LABELS = [f"class {i}" for i in range(6)]


def drawn(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of six classes of very different size, and a classifier that is right on most."""
    random = np.random.default_rng(seed)
    truth = random.choice(6, n, p=[0.5, 0.25, 0.15, 0.06, 0.03, 0.01])
    guess = np.where(random.random(n) < 0.8, truth, random.choice(6, n))
    return truth, guess


def test_every_figure_is_that_of_scikit_learn() -> None:
    truth, guess = drawn()
    scores = compute_class_figures(truth, guess, LABELS)
    assert scores.n == 400
    assert scores.accuracy.value == pytest.approx(metrics.accuracy_score(truth, guess))
    macro, weighted = (metrics.f1_score(truth, guess, average=name) for name in ("macro", "weighted"))
    assert scores.f1_macro.value == pytest.approx(macro)
    assert scores.f1_weighted.value == pytest.approx(weighted)
    assert scores.f1_weighted.low < weighted < scores.f1_weighted.high
    assert scores.f1_macro.why.startswith("the class class 5 has ")
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, guess)
    for row in scores.classes:
        i = LABELS.index(row.label)
        rates = row.precision, row.recall, row.f1
        assert [rate.value for rate in rates] == pytest.approx([precision[i], recall[i], f1[i]])
        assert (row.n, row.predicted) == (support[i], (guess == i).sum())
        assert all(rate.low < rate.value < rate.high or rate.value in (0, 1) for rate in rates)
    matrix = metrics.confusion_matrix(truth, guess)
    for label, predicted, count in scores.confusion:
        assert count == matrix[LABELS.index(label), LABELS.index(predicted)]
    assert sum(count for _, _, count in scores.confusion) == 400


def test_a_class_nobody_predicts_and_one_that_is_not_there() -> None:
    """scikit-learn's averages are over the labels that are present or predicted."""
    truth, guess = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1, 3, 1])
    scores = compute_class_figures(truth, guess, LABELS)
    assert scores.f1_macro.value == pytest.approx(
        metrics.f1_score(truth, guess, average="macro", zero_division=0)
    )
    rows = {row.label: row for row in scores.classes}
    assert set(rows) == set(LABELS[:4])
    assert rows["class 2"].precision is None
    assert rows["class 3"].recall is None
    assert rows["class 2"].f1.value == rows["class 3"].f1.value == 0


def test_nothing_wrong_is_not_certainty() -> None:
    truth = np.arange(12) % 3
    scores = compute_class_figures(truth, truth, LABELS[:3])
    for figure in (scores.accuracy, scores.f1_weighted):
        assert figure.value == figure.high == 1
        assert figure.low < 0.8
    macro = compute_class_figures(np.arange(30) % 3, np.arange(30) % 3, LABELS[:3]).f1_macro
    assert macro.low < 0.9 < macro.value == macro.high == 1
    assert all(row.f1.low < 0.75 for row in scores.classes)  # four rows a class
    assert compute_class_figures(truth, (truth + 1) % 3, LABELS[:3]).f1_macro.value == 0


def test_intervals_of_macro_f1_hold_the_truth() -> None:
    """20 classes on 400 rows: 20 rows a class, where percentiles of resamples lie too low."""
    random = np.random.default_rng(3)

    def classified(n: int) -> Confusion:
        truth = random.choice(20, n)
        return Confusion.of(truth, np.where(random.random(n) < 0.85, truth, random.choice(20, n)), 20)

    target = float(compute_f1_averages(*classified(400_000).sums())[0][0])
    held = given = 0
    for trial in range(100):
        macro, _ = compute_average_intervals(classified(400), [*map(str, range(20))], seed=trial)
        if macro.why:
            continue
        given += 1
        held += (macro.low or 0) <= target <= (macro.high or 0)
    assert held >= 0.9 * given > 40


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([20, 1, 20], "the class class 1 has 1 row (from 10 rows of each class on)"),
        ([20, 20, 0], "the class class 2 has 0 rows (from 10 rows of each class on)"),
        ([9, 9, 20], "the class class 0 has 9 rows, and 1 more has too few (from 10 rows of each class on)"),
        ([10, 10, 10], None),
    ],
)
def test_macro_averages_name_the_class_that_has_too_few_rows(rows: list[int], why: str | None) -> None:
    truth = np.repeat(np.arange(3), rows)
    guess = np.where(np.arange(len(truth)) % 4, truth, 0)
    scores = compute_class_figures(truth, guess, LABELS[:3])
    assert scores.f1_macro.why == why
    assert (scores.f1_macro.low is None) == (why is not None)
    assert scores.f1_weighted.low is not None
    right = (truth == guess).astype(float)
    both = np.column_stack([truth, guess]).astype(float)
    for name in ("f1_macro", "recall_macro", "precision_macro"):
        scored = RowScores(
            name, np.arange(len(truth)), right, name, (0.0, 1.0), statistics=both, labels=LABELS[:3]
        )
        assert aggregate_scores(scored).why == compute_difference(scored, scored).why == why
    assert compute_class_figures([0], [0], LABELS[:1]).f1_macro.why.startswith("the class class 0 has 1 row")


def test_equal_evidence_gives_equal_figures() -> None:
    assert compute_class_figures(*drawn(), LABELS) == compute_class_figures(*drawn(), LABELS)


def test_long_lists_are_cut_to_the_largest(monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.evaluation.statistics.classification.MAX_CLASSES", 2)
    monkeypatch.setattr("engine.evaluation.statistics.classification.MAX_PAIRS", 3)
    scores = compute_class_figures(*drawn(), LABELS)
    assert [row.label for row in scores.classes] == LABELS[:2]
    assert (scores.class_count, len(scores.confusion)) == (6, 3)
    assert scores.pair_count > 3


def test_lengths_that_differ_and_no_row_are_refused() -> None:
    with pytest.raises(ValueError, match="3 true and 2 predicted"):
        compute_class_figures([0, 1, 1], [0, 1], LABELS)
    with pytest.raises(ValueError, match="0 true"):
        compute_class_figures([], [], LABELS)


def test_the_pairs_that_are_confused_most_count_both_ways() -> None:
    first, second = list_most_confused([("a", "b", 3), ("b", "a", 5), ("a", "a", 90), ("c", "a", 7)])
    assert first == ClassConfusion(labels=["b", "a"], rows=8, forth=5, back=3)
    assert second == ClassConfusion(labels=["c", "a"], rows=7, forth=7, back=0)
