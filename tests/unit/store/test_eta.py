"""A pass tells how long it still takes, once a second and no oftener, and hears when it is to stop."""

from __future__ import annotations

from typing import Any

import pytest

from engine.worker import progress as eta  # a method of the fake job is called progress


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
