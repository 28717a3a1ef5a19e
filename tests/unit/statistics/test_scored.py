"""Figures and intervals of metrics: against the libraries, against simulation, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from engine.evaluation.comparison.row_scores import (
    build_scores_table,
    compute_score_differences,
    describe_difference,
    read_scores_table,
)
from engine.evaluation.metrics import answer_metrics
from engine.evaluation.statistics import estimators
from engine.evaluation.statistics.estimators import build_class_figure, count_classes, jackknife_interval
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores, compute_difference
from store.core.figure_schemas import Estimate, Figure, UnscoredRows

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "under", "tree", "and", "ran", "away", "today"]


def sentences(seed: int, rows: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    made = [" ".join(rng.choice(WORDS, rng.integers(3, 14))) for _ in range(rows)]
    predictions = [" ".join(w for w in text.split() if rng.random() > 0.2) for text in made]
    return list(zip(predictions, made, strict=True))


def shares(values: list[float], **more: object) -> RowScores:
    more = {"bounds": (0.0, 1.0)} | more
    return RowScores("eval/x", np.arange(len(values)), np.array(values, float), **more)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_bleu_and_chrf_of_summed_counts_are_those_of_sacrebleu(seed: int, rows: int) -> None:
    pairs = sentences(seed, rows)
    predictions, references = [list(part) for part in zip(*pairs, strict=True)]
    _, counts = answer_metrics.bleu(pairs)
    expected = BLEU().corpus_score(predictions, [references]).score
    assert estimators.bleu(counts.sum(axis=0)[None])[0] == pytest.approx(expected, abs=1e-9)
    for order in (0, 2):
        each, counts = answer_metrics.chrf(pairs, word_order=order)
        metric = CHRF(word_order=order)
        assert estimators.chrf(counts.sum(axis=0)[None])[0] == pytest.approx(
            metric.corpus_score(predictions, [references]).score, abs=1e-9
        )
        assert each[0] == pytest.approx(
            metric.sentence_score(predictions[0], [references[0]]).score, abs=1e-9
        )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_class_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    sums = count_classes(truth, predicted, 4).sum(axis=0)[None]
    assert build_class_figure("accuracy", 4)(sums)[0] == pytest.approx(accuracy_score(truth, predicted))
    for average in ("macro", "micro", "weighted"):
        expected = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert build_class_figure(f"{name}_{average}", 4)(sums)[0] == pytest.approx(value), (
                name,
                average,
            )


def test_an_answer_that_is_no_label_lowers_recall_and_not_precision() -> None:
    sums = count_classes([0, 0, 1, 1], [0, 2, 1, 2], 2).sum(axis=0)[None]
    assert build_class_figure("precision_micro", 2)(sums)[0] == 1
    assert build_class_figure("recall_micro", 2)(sums)[0] == 0.5
    assert build_class_figure("f1_micro", 2)(sums)[0] == pytest.approx(2 / 3)
    assert build_class_figure("f1_macro", 2)(sums)[0] == pytest.approx(2 / 3)  # no third class in the average


def test_a_share_of_rows_has_wilsons_interval() -> None:
    figure = aggregate_scores(shares([1] * 15 + [0] * 5))
    assert (figure.value, figure.n, figure.groups) == (0.75, 20, None)
    assert (figure.low, figure.high) == (
        pytest.approx(0.5313, abs=1e-4),
        pytest.approx(0.8881, abs=1e-4),
    )


def test_accuracy_is_such_a_share_and_groups_of_any_kind_are_told_apart() -> None:
    places = np.array([[0.0, 0.0]] * 15 + [[0.0, 1.0]] * 5)
    right = (places[:, 0] == places[:, 1]).astype(float)
    scored = shares(right, statistics=places, labels=["a", "b"], estimator="accuracy")
    figure = aggregate_scores(scored)
    assert (figure.value, figure.low) == (0.75, pytest.approx(0.5313, abs=1e-4))
    grouped = aggregate_scores(scored, [["x"], ["y"], None, 4] * 5)
    assert grouped.groups == 3 + 5
    assert grouped.low < 0.75 < grouped.high


def test_rows_that_all_agree_are_not_certain() -> None:
    assert aggregate_scores(shares([1] * 30)).low == pytest.approx(30 / (30 + 1.96**2), abs=1e-3)
    # no two of these groups differ, and there are four of them, not forty
    grouped = aggregate_scores(shares([1] * 40), [i // 10 for i in range(40)])
    assert (grouped.n, grouped.groups) == (40, 4)
    assert grouped.low == pytest.approx(4 / (4 + 1.96**2), abs=1e-3)
    same = compute_difference(shares([0.5] * 50), shares([0.5] * 50))
    assert same.value == 0
    assert same.low == -same.high < 0
    assert same.detectable == same.high


def test_groups_widen_the_interval_of_rows_that_repeat_each_other() -> None:
    rng = np.random.default_rng(3)
    scores = np.repeat(rng.random(30), 10)
    alone, grouped = (
        aggregate_scores(shares(scores)),
        aggregate_scores(shares(scores), np.repeat(np.arange(30), 10)),
    )
    assert grouped.value == pytest.approx(alone.value)
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(10), rel=0.15)
    without = aggregate_scores(shares([0.2, 0.4, 0.9]), [None, None, None])
    assert without.groups is None


@pytest.mark.parametrize("estimator", ["bleu", "chrf"])
def test_the_interval_of_a_corpus_figure_holds_the_truth(estimator: str) -> None:
    measure = getattr(answer_metrics, estimator)
    scores, counts = measure(sentences(1, 1_000))
    truth = getattr(estimators, estimator)(counts.sum(axis=0)[None])[0]
    rng, held, wide = np.random.default_rng(0), 0, []
    for _ in range(60):
        rows = rng.integers(0, len(scores), 80)
        scored = RowScores("eval/x", rows, scores[rows], estimator, (0.0, 100.0), statistics=counts[rows])
        figure = aggregate_scores(scored)
        held += figure.low <= truth <= figure.high
        wide.append(figure.high - figure.low)
    assert held >= 52  # of 60, at 95%
    assert 1 < np.mean(wide) < 15


def test_a_paired_difference_is_narrower_than_two_intervals_and_is_told_with_its_rows() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    tuned = np.clip(base + 0.05 + rng.normal(0, 0.02, 200), 0, 1)
    tuned[0] = np.nan
    gap = compute_difference(shares(tuned), shares(base))
    assert (gap.n, gap.left_out) == (199, 1)
    assert 0.03 < gap.low < gap.value < gap.high < 0.06
    assert 0 < gap.detectable < 0.01
    assert gap.first_higher + gap.second_higher + gap.same == 199


@pytest.mark.parametrize("estimator", ["bleu", "chrf"])
def test_the_difference_of_a_model_to_itself_is_nothing_and_to_a_worse_one_is_seen(estimator: str) -> None:
    pairs = sentences(2, 150)
    worse = [(" ".join(prediction.split()[:-2]), reference) for prediction, reference in pairs]
    (a, first), (b, second) = (getattr(answer_metrics, estimator)(some) for some in (pairs, worse))
    scored = RowScores("eval/x", np.arange(150), a, estimator, (0.0, 100.0), statistics=first)
    scored_worse = RowScores("eval/x", np.arange(150), b, estimator, (0.0, 100.0), statistics=second)
    assert compute_difference(scored, scored).value == 0
    assert compute_difference(scored, scored_worse).low > 0


def test_no_difference_is_called_one_in_too_many_of_a_hundred_trials() -> None:
    rng, called = np.random.default_rng(5), 0
    for _ in range(100):
        first, second = (rng.integers(0, 3, 60).astype(float) for _ in range(2))
        truth = rng.integers(0, 3, 60).astype(float)
        made = [
            RowScores("eval/f1_macro", np.arange(60), (truth == predicted).astype(float), "f1_macro", (0.0,
                1.0),
                   statistics=np.column_stack([truth, predicted]), labels=["a", "b", "c"])
            for predicted in (first, second)
        ]  # fmt: skip
        gap = compute_difference(*made)
        called += gap.low > 0 or gap.high < 0
    assert called <= 10


@pytest.mark.parametrize(
    ("gained", "lost", "apart"), [(5, 0, False), (6, 0, True), (9, 3, False), (14, 2, True)]
)
def test_few_rows_that_differ_are_told_apart_by_mcnemars_exact_test(
    gained: int, lost: int, apart: bool
) -> None:
    assert (binomtest(gained, gained + lost).pvalue < 0.05) == apart
    first = [1.0] * gained + [0.0] * lost + [1.0] * 80
    second = [0.0] * gained + [1.0] * lost + [1.0] * 80
    mean = compute_difference(shares(first), shares(second))
    assert (mean.low > 0) == apart
    assert (mean.first_higher, mean.second_higher) == (gained, lost)
    truth = np.zeros(len(first))
    made = [
        shares(values, estimator="accuracy", labels=["a", "b"],
               statistics=np.column_stack([truth, 1 - np.array(values)]))
        for values in (first, second)
    ]  # fmt: skip
    assert (compute_difference(*made).low > 0) == apart


def test_two_models_that_are_one_are_told_apart_no_oftener_than_the_level_allows() -> None:
    rng, called = np.random.default_rng(11), 0
    for _ in range(200):
        first = (rng.random(80) < 0.6).astype(float)
        second = np.where(rng.random(80) < 0.08, 1 - first, first)  # some six rows differ, either way
        first, second = np.where(rng.random(80) < 0.5, (first, second), (second, first))
        gap = compute_difference(shares(first), shares(second))
        called += gap.low > 0 or gap.high < 0
    assert called <= 15  # of 200 at 5%


def test_a_metric_without_bounds_is_as_uncertain_as_its_scores_are_wide() -> None:
    scores = np.arange(20.0)
    unbounded = shares(scores, bounds=(None, None))
    gap = compute_difference(unbounded, unbounded)
    assert gap.value == 0
    assert gap.high == pytest.approx(19 * 1.96**2 / (20 + 1.96**2), rel=1e-3)


def test_perplexity_is_weighted_by_tokens() -> None:
    sums = np.array([[2.0, 1], [2.0, 4], [np.nan, 3], [1.0, 0]])
    scored = RowScores(
        "eval/perplexity", np.arange(4), np.ones(4), "perplexity", (1.0, None), statistics=sums
    )
    figure = aggregate_scores(scored)
    assert figure.value == pytest.approx(math.exp(4 / 5))
    assert (figure.n, figure.low, figure.why) == (2, None, "2 rows are too few")


def test_a_perplexity_has_the_interval_of_its_nats() -> None:
    """By hand: limits are those of nats a token, made powers; bits per byte are nats over their logarithm."""
    rng = np.random.default_rng(4)
    sums = np.column_stack([rng.gamma(3, 20, 40), rng.integers(10, 90, 40)]).astype(float)
    nats = ratio_interval(sums[:, 0], sums[:, 1])

    def of(estimator: str) -> Figure:
        return aggregate_scores(
            RowScores("m", np.arange(40), np.ones(40), estimator, (None, None), statistics=sums)
        )

    ends = [nats.low, nats.value, nats.high]
    figure = of("perplexity")
    assert [figure.low, figure.value, figure.high] == pytest.approx(np.exp(ends).tolist())
    power, shorter = (
        estimators.estimate_ratio_figure("perplexity", sums),
        estimators.estimate_ratio_figure("bits_per_byte", sums),
    )
    at_value = (power.value * nats.se, power.value * math.expm1(nats.detectable))
    assert (power.se, power.detectable) == pytest.approx(at_value)
    assert (shorter.se, shorter.detectable) == pytest.approx(
        np.array([nats.se, nats.detectable]) / math.log(2)
    )
    bits = of("bits_per_byte")
    assert [bits.low, bits.value, bits.high] == pytest.approx((np.array(ends) / math.log(2)).tolist())
    models = (
        RowScores("m", np.arange(40), np.ones(40), "perplexity", statistics=each)
        for each in (sums * (1.1, 1), sums)
    )
    gap = compute_difference(*models)
    assert gap.value == pytest.approx(math.exp(1.1 * nats.value) - math.exp(nats.value))
    assert 0 < gap.low < gap.value < gap.high


def test_without_rows_and_with_one_there_is_no_interval() -> None:
    none = aggregate_scores(shares([]))
    assert (none.value, none.n, none.rows) == (None, 0, 0)
    single = aggregate_scores(shares([0.4]))
    assert (single.value, single.low, single.n) == (0.4, None, 1)
    lost = aggregate_scores(shares([np.nan, np.nan], reasons={0: "why", 1: "why"}))
    assert lost.value is None
    examples = [(0, "why"), (1, "why")]
    assert lost.unscored == UnscoredRows(count=2, reasons={"why": 2}, examples=examples)
    empty = compute_difference(shares([np.nan]), shares([1]))
    assert (empty.n, empty.value, empty.left_out) == (0, None, 1)


def test_other_metrics_are_not_compared_and_other_rows_are_left_out() -> None:
    with pytest.raises(ValueError, match="not the same metric"):
        compute_difference(shares([1]), shares([1], estimator="bleu"))
    first = RowScores("eval/x", np.array([3, 1, 2]), np.array([0.3, 0.1, 0.2]))
    second = RowScores("eval/x", np.array([2, 9, 3]), np.array([0.1, 5.0, 0.1]))
    gap = compute_difference(first, second, ["a", "b", "a"])
    assert (gap.value, gap.n, gap.left_out) == (pytest.approx(0.15), 2, 2)
    assert gap.groups == 1
    assert gap.first_higher == 2
    assert compute_difference(first, RowScores("eval/x", np.array([7]), np.ones(1))).n == 0


def test_two_stored_evaluations_are_compared_in_every_metric_that_both_have() -> None:
    pairs = sentences(6, 60)
    worse = [(" ".join(prediction.split()[::2]), reference) for prediction, reference in pairs]
    stored = []
    for some, name in ((pairs, "eval/chrf"), (worse, "eval/x")):
        scores, counts = answer_metrics.bleu(some)
        bleu = RowScores("eval/bleu", np.arange(60), scores, "bleu", (0.0, 100.0), statistics=counts)
        scored = [bleu, RowScores(name, np.arange(60), scores)]
        stored.append((build_scores_table(scored), [aggregate_scores(metric) for metric in scored]))
    (gap,) = compute_score_differences(*stored, {row: row // 2 for row in range(60)}).metrics
    assert (gap.metric, gap.n, gap.groups) == ("eval/bleu", 60, 30)
    assert 0 < gap.low < gap.value < gap.high
    assert gap.high > compute_score_differences(*stored).metrics[0].high  # fewer units


def test_a_comparison_is_widened_for_what_was_compared_alone() -> None:
    rng = np.random.default_rng(5)
    rows = np.arange(40)
    names = (["eval/x", "eval/y", "eval/mine", "eval/late"], ["eval/y", "eval/x", "eval/late"])
    sides = []
    for each in names:
        scored = [RowScores(name, rows, rng.normal(size=40)) for name in each]
        late = next(metric for metric in scored if metric.name == "eval/late")
        late.scores[slice(20) if each is names[0] else slice(20, 40)] = np.nan  # no row of both
        sides.append((build_scores_table(scored), [aggregate_scores(metric) for metric in scored]))
    there, back = compute_score_differences(*sides), compute_score_differences(*sides[::-1])
    assert {gap.metric for gap in there.metrics} == {"eval/x", "eval/y"}
    assert there.confidence == back.confidence == 0.975
    for gap in there.metrics:
        other = next(reverse for reverse in back.metrics if reverse.metric == gap.metric)
        assert gap.value == pytest.approx(-other.value)
        width, mirrored = (each.high - each.low for each in (gap, other))
        assert width == pytest.approx(mirrored, rel=0.05)  # resamples are drawn anew
    assert "97.5%" in there.sentence


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (0.1, 0.3, "higher", "better"),
        (0.1, 0.3, "lower", "worse"),
        (-0.3, -0.1, "lower", "better"),
        (-0.1, 0.1, "higher", "can't be told"),
        (None, None, "higher", "can't be told"),
    ],
)
def test_a_difference_has_a_direction_in_words(
    low: float | None, high: float | None, better: str, expected: str
) -> None:
    gap = Estimate(value=0.2 if low and low > 0 else -0.2, low=low, high=high, n=9)
    assert describe_difference(gap, better) == expected


def test_scores_come_back_from_their_table() -> None:
    pairs = sentences(4, 20)
    scores, counts = answer_metrics.bleu(pairs)
    counts[3] = np.nan
    scores[3] = np.nan
    bleu = RowScores("eval/bleu", np.arange(20) * 3, scores, "bleu", (0.0, 100.0), statistics=counts,
                  reasons={3: "no reference"})  # fmt: skip
    table = build_scores_table([shares([1.0, 0.0, np.nan], reasons={2: "late"}), bleu])
    assert table.num_rows == 23
    assert table["score"].null_count == 2
    document = aggregate_scores(bleu)
    back = read_scores_table(table, document)
    assert aggregate_scores(back) == document
    assert compute_difference(back, bleu).value == 0
    assert build_scores_table([]).num_rows == 0


def test_the_jackknife_agrees_with_the_formula_for_a_mean() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    interval = jackknife_interval(lambda places: float(values[places].mean()), 400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.se == pytest.approx(values.std(ddof=1) / 20, rel=0.4)
    assert jackknife_interval(lambda places: 1.0, 1).low is None
    assert jackknife_interval(lambda places: 1.0, 5, ["same"] * 5).low is None
