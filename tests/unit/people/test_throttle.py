"""Attempts: free ones, then waits that double, honestly told; the clock is the test's."""

from __future__ import annotations

import pytest

from engine.server.passwords import FORGET_SECONDS, MAX_KEYS, MAX_SECONDS, Throttle
from store.core.errors import BusyError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def wait_of(throttle: Throttle, key: str = "a") -> int:
    """The seconds that an attempt is told to wait."""
    with pytest.raises(BusyError) as caught:
        throttle.begin(key)
    assert caught.value.retry_after
    return caught.value.retry_after


def test_waits_double_after_the_free_ones_up_to_a_limit(clock: Clock) -> None:
    throttle = Throttle(3, clock)
    throttle.begin("a")
    throttle.begin("a")
    waits = []
    for _ in range(14):
        throttle.begin("a")
        waits.append(wait_of(throttle))
        clock.now += waits[-1]
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == MAX_SECONDS


def test_what_is_told_is_true_to_the_second(clock: Clock) -> None:
    throttle = Throttle(1, clock)
    for _ in range(4):
        throttle.begin("a")
        clock.now += wait_of(throttle)
    clock.now += 0.5
    throttle.begin("a")
    clock.now += 15.4
    assert wait_of(throttle) == 1
    clock.now += 0.6
    throttle.begin("a")


def test_an_attempt_that_comes_too_early_does_not_count(clock: Clock) -> None:
    throttle = Throttle(1, clock)
    throttle.begin("a")
    for _ in range(100):
        assert wait_of(throttle) == 1
    clock.now += 1
    throttle.begin("a")
    assert wait_of(throttle) == 2


def test_one_key_does_not_hold_up_another(clock: Clock) -> None:
    throttle = Throttle(1, clock)
    throttle.begin("a")
    throttle.begin("b")
    wait_of(throttle)


def test_a_right_one_is_taken_back_and_time_forgets(clock: Clock) -> None:
    throttle = Throttle(2, clock)
    for _ in range(50):  # of an office behind one address
        throttle.begin("a")
        throttle.take_back("a")
    throttle.begin("a")
    throttle.begin("a")
    wait_of(throttle)
    throttle.forget("a")
    throttle.begin("a")
    throttle.begin("a")
    clock.now += FORGET_SECONDS + 1
    throttle.begin("a")
    throttle.begin("a")
    assert wait_of(throttle) == 1


def test_what_is_remembered_is_limited(clock: Clock) -> None:
    throttle = Throttle(1, clock)
    for number in range(MAX_KEYS + 10):
        throttle.begin(str(number))
    throttle.begin("0")  # forgotten
    wait_of(throttle, str(MAX_KEYS))
