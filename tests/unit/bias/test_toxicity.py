"""Figures of continuations: by hand, at their edges, and on rates whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.truths import observe
from bench.truths.models import toxicity as truths
from engine.bias import rates, verdict
from engine.bias import text as words
from engine.bias.rates import JudgedContinuations
from engine.evaluation.statistics.intervals import wilson_interval
from store.bias.schemas import ClassifierError, ClassifierJudgement


def made(
    base: list[list[float]], tuned: list[list[float]], groups: list[str] | None = None
) -> JudgedContinuations:
    return JudgedContinuations(np.array(base), np.array(tuned), np.array(groups or [""] * len(base)))


def judgement(errors: list[ClassifierError]) -> ClassifierJudgement:
    return ClassifierJudgement(
        classifier="Anger",
        labels=["anger"],
        threshold=0.5,
        probe="made",
        samples=2,
        max_new_tokens=20,
        empty_base=0,
        empty_tuned=0,
        cut=0,
        errors=errors,
        changed=[],
    )


def error(recall: tuple[int, int], false_positive: tuple[int, int]) -> ClassifierError:
    return ClassifierError(
        rows="held-out rows of its own data",
        recall=wilson_interval(*recall).to_estimate(),
        false_positive=wilson_interval(*false_positive).to_estimate(),
        by_likeliest=0,
    )


def test_figures_are_those_by_hand() -> None:
    """Four openings of two: base 1 of 8 called, in 1 opening; tuned 4 of 8, in 3; 0.5 is enough."""
    base = [[0.1, 0.2], [0.9, 0.0], [0.0, 0.1], [0.4, 0.3]]
    tuned = [[0.5, 0.6], [0.9, 0.1], [0.0, 0.0], [0.2, 0.8]]
    figures = {figure.measure: figure for figure in rates.compute_toxicity_figures("made", made(base, tuned))}
    assert figures["toxic_share"].base is not None
    assert figures["toxic_share"].base.value == 1 / 8
    assert (figures["toxic_share"].tuned.value, figures["toxic_share"].tuned.n) == (4 / 8, 4)
    openings = figures["toxic_prompts"]
    assert openings.base is not None
    assert (openings.base.value, openings.tuned.value, openings.tuned.n) == (1 / 4, 3 / 4, 4)
    assert figures["toxic_probability"].tuned.value == pytest.approx(3.1 / 8)
    change = figures["toxic_probability"].change
    assert change is not None
    assert change(0.95).value == pytest.approx((3.1 - 2.0) / 8)


def test_groups_have_figures_from_ten_openings_on() -> None:
    groups = ["a"] * 10 + ["b"] * 12 + ["c"] * 9
    figures = rates.compute_toxicity_figures("made", made([[0.0]] * 31, [[1.0]] * 31, groups))
    assert [figure.group for figure in figures] == ["", "", "", "a", "b"]


def test_groups_without_a_figure_are_counted_and_many_are_capped() -> None:
    """Every figure counts in the correction for many, and has its line in a chart."""
    groups = ["a"] * 9 + ["b"] * 9 + ["c"] * 9
    assert len(rates.compute_toxicity_figures("made", made([[0.0]] * 27, [[1.0]] * 27, groups))) == 3
    (few,) = rates.describe_hidden_groups(np.array(groups))
    assert few.startswith("3 groups (27 prompts in total) not reported separately")
    groups = [f"g{place:03}" for place in range(50) for _ in range(10 + (place >= 30))]
    figures = rates.compute_toxicity_figures(
        "made", made([[0.0]] * len(groups), [[1.0]] * len(groups), groups)
    )
    assert [figure.group for figure in figures[3:]] == [f"g{place:03}" for place in range(30, 50)]
    (beyond,) = rates.describe_hidden_groups(np.array(groups))
    assert "30 more groups (300 prompts)" in beyond
    assert rates.describe_hidden_groups(np.array(["a"] * 30 + [""] * 4)) == []


@pytest.mark.parametrize(
    ("base", "tuned", "answer"),
    [
        ([[0.0]], [[1.0]], "cant_tell"),
        ([[0.0]] * 2, [[1.0]] * 2, "cant_tell"),
        ([[0.1]] * 300, [[0.1]] * 300, "no_worse"),
        ([[0.0, 0.0]] * 60, [[1.0, 1.0]] * 60, "worse"),
        ([[1.0]] * 60, [[0.0]] * 60, "better"),
    ],
)
def test_few_openings_tell_nothing_and_many_that_agree_do(
    base: list[list[float]], tuned: list[list[float]], answer: str
) -> None:
    report = verdict.build_report(rates.compute_toxicity_figures("made", made(base, tuned)), [])
    assert {figure.answer for figure in report.figures} == {answer}
    assert "nan" not in report.sentence


def test_no_opening_has_no_figure() -> None:
    empty = JudgedContinuations(np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0, str))
    assert rates.compute_toxicity_figures("made", empty) == []
    assert verdict.build_report([], []).sentence == "Nothing was measured."


def test_what_the_error_of_a_classifier_could_explain_is_said() -> None:
    report = verdict.build_report(
        rates.compute_toxicity_figures("made", made([[0.1]] * 95 + [[0.9]] * 5, [[0.1]] * 100)), []
    )
    few = words.list_toxicity_limits(judgement([error((30, 40), (10, 100))]), report.figures)
    assert "recall 75% (60 to 86%, n 40) for harmful rows, false positive rate 10%" in few[1].replace(
        "–", " to "
    )
    assert any("all of it may be classifier error" in line for line in few)
    exact = words.list_toxicity_limits(judgement([error((40, 40), (0, 3000))]), report.figures)
    assert any("all of it may be classifier error" in line for line in exact) is False
    unknown = words.list_toxicity_limits(judgement([]), report.figures)
    assert "Error rate of Anger unknown" in unknown[1]


def test_rows_that_say_nothing_of_its_error_are_named() -> None:
    no_harm = replace(error((1, 2), (67, 100)), recall=None, other_labels=8)
    (sentence,) = words.describe_classifier_errors(judgement([no_harm]))
    assert "no harmful rows, false positive rate 67%" in sentence
    assert "(8 rows with unknown labels excluded)" in sentence
    no_other = replace(error((3, 4), (1, 2)), false_positive=None)
    assert "for harmful rows, no harmless rows" in words.describe_classifier_errors(judgement([no_other]))[0]
    nothing = replace(no_harm, false_positive=None)
    unknown, why = words.describe_classifier_errors(judgement([nothing]))
    assert "Error rate of Anger unknown" in unknown
    assert "Anger does not have the labels of its 8 rows" in why


def test_rows_whose_kept_labels_do_not_settle_it_are_taken_by_the_likeliest() -> None:
    predicted = np.array([True, False, True, False])
    called, still_open = rates.predict_harmful(
        predicted, np.array([0.6, 0.1, 0.4, 0.3]), np.array([0.0, 0.2, 0.3, 0.4]), 0.5
    )
    assert called.tolist() == [True, False, True, False]
    assert still_open.tolist() == [2, 3]


@pytest.mark.parametrize(
    "name",
    [
        "toxic_share 0.02, 96 openings of 4, alike 0.7: covers",
        "toxic_prompts 0.005, 10 openings of 4, alike 0.3: covers",
        "toxic_probability 0.01 to 0.05, 96 openings of 4, alike 0.7: covers",
    ],
)
def test_rates_hold(name: str) -> None:
    rate = next(rate for rate in truths.RATES if rate.name == name)
    observed = observe(rate, 40)
    assert rate.low - 0.06 <= observed.share <= rate.high + 0.05
