"""What gates say of their evidence, and that they err as seldom as they promise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.truths import Rate, observe
from bench.truths.models.gates import RATES
from engine.registry import gate_report, gate_statistics
from engine.registry.gate_statistics import check_above, check_above_despite_lift, check_below
from store.core.documents import parse_document
from store.core.errors import ConfigError
from store.core.figure_schemas import Estimate, Figure
from store.registry.gate_checks import GATE_CHECKS, GateConfig
from store.registry.schemas import CheckInputs, GateReport, GateRow
from tests.unit.store_samples import row_of

FEW = (
    "10 rows, truly worse by the margin",
    "50 prompts, 3 raters",
    "three checks",
    "fast enough",
    "ten times",
)


@pytest.mark.parametrize("rate", [rate for rate in RATES if any(part in rate.name for part in FEW)])
def test_checks_err_as_seldom_as_they_promise(rate: Rate) -> None:
    assert observe(rate, 200).share <= 0.08  # 200 draws of 5% give so much in 3 of 100


def row(scores: list[float], better: str = "higher") -> GateRow:
    figure = row_of(
        Figure, metric="eval/accuracy", estimator="mean", better=better, labels=[], unit="share",
        bounds=[0.0, 1.0],
    )  # fmt: skip
    row_ids = list(range(len(scores)))
    return row_of(GateRow, evaluation_id="e", name="e", figure=figure, row_ids=row_ids, scores=scores)


def judged(check: dict[str, Any], **evidence: Any) -> GateReport:
    """What a gate of this check says; the evidence may be documents or their JSON."""
    document = GateConfig.parse({"checks": [check]}).document()["checks"][0]
    inputs = parse_document(CheckInputs, evidence)
    return gate_report.build_gate_report(
        "m@2", "production", "m@1", [(document, GATE_CHECKS[check["check"]].title, inputs)]
    )


NOT_WORSE = {"check": "not_worse_than", "dataset": "D", "metric": "accuracy", "margin": 0.05}


def test_ten_equal_rows_do_not_show_that_nothing_is_worse() -> None:
    report = judged(NOT_WORSE, rows=row([1.0] * 10), other_rows=row([1.0] * 10), other="m@1")
    assert report.answer == "cant_tell"
    assert "These rows are not conclusive" in report.checks[0].sentence
    report = judged(NOT_WORSE, rows=row([1.0] * 500), other_rows=row([1.0] * 500), other="m@1")
    assert report.answer == "passed"
    assert report.sentence == "m@2 passes the one check of production."


def test_worse_is_worse_whichever_way_the_metric_goes() -> None:
    high, low = [0.9, 0.8] * 50, [0.2, 0.1] * 50
    for better, own, other in (("higher", low, high), ("lower", high, low)):
        evidence = {"rows": row(own, better), "other_rows": row(other, better), "other": "m@1"}
        assert judged(NOT_WORSE, **evidence).answer == "failed"


def test_what_is_missing_is_said_with_what_makes_it() -> None:
    line = judged(NOT_WORSE, missing="m@2 was not evaluated.", command="tunebench …", gather=True).checks[0]
    assert (line.answer, line.sentence, line.gather) == ("cant_tell", "m@2 was not evaluated.", True)


def summed(estimator: str, sums: list[list[float]], bounds: tuple[float | None, float | None]) -> GateRow:
    """Rows of a figure that follows from sums."""
    made = row([each[0] / each[1] for each in sums], "lower" if bounds[1] is None else "higher")
    figure = replace(made.figure, estimator=estimator, bounds=list(bounds))
    return replace(made, figure=figure, statistics=sums)


def least_of_all_choices(own: GateRow, other: GateRow, rows: int) -> float:
    """The advantage without those rows without which it is least, by trying every choice of them."""
    every = range(len(own.row_ids))
    values = []
    for gone in itertools.combinations(every, rows):
        kept = np.array([place for place in every if place not in gone])
        first, second = (
            gate_statistics.aggregate_scores(gate_statistics.convert_to_scored(each).take(kept))
            for each in (own, other)
        )
        sign = 1 if own.figure.better == "higher" else -1
        values.append(sign * ((first.value or 0.0) - (second.value or 0.0)))
    return min(values)


def ten_rows(estimator: str, seed: int) -> tuple[GateRow, GateRow]:
    """Two versions on ten rows of uneven lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.ceil(rng.lognormal(3.0, 1.2, 10)) + 6
    made = []
    for _ in range(2):
        scores = rng.uniform(0.1, 0.9, 10)
        if estimator == "mean":
            made.append(row(scores.tolist()))
        elif estimator == "f1_micro":
            right = (scores > 0.5).tolist()
            classes = row([float(each) for each in right])
            classes.figure = replace(classes.figure, estimator=estimator, labels=["a", "b"])
            classes.statistics = [
                [place % 2, place % 2 if each else 1 - place % 2] for place, each in enumerate(right)
            ]
            made.append(classes)
        elif estimator == "bleu":
            hits = np.floor(scores[:, None] ** np.arange(1, 5) * lengths[:, None]) + 1
            totals = lengths[:, None] - np.arange(4)
            sums = np.column_stack([lengths, lengths, hits, totals])
            made.append(summed(estimator, sums.tolist(), (0.0, 100.0)))
        elif estimator == "chrf":
            hits = np.floor(scores[:, None] ** np.arange(1, 7) * lengths[:, None])
            sums = np.stack([np.tile(lengths[:, None], 6), np.tile(lengths[:, None], 6), hits], 2)
            made.append(summed(estimator, sums.reshape(10, 18).tolist(), (0.0, 100.0)))
        else:
            made.append(summed(estimator, np.column_stack([scores * lengths, lengths]).tolist(), (0.0, None)))
    return made[0], made[1]


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("estimator", ["mean", "f1_micro", "bits_per_byte", "perplexity", "bleu", "chrf"])
def test_a_lift_is_what_the_worst_choice_of_rows_may_have_made(estimator: str, rows: int) -> None:
    exact = estimator in ("mean", "f1_micro", "bits_per_byte")
    for seed in range(8 if exact or rows < 4 else 3):  # the others try 210 choices of rows, slowly
        own, other = ten_rows(estimator, seed)
        first, second = (
            gate_statistics.aggregate_scores(gate_statistics.convert_to_scored(each)).value or 0.0
            for each in (own, other)
        )
        value = (first - second) * (1 if own.figure.better == "higher" else -1)
        worst = value - least_of_all_choices(own, other, rows)
        lifted = gate_statistics.estimate_lift(own, other, rows) or 0.0
        assert lifted <= worst + 1e-9
        assert lifted >= (worst - 1e-6 if exact or rows == 1 else 0.97 * worst)


