"""How long scoring shares of the way to a run will take: by what was timed before, and what that rests on."""

from __future__ import annotations

from typing import Any

from pages.runs.interpolation_points import LOADING_SECONDS, estimate_scoring_time
from store.runs.schemas import MeasuredMix, Run
from tests.unit.store_samples import row_of

PASSES = {"held_out": 6.0, "prose": 4.0, "choices": 8.0, "own_samples": 2.0, "requests": 50.0}


def run(**facts: Any) -> Run:
    return row_of(Run, facts=facts)


def test_shares_of_the_run_that_were_scored_say_it_best() -> None:
    measured = [row_of(MeasuredMix, seconds=seconds) for seconds in (None, 30.0, 50.0, None)]
    estimate = estimate_scoring_time(
        run(judged_seconds=PASSES, run_seconds=900, estimated_seconds=100), measured
    )
    assert estimate
    assert (estimate.low, estimate.high) == (30, 50)
    assert estimate.shares(3) == "2 to 3 min for 3 shares, as 2 shares of this run took before"


def test_else_the_same_passes_of_its_evidence_do() -> None:
    estimate = estimate_scoring_time(run(judged_seconds=PASSES, run_seconds=100, estimated_seconds=120), [])
    assert estimate
    assert estimate.low == estimate.high == 20  # no requests, and a quick run is no reason for less
    assert estimate.shares(1).startswith(
        f"about {20 + LOADING_SECONDS:.0f} s for 1 share, by the run's own evidence"
    )


def test_of_a_run_on_a_busy_machine_they_are_the_most() -> None:
    estimate = estimate_scoring_time(run(judged_seconds=PASSES, run_seconds=400, estimated_seconds=100), [])
    assert estimate
    assert (estimate.low, estimate.high) == (5, 20)
    assert "4.0 times as long as estimated" in estimate.basis


def test_nothing_is_said_where_nothing_was_timed() -> None:
    assert estimate_scoring_time(run(run_seconds=400, train_seconds=100), [row_of(MeasuredMix)]) is None
    assert estimate_scoring_time(run(judged_seconds={"held_out": 6.0}), []) is None  # of a run without probes
