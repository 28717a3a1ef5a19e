"""How often somebody may try: a few times at once, then after waits that double.

Kept in memory: an engine that starts anew forgets, which gives a few more tries. An attempt counts from its
beginning, so that many at once are not more than many in turn; one that succeeds is taken back.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from store.contract.errors import BusyError

MOST_SECONDS = 600.0
FORGET_SECONDS = 3600.0
REMEMBERED = 10_000  # keys; the oldest go first


@dataclass
class _Tries:
    count: int = 0
    open_at: float = 0.0  # no try before
    last: float = 0.0


class Throttle:
    """Counts tries by a key; `free` of them are let through without a wait."""

    def __init__(self, free: int, clock: Callable[[], float]) -> None:
        self._free, self._clock = free, clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str) -> None:
        """Count a try. Raises BusyError, with the seconds to wait, where it comes too early: that is none."""
        now = self._clock()
        with self._lock:
            tries = self._tries.get(key)
            if tries is None or now - tries.last > FORGET_SECONDS:
                tries = self._tries[key] = _Tries()
            if now < tries.open_at:
                raise too_often(tries.open_at - now)
            tries.count += 1
            tries.last = now
            if tries.count >= self._free:
                tries.open_at = now + min(MOST_SECONDS, 2.0 ** min(tries.count - self._free, 30))
            self._tries.move_to_end(key)
            while len(self._tries) > REMEMBERED:
                self._tries.popitem(last=False)

    def take_back(self, key: str) -> None:
        """The last try was a right one: it doesn't count."""
        with self._lock:
            if tries := self._tries.get(key):
                tries.count = max(0, tries.count - 1)
                tries.open_at = 0.0

    def forget(self, key: str) -> None:
        """Nothing is held against this key any more."""
        with self._lock:
            self._tries.pop(key, None)


def source_of(address: str) -> str:
    """By what tries from an address are counted: itself, and in IPv6 the network of 64 bits, all of whose
    addresses one machine may have; a text that is no address as it is."""
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def too_often(seconds: float) -> BusyError:
    """What a try that comes too early is told."""
    wait = max(1, math.ceil(seconds))
    when = f"{wait} s" if wait < 120 else f"{math.ceil(wait / 60)} minutes"
    return BusyError("There were too many wrong attempts.", fix=f"Try again in {when}.", retry_after=wait)
