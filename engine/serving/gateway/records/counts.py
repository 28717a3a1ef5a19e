"""What a gateway counts: requests of the last hour, of each route, and how long they took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from store.documents.serving.endpoint import EndpointRoute
from store.documents.tables.endpoint_state import LastHour, RouteState

HOUR = 3600.0
MINUTES = 60
REMEMBERED = 2000  # answers of the last hour that a p95 rests on: the newest


class Durations:
    """How long the newest answers of the last hour took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """One more answer."""
        self._times.append((self._clock(), seconds))

    def p95(self) -> tuple[float | None, int]:
        """And how many answers it rests on."""
        oldest = self._clock() - HOUR
        while self._times and self._times[0][0] < oldest:
            self._times.popleft()
        ordered = sorted(seconds for _, seconds in self._times)
        if not ordered:
            return None, 0
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], len(ordered)


class RouteCounts:
    """Of one route."""

    def __init__(self, model: str, route: EndpointRoute) -> None:
        self._model, self._route = model, route
        self.requests = self.errors = self.dropped = 0
        self.durations = Durations()

    def add(self, status: int, seconds: float) -> None:
        """An answer, or none."""
        self.requests += 1
        if status >= 500:
            self.errors += 1
        elif status == 200:
            self.durations.add(seconds)

    def state(self) -> RouteState:
        """For `state.json`."""
        p95, n = self.durations.p95()
        return {
            "model": self._model,
            "version": self._route["version"],
            "role": self._route["role"],
            "share": self._route["share"],
            "backend_id": self._route["backend_id"],
            "requests": self.requests,
            "errors": self.errors,
            "dropped": self.dropped,
            "p95_seconds": p95,
            "n": n,
        }


class HourCounts:
    """Of the last hour, by minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: deque[tuple[int, list[int]]] = deque(maxlen=MINUTES)
        self._durations = Durations(clock)

    def add(self, status: int, seconds: float, tokens: int) -> None:
        """A request that has ended."""
        minute = int(self._clock() // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, [0, 0, 0, 0]))
        counts = self._minutes[-1][1]
        counts[0] += 1
        counts[1] += status >= 500
        counts[2] += 400 <= status < 500
        counts[3] += tokens
        if status == 200:
            self._durations.add(seconds)

    def state(self) -> LastHour:
        """For `state.json`."""
        oldest = int(self._clock() // 60) - MINUTES
        rows = [counts for minute, counts in self._minutes if minute > oldest]
        requests, errors, refused, tokens = (
            (sum(column) for column in zip(*rows, strict=True)) if rows else (0,) * 4
        )
        p95, n = self._durations.p95()
        return {
            "requests": requests, "errors": errors, "refused": refused, "tokens": tokens,
            "p95_seconds": p95, "n": n,
        }  # fmt: skip
