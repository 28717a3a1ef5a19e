"""The time that is said before a launch: within half as much again either way once steps were timed or three
runs of the method are known, and right nine times of ten."""

from __future__ import annotations

import pytest

from bench.truths import observe
from bench.truths.runs.launch_time import RATES
from engine.evaluation.statistics.cost_prediction import (
    TimedRun,
    UpcomingRun,
    compute_time_share,
    predict_time_range,
)

LORA = UpcomingRun("sft lora")
TIMED = UpcomingRun("sft lora", steps_timed="own")


HALF = {"course": 0.5, "training": 0.6}


def runs(*taken: float, kind: str = "sft lora", **more: float) -> list[TimedRun]:
    return [TimedRun(100.0, each, kind, **more) for each in taken]


@pytest.mark.parametrize(
    "name",
    [
        "3 runs, counted alone, a used one, most stop",
        "6 runs, counted alone, a quiet machine, none stops",
        "0 runs, steps timed, a used one, none stops",
        "3 runs, steps timed, a quiet machine, a third stop",
    ],
)
def test_nine_of_ten_runs_are_held_by_a_narrow_range(name: str) -> None:
    held, narrow = (rate for rate in RATES if rate.name.startswith(name))
    assert observe(held, 100).share >= 0.83  # of 100 at 90%, fewer than 83 hold once in 80
    assert observe(narrow, 60).share == 1


def test_without_a_run_the_range_is_that_of_benchmarks() -> None:
    first = predict_time_range([], LORA)
    assert (first.factor, first.n, first.same) == (1.0, 0, 0)
    assert 6 < first.high / first.low < 12
    assert "No run" in first.sentence("time")


def test_three_runs_are_enough_whatever_the_first_on_the_machine_took() -> None:
    """Rates were not yet known well when the first was predicted: it took a quarter of what was counted."""
    span = predict_time_range(runs(26, 105, 98, 110), LORA)
    assert span.high / span.factor <= 1.5001
    assert span.low < 1 < span.high
    assert span.factor == pytest.approx(1.04, abs=0.05)


def test_timed_steps_make_the_first_range_narrow_and_runs_move_it_little() -> None:
    first = predict_time_range([], TIMED)
    assert first.factor == 1.0
    assert first.high <= 1.5001
    assert first.confidence >= 0.9
    assert predict_time_range(runs(130), TIMED).factor < predict_time_range(runs(130), LORA).factor


def test_a_run_that_was_stopped_tells_of_the_whole_course() -> None:
    """Half of the course at 60% of the time in training: 70 seconds of 100."""
    whole, half = (predict_time_range(each, LORA) for each in (runs(100, 100, 100), runs(70, 70, 70, **HALF)))
    assert half.factor == pytest.approx(whole.factor)
    assert compute_time_share(0.5, 0.6) == pytest.approx(0.7)
    stopped = [TimedRun(100.0, 70.0, "sft lora", "", 0.5, 0.6)] * 6
    assert "6 of 6 ended early" in predict_time_range(stopped, LORA).sentence("time")


def test_runs_of_the_same_settings_count_most() -> None:
    slow = [TimedRun(100.0, 180.0, "sft lora", "dropout")] * 3
    quick = [TimedRun(100.0, 100.0, "sft lora", "")] * 3
    factors = [
        predict_time_range([*slow, *quick], UpcomingRun("sft lora", each)).factor for each in ("dropout", "")
    ]
    assert factors[0] > factors[1]
    other = predict_time_range(runs(100, 100, 100, kind="sft full"), UpcomingRun("sft lora"))
    assert (other.n, other.same) == (3, 0)
    assert other.high / other.low > 2  # of another method nothing is promised


def test_odd_numbers_are_left_out() -> None:
    odd = [TimedRun(0.0, 1.0, "k"), TimedRun(1.0, -1.0, "k"), TimedRun(1.0, float("nan"), "k")]
    assert predict_time_range(odd, UpcomingRun("k")).n == 0


def test_a_range_that_can_not_hold_nine_of_ten_says_how_many() -> None:
    wild = runs(30, 60, 120, 240, 480)
    span = predict_time_range(wild, LORA)
    assert span.high / span.factor <= 1.5001
    assert span.confidence < 0.9
    assert f"The range covers {span.confidence:.0%} of such runs." in span.sentence("time")
