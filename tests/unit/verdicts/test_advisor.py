"""Recommendations: what fits, what the data asks for, and evidence before rules."""

from __future__ import annotations

from typing import Any

import pytest

from engine.evaluation.verdicts import launch_advice
from store.core.figure_schemas import UnitEstimate
from store.core.training_schemas import AdviceOption, MeasuredRun, MethodHistory, Recommendation
from tests.unit.store_samples import row_of

TITLES = {"lora": "LoRA", "qlora": "QLoRA 4-bit", "full": "Full fine-tuning"}


def option(method: str, high: float, available: float = 16.0, **fields: Any) -> AdviceOption:
    return {
        **{"method": method, "title": TITLES[method], "problem": "", "past": None},
        **{"peak_gib": 0.9 * high, "high_gib": high, "available_gib": available, "fits": high <= available},
        **{"low_seconds": 1800.0, "seconds": 3600.0, "high_seconds": 7200.0},
        **fields,
    }


def options(lora: float = 4.0, qlora: float = 2.0, full: float = 12.0) -> list[AdviceOption]:
    return [option("lora", lora), option("qlora", qlora), option("full", full)]


def past(gain: float, half: float, runs: int = 1) -> MethodHistory:
    return row_of(
        MethodHistory, gain=gain, low=gain - half, high=gain + half, unit="nats a token", runs=runs, n=100
    )


def recommend(given: list[AdviceOption], rows: int = 500, tokens: float = 1e5) -> Recommendation:
    return launch_advice.recommend_method(given, train_rows=rows, trained_tokens=tokens)


@pytest.mark.parametrize(
    ("given", "tokens", "method", "expected_reason"),
    [
        (options(), 1e5, "lora", "500 rows are few"),
        (options(), 1e8, "full", "100 million tokens"),
        (options(full=40.0), 1e8, "lora", "Full fine-tuning does not fit"),
        (options(lora=20.0, full=40.0), 1e5, "qlora", "LoRA does not fit in memory"),
        (options(20.0, 18.0, 40.0), 1e5, None, "QLoRA 4-bit needs the least"),
    ],
)
def test_rules(given: list[AdviceOption], tokens: float, method: str | None, expected_reason: str) -> None:
    recommendation = recommend(given, tokens=tokens)
    assert recommendation["method"] == method
    assert any(expected_reason in reason for reason in recommendation["reasons"]), recommendation


def test_what_runs_measured_wins_over_rules_where_intervals_are_apart() -> None:
    apart = [option("lora", 4.0, past=past(0.5, 0.1)), option("full", 12.0, past=past(0.9, 0.1, 3))]
    recommendation = recommend(apart)
    assert recommendation["method"] == "full"
    assert "0.90 nats a token (0.80 to 1.00, 3 runs)" in recommendation["reasons"][0]
    close = [option("lora", 4.0, past=past(0.7, 0.2)), option("full", 12.0, past=past(0.9, 0.2))]
    recommendation = recommend(close)
    assert recommendation["method"] == "lora"
    assert any("overlap" in reason for reason in recommendation["reasons"])


def test_evidence_for_what_does_not_fit_is_no_reason_to_take_it() -> None:
    given = [option("lora", 4.0, past=past(0.5, 0.1)), option("full", 40.0, past=past(0.9, 0.1))]
    assert recommend(given)["method"] == "lora"


def test_a_method_that_cannot_be_used_is_left_out() -> None:
    given = [option("lora", 4.0, problem="No such modules."), option("full", 12.0)]
    assert recommend(given)["method"] == "full"
    assert recommend([given[0]])["method"] is None


def test_past_runs_are_pooled_without_claiming_more_rows() -> None:
    runs = [
        row_of(
            MeasuredRun,
            method="lora",
            run_id=f"r{i}",
            peak_memory_gib=2.0 + i,
            run_seconds=60.0 * (i + 1),
            gain=UnitEstimate(value=0.5, low=0.3, high=0.7, n=80, unit="nats"),
        )
        for i in range(3)
    ]
    pooled = launch_advice.summarise_past_runs(runs, "lora")
    assert pooled is not None
    assert (pooled.runs, pooled.n, pooled.memory_gib, pooled.seconds) == (3, 80, 3.0, 120.0)
    assert (pooled.low, pooled.high) == (pytest.approx(0.3), pytest.approx(0.7))  # the same rows thrice
    runs[0].gain = UnitEstimate(value=0.1, low=-0.1, high=0.3, n=80, unit="nats")
    spread = launch_advice.summarise_past_runs(runs, "lora")
    assert spread is not None
    assert spread.high - spread.low > 0.5
    assert launch_advice.summarise_past_runs(runs, "full") is None


def test_costs_and_energy_are_unknown_until_somebody_tells() -> None:
    assert launch_advice.estimate_run_cost(option("lora", 4.0), None) is None
    assert launch_advice.estimate_run_cost(option("lora", 4.0), 2.0) == (1.0, 2.0, 4.0)
    uncounted, counted = row_of(MeasuredRun, run_seconds=60.0), row_of(MeasuredRun, run_seconds=3600.0)
    counted.energy_wh = 10.0
    assert launch_advice.compute_mean_watts([uncounted]) is None
    assert launch_advice.compute_mean_watts([counted]) == pytest.approx(10.0)


def test_methods_that_runs_tell_apart_are_not_said_to_overlap() -> None:
    """The one that gained most by far does not fit: what fits is not said to be like it."""
    given = [option("lora", 4.0, past=past(0.2, 0.05)), option("full", 40.0, past=past(0.9, 0.05))]
    recommendation = recommend(given)
    assert recommendation["method"] == "lora"
    assert any("Full fine-tuning does not fit" in reason for reason in recommendation["reasons"])
    assert not any("overlap" in reason for reason in recommendation["reasons"])
    near = [option("lora", 4.0, past=past(0.2, 0.05)), option("full", 12.0, past=past(0.22, 0.05))]
    assert any("overlap" in reason for reason in recommend(near)["reasons"])


def test_the_method_that_lost_least_did_not_gain_most() -> None:
    given = [option("lora", 4.0, past=past(-0.1, 0.05)), option("full", 12.0, past=past(-0.9, 0.05))]
    assert "it lost least: −0.10" in recommend(given)["reasons"][0]
