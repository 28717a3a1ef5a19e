"""A job tells how far it is once a second, and what is left of the whole of it, whatever its phases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count, pairwise, permutations
from typing import Any

import pytest

from engine.worker import progress as eta  # a method of the fake job is called progress
from engine.worker.job import JobProgress, Phase, build_fixed_phases, find_phase
from store.core.home import Home
from tests.told_messages import messages_without_a_phase
from tests.unit.data_job import make_job

THREE = (Phase("write", 0.2), Phase("ask", 0.5), Phase("read", 0.3))


class _Job:
    def __init__(self) -> None:
        self.progressed: list[tuple[float, float | None]] = []

    def check_cancelled(self) -> None:
        return

    def progress(self, done: float, total: float, unit: str, message: str, left: float | None) -> None:
        self.progressed.append((done, left))


def test_a_pass_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(eta.time, "monotonic", lambda: now[0])
    job: Any = _Job()
    tell = eta.RowProgressReporter(job, 40, "rows", "Asking")
    for done, at in ((0, 100.0), (5, 100.5), (10, 105.0), (11, 105.5), (30, 115.0)):
        now[0] = at
        tell(done)
    assert job.progressed == [(0, None), (10, None), (30, None)]


class _Time:
    """A clock that is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def course(phases: Sequence[Phase], taken: dict[str, float]) -> list[tuple[float, float | None]]:
    """Of a job whose phases take so many seconds: the time to its end, and what it tells of that; at the
    beginning of each phase, and every second."""
    clock = _Time()
    job, end, rows = JobProgress(phases, clock), clock.now + sum(taken.values()), []
    for message, seconds in taken.items():
        began = clock.now
        for second in range(int(seconds) + 1):
            clock.now = began + second
            job.reach(message, second / seconds)
            rows.append((end - clock.now, job.seconds_left()))
    return rows


def test_shares_that_are_right_give_the_time_that_is_left() -> None:
    rows = course(THREE, {"write": 20, "ask": 50, "read": 30})
    assert [left for _, left in rows[:1]] == [None]
    assert [left for _, left in rows[1:]] == pytest.approx([truth for truth, _ in rows[1:]], abs=1e-6)


@pytest.mark.parametrize("taken", sorted(permutations((100, 300, 900))))
def test_the_time_left_never_jumps_where_shares_are_wrong_by_three_times(taken: tuple[int, ...]) -> None:
    """Phases take a third, as much, or three times as much as their equal shares say, in any order:
    what is left moves by 4% of the course a second at most, ends at 0 and is near it before."""
    phases = [Phase(name, 1 / 3) for name in ("write", "ask", "read")]
    rows = course(phases, dict(zip(("write", "ask", "read"), taken, strict=True)))
    lefts = [left for _, left in rows if left is not None]
    assert len(lefts) == len(rows) - 1
    assert max(abs(after - before) for before, after in pairwise(lefts)) < 1_300 / 25
    assert lefts[-1] == 0
    half = [(truth, left) for truth, left in rows if left is not None and 0 < truth < taken[2] / 2]
    assert max(max(left / truth, truth / left) for truth, left in half) < 2


def test_a_phase_that_is_slower_than_its_share_makes_the_rest_longer() -> None:
    """The second takes three times its share: what is left is then of the third that long, in good time."""
    rows = course(THREE, {"write": 20, "ask": 150, "read": 90})
    by_truth = dict(rows)
    assert by_truth[240.0] == pytest.approx(80)  # as if all went as the first did
    assert by_truth[165.0] > 100  # half of the second
    assert by_truth[90.0] == pytest.approx(73, abs=1)  # 170 seconds for 0.7 of the whole
    assert by_truth[45.0] == pytest.approx(45, abs=6)


def test_a_phase_that_is_left_out_is_neither_done_nor_left() -> None:
    clock = _Time()
    job = JobProgress(THREE, clock)
    job.reach("write", 0.0)
    clock.now += 20
    job.reach("read", 0.0)  # what was asked before is kept
    assert job.seconds_left() == pytest.approx(30)


def test_a_pass_that_begins_anew_tells_no_time() -> None:
    """It said 0 seconds for as long as the second pass took."""
    clock = _Time()
    job = JobProgress(THREE, clock)
    for fraction in (0.0, 1.0, 0.1):
        job.reach("write", fraction)
        clock.now += 10
    assert job.seconds_left() is None
    job.reach("ask", 0.0)
    assert job.seconds_left() == pytest.approx(30 / 0.2 * 0.8)


