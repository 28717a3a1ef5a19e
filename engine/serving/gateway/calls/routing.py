"""Which backend answers: by the model's name, the shares of its candidates, and whom the request is of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.serving.gateway.backends.backends import Backend
from engine.serving.gateway.records.counts import RouteCounts
from engine.serving.gateway.requests.bodies import TOKENS, short
from engine.serving.gateway.requests.refusals import Refusal
from engine.serving.gateway.requests.token_bound import TokenBound, bound_of
from engine.serving.protocol.json_object import JsonObject
from store.documents.serving.endpoint import EndpointRoute, ServedModel
from store.documents.serving.request_line import RequestKind


@dataclass(frozen=True)
class Route:
    """A route with what answers on it, and how it has fared."""

    document: EndpointRoute
    backend: Backend
    counts: RouteCounts

    @property
    def can_answer(self) -> bool:
        return self.backend.phase == "ready"


class ModelRoutes:
    """All routes of one name."""

    def __init__(self, model: ServedModel, backends: Mapping[str, Backend]) -> None:
        self.name = model["name"]
        routes = [
            Route(route, backends[route["backend_id"]], RouteCounts(model["name"], route))
            for route in model["routes"]
        ]
        self.routes = routes
        self.live = next(route for route in routes if route.document["role"] == "live")
        self.candidates = [route for route in routes if route.document["role"] == "candidate"]
        self.shadows = [route for route in routes if route.document["role"] == "shadow"]
        self.fallbacks = [route for route in routes if route.document["role"] == "fallback"]

    def choose(self, sticky: str) -> Route:
        """The route of whoever this is: always the same one while the shares stay. Where a candidate does not
        answer, its requests go live; its state says so."""
        dealt = self.dealt(sticky)
        return dealt if dealt.can_answer else self.live

    def dealt(self, sticky: str) -> Route:
        """In whose share they are, whether that can answer or not."""
        place = _place(f"{self.name}\n{sticky}")
        below = 0.0
        for route in self.candidates:
            below += route.document["share"]
            if place < below:
                return route
        return self.live

    def obeyed(self) -> frozenset[str]:
        """Fields that every backend obeys which may get the request: it must not depend on chance whether
        something is refused."""
        sets = [
            frozenset(route.backend.capabilities["fields"])
            for route in (self.live, *self.candidates)
            if route.backend.capabilities and route.can_answer
        ]
        return frozenset.intersection(*sets) if sets else frozenset()

    def bound(self, kind: RequestKind, body: JsonObject) -> TokenBound:
        """The most tokens that a request can take, whichever route it gets."""
        backends = [
            route.backend for route in (self.live, *self.candidates, *self.fallbacks) if route.can_answer
        ]
        contexts = [backend.capabilities["context"] if backend.capabilities else None for backend in backends]
        stated = [context for context in contexts if context is not None]
        named = [body[name] for name in TOKENS if name in body]
        length = max(named or [backend.longest_answer for backend in backends], default=0)
        return bound_of(kind, body, length, max(stated) if stated and len(stated) == len(contexts) else None)


class RoutingTable:
    """The routes that are in force."""

    def __init__(self, models: Sequence[ServedModel], backends: Mapping[str, Backend]) -> None:
        self.models = {model["name"]: ModelRoutes(model, backends) for model in models}

    def of(self, name: object) -> ModelRoutes:
        """The routes of a name that a caller asked for. Raises Refusal (404)."""
        model = self.models.get(name) if isinstance(name, str) else None
        if model is None:
            raise Refusal(
                404,
                "model_not_found",
                f"There is no model {short(str(name))!r} here. There are: {', '.join(self.models)}.",
                param="model",
            )
        return model

    def routes(self) -> list[Route]:
        """All of them."""
        return [route for model in self.models.values() for route in model.routes]


def _place(text: str) -> float:
    """A number from 0 to 1 that belongs to a text for good."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def drawn(text: str, share: float) -> bool:
    """Whether a text is in a share of all texts."""
    return _place(text) < share
