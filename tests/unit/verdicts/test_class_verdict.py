"""The words of a verdict on a classifier follow from its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.evaluation.statistics.classification import compute_calibration, compute_class_figures
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.training_curve.run_curve import MetricValues, Validation
from engine.evaluation.verdicts import classifier_verdict
from store.evaluation.schemas import MajorityClass
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from tests.unit.verdict_inputs import judge_classes

N = 200
LABELS = ["card_arrival", "card_lost", "top_up"]
TRUTH = np.arange(N) % 3
SHARES = np.array([0.34, 0.33, 0.33])
STOPPED = TrainingStop(reason="epochs", step=40, restored_step=40)


def logs_of(right: float, sure: float = 0.9, seed: int = 0) -> np.ndarray:
    """Log-probabilities of a classifier that is right on this share of rows, and takes class 0 for 1."""
    random = np.random.default_rng(seed)
    predicted = np.where(random.random(N) < right, TRUTH, np.where(TRUTH == 0, 1, 0))
    shares = np.full((N, 3), (1 - sure) / 2)
    shares[np.arange(N), predicted] = sure
    return np.log(shares)


def judged(right: float, *, prompted: float | None = 0.5, sure: float = 0.9, **more: Any) -> Verdict:
    logs = logs_of(right, sure)
    predicted = logs.argmax(axis=1)
    tuned = compute_class_figures(TRUTH, predicted, LABELS)
    tuned.calibration = compute_calibration(logs, TRUTH)
    asked = over = None
    if prompted is not None:
        answered = logs_of(prompted, seed=1).argmax(axis=1)
        asked = compute_class_figures(TRUTH, answered, LABELS)
        over = ratio_interval((predicted == TRUTH).astype(float) - (answered == TRUTH), np.ones(N))
    classification = classifier_verdict.build_classification(
        "test",
        LABELS,
        [34, 33, 33],
        classifier_verdict.ClassifierFigures(
            tuned, compute_class_figures(TRUTH, np.zeros(N, int), LABELS), asked
        ),
        unseen=more.pop("unseen", 0),
        over_prompted=over,
    )
    losses = -logs[np.arange(N), TRUTH]
    above = more.pop("above", (1, 1 / 21, 1 / 41))
    unlike = np.random.default_rng(3).normal(1, 0.01, N)  # no two rows change by the same
    validations = [
        Validation(step=step, row_ids=np.arange(N), loss_sums=losses + rest * unlike, tokens=np.ones(N))
        for step, rest in zip((0, 20, 40), above, strict=True)
    ]
    return judge_classes(
        split="test",
        base_loss=-np.log(SHARES[TRUTH]),
        tuned_loss=losses,
        known=np.ones(N),
        base_correct=TRUTH == 0,
        tuned_correct=predicted == TRUTH,
        classification=classification,
        eval_rows=validations,
        train_curve=[(step, 1.0) for step in range(1, 41)],
        stopped=STOPPED,
        config={"learning_rate": 1e-4, "num_train_epochs": 3},
        **more,
    )


def test_a_new_head_that_begins_above_the_most_frequent_class_does_not_overfit() -> None:
    verdict = judged(0.2, above=(-0.5, 0.6, 0.1))
    assert verdict.state == "worse"
    assert verdict.overfitting.state == "none"
    assert verdict.overfitting.best_step == 40
    (advice, *_) = verdict.advice
    assert advice.change == {"num_train_epochs": 6.0}
    assert "did not get past always the most frequent class yet: try 6 epochs" in advice.text
    assert judged(0.2, above=(-0.5, 0.1, 0.1)).advice[0].change == {"learning_rate": 3.3e-5}
    assert judged(0.2, above=(-0.5, 0.1, 0.6)).overfitting.state == "overfits"


def test_a_head_that_never_gets_below_the_most_frequent_class_is_not_still_learning() -> None:
    shape = judged(0.2, above=(-0.5, 0.6, 0.1)).overfitting
    assert shape.stage == "unclear"
    for sentence in (shape.sentence, shape.stage_sentence):
        assert "lowest at the last step" not in sentence
        assert "still learning" not in sentence
        assert sentence.startswith(
            "Validation loss did not get below its level without training (step 0): at step 40, its lowest"
            " since, it is 0.6"
        )
        assert sentence.endswith("(on 200 rows).")
    fallen = judged(0.9, above=(1.0, 0.6, 0.1)).overfitting
    assert fallen.sentence == "No overfitting: validation loss was at its lowest at the last step."
    assert fallen.stage == "learning"


def test_one_that_knows_the_frequencies_alone_is_asked_to_look_at_its_labels() -> None:
    behind = judged(0.34, sure=0.4, above=(-0.01, 0.6, 0.0))
    assert behind.state != "learned"
    texts = [piece.text for piece in behind.advice]
    assert "still falling" not in " ".join(texts)
    assert any("check that labels match their texts" in text for text in texts)
    assert not any("check that labels" in piece.text for piece in judged(0.9).advice)


def test_validation_rows_are_held_against_the_most_frequent_class_too() -> None:
    rows = np.arange(100)
    metric = [
        MetricValues(step=step, row_ids=rows, values=(rows < right).astype(float), weights=np.ones(100))
        for step, right in ((0, 40), (20, 60), (40, 70))
    ]
    verdict = judged(0.9, metric=("accuracy", metric))
    sentence = verdict.overfitting.baseline_sentence
    assert sentence.startswith(
        "Of 100 validation rows 70% are right at step 40, against 40% for always the most frequent class (95%"
        " interval of the difference 2"
    )
    assert sentence in verdict.sentences
    assert judged(0.9).overfitting.baseline_sentence == ""


def test_a_classifier_that_learned_says_what_against_what() -> None:
    verdict = judged(0.9)
    assert verdict.state == "learned"
    assert verdict.headline.startswith("Learned: 8")
    assert "% of held-out rows right (" in verdict.headline
    assert "n 200), against 34% for always the most frequent class and" in verdict.headline
    assert verdict.headline.endswith("for the untuned model asked for the label.")
    text = " ".join(verdict.sentences)
    assert "The classes card_arrival and card_lost are confused most: " in text
    assert "It is right more often than always the most frequent class, by " in text
    assert "It is right more often than the untuned model asked for the label (n 200), by " in text
    assert "No overfitting" in text
    assert verdict.gain.unit == "nats a row"
    assert verdict.accuracy_gain.low > 0.4
    assert verdict.classification.majority == MajorityClass(label="card_arrival", share=0.34, n=100)
    assert verdict.tuned.n == verdict.tuned.tokens == N


def test_few_rows_that_agree_are_no_proof_of_no_gain() -> None:
    """Twenty rows on which both are right and wrong alike: the interval is that of shares not seen to
    change."""
    same = judged(0.9).classification
    for n, state in ((20, "undecided"), (2_000, "no_gain")):
        right = np.arange(n) % 3 > 0
        verdict = judge_classes(
            split="test", base_loss=np.ones(n), tuned_loss=np.ones(n), known=np.ones(n), base_correct=right,
            tuned_correct=right, classification=same, eval_rows=[], train_curve=[], stopped=STOPPED,
            config={"learning_rate": 1e-4},
        )  # fmt: skip
        assert verdict.state == state
        assert verdict.accuracy_gain.low == pytest.approx(-verdict.accuracy_gain.high)
        assert verdict.accuracy_gain.low < 0


def test_without_the_untuned_model_nothing_is_said_of_it() -> None:
    verdict = judged(0.9, prompted=None)
    assert verdict.headline.endswith("for always the most frequent class.")
    assert verdict.classification.models.prompted is None


@pytest.mark.parametrize(("right", "state"), [(0.34, "undecided"), (0.05, "worse")])
def test_no_more_right_than_the_most_frequent_class(right: float, state: str) -> None:
    verdict = judged(right, sure=0.4, above=(0.1, 0.1, 0.1))
    assert verdict.state == state
    if state == "worse":
        assert "It is right less often than always the most frequent class, by " in " ".join(
            verdict.sentences
        )
        assert "It got worse than always the most frequent class" in verdict.advice[0].text


def test_too_sure_a_classifier_is_told_so() -> None:
    text = " ".join(judged(0.7, sure=0.999).sentences)
    assert "It is overconfident: calibration requires dividing its logits by" in text
    assert "overconfident" not in " ".join(judged(0.9).sentences)


def test_labels_that_training_never_saw_are_said() -> None:
    assert "4 rows have a label that is not in the training data" in " ".join(judged(0.9, unseen=4).sentences)


def test_a_loss_that_is_not_a_number_is_broken() -> None:
    logs = logs_of(0.9)
    classification = judged(0.9).classification
    losses = -logs[np.arange(N), TRUTH]
    losses[3] = np.nan
    verdict = judge_classes(
        split="test", base_loss=np.ones(N), tuned_loss=losses, known=np.ones(N), base_correct=TRUTH == 0,
        tuned_correct=np.ones(N), classification=classification, eval_rows=[], train_curve=[],
        stopped=STOPPED, config={},
    )  # fmt: skip
    assert verdict.state == "worse"
    assert verdict.gain is None
    assert verdict.headline.startswith("Broken: the loss is not a number on 1 test row")
