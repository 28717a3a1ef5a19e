"""Time where the machine's clock may be set back: by hand, by a battery that is empty, by a virtual machine
that was put back.

What hangs on the time within one process alone (sessions, invitations, waits, quotas) is told it by a
`SteadyClock`. What is held against times that others wrote down, or that an earlier process did, asks
`is_recent`: a moment that lies ahead is long ago, so that nothing stands still until the clock has caught up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SteadyClock:
    """Seconds since the epoch that never go back: where `clock` does, they go on by `ticks` until it has
    caught up. May be asked by several threads."""

    def __init__(
        self, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._ticks = clock, ticks
        self._lock = threading.Lock()
        self._at, self._ticked = clock(), ticks()

    def __call__(self) -> float:
        with self._lock:
            ticked = self._ticks()
            self._at = max(self._clock(), self._at + ticked - self._ticked)
            self._ticked = ticked
            return self._at


def is_recent(moment: float, now: float, seconds: float) -> bool:
    """Whether less than so many seconds have passed since. Of a moment that lies ahead nobody knows: no."""
    return 0 <= now - moment < seconds
