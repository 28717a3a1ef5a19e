"""API keys of an endpoint: who asks, how much of what a key may use is used, and what of it a restart finds
again.

A gateway tells every other second how its keys stand, with the place that its log had then; what was answered
afterwards is read from the log, so that a kill costs a quota nothing.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.serving.gateway.log_files import DAY, LogFiles
from engine.serving.gateway.request_bodies import Refusal, TokenBound, build_key_refusal
from store.core.job_folder import read_json
from store.serving.schemas import EndpointState, GatewayKey, GatewayKeys, KeyUse, LogPosition

# API keys of an endpoint: who asks, and how much of what a key may use is used.
#
# `keys.json` is looked at with each request, so that a revoked key is refused from the next one on. What a
# key has used today outlives the gateway (`records.key_use`).
#
# Invariant: what a key has used today and what is held for its requests under way are no more than its
# quota together. So a request is held the most that it can take before it goes out, and is charged what it
# took when it ends. What is held belongs to no day, as a request that began before midnight may end after
# it; and it ends with the process, as all that it is held for does.

MINUTE = 60.0
DAY_SECONDS = 24 * 3600
RESERVED_RETRY_SECONDS = (
    2.0  # after which a request may be tried again that waits for what is held for others
)


def format_quota_day(at: float) -> str:
    """The day of a quota, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


class FileStamp:
    """Whether a file is another than when it was last looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        """True once after each change, and at the first look."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            stamp = (0, 0, 0)
        else:
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        changed, self._stamp = stamp != self._stamp, stamp
        return changed