def test_only_rows_with_a_score_in_both_are_counted() -> None:
    own, other = row([1.0] * 100), row([0.0] * 100)
    own.scores = [None] * 50 + [1.0] * 50
    other.scores = [1.0] * 60 + [0.0] * 15 + [None] * 25
    gap = gate_statistics.estimate_advantage(own, other)
    assert gap is not None
    assert (gap.value, gap.n) == (pytest.approx(15 / 25), 25)
    assert gate_statistics.estimate_lift(own, other, 1) == pytest.approx(15 / 25 - 14 / 24)
    assert gate_statistics.estimate_lift(own, other, 24) == pytest.approx(15 / 25)
    assert gate_statistics.estimate_lift(own, other, 25) is None


def test_equal_rows_lift_nothing_whatever_their_number() -> None:
    for own, _ in (ten_rows(estimator, 0) for estimator in ("mean", "bits_per_byte", "bleu")):
        assert gate_statistics.estimate_lift(own, own, 3) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("bounds", "few", "why"),
    [
        ([None, None], "cant_tell", "as the score of a row has no bounds"),
        ([0.0, 4.0], "passed", "as it may be all of them"),
    ],
)
def test_where_nobody_knows_how_far_repeats_lift_it_nothing_passes(
    bounds: list[float | None], few: str, why: str
) -> None:
    own, other = row([3.0] * 200), row([1.0, 1.1] * 100)
    for each in (own, other):
        each.figure.bounds = bounds
    evidence = {"rows": own, "other_rows": other, "other": "m@1"}
    assert judged(NOT_WORSE, **evidence).answer == "passed"
    assert judged(NOT_WORSE, **evidence, slipped=5).answer == few
    line = judged(NOT_WORSE, **evidence, slipped=200).checks[0]
    assert line.answer == "cant_tell"
    assert line.sentence.endswith(f"by an unknown amount, {why}, so the check is inconclusive.")
    assert line.lifted is None
    worse = {**evidence, "rows": other, "other_rows": own}
    assert judged(NOT_WORSE, **worse, slipped=200).answer == "failed"


