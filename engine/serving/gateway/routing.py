"""Routing: selection of a backend by model name, candidate shares and caller, and statistics per route.

The statistics are request counts, and durations over the last hour.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.serving.gateway.backend_processes import Backend
from engine.serving.gateway.request_bodies import TOKENS, Refusal, TokenBound, compute_token_bound, shorten
from store.core.schemas import JsonObject
from store.serving.schemas import EndpointRoute, LastHour, RequestKind, RouteState, ServedModel

HOUR = 3600.0
MINUTES = 60
MAX_DURATIONS = 2000  # latest answers of the last hour that a p95 is based on


class Durations:
    """Durations of the latest answers of the last hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[tuple[float, float]] = deque(maxlen=MAX_DURATIONS)

    def add(self, seconds: float) -> None:
        """Add an answer's duration."""
        self._times.append((self._clock(), seconds))

    def compute_p95(self) -> tuple[float | None, int]:
        """Return the 95th percentile, and the number of answers it is based on."""
        oldest = self._clock() - HOUR
        while self._times and self._times[0][0] < oldest:
            self._times.popleft()
        ordered = sorted(seconds for _, seconds in self._times)
        if not ordered:
            return None, 0
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], len(ordered)


class RouteCounts:
    """Counts of one route."""

    def __init__(self, model: str, route: EndpointRoute) -> None:
        self._model, self._route = model, route
        self.requests = self.errors = self.dropped = 0
        self.durations = Durations()

    def add(self, status: int, seconds: float) -> None:
        """Count a request, answered or failed."""
        self.requests += 1
        if status >= 500:
            self.errors += 1
        elif status == 200:
            self.durations.add(seconds)

    def build_state(self) -> RouteState:
        """Return the counts for `state.json`."""
        p95, n = self.durations.compute_p95()
        return RouteState(
            model=self._model,
            version=self._route.version,
            role=self._route.role,
            share=self._route.share,
            backend_id=self._route.backend_id,
            requests=self.requests,
            errors=self.errors,
            dropped=self.dropped,
            p95_seconds=p95,
            n=n,
        )


class HourCounts:
    """Counts of the last hour, by minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: deque[tuple[int, list[int]]] = deque(maxlen=MINUTES)
        self._durations = Durations(clock)

    def add(self, status: int, seconds: float, tokens: int) -> None:
        """Count a finished request."""
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

    def build_state(self) -> LastHour:
        """Return the counts for `state.json`."""
        oldest = int(self._clock() // 60) - MINUTES
        rows = [counts for minute, counts in self._minutes if minute > oldest]
        requests, errors, refused, tokens = (
            (sum(column) for column in zip(*rows, strict=True)) if rows else (0,) * 4
        )
        p95, n = self._durations.compute_p95()
        return LastHour(
            requests=requests, errors=errors, refused=refused, tokens=tokens,
            p95_seconds=p95, n=n,
        )  # fmt: skip


@dataclass(frozen=True)
class Route:
    """A route with its backend and its counts."""

    document: EndpointRoute
    backend: Backend
    counts: RouteCounts

    @property
    def can_answer(self) -> bool:
        return self.backend.phase == "ready"


class ModelRoutes:
    """All routes of one model name."""

    def __init__(self, model: ServedModel, backends: Mapping[str, Backend]) -> None:
        self.name = model.name
        routes = [
            Route(route, backends[route.backend_id], RouteCounts(model.name, route)) for route in model.routes
        ]
        self.routes = routes
        self.live = next(route for route in routes if route.document.role == "live")
        self.candidates = [route for route in routes if route.document.role == "candidate"]
        self.shadows = [route for route in routes if route.document.role == "shadow"]
        self.fallbacks = [route for route in routes if route.document.role == "fallback"]

    def choose(self, routing_key: str) -> Route:
        """Return the caller's route, which stays the same while the shares do.

        If a candidate can't answer, its requests go to the live route; its state says so.
        """
        assigned = self.get_assigned_route(routing_key)
        return assigned if assigned.can_answer else self.live

    def get_assigned_route(self, routing_key: str) -> Route:
        """Return the route whose share the caller is in, whether it can answer or not."""
        position = _hash_to_unit_interval(f"{self.name}\n{routing_key}")
        cumulative_share = 0.0
        for route in self.candidates:
            cumulative_share += route.document.share
            if position < cumulative_share:
                return route
        return self.live

    def list_supported_fields(self) -> frozenset[str]:
        """Return the fields supported by every backend that may get the request.

        Otherwise it would be random whether a field is rejected.
        """
        sets = [
            frozenset(route.backend.capabilities.fields)
            for route in (self.live, *self.candidates)
            if route.backend.capabilities and route.can_answer
        ]
        return frozenset.intersection(*sets) if sets else frozenset()

    def compute_bound(self, kind: RequestKind, body: JsonObject) -> TokenBound:
        """Return the upper bound of a request's tokens on any route."""
        backends = [
            route.backend for route in (self.live, *self.candidates, *self.fallbacks) if route.can_answer
        ]
        contexts = [backend.capabilities.context if backend.capabilities else None for backend in backends]
        limits = [context for context in contexts if context is not None]
        lengths = [body[name] for name in TOKENS if name in body]
        length = max(lengths or [backend.max_answer_tokens for backend in backends], default=0)
        return compute_token_bound(
            kind, body, length, max(limits) if limits and len(limits) == len(contexts) else None
        )


class RoutingTable:
    """The current routes."""

    def __init__(self, models: Sequence[ServedModel], backends: Mapping[str, Backend]) -> None:
        self.models = {model.name: ModelRoutes(model, backends) for model in models}

    def get_model(self, name: object) -> ModelRoutes:
        """Return the routes of a model name. Raises Refusal (404)."""
        model = self.models.get(name) if isinstance(name, str) else None
        if model is None:
            raise Refusal(
                404,
                "model_not_found",
                f"There is no model {shorten(str(name))!r} here. There are: {', '.join(self.models)}.",
                param="model",
            )
        return model

    def list_routes(self) -> list[Route]:
        """Return all routes."""
        return [route for model in self.models.values() for route in model.routes]


def _hash_to_unit_interval(text: str) -> float:
    """Map a text to a fixed number between 0 and 1."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def is_in_share(text: str, share: float) -> bool:
    """Return whether the text's hash falls into this share."""
    return _hash_to_unit_interval(text) < share
