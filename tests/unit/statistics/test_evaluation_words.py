"""What the screens say of a judging and of an evaluation's probabilities."""

from __future__ import annotations

from typing import Any

from engine.evaluation.comparison.evaluation_text import (
    ComparisonSides,
    describe_judging,
    format_judging_headline,
)
from pages.evaluation.classes import describe_calibration
from pages.evaluation.evaluation_list import get_calibration
from pages.evaluation.results import format_metric_title
from store.core.figure_schemas import Figure
from store.evaluation.schemas import JudgingResult, PairCounts
from tests.unit.store_samples import row_of

PAIRS = PairCounts(first=25, second=10, ties=5, split=10, unjudged=2)
POSITION = {  # as JSON, which details are
    "agree": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50},
    "first_shown": {"value": 0.9, "low": 0.6, "high": 1.0, "n": 10},
}


def judging(
    value: float | None,
    low: float | None,
    high: float | None,
    pairs: PairCounts = PAIRS,
    length: dict[str, Any] | None = None,
) -> JudgingResult:
    details = {"position": POSITION} | ({"length": length} if length else {})
    figure = row_of(Figure, value=value, low=low, high=high, n=50, failed="", details=details)
    reasons = {"no verdict": 2}
    return row_of(JudgingResult, figure=figure, pairs=pairs, reasons=reasons, notices=[])


THIS, OTHER = ComparisonSides(), ComparisonSides(turned=True)


def test_a_preference_is_called_by_its_interval_and_from_either_side() -> None:
    assert format_judging_headline(judging(0.65, 0.53, 0.77), THIS).startswith(
        "The judge prefers this one's answers"
    )
    assert format_judging_headline(judging(0.65, 0.53, 0.77), OTHER).startswith(
        "The judge prefers the other one's answers"
    )
    assert "this one wins 35% (23 to 47%) of 50 pairs" in format_judging_headline(
        judging(0.65, 0.53, 0.77), OTHER
    )
    assert format_judging_headline(judging(0.55, 0.43, 0.67), THIS).startswith(
        "Which answers are better is unclear"
    )
    assert format_judging_headline(judging(None, None, None), THIS) == "No pair could be judged."


def test_orders_ties_and_pairs_that_were_not_judged_are_said() -> None:
    words = " ".join(describe_judging(judging(0.65, 0.53, 0.77), OTHER))
    assert "this one was better 10 times, the other one 25 times; 5 ties" in words
    assert "In 10 pairs the presentation order decided" in words
    assert "the answer shown first won in 90% (60 to 100%) (n 10)" in words
    assert "2 of 52 pairs not judged: no verdict (2)." in words


def test_a_judge_that_the_order_decides_proves_nothing_equal() -> None:
    pairs = PairCounts(first=0, second=0, ties=0, split=50, unjudged=0)
    length = {"longer": None, "equal": None, "problem": "", "first_longer": 0}
    every = judging(0.5, 0.48, 0.52, pairs, length)
    for sides in (THIS, OTHER):
        words = format_judging_headline(every, sides)
        assert words == ("The presentation order decided all 50 pairs: which is better is unclear")
    assert "no pair was decided in both orders" in " ".join(describe_judging(every, THIS))


def of_length(**fields: Any) -> JudgingResult:
    longer = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 35}
    return judging(0.85, 0.75, 0.95, length={"longer": longer, "first_longer": 20, "problem": ""} | fields)


def test_what_length_did_stands_beside_the_preference() -> None:
    even = of_length(equal={"value": 0.45, "low": 0.2, "high": 0.7, "n": 35})
    words = " ".join(describe_judging(even, THIS))
    assert (
        "The longer answer was preferred in 100% (90 to 100%) of 35 decided pairs of unequal length." in words
    )
    assert "of decided pairs (n 35), so the judge may prefer length alone" in words
    assert "this one would win 55% (30 to 80%)" in " ".join(describe_judging(even, OTHER))
    sure = of_length(equal={"value": 0.8, "low": 0.6, "high": 0.9, "n": 35})
    assert "length alone" not in " ".join(describe_judging(sure, THIS))
    turned = of_length(equal={"value": 0.2, "low": 0.1, "high": 0.4, "n": 35})
    assert "the opposite, when length is controlled for" in " ".join(describe_judging(turned, THIS))
    problem = "one side's answers are the longer ones in 35 of 35 decided pairs"
    unsaid = of_length(equal=None, problem=problem)
    assert f"Who would win at equal length is unclear: {problem}." in " ".join(describe_judging(unsaid, THIS))


def figure(**fields: Any) -> Figure:
    return row_of(Figure, **{"value": 0.1, "n": 90, "details": {}, **fields})


def test_calibration_is_read_from_the_figures_that_are_there() -> None:
    bins = [{"n": 45, "confidence": 0.6, "accuracy": 0.5, "low": 0.4, "high": 0.6}] * 2
    ece = figure(details={"chance": 0.05, "bins": bins})
    assert get_calibration({}) is None
    assert get_calibration({"eval/ece": figure()}) is None
    alone = get_calibration({"eval/ece": ece})
    assert alone is not None
    assert "Calibration error 10.0% over 2 bins" in describe_calibration(alone)
    assert "Brier" not in describe_calibration(alone)
    whole = get_calibration(
        {
            "eval/ece": ece,
            "eval/brier": figure(value=0.4, low=0.3, high=0.5),
            "eval/temperature": figure(value=1.8, low=1.4, high=2.2, details={"overconfident": True}),
        }
    )
    assert whole is not None
    assert "Brier score 0.4" in describe_calibration(whole)
    assert "1.8 (1.4 to 2.2): overconfident" in describe_calibration(whole)


def test_a_task_goes_by_its_own_name() -> None:
    assert format_metric_title("task/arc_easy/acc_norm", {"metrics": []}) == "arc_easy: acc_norm"
    assert format_metric_title("task/gone", {"metrics": [{"metric": "chrf"}]}) == "gone"


def test_a_metric_is_called_by_its_title_and_ones_own_by_its_file() -> None:
    config = {"metrics": [{"metric": "rougeL"}, {"metric": "own", "file": "Short_enough"}]}
    assert format_metric_title("eval/rougeL", config) == "ROUGE-L"
    assert format_metric_title("eval/short_enough", config) == "Own metric: Short_enough"
    assert format_metric_title("eval/ece", config) == "ece"


def test_an_interval_that_ends_at_half_prefers_nobody() -> None:
    for low, high in ((0.5, 0.77), (0.3, 0.5), (0.5, 0.5)):
        assert format_judging_headline(judging(0.5, low, high), THIS).startswith(
            "Which answers are better is unclear"
        )
