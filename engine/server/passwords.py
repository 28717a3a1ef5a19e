"""Passwords: what one has to be, argon2id hashes, and how often somebody may try.

How much work on hashes is done at once is bounded; after a few tries at once come waits that double.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from store.core.errors import BusyError, ConfigError
from store.people.config import MAX_PASSWORD, MIN_PASSWORD

# Passwords: what one has to be, argon2id hashes, and how much work on them is done at once.
#
# A hash takes 64 MiB and a tenth of a second of a core, on purpose. Whoever sends thousands of attempts must
# not have all cores with it: one is worked on at a time, a few wait, and the others are told to come back.

MAX_WAITING = 8  # attempts that may wait for their turn
TURN_SECONDS = 10.0


def check_password(password: str, email: str) -> None:
    """Raise ConfigError (field password) for one that is too short, too long, or the address itself."""
    if len(password) < MIN_PASSWORD:
        raise ConfigError(
            f"The password has {len(password)} characters.",
            fix=f"Give {MIN_PASSWORD} or more; any will do, such as a sentence.",
            field="password",
        )
    if len(password) > MAX_PASSWORD:
        raise ConfigError(
            f"The password has {len(password):,} characters.",
            fix=f"Give up to {MAX_PASSWORD:,}.",
            field="password",
        )
    if password.strip().lower() == email:
        raise ConfigError("The password is the e-mail address.", fix="Give another.", field="password")


class Passwords:
    """Makes hashes and holds passwords against them. May be used by several threads."""

    def __init__(self, hasher: PasswordHasher | None = None, turn_seconds: float = TURN_SECONDS) -> None:
        self._hasher = hasher or PasswordHasher(parallelism=1)
        self._turn_seconds = turn_seconds
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def hash(self, password: str) -> str:
        """The argon2id hash. Raises BusyError where too many wait."""
        with self._work():
            return self._hasher.hash(password)

    def is_right(self, kept: str | None, password: str) -> bool:
        """Whether `kept` was made of the password. With nothing kept it takes as long, so that the time does
        not tell which addresses have an account. Raises BusyError where too many wait."""
        with self._work():
            if kept is None:
                self._hasher.hash(password)
                return False
            try:
                return self._hasher.verify(kept, password)
            except (VerificationError, InvalidHashError):
                return False

    def is_outdated(self, kept: str) -> bool:
        """Whether it was made with less work than is asked for now."""
        return self._hasher.check_needs_rehash(kept)

    @contextmanager
    def _work(self) -> Iterator[None]:
        if not self._waiting.acquire(blocking=False):
            raise self._busy()
        try:
            if not self._turn.acquire(timeout=self._turn_seconds):
                raise self._busy()
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._waiting.release()

    def _busy(self) -> BusyError:
        seconds = max(1, round(self._turn_seconds))
        return BusyError(
            "Too many people are signing in at this moment.", fix="Try again shortly.", retry_after=seconds
        )


# How often somebody may try: a few times at once, then after waits that double.
#
# Kept in memory: an engine that starts anew forgets, which gives a few more tries. An attempt counts from its
# beginning, so that many at once are not more than many in turn; one that succeeds is taken back.

MAX_SECONDS = 600.0
FORGET_SECONDS = 3600.0
MAX_KEYS = 10_000  # keys; the oldest go first


@dataclass
class _Attempts:
    count: int = 0
    open_at: float = 0.0  # no try before
    last: float = 0.0


class Throttle:
    """Counts tries by a key; `free` of them are let through without a wait."""

    def __init__(self, free: int, clock: Callable[[], float]) -> None:
        self._free, self._clock = free, clock
        self._tries: OrderedDict[str, _Attempts] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str) -> None:
        """Count a try. Raises BusyError, with the seconds to wait, where it comes too early: that is none."""
        now = self._clock()
        with self._lock:
            tries = self._tries.get(key)
            if tries is None or now - tries.last > FORGET_SECONDS:
                tries = self._tries[key] = _Attempts()
            if now < tries.open_at:
                raise build_throttle_error(tries.open_at - now)
            tries.count += 1
            tries.last = now
            if tries.count >= self._free:
                tries.open_at = now + min(MAX_SECONDS, 2.0 ** min(tries.count - self._free, 30))
            self._tries.move_to_end(key)
            while len(self._tries) > MAX_KEYS:
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


def get_throttle_key(address: str) -> str:
    """By what tries from an address are counted: itself, and in IPv6 the network of 64 bits, all of whose
    addresses one machine may have; a text that is no address as it is."""
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def build_throttle_error(seconds: float) -> BusyError:
    """What a try that comes too early is told."""
    wait = max(1, math.ceil(seconds))
    when = f"{wait} s" if wait < 120 else f"{math.ceil(wait / 60)} minutes"
    return BusyError("There were too many wrong attempts.", fix=f"Try again in {when}.", retry_after=wait)
