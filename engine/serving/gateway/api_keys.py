"""API keys of an endpoint: authentication, quotas, and restoring of quota use after a restart."""

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

# API keys of an endpoint: authentication and quotas.
#
# `keys.json` is checked on each request, so that a revoked key is rejected from the next one on. A key's use
# of today outlives the gateway (`restore_usage`).
#
# Invariant: a key's use of today plus the reservations of its requests in progress never exceed its quota. So
# the most that a request can take is reserved before it is forwarded, and it is charged what it took when it
# ends. Reservations don't belong to a day, as a request that began before midnight may end after it; and they
# end with the process, like the requests themselves.

MINUTE = 60.0
DAY_SECONDS = 24 * 3600
RESERVED_RETRY_SECONDS = 2.0  # retry delay for a request that exceeds what reservations of others leave


def format_quota_day(at: float) -> str:
    """Return the day that a quota applies to, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


class FileStamp:
    """Detector of changes to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """Return true once after each change, and on the first call."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            stamp = (0, 0, 0)
        else:
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        differs, self._stamp = stamp != self._stamp, stamp
        return differs


class ApiKeys:
    """The keys in a file, and their use."""

    def __init__(
        self, path: Path, usage: Iterable[KeyUse] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock = path, clock
        self._stamp = FileStamp(path)
        self._by_secret: dict[str, GatewayKey] = {}
        self._minutes: dict[str, deque[float]] = {}
        self._usage = {use.key_id: use for use in usage}
        self._reserved: Counter[str] = Counter()

    def reload(self) -> None:
        """Read the file if it changed. An unreadable file admits nobody."""
        if not self._stamp.has_changed():
            return
        document: GatewayKeys | None
        try:
            document = read_json(self._path)
        except (OSError, ValueError):
            document = None
        self._by_secret = {key["sha256"]: key for key in document["keys"]} if document else {}

    def is_valid(self, key: GatewayKey) -> bool:
        """Return whether a key of an earlier request is still valid."""
        return key["sha256"] in self._by_secret

    def authenticate(self, scope: Any) -> GatewayKey:
        """Return the request's key. Raises Refusal."""
        self.reload()
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                key = self._by_secret.get(hashlib.sha256(value[7:].strip()).hexdigest())
                if key:
                    return key
        raise build_key_refusal()

    def count_request(self, key: GatewayKey) -> None:
        """Count a request. Raises Refusal (429) if the limit per minute is reached."""
        now = self._clock()
        self._check_minute(key, now)
        use = self._get_usage(key["key_id"], now)
        use.requests += 1
        use.used_at = now

    def _check_minute(self, key: GatewayKey, now: float) -> None:
        limit = key["requests_per_minute"]
        if limit is None:
            return
        recent = self._minutes.setdefault(key["key_id"], deque())
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        if len(recent) >= limit:
            raise Refusal(
                429,
                "requests_per_minute",
                f"This key may ask {limit:,} times a minute, and has.",
                retry_after=recent[0] + MINUTE - now if recent else MINUTE,
            )
        recent.append(now)

    def reserve_tokens(
        self, key: GatewayKey, bound: TokenBound, *, supports_length: bool, sets_length: bool
    ) -> TokenBound:
        """Reserve the most tokens that a request can take, and return that bound.

        If the request names no length and its model supports one, its answers are limited to what is left
        today. Raises Refusal (429) if the request may take more than what is left, or than what reservations
        of other requests leave.
        """
        quota = key["tokens_per_day"]
        if quota is None:
            return bound
        free = max(0, quota - self._get_usage(key["key_id"], self._clock()).tokens)
        requested = bound
        if supports_length and not sets_length:
            bound = bound.shorten(free)
        if bound.total > free or (requested.choices and not bound.length):
            raise self._build_quota_refusal(requested, quota, free, supports_length=supports_length)
        reserved = self._reserved[key["key_id"]]
        if bound.total > free - reserved:
            hint = ", or ask for a smaller max_tokens" if bound.choices and supports_length else ""
            raise Refusal(
                429,
                "tokens_per_day",
                f"Of the {free:,} tokens that this key has left of today (UTC), {reserved:,} are held for its"
                f" requests under way, and this one may take {_describe_bound(bound)}. Ask again"
                " once they have"
                f" ended{hint}.",
                retry_after=RESERVED_RETRY_SECONDS,
            )
        self._reserved[key["key_id"]] += bound.total
        return bound

    def count_free_tokens(self, key: GatewayKey) -> int | None:
        """Return the tokens neither used today nor reserved; None without a quota."""
        quota, key_id = key["tokens_per_day"], key["key_id"]
        if quota is None:
            return None
        return max(0, quota - self._get_usage(key_id, self._clock()).tokens - self._reserved[key_id])

    def settle_tokens(self, key: GatewayKey, reserved: int, tokens: int) -> None:
        """Release the reservation of a finished request, and count the tokens it took."""
        key_id = key["key_id"]
        self._reserved[key_id] -= reserved
        if self._reserved[key_id] <= 0:
            del self._reserved[key_id]
        if tokens:
            self._get_usage(key_id, self._clock()).tokens += tokens

    def _build_quota_refusal(
        self, bound: TokenBound, quota: int, free: int, *, supports_length: bool
    ) -> Refusal:
        now, minimum = self._clock(), bound.prompt + bound.choices * (1 if supports_length else bound.length)
        if not free:
            message = f"This key has used its {quota:,} tokens of today (UTC)."
        else:
            message = (
                f"This key has {free:,} of its {quota:,} tokens of today (UTC) left, and this request may"
                f" take {_describe_bound(bound)}."
            )
            if supports_length and (max_length := bound.compute_max_length(free)):
                message += f" Ask for a max_tokens of at most {max_length:,}."
            elif minimum <= quota:
                message += " Shorten its prompt, or ask again tomorrow."
            else:
                message += " That is more than the quota of a whole day: shorten its prompt."
        retry_after = DAY_SECONDS - now % DAY_SECONDS if minimum <= quota else None
        return Refusal(429, "tokens_per_day", message, retry_after=retry_after)

    def list_usage(self) -> list[KeyUse]:
        """Return today's use of each key for `state.json`, copied so that later requests don't change it."""
        return [replace(use) for use in self._usage.values()]

    def _get_usage(self, key_id: str, now: float) -> KeyUse:
        day = format_quota_day(now)
        use = self._usage.get(key_id)
        if use is None or use.day != day:
            use = KeyUse(key_id=key_id, day=day, tokens=0, requests=0, used_at=now)
            self._usage[key_id] = use
        return use


