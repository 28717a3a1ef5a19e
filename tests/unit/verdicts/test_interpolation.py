"""What an α is said to gain and cost, and which one is recommended."""

from __future__ import annotations

import json
import re

import numpy as np

from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.verdicts import forgetting_tradeoff
from engine.evaluation.verdicts.forgetting_tradeoff import ShareGain, ShareRows, build_share_point
from store.core.documents import as_json
from store.core.figure_schemas import Estimate
from store.evaluation.verdict_schemas import RecommendedShare, SharePoint
from tests.unit.probe_rows import choices, table, texts
from tests.unit.verdict_inputs import judge_mixed

BEFORE = table(texts(0, noise=0), choices())
TOKENS = np.full(80, 10)
BASE = np.random.default_rng(0).normal(20, 2, 80)


NO_GAIN = Estimate(value=0.0, low=0.0, high=0.0, n=60)


def at(alpha: float, gain: float, rise: float) -> SharePoint:
    losses = BASE - 10 * gain - np.random.default_rng(1).normal(0, 0.5, 80) * (alpha > 0)
    now = ShareRows(losses, table(texts(rise, noise=0.05), choices()))
    return build_share_point(alpha, TOKENS, ShareRows(BASE, BEFORE), now)


def recommend(points: list[SharePoint]) -> RecommendedShare:
    return forgetting_tradeoff.recommend_share([ShareGain.of(point) for point in points])


def test_a_point_has_both_axes_with_interval_and_n() -> None:
    point = at(0.5, 0.3, 0.1)
    assert point.gain.low < 0.3 < point.gain.high
    assert point.gain.n == point.loss.n == 80
    assert point.text.change.low < 0.1 < point.text.change.high
    assert point.choices.change.value == 0
    json.dumps(point, default=as_json, allow_nan=False)


def test_the_least_share_that_keeps_nine_tenths_of_the_best_gain_is_recommended() -> None:
    points = [at(0, 0, 0), at(0.4, 0.2, 0.02), at(0.6, 0.39, 0.05), at(0.8, 0.42, 0.1), at(1, 0.41, 0.3)]
    recommendation = recommend(points)
    assert recommendation.recommended == 0.6
    assert "α 0.6 keeps 93% of the best gain" in recommendation.sentence
    assert re.search(
        r"gain: 0\.\d+ \(0\.\d+ to 0\.\d+\) nats a token on 80 rows; the loss", recommendation.sentence
    )
    assert "[" not in recommendation.sentence


def test_the_largest_share_that_was_scored_is_named() -> None:
    recommendation = recommend([at(0, 0, 0), at(0.25, 0.39, 0.02), at(0.5, 0.4, 0.3)])
    assert recommendation.recommended == 0.25
    assert "and at α 0.5 by " in recommendation.sentence
    assert "α 1" not in recommendation.sentence


def test_without_a_sure_gain_none_is_recommended() -> None:
    recommendation = recommend([at(0, 0, 0), at(0.5, 0.001, 0.01), at(1, -0.2, 0.4)])
    assert recommendation.recommended is None
    assert "No interpolation gains significantly" in recommendation.sentence


def test_the_luckiest_of_many_shares_is_rarely_recommended_where_none_gains() -> None:
    rng, recommended = np.random.default_rng(4), 0
    for _ in range(400):
        points = [ShareGain(0, NO_GAIN, None)]
        for place in range(1, 11):
            gain = ratio_interval(rng.normal(0, 1, 60), np.ones(60)).to_estimate()
            points.append(ShareGain(place / 10, gain, None))
        recommended += forgetting_tradeoff.recommend_share(points).recommended is not None
    assert recommended / 400 <= 0.05
    single = ratio_interval(rng.normal(1, 1, 60), np.ones(60)).to_estimate()
    alone = forgetting_tradeoff.recommend_share(
        [ShareGain(0, NO_GAIN, None), ShareGain(1, single, None)]
    ).sentence
    many = forgetting_tradeoff.recommend_share([ShareGain(a / 4, single, None) for a in range(5)]).sentence
    assert "need" not in alone
    assert "Intervals are corrected for 4 values of α." in many


def test_the_gain_at_the_end_is_the_verdicts_own() -> None:
    tuned, counts = BASE - 3 - np.random.default_rng(1).exponential(2, 80), np.zeros(80)
    verdict = judge_mixed(
        alpha=1.0,
        of="run",
        row_ids=np.arange(80),
        split="test",
        base_loss_sum=BASE,
        tuned_loss_sum=tuned,
        tokens=TOKENS,
        base_correct=counts,
        tuned_correct=counts,
        config={},
    )
    gain = build_share_point(1.0, TOKENS, ShareRows(BASE, BEFORE), ShareRows(tuned, BEFORE)).gain
    assert verdict.gain
    assert (gain.value, gain.low, gain.high, gain.n) == (
        verdict.gain.value, verdict.gain.low, verdict.gain.high, verdict.gain.n,
    )  # fmt: skip