def test_a_phase_beyond_its_own_estimate_tells_no_time_until_there_is_another() -> None:
    clock = _Time()
    job = JobProgress(THREE, clock)
    job.reach("write", 0.5, ends_in=10)
    clock.now += 10
    job.reach("write", 1.0)
    assert job.seconds_left() is None
    job.reach("write", 1.0, ends_in=5)
    assert job.seconds_left() is not None


def test_phases_in_another_order_are_counted_as_they_come() -> None:
    clock = _Time()
    job = JobProgress(THREE, clock)
    job.reach("write", 0.0)
    clock.now += 20
    job.reach("read", 0.0)
    clock.now += 30
    job.reach("ask", 0.0)
    assert job.seconds_left() == pytest.approx(50)
    clock.now += 25
    job.reach("ask", 0.5)
    assert job.seconds_left() == pytest.approx(25)


def test_a_message_of_no_phase_goes_on_in_the_present_one() -> None:
    clock = _Time()
    job = JobProgress(THREE, clock)
    job.reach("hello", 0.9)
    assert job.seconds_left() is None
    job.reach("write", 0.0)
    clock.now += 10
    job.reach("write", 0.5)
    assert job.seconds_left() == pytest.approx(90)
    job.reach("hello", 0.9)
    job.reach("write", 0.4)  # less than before is not believed
    assert job.seconds_left() == pytest.approx(90)


def test_time_that_nothing_relates_to_the_others_is_not_counted() -> None:
    clock = _Time()
    job = JobProgress((Phase("load", 0), *THREE), clock)
    job.reach("load", 0.0)
    clock.now += 1_000
    job.reach("write", 0.0)
    assert job.seconds_left() is None
    clock.now += 20
    job.reach("load", 0.0)  # again
    clock.now += 1_000
    job.reach("ask", 0.0)
    assert job.seconds_left() == pytest.approx(80)


def test_little_of_the_whole_says_nothing_of_it() -> None:
    clock = _Time()
    job = JobProgress((Phase("look", 0.02), Phase("ask", 0.98)), clock)
    job.reach("look", 0.0)
    clock.now += 6  # five minutes for the whole?
    job.reach("ask", 0.0)
    assert job.seconds_left() is None
    clock.now += 10
    job.reach("ask", 0.1)
    assert job.seconds_left() == pytest.approx(90, abs=30)


def test_an_estimate_of_its_own_is_of_the_present_phase_and_counts_down() -> None:
    clock = _Time()
    job = JobProgress((Phase("train", 0.8), Phase("write", 0.2)), clock)
    job.reach("train", 0.5)  # goes on with an earlier attempt
    assert job.seconds_left() is None
    clock.now += 10
    job.reach("train", 0.6, 70)
    assert job.seconds_left() == pytest.approx(70 + 80 / 0.4 * 0.2)
    clock.now += 20
    job.reach("train", 0.6)
    assert job.seconds_left() == pytest.approx(50 + 80 / 0.4 * 0.2)


def test_the_longest_beginning_decides() -> None:
    phases = build_fixed_phases(Phase(""), Phase("Asking"), Phase(("Telling", "Asking the base"), 0))({})  # type: ignore[typeddict-item]
    messages = ("Asking the tuned model", "Asking the base model", "12 rows")
    assert [find_phase(phases, message) for message in messages] == [1, 2, 0]
    assert find_phase(THREE, "Asking") is None


def test_a_job_writes_down_what_is_left_of_the_whole(home: Home) -> None:
    job = make_job(home, "overlap", {})
    seconds = map(float, count())
    job.phases = JobProgress((Phase("write", 0.2), Phase("ask", 0.8)), seconds.__next__)
    for message, done in (("write", 0), ("write", 1), ("ask", 1)):
        job.progress(done, 1, "steps", message)
    lines = job.dir.events.read_text().splitlines()
    assert [json.loads(line)["eta_seconds"] for line in lines] == [None, pytest.approx(4), 0]


@pytest.mark.feature("retraining")
def test_messages_of_no_phase_are_listed_with_their_job(home: Home) -> None:
    make_job(home, "gather_rows", {}).progress(0, 1, "bands", "Comparing with the old rows")
    make_job(home, "overlap", {}).progress(0, 1, "rows", "An ask, which nobody sees")
    assert messages_without_a_phase(home.path) == []
    job = make_job(home, "gather_rows", {})
    job.progress(0, 1, "file", "Wrapping it")
    assert messages_without_a_phase(home.path) == [f"gather_rows: 'Wrapping it' ({job.dir.path})"]
    job.dir.events.unlink()
