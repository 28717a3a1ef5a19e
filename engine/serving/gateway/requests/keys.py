"""API keys of an endpoint: who asks, and how much of what a key may use is used.

`keys.json` is looked at with each request, so that a revoked key is refused from the next one on. What a key
has used today outlives the gateway (`records.key_use`).
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.serving.gateway.requests.refusals import Refusal, wrong_key
from store.contract.jobdir import read_json
from store.documents.serving.endpoint import GatewayKey, GatewayKeys
from store.documents.tables.endpoint_state import KeyUse

MINUTE = 60.0
DAY = 24 * 3600


def day_of(at: float) -> str:
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


class Keys:
    """The keys in a file."""

    def __init__(
        self, path: Path, used: Iterable[KeyUse] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock = path, clock
        self._stamp = FileStamp(path)
        self._by_secret: dict[str, GatewayKey] = {}
        self._minutes: dict[str, deque[float]] = {}
        self._used = {use["key_id"]: use for use in used}

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
        raise wrong_key()

    def spend_request(self, key: GatewayKey) -> None:
        """Count a request. Raises Refusal (429) where a quota is used up."""
        now = self._clock()
        self._check_minute(key, now)
        use = self._today(key["key_id"], now)
        most = key["tokens_per_day"]
        if most is not None and use["tokens"] >= most:
            raise Refusal(
                429,
                "tokens_per_day",
                f"This key has used its {most:,} tokens of today (UTC).",
                retry_after=DAY - now % DAY,
            )
        use["requests"] += 1
        use["used_at"] = now

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

    def spend_tokens(self, key: GatewayKey, tokens: int) -> None:
        """Count what an answer took."""
        self._today(key["key_id"], self._clock())["tokens"] += tokens

    def used(self) -> list[KeyUse]:
        """What each key has used today, for `state.json`: as it is now, whatever is counted before that is
        written."""
        return [{**use} for use in self._used.values()]

    def _today(self, key_id: str, now: float) -> KeyUse:
        day = day_of(now)
        use = self._used.get(key_id)
        if use is None or use["day"] != day:
            use = {"key_id": key_id, "day": day, "tokens": 0, "requests": 0, "used_at": now}
            self._used[key_id] = use
        return use