class ApiKeys:
    """The keys in a file."""

    def __init__(
        self, path: Path, used: Iterable[KeyUse] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock = path, clock
        self._stamp = FileStamp(path)
        self._by_secret: dict[str, GatewayKey] = {}
        self._minutes: dict[str, deque[float]] = {}
        self._used = {use.key_id: use for use in used}
        self._held: Counter[str] = Counter()

    def look(self) -> None:
        """Read the file where it has changed. One that can't be read lets nobody in."""
        if not self._stamp.changed():
            return
        document: GatewayKeys | None
        try:
            document = read_json(self._path)
        except (OSError, ValueError):
            document = None
        self._by_secret = {key["sha256"]: key for key in document["keys"]} if document else {}

    def holds(self, key: GatewayKey) -> bool:
        """Whether a key that asked before may still ask."""
        return key["sha256"] in self._by_secret

    def of_request(self, scope: Any) -> GatewayKey:
        """The key that a request brings. Raises Refusal."""
        self.look()
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                key = self._by_secret.get(hashlib.sha256(value[7:].strip()).hexdigest())
                if key:
                    return key
        raise build_key_refusal()

    def spend_request(self, key: GatewayKey) -> None:
        """Count a request. Raises Refusal (429) where there were as many as may be within a minute."""
        now = self._clock()
        self._check_minute(key, now)
        use = self._today(key["key_id"], now)
        use.requests += 1
        use.used_at = now

    def _check_minute(self, key: GatewayKey, now: float) -> None:
        most = key["requests_per_minute"]
        if most is None:
            return
        recent = self._minutes.setdefault(key["key_id"], deque())
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        if len(recent) >= most:
            raise Refusal(
                429,
                "requests_per_minute",
                f"This key may ask {most:,} times a minute, and has.",
                retry_after=recent[0] + MINUTE - now if recent else MINUTE,
            )
        recent.append(now)

    def hold_tokens(
        self, key: GatewayKey, bound: TokenBound, *, obeys_length: bool, names_length: bool
    ) -> TokenBound:
        """Hold the most that a request can take, and say how much that is. Where it names no length and its
        model would obey one, its answers become as long as what is left of today has room for. Raises Refusal
        (429) where it may take more than what is left, or than others under way leave of it."""
        most = key["tokens_per_day"]
        if most is None:
            return bound
        left = max(0, most - self._today(key["key_id"], self._clock()).tokens)
        wanted = bound
        if obeys_length and not names_length:
            bound = bound.shortened(left)
        if bound.total > left or (wanted.answers and not bound.length):
            raise self._too_much(wanted, most, left, obeys_length=obeys_length)
        held = self._held[key["key_id"]]
        if bound.total > left - held:
            smaller = ", or ask for a smaller max_tokens" if bound.answers and obeys_length else ""
            raise Refusal(
                429,
                "tokens_per_day",
                f"Of the {left:,} tokens that this key has left of today (UTC), {held:,} are held for its"
                f" requests under way, and this one may take {_describe_bound(bound)}. Ask again"
                " once they have"
                f" ended{smaller}.",
                retry_after=RESERVED_RETRY_SECONDS,
            )
        self._held[key["key_id"]] += bound.total
        return bound

    def free_tokens(self, key: GatewayKey) -> int | None:
        """What is neither used today nor held; null where there is no quota."""
        most, key_id = key["tokens_per_day"], key["key_id"]
        if most is None:
            return None
        return max(0, most - self._today(key_id, self._clock()).tokens - self._held[key_id])

    def settle_tokens(self, key: GatewayKey, held: int, tokens: int) -> None:
        """A request has ended: give back what was held for it, and count what it took."""
        key_id = key["key_id"]
        self._held[key_id] -= held
        if self._held[key_id] <= 0:
            del self._held[key_id]
        if tokens:
            self._today(key_id, self._clock()).tokens += tokens

    def _too_much(self, bound: TokenBound, most: int, left: int, *, obeys_length: bool) -> Refusal:
        now, least = self._clock(), bound.prompt + bound.answers * (1 if obeys_length else bound.length)
        if not left:
            message = f"This key has used its {most:,} tokens of today (UTC)."
        else:
            message = (
                f"This key has {left:,} of its {most:,} tokens of today (UTC) left, and this request may take"
                f" {_describe_bound(bound)}."
            )
            if obeys_length and (room := bound.room(left)):
                message += f" Ask for a max_tokens of at most {room:,}."
            elif least <= most:
                message += " Shorten its prompt, or ask again tomorrow."
            else:
                message += " That is more than the quota of a whole day: shorten its prompt."
        retry_after = DAY_SECONDS - now % DAY_SECONDS if least <= most else None
        return Refusal(429, "tokens_per_day", message, retry_after=retry_after)

    def used(self) -> list[KeyUse]:
        """What each key has used today, for `state.json`: as it is now, whatever is counted before that is
        written."""
        return [replace(use) for use in self._used.values()]

    def _today(self, key_id: str, now: float) -> KeyUse:
        day = format_quota_day(now)
        use = self._used.get(key_id)
        if use is None or use.day != day:
            use = KeyUse(key_id=key_id, day=day, tokens=0, requests=0, used_at=now)
            self._used[key_id] = use
        return use


def _describe_bound(bound: TokenBound) -> str:
    """As a caller is told it."""
    prompt = f"{bound.prompt:,} for its prompt, a token a byte"
    if not bound.answers:
        return f"{bound.total:,} ({prompt})"
    answers = f"{bound.answers:,} × {bound.length:,}" if bound.answers > 1 else f"{bound.length:,}"
    return f"{bound.total:,} ({prompt}, and {answers} for its answer{'s' * (bound.answers > 1)})"


# What keys have used today, when a gateway starts: as the one before it told last, and what its log has
# since.
#
# A gateway tells every other second how it stands, with the place that its log had then. What was answered
# afterwards has its line, so that a kill costs a quota nothing; only what a full disk kept out of the log is
# lost with it.

log = logging.getLogger(__name__)

BEGINNING = LogPosition(number=0, size=0)
SLACK = 1.0  # s: the clock of files is coarser
NOT_ADMITTED = "requests_per_minute"  # refused before it counts as a request


def restore_usage(before: EndpointState | None, files: LogFiles, now: float) -> list[KeyUse]:
    """Of all keys. Where nobody told anything, the whole of today is read anew."""
    used: dict[str, KeyUse] = {use.key_id: replace(use) for use in before.keys} if before else {}
    told_at = before.at if before else 0.0
    place = before.counted if before else BEGINNING
    try:
        for line in files.since(place, max(told_at, now - now % DAY) - SLACK) if place else ():
            _add(used, line, told_at, format_quota_day(now))
    except (OSError, ValueError, KeyError, TypeError):  # no line of ours: nobody is kept out for it
        log.exception("The log could not be read on: what keys used since %s is not all counted", told_at)
    return list(used.values())


def _add(used: dict[str, KeyUse], line: Any, told_at: float, today: str) -> None:
    """Count one line; one of nobody's quota, or of before they said whose, counts nothing."""
    key_id = line.get("key_id")
    if key_id is None:
        return
    at, end = line["at"], line["at"] + line["seconds"]
    if format_quota_day(end) != today:
        return
    use = used.get(key_id)
    if use is None or use.day != today:
        use = used[key_id] = KeyUse(key_id=key_id, day=today, tokens=0, requests=0, used_at=at)
    use.tokens += line["tokens"]
    if at > told_at and line["error"] != NOT_ADMITTED:  # others are counted when they come
        use.requests += 1
        use.used_at = max(use.used_at, at)