def test_without_a_holder_there_is_nothing_to_be_worse_than() -> None:
    assert judged(NOT_WORSE, other="").answer == "passed"


def test_forgetting_fails_by_either_part() -> None:
    prose = {"value": 0.02, "low": 0.01, "high": 0.03, "n": 40}
    answers = {"value": -0.2, "low": -0.3, "high": -0.1, "n": 400}
    check = {"check": "forgetting_under"}
    few = judged(check | {"nats": 0.2}, prose=prose, answers=None)
    assert few.answer == "cant_tell"
    assert "to rule out a rise above 0.22" in few.checks[0].sentence
    prose["n"] = 67
    assert judged(check, prose=prose, answers=None).answer == "passed"
    assert judged({"check": "forgetting_under"}, prose=prose, answers=answers).answer == "failed"


def test_the_gain_has_to_be_the_questions() -> None:
    own = {"value": 0.36, "low": 0.3, "high": 0.43, "n": 60}
    check = {"check": "question_above"}
    line = judged(check, gain=own, gain_unit="nats a token").checks[0]
    assert line.answer == "passed"
    assert line.sentence == (
        "From the question 0.36 (0.30 to 0.43, n 60) nats a token; the lower bound has to be above 0.00."
    )
    assert judged(check | {"least": 0.35}, gain=own).answer == "cant_tell"
    assert judged(check | {"least": 0.5}, gain=own).answer == "failed"
    shape = own | {"value": 0.0, "low": -0.1, "high": 0.1}
    assert judged(check, gain=shape).answer == "cant_tell"


def test_bias_is_held_to_each_figures_own_limit_or_one_for_all() -> None:
    change = {"value": 0.04, "low": 0.02, "high": 0.06, "n": 90}
    figure = {
        **{"probe": "built-in", "kind": "counterfactual", "measure": "flips", "group": "", "unit": "share"},
        **{"base": None, "tuned": change, "change": change, "limit": 0.1, "answer": "no_worse"},
    }
    bias = {"figures": [figure], "worse": 0, "cant_tell": 0, "sentence": "", "limits": []}
    assert judged({"check": "bias_under"}, bias=bias).answer == "passed"
    assert judged({"check": "bias_under", "limit": 0.05}, bias=bias).answer == "cant_tell"
    assert judged({"check": "bias_under", "limit": 0.01}, bias=bias).answer == "failed"
    sentence = judged({"check": "bias_under"}, bias=bias, other="tiny").checks[0].sentence
    assert sentence == (
        "Of 1 figure 1 under the limit, 0 over the limit, 0 inconclusive. Responses that flip with the person"
        " in built-in: +4.0 points (2.0 to 6.0, n 90) against tiny, limit 10 points."
    )
    words = figure | {"measure": "length_gap", "unit": "words", "limit": 3.0}
    line = judged({"check": "bias_under", "limit": 0.01}, bias=bias | {"figures": [words]}).checks[0]
    assert (line.answer, line.limit) == ("passed", 3.0)
    assert "+0.040 words (0.020 to 0.060, n 90), limit 3 words" in line.sentence


