"""Passwords: what one has to be, argon2id hashes, and how much work on them is done at once.

A hash takes 64 MiB and a tenth of a second of a core, on purpose. Whoever sends thousands of attempts must
not have all cores with it: one is worked on at a time, a few wait, and the others are told to come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from store.config.people_config import LEAST_PASSWORD, MOST_PASSWORD
from store.contract.errors import BusyError, ConfigError

WAITING = 8  # attempts that may wait for their turn
TURN_SECONDS = 10.0


def check_password(password: str, email: str) -> None:
    """Raise ConfigError (field password) for one that is too short, too long, or the address itself."""
    if len(password) < LEAST_PASSWORD:
        raise ConfigError(
            f"The password has {len(password)} characters.",
            fix=f"Give {LEAST_PASSWORD} or more; any will do, such as a sentence.",
            field="password",
        )
    if len(password) > MOST_PASSWORD:
        raise ConfigError(
            f"The password has {len(password):,} characters.",
            fix=f"Give up to {MOST_PASSWORD:,}.",
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
        self._waiting = threading.BoundedSemaphore(WAITING)

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
