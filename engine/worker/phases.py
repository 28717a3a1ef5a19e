"""A job of several phases, and one estimate for the whole: by the share of it that each phase usually takes.

A phase begins with the first message that bears its name; other messages go on in the present one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class JobPhases:
    """The phases of one job. shares: of the whole's time by the message of each, in their order."""

    def __init__(self, shares: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._clock = dict(shares), clock
        self._present = next(iter(self._left))
        self._fraction, self._done = 0.0, 0.0
        self._began = clock()

    def reach(self, message: str, fraction: float) -> None:
        """So much of what the message says is done; it never becomes less."""
        if message in self._left and message != self._present:
            self._begin(message)
        self._fraction = max(self._fraction, min(1.0, fraction))

    def _begin(self, name: str) -> None:
        """The present one is over, and those between were left out: nothing of them was done."""
        self._done += self._left.pop(self._present)
        for between in list(self._left)[: list(self._left).index(name)]:
            del self._left[between]
        self._present, self._fraction = name, 0.0

    def seconds_left(self) -> float | None:
        """Until the whole is done, at the speed so far; None before anything is."""
        present = self._left[self._present] * self._fraction
        done = self._done + present
        if done <= 0:
            return None
        return (self._clock() - self._began) / done * (sum(self._left.values()) - present)
