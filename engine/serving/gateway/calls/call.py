"""One request on its way: who asks what, what came of it, and the line that is written of it.

A call is cut where its caller goes away, its key is revoked, or its time is over: its task is cancelled, so
that the backend's request is closed at once, and ends with the reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any, Literal

from engine.serving.gateway.backends.answer_reading import AnswerSeen, characters, messages_of
from engine.serving.gateway.calls.answer_forms import AnswerForm
from engine.serving.gateway.calls.routing import Route
from engine.serving.gateway.requests.refusals import Refusal, too_slow, wrong_key
from engine.serving.gateway.requests.token_bound import estimated_prompt
from engine.serving.protocol.json_object import JsonObject
from store.documents.serving.endpoint import GatewayKey
from store.documents.serving.request_line import RequestKind, RequestLine

CutReason = Literal["gone", "revoked", "timeout"]
CLIENT_GONE = 499  # as nginx writes it


class Call:
    """A request and its answer."""

    def __init__(
        self, endpoint_id: str, request_id: str, kind: RequestKind, form: AnswerForm | None = None
    ) -> None:
        self.endpoint_id, self.request_id, self.kind = endpoint_id, request_id, kind
        self.form = form or AnswerForm()
        self.at, self.began = time.time(), time.monotonic()
        self.key: GatewayKey | None = None
        self.body: JsonObject = {}
        self.user: str | None = None
        self.group: str | None = None
        self.dealt: str | None = None  # version in whose share its caller is
        self.copy_of: str | None = None  # of a shadow: the id of the request that it copies
        self.route: Route | None = None
        self.role: Literal["live", "candidate", "shadow", "fallback"] = "live"
        self.first_token: float | None = None
        self.seen = AnswerSeen()
        self.held = 0  # tokens of its key's day, until it ends
        self.headers: list[tuple[bytes, bytes]] = []  # of its answer, about its key's quota
        self.sampled = False
        self.begun = False  # something of the answer was sent
        self.cut_reason: CutReason | None = None
        self._done = False
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._until = float("inf")

    def limit(self, seconds: float) -> None:
        """Cut it after so long."""
        self._until = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut, "timeout")

    def patience(self, routes: int) -> float | None:
        """Seconds that a route has for the first byte of its answer, where so many are left that could give
        one: its part of the time left. The last one has all of it."""
        return max(0.0, self._until - time.monotonic()) / routes if routes > 1 else None

    def cut(self, reason: CutReason) -> None:
        """End it for this reason; nothing happens where it has ended."""
        if self.cut_reason is None and not self._done and self._task:
            self.cut_reason = reason
            self._task.cancel()

    def finish(self) -> None:
        """From now on it is not cut any more."""
        self._done = True
        if self._timer:
            self._timer.cancel()

    def refusal(self, seconds: float) -> Refusal:
        """What the caller is told of a cut."""
        if self.cut_reason == "timeout":
            return too_slow(seconds)
        if self.cut_reason == "revoked":
            return wrong_key()
        return Refusal(CLIENT_GONE, "client_gone", "The caller went away.")

    def note_first(self) -> None:
        """Something of the answer has come."""
        if self.first_token is None:
            self.first_token = time.monotonic() - self.began

    @property
    def head(self) -> JsonObject:
        """What a document of its answer begins with."""
        version = self.route.document["version"] if self.route else ""
        return {"id": self.request_id, "created": int(self.at), "model": version}

    def sticky(self) -> str:
        """By what it keeps its route."""
        return self.user or (self.key["key_id"] if self.key else "")

    @property
    def charged(self) -> GatewayKey | None:
        """Whose quota it counts in: nobody pays for copies that he did not ask for."""
        return self.key if self.role != "shadow" else None

    @property
    def tokens(self) -> int:
        """What it took, for quotas: as the backend counts. Where an answer was cut before that, or its server
        doesn't count, its pieces and an estimate of the prompt, which was read for them."""
        if self.seen.counted is not None:
            return self.seen.counted
        made = max(self.seen.pieces, self.seen.tally.tokens if self.seen.tally else 0)
        return made and made + estimated_prompt(self.body)

    def line(self, status: int, error: str | None, texts: Redacting | None) -> RequestLine:
        """What is kept of it. `texts`: takes personal data out."""
        seen, key = self.seen, self.key
        asked = messages_of(self.kind, self.body)
        answered = seen.output if status == 200 or seen.output else None
        messages, output, redacted = (asked, answered, 0) if self.sampled else (None, None, 0)
        if self.sampled and texts:
            (messages, in_messages), (output, in_output) = texts(asked), texts(answered)
            redacted = in_messages + in_output
        model = self.body.get("model")
        return {
            "request_id": self.request_id,
            "endpoint_id": self.endpoint_id,
            "at": self.at,
            "kind": self.kind,
            "model": model[:200] if isinstance(model, str) else "",
            "version": self.route.document["version"] if self.route else "",
            "role": self.role,
            "person_id": key["person_id"] if key else None,
            "user": _hashed(self.endpoint_id, self.user) if self.user else None,
            "status": status,
            "error": error,
            "prompt_tokens": seen.prompt_tokens,
            "completion_tokens": seen.completion_tokens,
            "first_token_seconds": self.first_token,
            "seconds": time.monotonic() - self.began,
            "finish_reason": seen.finish_reason,
            "mean_logprob": seen.mean_logprob,
            "calls": seen.calls,
            "invalid_calls": seen.invalid_calls,
            "label": seen.label,
            "confidence": seen.confidence,
            "abstained": seen.abstained,
            "input_characters": characters(asked),
            "output_characters": None if answered is None else len(answered),
            "messages": messages,
            "output": output,
            "redacted": redacted,
            "group": self.group,
            "dealt": self.dealt,
            "dealt_to": _hashed(self.endpoint_id, self.sticky()) if self.sticky() else None,
            "copy_of": self.copy_of,
            "key_id": self.charged["key_id"] if self.charged else None,
            "tokens": self.tokens,
        }


Redacting = Callable[[Any], tuple[Any, int]]


def _hashed(endpoint_id: str, user: str) -> str:
    """A person's mark in the log: the same one each time, and no name."""
    return hashlib.sha256(f"{endpoint_id}\n{user}".encode("utf-8", "replace")).hexdigest()[:16]
