"""Short answers in JSON, and refusals in their place, for all but the requests to models."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from engine.serving.gateway.requests.bodies import ClientGone
from engine.serving.gateway.requests.refusals import Refusal

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer_json(send: Send, status: int, document: Any) -> None:
    """One document."""
    body = json.dumps(document, ensure_ascii=False).encode()
    await _answer(send, status, [(b"content-type", b"application/json")], body)


async def answer_refusal(send: Send, refusal: Refusal) -> None:
    """In OpenAI's form."""
    await _answer(send, refusal.status, refusal.headers(), refusal.body())


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class WithRefusals:
    """An ASGI application, with what it refuses as its answer."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Refusal as refusal:
            await answer_refusal(send, refusal)
        except ClientGone:
            return
