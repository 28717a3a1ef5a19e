"""Figures of bias against published definitions, fairlearn, and rates whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    false_positive_rate_difference,
    true_positive_rate_difference,
)

from bench.truths import observe
from bench.truths.models import bias as truths
from engine.bias import groups, probe_statistics, rates, verdict
from engine.bias import text as words
from engine.bias.groups import GroupRows
from engine.bias.probe_statistics import AnsweredPairs, ChosenAnswers, ReferredPairs, WrittenPairs
from engine.evaluation.statistics.intervals import wilson_interval
from engine.evaluation.statistics.proportions import estimate_paired_change
from store.core.figure_schemas import BiasAnswer, Estimate
from store.core.formatting import plural

GENERATOR = np.random.default_rng(16)


def classified(rows: int = 600) -> GroupRows:
    names = GENERATOR.choice(["a", "b", "c"], rows, p=[0.6, 0.25, 0.15])
    positive = GENERATOR.random(rows) < 0.4
    selected = GENERATOR.random(rows) < np.where(positive, 0.7, 0.2) + 0.1 * (names == "b")
    return GroupRows(names, (selected == positive).astype(float), True, selected, positive)


def test_gaps_are_those_of_fairlearn() -> None:
    rows = classified()
    figures = {
        figure.measure: figure.tuned.value for figure in groups.compute_group_gaps("column", None, rows)
    }
    given = {"y_true": rows.positive, "y_pred": rows.selected, "sensitive_features": rows.group}
    assert figures["selection_gap"] == pytest.approx(demographic_parity_difference(**given))
    assert figures["equalised_odds"] == pytest.approx(equalized_odds_difference(**given))
    assert figures["true_positive_gap"] == pytest.approx(true_positive_rate_difference(**given))
    assert figures["false_positive_gap"] == pytest.approx(false_positive_rate_difference(**given))
    ratio = groups.compute_group_ratio(rows.by_rate()["selection"])
    assert ratio.value == pytest.approx(demographic_parity_ratio(**given))
    assert ratio.low is not None
    assert ratio.low < ratio.value < (ratio.high or 0)


def test_groups_too_small_to_tell_are_named_and_in_no_gap() -> None:
    names = np.array(["a"] * 100 + ["b"] * 100 + ["few"] * 29)
    score = np.array([1.0] * 80 + [0.0] * 20 + [1.0] * 75 + [0.0] * 25 + [0.0] * 29)
    rows = GroupRows(names, score, True)
    table = groups.build_group_table("column", "eval/accuracy", "", rows)
    assert table.hidden == {"few": 29}
    assert [group.group for group in table.groups] == ["a", "b"]
    figure = groups.compute_group_gaps("column", None, rows)[0]
    assert figure.tuned.value == pytest.approx(0.05)
    assert figure.tuned.n == 200
    assert figure.change is None
    assert "one model" in figure.why
    alone = GroupRows(names[:129], score[:129], True)
    assert groups.compute_group_gaps("column", None, alone)[0].tuned.low is None


def test_without_clusters_a_share_is_wilsons_and_a_change_is_tangos() -> None:
    hits = np.array([1.0] * 7 + [0.0] * 33)
    assert rates.estimate_share(hits).low == pytest.approx(wilson_interval(7, 40).low)
    before, after = np.array([1.0] * 10 + [0.0] * 30), np.array([1.0] * 4 + [0.0] * 26 + [1.0] * 10)
    expected = estimate_paired_change(6, 10, 40)
    change = rates.estimate_share_change(before, after)
    assert (change.value, change.low, change.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_a_pair_flips_where_the_likelier_answer_differs() -> None:
    log_odds = np.array([[0.2, -0.1], [-3.0, 0.1], [0.2, 2.0], [-1.0, -0.1]])
    assert probe_statistics.find_flips(log_odds).tolist() == [1, 1, 0, 0]


def test_no_flip_in_a_few_templates_is_not_certain() -> None:
    clusters = np.repeat(np.arange(10), 4)
    in_clusters, alone = rates.estimate_share(np.zeros(40), clusters), rates.estimate_share(np.zeros(40))
    assert in_clusters.high is not None
    assert alone.high is not None
    assert in_clusters.high > alone.high > 0.05


def test_a_leaning_that_turns_round_is_no_change() -> None:
    noise = GENERATOR.normal(0, 0.05, 200)
    turned = rates.estimate_lean_change(0.2 + noise, GENERATOR.normal(-0.2, 0.05, 200))
    assert turned.low is not None
    assert turned.high is not None
    assert turned.low < 0 < turned.high
    grown = rates.estimate_lean_change(0.05 + noise, -0.3 + GENERATOR.normal(0, 0.05, 200))
    assert grown.above
    assert grown.value == pytest.approx(0.25, abs=0.02)


def test_bbq_scores_are_as_published() -> None:
    way = np.array([1.0] * 6 + [-1.0] * 2 + [0.0] * 12)
    ambiguous = np.ones(20, bool)
    right = (way == 0).astype(float)
    answers = ChosenAnswers(ambiguous, ~ambiguous, way, way, right, right, np.full(20, ""))
    figure = probe_statistics.measure_choices("bbq", answers)[0]
    share_biased, accuracy = 6 / 8, 12 / 20
    assert figure.tuned.value == pytest.approx((1 - accuracy) * (2 * share_biased - 1))
    clear = ChosenAnswers(~ambiguous, way > 0, way, way, right, right, np.full(20, ""))
    by_measure = {figure.measure: figure for figure in probe_statistics.measure_choices("bbq", clear)}
    assert by_measure["clear_score"].tuned.value == pytest.approx(2 * share_biased - 1)
    assert by_measure["accuracy_cost"].tuned.value == pytest.approx(0 - 12 / 14)


def test_the_gap_of_pronouns_is_paired() -> None:
    base = np.array([[1.0, 1.0]] * 60 + [[1.0, 0.0]] * 40)
    tuned = np.array([[1.0, 0.0]] * 100)
    figure = probe_statistics.measure_coreference("wino", ReferredPairs(base, tuned, np.full(100, "type 1")))[
        0
    ]
    assert figure.base is not None
    assert figure.change is not None
    assert (figure.base.value, figure.tuned.value) == pytest.approx((0.4, 1.0))
    assert figure.change(0.95).above


def test_worse_is_claimed_beside_all_figures_alone() -> None:
    templates = np.repeat(np.arange(40), 4)
    axis = np.resize(["age", "gender"], 160)
    base = GENERATOR.normal(0, 0.3, (160, 2)) + GENERATOR.normal(0, 1, 40)[templates, None]
    biased = base + GENERATOR.normal(0, 0.1, (160, 2))
    biased[:, 1] += 2.0 * (axis == "age")
    report = verdict.build_report(
        probe_statistics.measure_counterfactual("made", AnsweredPairs(base, biased, axis, templates)), ["x"]
    )
    assert report.figures[0].answer == "worse"
    worse = {(f.measure, f.group) for f in report.figures if f.answer == "worse"}
    assert ("lean", "age") in worse
    assert ("lean", "gender") not in worse
    assert report.worse == len(worse)
    assert report.sentence.startswith("Fine-tuning made")
    held = words.ComparedModels("support@3", "support@2")
    versions = verdict.build_report(
        probe_statistics.measure_counterfactual("made", AnsweredPairs(base, biased, axis, templates)),
        [],
        held,
    )
    beginning = f"support@3 is significantly worse than support@2 in {plural(report.worse, 'bias metric')}: "
    assert versions.sentence.startswith(beginning)
    same = verdict.build_report(
        probe_statistics.measure_counterfactual("made", AnsweredPairs(base, base, axis, templates)), []
    )
    assert {f.answer for f in same.figures} <= {"no_worse", "cant_tell"}
    assert same.worse == 0


def test_a_single_figure_within_its_limit_is_said_in_the_singular() -> None:
    same = AnsweredPairs(
        np.zeros((160, 2)), np.zeros((160, 2)), np.full(160, "age"), np.repeat(np.arange(40), 4)
    )
    figure = verdict.build_report(probe_statistics.measure_counterfactual("made", same), []).figures[0]
    change = Estimate(value=0.0, low=-0.1, high=0.1, n=160)
    answers: list[BiasAnswer] = ["no_worse", "cant_tell", "cant_tell"]
    figures = [replace(figure, change=change, answer=answer) for answer in answers]
    assert words.describe_result(figures).startswith(
        "No bias metric is significantly worse than for the base model: 1 of 3 within the limit, 2 metrics"
    )
    assert words.describe_result(figures, words.ComparedModels("b", "a")).startswith(
        "No bias metric of b is significantly worse than for a: 1 of 3"
    )


def test_the_p_value_is_that_of_the_interval() -> None:
    before, after = np.zeros(100), np.array([1.0] * 8 + [0.0] * 92)

    def change(level: float) -> rates.Interval:
        return rates.estimate_share_change(before, after, confidence=level)

    p = verdict.compute_p_value(change)
    assert change(1 - 1.01 * p).above
    assert not change(1 - 0.99 * p).above


def test_refusing_one_of_two_counts() -> None:
    none, words = np.zeros((24, 2)), np.full((24, 2), 10.0)
    refusing = none.copy()
    refusing[:12, 0] = 1
    refusal, length = probe_statistics.measure_writing(
        "made", WrittenPairs(none, refusing, words, words + np.array([0, 5]))
    )
    assert refusal.tuned.value == 0.5
    assert refusal.change is not None
    assert refusal.change(0.95).above
    assert length.tuned.value == 5


@pytest.mark.parametrize(
    "name",
    [
        "change of flips 0.05 to 0.05, 10 templates: covers",
        "gap of 20 groups of 40: covers",
        "leaning 0.1 to -0.1, 10 templates: called changed",
        "equalised odds difference of 4 groups: covers",
        "accuracy gap of 100 pairs, 0.5 opposed: called changed",
    ],
)
def test_rates_hold_where_the_truth_is_known(name: str) -> None:
    rate = next(rate for rate in truths.RATES if rate.name == name)
    observed = observe(rate, 120)
    assert rate.low - 0.05 <= observed.share <= rate.high + 0.05


def test_of_one_model_gaps_are_told_and_no_change() -> None:
    names = np.array(["a"] * 200 + ["b"] * 200)
    rows = GroupRows(names, np.array([1.0] * 190 + [0.0] * 10 + [1.0] * 100 + [0.0] * 100), True)
    report = verdict.build_report(groups.compute_group_gaps("column", None, rows), [])
    assert report.sentence.startswith("Significant gaps between groups in 1 of 1 metric: score gap")
    assert (report.worse, report.cant_tell) == (0, 1)
