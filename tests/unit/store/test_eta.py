"""A pass tells how long it still takes, once a second and no oftener, and hears when it is to stop."""

from __future__ import annotations

from typing import Any

import pytest

from engine.worker import progress as eta  # a method of the fake job is called progress
from engine.worker.phases import JobPhases


class _Job:
    def __init__(self) -> None:
        self.estimates: list[tuple[float, float | None]] = []

    def check_cancelled(self) -> None:
        return

    def progress(self, done: float, total: float, unit: str, message: str, left: float | None) -> None:
        self.estimates.append((done, left))


@pytest.mark.parametrize("after", [0.0, 60.0])
def test_a_pass_tells_the_time_left_from_the_time_taken(
    monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    now = [100.0]
    monkeypatch.setattr(eta.time, "monotonic", lambda: now[0])
    job: Any = _Job()
    tell = eta.ProgressReporter(job, 40, "rows", "Asking", after)
    for done, at in ((0, 100.0), (5, 100.5), (10, 105.0), (11, 105.5), (30, 115.0)):
        now[0] = at
        tell(done)
    assert job.estimates == [(0, None), (10, 15.0 + after), (30, 5.0 + after)]


class _Time:
    """A clock that is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_job_of_several_phases_has_one_estimate_for_the_whole() -> None:
    clock = _Time()
    phases = JobPhases({"write": 0.2, "ask": 0.5, "read": 0.3}, clock)
    assert phases.seconds_left() is None
    clock.now += 10
    phases.reach("something within it", 0.5)
    assert phases.seconds_left() == pytest.approx(90)  # a tenth of the whole took 10 seconds
    phases.reach("write", 0.4)  # less than before is not believed
    assert phases.seconds_left() == pytest.approx(90)
    clock.now += 10
    phases.reach("ask", 0.0)
    assert phases.seconds_left() == pytest.approx(80)
    clock.now += 25
    phases.reach("ask", 0.5)
    assert phases.seconds_left() == pytest.approx(55)
    phases.reach("read", 1.0)
    assert phases.seconds_left() == 0


def test_a_phase_that_is_left_out_is_neither_done_nor_left() -> None:
    clock = _Time()
    phases = JobPhases({"write": 0.2, "ask": 0.5, "read": 0.3}, clock)
    clock.now += 20
    phases.reach("read", 0.0)  # what was asked before is kept
    assert phases.seconds_left() == pytest.approx(30)
