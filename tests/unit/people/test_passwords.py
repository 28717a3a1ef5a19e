"""Passwords: the rules, the hashes, and that attempts wait for each other."""

from __future__ import annotations

import threading
import time

import pytest
from argon2 import PasswordHasher

from engine.server.passwords import MAX_WAITING, Passwords, check_password
from store.core.errors import BusyError, ConfigError

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.mark.parametrize(
    "password", ["", "short", "123456789", "x" * 1025, "ada@example.org", "ADA@example.org"]
)
def test_a_password_that_is_refused_is_not_repeated(password: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_password(password, "ada@example.org")
    assert caught.value.field == "password"
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["1234567890", "correct horse battery staple", "ünïcödé ünïcödé", " " * 10]
)
def test_any_other_is_taken(password: str) -> None:
    check_password(password, "ada@example.org")


def test_a_hash_is_argon2id_with_a_salt_and_fits_its_password_alone() -> None:
    passwords = Passwords()
    kept = passwords.hash("a long sentence")
    assert kept.startswith("$argon2id$")
    assert passwords.hash("a long sentence") != kept
    assert passwords.is_right(kept, "a long sentence")
    assert not passwords.is_right(kept, "a long sentence ")
    assert not passwords.is_right(None, "a long sentence")
    assert not passwords.is_right("no hash", "a long sentence")


def test_a_hash_of_less_work_is_outdated() -> None:
    kept = Passwords(CHEAP).hash("a long sentence")
    assert Passwords().is_outdated(kept)
    assert not Passwords(CHEAP).is_outdated(kept)


class Slow(PasswordHasher):
    """Hashes nothing until it is let go, and counts how many are at it."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go, self.begun = threading.Event(), threading.Event()
        self.busy = self.most = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.busy += 1
        self.most = max(self.most, self.busy)
        self.begun.set()
        assert self.go.wait(10)
        self.busy -= 1
        return super().hash(password, salt=salt)


def test_one_hash_is_worked_on_at_a_time_and_a_flood_is_told_to_wait() -> None:
    slow = Slow()
    passwords = Passwords(slow, turn_seconds=10)
    hashes: list[str] = []
    threads = [
        threading.Thread(target=lambda: hashes.append(passwords.hash("a long sentence")))
        for _ in range(MAX_WAITING)
    ]
    for thread in threads:
        thread.start()
    assert slow.begun.wait(10)
    while passwords._waiting._value:  # until all of them wait
        time.sleep(0.001)
    with pytest.raises(BusyError) as caught:
        passwords.hash("a long sentence")
    assert caught.value.retry_after == 10
    slow.go.set()
    for thread in threads:
        thread.join(10)
    assert len(hashes) == MAX_WAITING
    assert slow.most == 1


def test_who_waits_too_long_is_told_so() -> None:
    slow = Slow()
    passwords = Passwords(slow, turn_seconds=0.05)
    holder = threading.Thread(target=passwords.hash, args=["a long sentence"])
    holder.start()
    assert slow.begun.wait(10)
    with pytest.raises(BusyError):
        passwords.hash("a long sentence")
    slow.go.set()
    holder.join(10)
