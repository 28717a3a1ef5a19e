"""Passwords: requirements, argon2id hashes, and throttling of attempts.

Concurrent hashing is limited; after a few free attempts, waits double.
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

# A hash takes 64 MiB and a tenth of a second of a core, on purpose. Somebody who sends thousands of attempts
# must not get all cores: one is hashed at a time, a few wait, and the others are told to retry.

MAX_WAITING = 8  # maximum number of waiting attempts
TURN_SECONDS = 10.0


def check_password(password: str, email: str) -> None:
    """Raise ConfigError (field password) for a password too short, too long, or equal to the address."""
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
    """Hash and verify passwords. Thread-safe."""

    def __init__(self, hasher: PasswordHasher | None = None, turn_seconds: float = TURN_SECONDS) -> None:
        self._hasher = hasher or PasswordHasher(parallelism=1)
        self._turn_seconds = turn_seconds
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    def hash(self, password: str) -> str:
        """Return the argon2id hash. Raises BusyError if too many are waiting."""
        with self._work():
            return self._hasher.hash(password)

    def is_right(self, kept: str | None, password: str) -> bool:
        """Whether `kept` is the hash of the password.

        Without a hash it takes as long, so that the time does not reveal which addresses have an account.
        Raises BusyError if too many are waiting.
        """
        with self._work():
            if kept is None:
                self._hasher.hash(password)
                return False
            try:
                return self._hasher.verify(kept, password)
            except (VerificationError, InvalidHashError):
                return False

    def is_outdated(self, kept: str) -> bool:
        """Whether the hash was made with weaker parameters than now."""
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


# Throttle state is in memory: a restarted engine forgets it, which gives a few more attempts. An attempt
# counts from its start, so that parallel attempts are no more than sequential ones; a successful one is taken
# back.

MAX_SECONDS = 600.0
FORGET_SECONDS = 3600.0
MAX_KEYS = 10_000  # maximum number of keys; the oldest are dropped first


@dataclass
class _Attempts:
    count: int = 0
    open_at: float = 0.0  # no attempt allowed before
    last: float = 0.0


class Throttle:
    """Count attempts by key; the first `free` ones need no wait."""

    def __init__(self, free: int, clock: Callable[[], float]) -> None:
        self._free, self._clock = free, clock
        self._tries: OrderedDict[str, _Attempts] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str) -> None:
        """Count an attempt.

        Raises: BusyError with the seconds to wait if it is too early; it is not counted then.
        """
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
        """Take back the last attempt, which succeeded."""
        with self._lock:
            if tries := self._tries.get(key):
                tries.count = max(0, tries.count - 1)
                tries.open_at = 0.0

    def forget(self, key: str) -> None:
        """Reset the counter of this key."""
        with self._lock:
            self._tries.pop(key, None)


def get_throttle_key(address: str) -> str:
    """Return the throttle key of an address.

    The address itself; for IPv6 its 64-bit network, as one machine may have all of its addresses; any other
    text unchanged.
    """
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def build_throttle_error(seconds: float) -> BusyError:
    """Return the error for an attempt that is too early."""
    wait = max(1, math.ceil(seconds))
    when = f"{wait} s" if wait < 120 else f"{math.ceil(wait / 60)} minutes"
    return BusyError("There were too many wrong attempts.", fix=f"Try again in {when}.", retry_after=wait)