def _describe_bound(bound: TokenBound) -> str:
    """Describe the bound for the caller."""
    prompt = f"{bound.prompt:,} for its prompt, a token a byte"
    if not bound.choices:
        return f"{bound.total:,} ({prompt})"
    answers = f"{bound.choices:,} × {bound.length:,}" if bound.choices > 1 else f"{bound.length:,}"
    return f"{bound.total:,} ({prompt}, and {answers} for its answer{'s' * (bound.choices > 1)})"


# Use of keys today when a gateway starts: the previous gateway's last state, plus the log lines since.
#
# A gateway writes its state every two seconds, with the position in its log. Whatever was answered afterwards
# has a log line, so that a kill loses no quota use; only lines lost to a full disk are not counted.

log = logging.getLogger(__name__)

BEGINNING = LogPosition(number=0, size=0)
SLACK = 1.0  # s: file timestamps are coarser
NOT_ADMITTED = "requests_per_minute"  # rejected before it counts as a request


def restore_usage(last_state: EndpointState | None, files: LogFiles, now: float) -> list[KeyUse]:
    """Return the use of all keys; without an earlier state, the whole of today is read from the log."""
    usage: dict[str, KeyUse] = {use.key_id: replace(use) for use in last_state.keys} if last_state else {}
    state_at = last_state.at if last_state else 0.0
    position = last_state.counted if last_state else BEGINNING
    try:
        for line in files.read_since(position, max(state_at, now - now % DAY) - SLACK) if position else ():
            _count_line(usage, line, state_at, format_quota_day(now))
    except (OSError, ValueError, KeyError, TypeError):  # not one of our lines: nobody is locked out for it
        log.exception("The log could not be read on: what keys used since %s is not all counted", state_at)
    return list(usage.values())


def _count_line(usage: dict[str, KeyUse], line: Any, state_at: float, today: str) -> None:
    """Count one log line; lines without a key count for no quota."""
    key_id = line.get("key_id")
    if key_id is None:
        return
    at, end = line["at"], line["at"] + line["seconds"]
    if format_quota_day(end) != today:
        return
    use = usage.get(key_id)
    if use is None or use.day != today:
        use = usage[key_id] = KeyUse(key_id=key_id, day=today, tokens=0, requests=0, used_at=at)
    use.tokens += line["tokens"]
    if at > state_at and line["error"] != NOT_ADMITTED:  # earlier ones were counted on arrival
        use.requests += 1
        use.used_at = max(use.used_at, at)
