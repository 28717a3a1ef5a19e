"""`POST /v1/feedback`: what people say of an answer, at once or much later, written down beside the
requests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from starlette.types import Receive, Scope, Send

from engine.serving.gateway.requests import bodies
from engine.serving.gateway.requests.json_answer import answer_json
from engine.serving.gateway.requests.refusals import Refusal, draining
from store.documents.serving.feedback_line import FeedbackLine

if TYPE_CHECKING:
    from engine.serving.gateway.gateway import Gateway

KINDS: tuple[Literal["thumb", "score", "correction", "label"], ...] = (
    "thumb",
    "score",
    "correction",
    "label",
)
FIELDS = {"request_id", *KINDS, "comment"}
TEXT_CHARACTERS = 100_000
MOST_SCORE = 10**12  # either way: what is beyond it is no score, and may be no float either
_THUMBS = {"up": 1.0, "down": 0.0, 1: 1.0, 0: 0.0}  # true and false are 1 and 0


class FeedbackDesk:
    """The ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        if gateway.draining:
            raise draining()
        key = gateway.keys.of_request(scope)
        gateway.keys.spend_request(key)
        body = bodies.parse(await bodies.read_body(scope, receive, gateway.config["limits"]["body_bytes"]))
        line = self._line(body, key["person_id"])
        if gateway.config["log"]["redact"]:
            line = await asyncio.to_thread(_redacted, line)
        if not gateway.feedback_log.append(line):
            raise Refusal(
                507,
                "log_full",
                f"The feedback could not be written ({gateway.feedback_log.error}); send it again.",
            )
        await answer_json(
            send, 200, {"id": line["feedback_id"], "object": "feedback", "request_id": line["request_id"]}
        )

    def _line(self, body: Mapping[str, Any], person_id: str) -> FeedbackLine:
        for name in body:
            if name not in FIELDS:
                raise Refusal(
                    400,
                    "unsupported_parameter",
                    f"Feedback has no field {bodies.short(name)}. It has: {', '.join(sorted(FIELDS))}.",
                    param=bodies.short(name),
                )
        request_id, comment = body.get("request_id"), body.get("comment", "")
        if not isinstance(request_id, str):
            raise Refusal(400, "missing_parameter", "request_id is missing.", param="request_id")
        if not self._gateway.ids.made(request_id):
            raise Refusal(
                404,
                "request_not_found",
                f"This endpoint never gave the id {bodies.short(request_id)!r}.",
                param="request_id",
            )
        given = [kind for kind in KINDS if kind in body]
        if len(given) != 1:
            raise Refusal(400, "invalid_value", f"Give one of {', '.join(KINDS)}; {len(given)} were given.")
        kind = given[0]
        value, text = _value(kind, body[kind])
        return {
            "feedback_id": f"fb-{secrets.token_hex(12)}",
            "request_id": request_id,
            "endpoint_id": self._gateway.config["endpoint_id"],
            "at": time.time(),
            "person_id": person_id,
            "kind": kind,
            "value": value,
            "text": text,
            "comment": _text("comment", comment),
        }


def _redacted(line: FeedbackLine) -> FeedbackLine:
    """As the log's texts: a correction may hold what was taken out of the question."""
    from engine.serving.gateway.records.kept_texts import redacted

    return {**line, "text": redacted(line["text"])[0], "comment": redacted(line["comment"])[0]}


def _value(kind: str, given: object) -> tuple[float | None, str | None]:
    """The number and the text of one kind."""
    if kind == "thumb":
        if isinstance(given, bool | str | int) and given in _THUMBS:
            return _THUMBS[given], None
        raise Refusal(400, "invalid_value", "thumb has to be up or down.", param="thumb")
    if kind == "score":
        if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= MOST_SCORE:
            return float(given), None
        raise Refusal(
            400, "invalid_value", f"score has to be a number of up to {MOST_SCORE:,}.", param="score"
        )
    return None, _text(kind, given)


def _text(name: str, given: object) -> str:
    if not isinstance(given, str) or len(given) > TEXT_CHARACTERS:
        raise Refusal(
            400,
            "invalid_value",
            f"{name} has to be a text of up to {TEXT_CHARACTERS:,} characters.",
            param=name,
        )
    return given