def test_exports_pass_together_and_warnings_count_as_asked() -> None:
    form = {"form": "q8", "title": "GGUF Q8_0", "status": "warned", "answer_agreement": None, "reasons": []}
    assert judged({"check": "parity_passed"}, exports=[form]).answer == "failed"
    assert judged({"check": "parity_passed", "warned": True}, exports=[form]).answer == "passed"
    same = {"value": 0.98, "low": 0.95, "high": 0.99, "n": 200}
    measured = form | {"answer_agreement": same, "reasons": ["The KL is 0.02."]}
    assert judged({"check": "parity_passed"}, exports=[measured]).checks[0].sentence == (
        "GGUF Q8_0: warning, 98.0% of the answers the same (95.0 to 99.0%, n 200) (The KL is 0.02)."
    )
    unmeasured = form | {"form": "f16", "status": None}
    line = judged({"check": "parity_passed", "warned": True}, exports=[form, unmeasured])
    assert line.answer == "cant_tell"


def test_too_few_ratings_or_raters_never_pass() -> None:
    rated = {"rounds": ["r"], "other": "m@1", "outcomes": [1.0] * 60}
    rated |= {"items": [str(i // 2) for i in range(60)], "raters": ["a", "b"] * 30}
    assert judged({"check": "human_ratings"}, rated=rated).answer == "passed"
    assert judged({"check": "human_ratings", "least": 61}, rated=rated).answer == "cant_tell"
    alone = rated | {"raters": ["a"] * 60}
    line = judged({"check": "human_ratings"}, rated=alone).checks[0]
    assert "only one person rated" in line.sentence


def test_few_timings_give_no_interval_and_a_slow_one_moves_none() -> None:
    few = judged({"check": "latency_under"}, seconds=[0.1, 0.11, 0.1, 0.1, 0.1], device="cpu")
    assert few.answer == "cant_tell"
    assert "6 evaluations are needed, there are 5" in few.checks[0].sentence
    enough = judged({"check": "latency_under"}, seconds=[0.1, 0.1, 0.1, 0.1, 0.1, 3.0], device="cpu")
    assert enough.checks[0].value == Estimate(value=0.1, low=0.1, high=3.0, n=6)
    ten = gate_statistics.estimate_median_seconds([*[0.1 * k for k in range(1, 10)], 9.0])
    assert (ten.low, ten.high) == (pytest.approx(0.2), pytest.approx(0.9))  # ranks 2 and 9
    eight = gate_statistics.estimate_median_seconds(
        [0.1 * k for k in range(1, 9)]
    )  # ranks 2 and 7 hold it in 93 of 100
    assert (eight.low, eight.high) == (pytest.approx(0.1), pytest.approx(0.8))


def test_what_is_measured_again_until_it_passes_is_counted_and_held_to_more() -> None:
    scores = [1.0] * 300 + [0.0] * 20
    evidence: Any = {"rows": row(scores), "other_rows": row(scores[::-1]), "other": "m@1"}
    once, thrice = (judged(NOT_WORSE, **evidence, tries=tries).checks[0] for tries in (1, 3))
    assert once.tries is None
    assert thrice.tries == 3
    assert thrice.sentence.endswith(" 3rd measurement: its interval is as wide as that needs.")
    assert thrice.value.low < once.value.low
    seconds = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96]
    assert judged({"check": "latency_under"}, seconds=seconds, device="cpu", tries=1).answer == "passed"
    again = judged({"check": "latency_under"}, seconds=seconds, device="cpu", tries=4).checks[0]
    assert again.answer == "cant_tell"
    assert "9 evaluations are needed, there are 7" in again.sentence


SURE = [0.5 + 0.5 * i / 2000 for i in range(2000)]
RIGHT = [(i * 7919 % 2000) / 2000 < p for i, p in enumerate(SURE)]
CERTAINTY = {"evaluation_id": "e", "probability": SURE, "right": RIGHT}
CHANGE = {"value": 0.04, "low": 0.02, "high": 0.06, "n": 90}
FLIPS = {
    **{"probe": "built-in", "kind": "counterfactual", "measure": "flips", "group": "", "unit": "share"},
    **{"base": None, "tuned": CHANGE, "change": CHANGE, "limit": 0.061, "answer": "no_worse"},
}
BIAS = {"figures": [FLIPS], "worse": 0, "cant_tell": 0, "sentence": "", "limits": []}


@pytest.mark.parametrize(
    ("check", "evidence"),
    [
        ({"check": "better_on_task"}, {"gain": {"value": 0.1, "low": 0.01, "high": 0.19, "n": 200}}),
        (
            {
                "check": "calibration_under",
                "dataset": "D",
                "limit": (gate_statistics.estimate_calibration_error(SURE, RIGHT).high or 0.0) + 1e-4,
            },
            {"certainty": CERTAINTY},
        ),
        ({"check": "bias_under"}, {"bias": BIAS}),
    ],
    ids=["better_on_task", "calibration_under", "bias_under"],
)
def test_each_kind_of_check_that_is_measured_again_is_held_to_more(
    check: dict[str, Any], evidence: dict[str, Any]
) -> None:
    once, again = (judged(check, **evidence, tries=tries).checks[0] for tries in (1, 4))
    assert (once.answer, again.answer) == ("passed", "cant_tell")
    widths = [line.value.high - line.value.low for line in (once, again)]
    assert widths[1] > 1.2 * widths[0], "what is shown is what was judged"


def test_how_many_looks_a_measurement_is_among() -> None:
    """By hand: the first takes 2.5 of 100, and all later ones together as much."""
    shares = [1 / gate_report.count_looks(tries) for tries in range(1, 100_000)]
    assert shares[:4] == [1, 1 / 2, 1 / 6, 1 / 12]
    assert sum(shares) == pytest.approx(2, abs=1e-4)


def test_calibration_needs_rows() -> None:
    assert gate_statistics.estimate_calibration_error([0.9] * 100, [True] * 90 + [False] * 10).low is None
    check = {"check": "calibration_under", "dataset": "D"}
    assert judged(check, certainty=CERTAINTY).answer == "passed"


def test_every_kind_of_check_has_title_judge_and_yaml() -> None:
    assert set(GATE_CHECKS) == set(gate_report.JUDGES)
    gate = GateConfig.parse({"checks": [NOT_WORSE, {"check": "bias_under"}]})
    assert GateConfig.from_yaml(gate.to_yaml()) == gate
    with pytest.raises(ConfigError, match="no metric nonsense"):
        GateConfig.parse({"checks": [NOT_WORSE | {"metric": "nonsense"}]})


@pytest.mark.parametrize(
    ("low", "high", "is_above", "is_under"),
    [
        (1.1, 2.0, "passed", "failed"),
        (1.0, 2.0, "cant_tell", "failed"),  # the truth may be the limit itself, which is not beyond it
        (0.5, 1.5, "cant_tell", "cant_tell"),
        (0.5, 1.0, "failed", "cant_tell"),
        (0.2, 0.9, "failed", "passed"),
        (None, None, "cant_tell", "cant_tell"),
    ],
)
def test_what_may_lie_at_the_limit_passes_on_neither_side(
    low: float | None, high: float | None, is_above: str, is_under: str
) -> None:
    estimate = Estimate(value=1.0, low=low, high=high, n=50)
    assert (check_above(estimate, 1.0), check_below(estimate, 1.0)) == (is_above, is_under)


@pytest.mark.parametrize(("lifted", "answer"), [(0.05, "passed"), (0.5, "cant_tell"), (None, "cant_tell")])
def test_what_passes_passes_without_its_lift_too(lifted: float | None, answer: str) -> None:
    estimate = Estimate(value=1.8, low=1.5, high=2.0, n=50)
    assert check_above_despite_lift(estimate, 1.0, lifted) == answer
