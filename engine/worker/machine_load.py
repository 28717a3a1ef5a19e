"""What slows down work that is timed: other work on the machine, and Python's garbage collector.

Seconds of a busy machine say little of a quiet one, so that whoever times something looks at the processors
too.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

BUSY_SHARE = 0.25  # share of the processors that other work takes, from which on a machine counts as busy
SETTLE_SECONDS = 1.5  # seconds over which others are looked at, before a machine is called busy
IDLE_FIELDS = ("idle", "iowait", "guest", "guest_nice")  # no work, or counted under another name


@dataclass(frozen=True)
class ProcessorShares:
    """Of the processors that this process may use, each 0 to 1: what it took itself, and what others did."""

    own: float
    others: float

    @property
    def busy(self) -> bool:
        """Whether others take so much that what is timed meanwhile takes longer."""
        return self.others >= BUSY_SHARE


class OtherLoad:
    """Counts from its making on. What a host takes away from a virtual machine is work of others too."""

    def __init__(self) -> None:
        self._usable = _list_usable_processors()
        self._began, self._own, self._all = time.monotonic(), time.process_time(), self._worked()

    def shares(self) -> ProcessorShares:
        """Since the beginning."""
        passed = (time.monotonic() - self._began) * len(self._usable)
        if passed <= 0:
            return ProcessorShares(0.0, 0.0)
        own = time.process_time() - self._own
        others = self._worked() - self._all - own
        return ProcessorShares(min(1.0, own / passed), min(1.0, max(0.0, others / passed)))

    def settled_shares(self) -> ProcessorShares:
        """As `shares`; where others seem busy, over SETTLED seconds at least: any page that is drawn fills
        the processors for a moment."""
        if self.shares().busy:
            time.sleep(max(0.0, SETTLE_SECONDS - (time.monotonic() - self._began)))
        return self.shares()

    def _worked(self) -> float:
        """Seconds that the processors worked, for anybody."""
        return sum(
            sum(seconds for name, seconds in times._asdict().items() if name not in IDLE_FIELDS)
            for place, times in enumerate(psutil.cpu_times(percpu=True))
            if place in self._usable
        )


def _list_usable_processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return set(range(os.cpu_count() or 1))


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Without the collector, for work that makes many objects and none of them garbage.

    It would go through all objects of the process again and again: a fifth of the time of imports and of
    rows that wait to be written, a third of that of a model in GGUF.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
