"""Disturbances of timed work: other work on the machine, and Python's garbage collector.

Timings from a busy machine say little about a quiet one, so whatever is timed is measured together with
the load.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.25  # share of the processors used by other work from which a machine is busy
SETTLE_SECONDS = 1.5  # seconds of measurement before a machine counts as busy
IDLE_FIELDS = ("idle", "iowait", "guest", "guest_nice")  # no work, or counted in another field


@dataclass(frozen=True)
class ProcessorShares:
    """Shares of the processors that this process may use, each 0 to 1: its own, and that of other work."""

    own: float
    others: float

    @property
    def busy(self) -> bool:
        """Whether other work takes enough to slow down what is timed meanwhile."""
        return self.others >= BUSY_SHARE


class OtherLoad:
    """Load since creation. Time that a host takes from a virtual machine counts as other work too."""

    def __init__(self) -> None:
        try:
            self._usable = os.sched_getaffinity(0)
        except AttributeError:  # not on macOS
            self._usable = set(range(os.cpu_count() or 1))
        self._began, self._own, self._all = time.monotonic(), time.process_time(), self._worked()

    def shares(self) -> ProcessorShares:
        """Return the shares since creation."""
        passed = (time.monotonic() - self._began) * len(self._usable)
        if passed <= 0:
            return ProcessorShares(0.0, 0.0)
        own = time.process_time() - self._own
        others = self._worked() - self._all - own
        return ProcessorShares(min(1.0, own / passed), min(1.0, max(0.0, others / passed)))

    def settled_shares(self) -> ProcessorShares:
        """Return `shares`, measured over at least SETTLE_SECONDS if others seem busy.

        Drawing any page uses all processors for a moment.
        """
        if self.shares().busy:
            time.sleep(max(0.0, SETTLE_SECONDS - (time.monotonic() - self._began)))
        return self.shares()

    def _worked(self) -> float:
        """Return the busy seconds of the processors, for any process."""
        return sum(
            sum(seconds for name, seconds in times._asdict().items() if name not in IDLE_FIELDS)
            for place, times in enumerate(psutil.cpu_times(percpu=True))
            if place in self._usable
        )


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, for work that creates many objects and no garbage.

    It would traverse all objects of the process again and again: a fifth of the time of imports and of
    rows waiting to be written, a third of that of a model in GGUF.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
