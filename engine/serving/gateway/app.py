"""The routes of a gateway: OpenAI's protocol at /v1, feedback, health and readiness.

Every request comes to a name of ours and from no foreign page (`store.http.access`); all but /health and
/ready bring a key.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.serving.gateway.answering import Answering
from engine.serving.gateway.calls.answer_forms import ResponsesForm
from engine.serving.gateway.feedback import FeedbackDesk
from engine.serving.gateway.gateway import Gateway
from engine.serving.gateway.requests.bodies import short
from engine.serving.gateway.requests.json_answer import WithRefusals, answer_json, answer_refusal
from engine.serving.gateway.requests.refusals import Refusal
from store.http.access import Names
from store.http.answers import with_headers


def build(gateway: Gateway) -> Starlette:
    """The application."""
    listed = _ModelList(gateway)
    readiness = _Readiness(gateway)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", Answering(gateway, "chat"), methods=["POST"]),
            Route("/v1/responses", Answering(gateway, "chat", ResponsesForm, "resp_"), methods=["POST"]),
            Route("/v1/completions", Answering(gateway, "completion"), methods=["POST"]),
            Route("/v1/embeddings", Answering(gateway, "embedding"), methods=["POST"]),
            Route("/v1/systemone", Answering(gateway, "decision"), methods=["POST"]),
            Route("/v1/feedback", WithRefusals(FeedbackDesk(gateway)), methods=["POST"]),
            Route("/v1/models", WithRefusals(listed), methods=["GET"]),
            Route("/v1/models/{model:path}", WithRefusals(listed), methods=["GET"]),
            Route("/health", _Aliveness(), methods=["GET"]),
            Route("/ready", readiness, methods=["GET"]),
        ],
        middleware=[Middleware(_NameGate, names=Names(gateway.config["allow_host"]))],
        exception_handlers={HTTPException: _no_such_route},
    )


class _NameGate:
    """Refuses what comes by a name that is not ours, or from a page of another site. Every answer says to a
    browser that it is what it is declared to be, and no page to be shown."""

    def __init__(self, app: ASGIApp, names: Names) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(send)
        if wrong := self._names.problem(scope):
            await answer_refusal(send, Refusal(403, "foreign_host", wrong))
        else:
            await self._app(scope, receive, send)


class _Aliveness:
    """That the process answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer_json(send, 200, {"status": "alive"})


class _Readiness:
    """Whether every model can answer, for whoever deals requests out."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        missing = self._gateway.not_ready()
        if self._gateway.draining:
            missing = {"endpoint": "it is being stopped."}
        status = 503 if missing else 200
        await answer_json(
            send, status, {"status": "not ready" if missing else "ready", "waiting_for": missing}
        )


class _ModelList:
    """The models that callers may ask for, or one of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.keys.of_request(scope)
        created = int(self._gateway.started_at)
        entries = [
            {"id": name, "object": "model", "created": created, "owned_by": "tunebench"}
            for name in self._gateway.table.models
        ]
        wanted = scope.get("path_params", {}).get("model")
        if wanted is None:
            await answer_json(send, 200, {"object": "list", "data": entries})
            return
        self._gateway.table.of(wanted)
        await answer_json(send, 200, next(entry for entry in entries if entry["id"] == wanted))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = short(request.url.path)
    refusal = Refusal(error.status_code, "unknown_url", f"There is no {request.method} {path} here.")
    if error.status_code == 405:
        refusal = Refusal(405, "method_not_allowed", f"{path} does not take {request.method}.")
    return Response(refusal.body(), refusal.status, media_type="application/json")
