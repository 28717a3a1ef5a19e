"""How much longer a run's steps take while models answer, as the engine sees the run's own count."""

from __future__ import annotations

from engine.playground.conversations import MIN_STEPS, Slowdown


def noted(*looks: tuple[float, float | None, bool]) -> Slowdown:
    """looks: (seconds, steps of the run, whether models answered)."""
    slowdown = Slowdown("run-1")
    for at, steps, answering in looks:
        slowdown.record(at, steps, answering)
    return slowdown


def test_it_is_the_ratio_of_the_times_of_a_step() -> None:
    looks = [(10.0 * step, float(step), False) for step in range(7)]
    looks += [(100 + 15.0 * step, 7.0 + step, True) for step in range(7)]
    assert noted(*looks).factor == 1.5


def test_nothing_is_said_of_few_steps() -> None:
    without = [(10.0 * step, float(step), False) for step in range(20)]
    few = [(200.0 + step, 20.0 + step, True) for step in range(MIN_STEPS)]  # and so one step less
    assert noted(*without).factor is None
    assert noted(*without, *few).factor is None


def test_what_is_no_training_counts_for_neither() -> None:
    looks: list[tuple[float, float | None, bool]] = [(float(step), float(step), False) for step in range(7)]
    looks += [(7.0, None, False), (1000.0, 7.0, False)]  # a validation of a quarter of an hour
    looks += [(1001.0 + 2 * step, 8.0 + step, True) for step in range(7)]
    assert noted(*looks).factor == 2.0
