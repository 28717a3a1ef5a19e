"""The metrics over answers: known values, rows that can't be scored, and nothing that ends the others."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rouge_score.rouge_scorer import RougeScorer

from engine.evaluation.metrics import answer_metrics
from engine.evaluation.metrics.answer_rows import NO_PREDICTION, NO_REFERENCE, Answers
from engine.evaluation.metrics.measurement import SCORERS, measure
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores, compute_difference
from engine.worker.job import JobCancelled
from store.core.home import Home
from store.core.metric_table import METRICS
from store.core.metrics_config import MetricsConfig
from store.evaluation.schemas import UnmatchedTexts

SCHEMA = {"type": "object", "required": ["a"]}
OPTIONS = {
    "regex": {"pattern": "x"},
    "json_schema": {"json_schema": SCHEMA},
    "constraints": {"constraints": [{"kind": "words", "at_most": 3}]},
    "own": {"file": "mine"},
    "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "m", "retries": 0},
}


def run(answers: Answers, *metrics: object, home: Path = Path("/nowhere")) -> list[RowScores]:
    return measure(
        MetricsConfig.parse({"metrics": list(metrics)}), answers, Home(home), log=lambda text: None
    )


def scored_by(answers: Answers, metric: object) -> RowScores:
    return run(answers, metric)[0]


def asked(
    predictions: list[str | None], references: list[str | None] | None = None, **more: object
) -> Answers:
    return Answers(np.arange(len(predictions)), predictions, references, **more)


def test_exact_match_leaves_out_of_account_what_it_is_told_to() -> None:
    answers = asked(["Paris", " Paris\n", "the paris!", "Rome"], ["Paris"] * 4)
    assert scored_by(answers, "exact_match").scores.tolist() == [1, 1, 0, 0]
    assert scored_by(answers, {"metric": "exact_match", "normalise": True}).scores.tolist() == [1, 1, 1, 0]


def test_token_f1_counts_shared_words_with_repeats() -> None:
    answers = asked(["The cat sat, sat.", "", "", "猫在"], ["a cat sat down", "", "dog", "猫来"])
    # cat sat sat / cat sat down: two shared of three and three
    assert scored_by(answers, "token_f1").scores.tolist() == pytest.approx([2 / 3, 1, 0, 0.5])


def test_an_answer_that_is_an_article_alone_is_not_nothing() -> None:
    answers = asked(["", "A", "a.", "B", "?"], ["A", "A", "A", "A", "?"])
    normalise = {"metric": "exact_match", "normalise": True}
    for metric in ("token_f1", normalise):
        assert scored_by(answers, metric).scores.tolist() == [0, 1, 1, 0, 1]


def test_rouge_is_rouge_scores_on_english_and_works_in_other_scripts() -> None:
    pairs = [("the cats were running fast", "a cat ran fast today"), ("snake_case x2", "snake case x2")]
    for stem in (False, True):
        scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem)
        by_kind = answer_metrics.rouge(pairs, ["rouge1", "rouge2", "rougeL"], use_stemmer=stem)
        for kind, scores in by_kind.items():
            expected = [scorer.score(reference, prediction)[kind].fmeasure for prediction, reference in pairs]
            assert scores.tolist() == pytest.approx(expected), (kind, stem)
    assert answer_metrics.rouge([("кот спит", "кот спит")], ["rougeL"])["rougeL"].tolist() == [1]
    assert answer_metrics.rouge([("हिन्दी भाषा", "हिन्दी भाषा")], ["rouge1"])["rouge1"].tolist() == [1]


def test_an_empty_answer_is_scored_and_counted_and_a_missing_reference_is_said() -> None:
    answers = asked(["", "b", None, "d"], ["a", None, "c", "d"])
    for metric in ("exact_match", "token_f1", "bleu", "chrf", "rougeL"):
        scored = scored_by(answers, metric)
        assert scored.scores[0] == 0, metric
        assert np.isnan(scored.scores[[1, 2]]).all(), metric
        assert scored.reasons == {1: NO_REFERENCE, 2: NO_PREDICTION}
        figure = aggregate_scores(scored)
        assert (figure.n, figure.rows, figure.empty, figure.unscored.count) == (2, 4, 1, 2)


def test_labels_are_named_and_not_guessed() -> None:
    answers = asked(
        ["Positive.", "negative, I think", " negative\n", "", "neutral"],
        labels=["positive", "negative", "negative", "positive", "mixed"],
    )
    choice = {"metric": "accuracy", "labels": ["positive", "negative", "neutral"]}
    scored = scored_by(answers, choice)
    assert scored.scores.tolist() == [1, 0, 1, 0, 0]
    assert scored.details["no_label"].count == 2
    assert scored.details["outside"] == UnmatchedTexts(count=1, most=[["mixed", 1]])
    assert [row.label for row in scored.details["classes"]] == ["positive", "negative", "neutral"]
    strict = scored_by(answers, choice | {"ignore_case": False})
    assert strict.scores.tolist() == [0, 0, 1, 0, 0]
    recall = aggregate_scores(scored_by(answers, choice | {"metric": "recall_micro"}))
    assert (recall.value, recall.n) == (pytest.approx(0.4), 5)


def test_labels_that_differ_in_case_alone_keep_their_case() -> None:
    answers = asked(["us", "US"], labels=["US", "US"])
    assert scored_by(answers, {"metric": "accuracy", "labels": ["us", "US"]}).scores.tolist() == [0, 1]


def test_figures_of_classes_have_intervals_and_differences() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(["a", "b", "c"], 120)
    better = np.where(rng.random(120) < 0.9, truth, "a")
    worse = np.where(rng.random(120) < 0.4, truth, "a")
    first, second = (
        scored_by(asked(predicted.tolist(), labels=truth.tolist()), "f1_macro")
        for predicted in (better, worse)
    )
    figure = aggregate_scores(first)
    assert figure.low < figure.value < figure.high
    gap = compute_difference(first, second)
    assert 0 < gap.low < gap.value < gap.high
    assert gap.detectable > 0


def test_losses_are_weighted_and_a_loss_that_is_no_number_is_said() -> None:
    answers = Answers(
        np.arange(4),
        loss_sum=np.array([2.0, math.nan, 8.0, 0.0]),
        tokens=np.array([2, 2, 3, 0]),
        bytes=np.array([4, 4, 6, 0]),
    )
    perplexity, bits = run(answers, "perplexity", "bits_per_byte")
    assert aggregate_scores(perplexity).value == pytest.approx(math.exp(10 / 5))
    assert aggregate_scores(bits).value == pytest.approx(10 / math.log(2) / 10)
    assert set(perplexity.reasons) == {1, 3}
    assert aggregate_scores(bits).n == 2


def test_calibration_comes_as_documents_with_its_bins() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, 300)
    logits = rng.normal(0, 1, (300, 2))
    logits[np.arange(300), right] += 1
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    answers = Answers(
        np.arange(300),
        labels=[["no", "yes"][i] for i in right],
        log_probabilities=logs,
        classes=["no", "yes"],
    )
    ece, brier, temperature = (aggregate_scores(s) for s in run(answers, "ece", "brier", "temperature"))
    assert 0 < ece.value < 0.2
    assert ece.details["bins"]
    assert ece.details["chance"] > 0
    assert brier.low < brier.value < brier.high
    assert brier.n == 300
    assert temperature.low < temperature.value < temperature.high
    assert compute_difference(*[run(answers, "ece")[0]] * 2).value is None


def test_what_the_rows_do_not_have_is_said_and_the_rest_goes_on() -> None:
    scored = run(asked(["{}"]), "bleu", "perplexity", "ece", "valid_json")
    assert [s.failed for s in scored] == [
        "The rows have no reference.",
        "The rows have no losses.",
        "The rows have no probabilities and no label.",
        "",
    ]
    assert aggregate_scores(scored[3]).value == 1


@pytest.mark.parametrize("metric", list(METRICS))
def test_every_metric_takes_no_row_and_a_row_without_anything(metric: str) -> None:
    assert METRICS[metric].family in SCORERS
    choice = {"metric": metric, **OPTIONS.get(metric, {})}
    for rows in (0, 2):
        nothing: list[str | None] = [None] * rows
        answers = Answers(
            np.arange(rows), nothing, nothing, nothing, nothing, loss_sum=np.full(rows, np.nan),
            tokens=np.zeros(rows), bytes=np.zeros(rows), log_probabilities=np.zeros((rows, 0)),
            choices=nothing, rights=[None] * rows, choice_scores=[None] * rows,
        )  # fmt: skip
        scored = scored_by(answers, choice)
        assert len(scored.reasons) == rows
        figure = aggregate_scores(scored)
        assert (figure.n, figure.value, figure.rows) == (0, None, rows)
        assert compute_difference(scored, scored).n == 0


def test_an_error_within_a_metric_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no tokenizer")

    logged: list[str] = []
    monkeypatch.setattr(answer_metrics, "bleu", broken)
    config = MetricsConfig.parse({"metrics": ["bleu", "exact_match"]})
    scored = measure(config, asked(["a"], ["a"]), Home("/nowhere"), log=logged.append)
    assert scored[0].failed == "RuntimeError: no tokenizer"
    assert aggregate_scores(scored[1]).value == 1
    assert "eval/bleu" in logged[0]
    assert "Traceback" in logged[0]


def test_a_request_to_stop_passes() -> None:
    def check() -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        measure(MetricsConfig.parse({"metrics": ["bleu"]}), asked(["a"]), Home("/nowhere"), check=check)


def test_answers_come_from_a_table_of_predictions() -> None:
    table = pa.table(
        {"row_id": [7, 9], "prediction": ["a", None], "reference": ["a", "b"], "prompt": ["p", "q"]}
        | {"who": [1, 1]}
    )
    answers = Answers.of_table(table, group="who")
    assert answers.row_ids.tolist() == [7, 9]
    assert answers.groups == [1, 1]
    assert answers.labels is None
    assert aggregate_scores(scored_by(answers, "exact_match"), answers.groups).unscored.examples == [
        (9, NO_PREDICTION)
    ]
    with pytest.raises(ValueError, match="3 entries for 2 rows"):
        Answers(np.arange(2), ["a", "b", "c"])


def squad(text: str) -> list[str]:
    """Words as the evaluation script of SQuAD 1.1 takes them."""
    bare = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("$5", "5"), ("3 + 4 = 7", "3 4 7"), ("x^2", "x2"), ("`ls`", "ls"), ("a < b", "b"), ("~10", "10"),
        ("|the end|", "end"), ("A > B", "b"), ("The U.S. Dollar", "us dollar"),
        ("Denver-Broncos", "Denver Broncos"), ("€5", "5"), ("snake_case", "snakecase"), ("C++", "C"),
        ("50% of it", "50 of it"), ("an apple, a pear", "pear apple"),
    ],
)  # fmt: skip
def test_words_are_those_of_squad(answer: str, reference: str) -> None:
    first, second = Counter(squad(answer)), Counter(squad(reference))
    shared = (first & second).total()
    f1 = 2 * shared / (first.total() + second.total()) if shared else 0.0
    assert answer_metrics.token_f1([(answer, reference)])[0] == pytest.approx(f1)
    assert answer_metrics.normalise_answer(answer).split() == squad(answer)
    assert answer_metrics.exact_match([(answer, reference)], normalise=True)[0] == (
        squad(answer) == squad(reference)
    )
