"""One request in progress: its caller, the attempts to get an answer from a backend, and its log line.

Invariant: another backend may be tried until the first byte of an answer is sent, and none afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Literal

from engine.serving.gateway.answer_forms import AnswerForm
from engine.serving.gateway.answer_reading import (
    DONE,
    AnswerObserver,
    EventSplitter,
    count_characters,
    extract_messages,
)
from engine.serving.gateway.backend_http import (
    MAX_ANSWER_BYTES,
    MAX_ERROR_BYTES,
    BackendConnectionError,
    BackendReply,
)
from engine.serving.gateway.request_bodies import (
    TOKENS,
    Refusal,
    build_key_refusal,
    build_timeout_refusal,
    estimate_prompt_tokens,
)
from engine.serving.gateway.routing import Route
from engine.serving.protocol.answers import LOGPROBS_HEADER, LogprobTally, parse_tally
from store.core.schemas import JsonObject
from store.serving.schemas import GatewayKey, RequestKind, RequestLine

# A call is cancelled if its client disconnects, its key is revoked, or its time is up: its task is cancelled,
# so that the backend's request is closed at once, and the call ends with that reason.

CancelReason = Literal["gone", "revoked", "timeout"]
CLIENT_GONE = 499  # as in nginx


class Call:
    """A request and its answer."""

    def __init__(
        self, endpoint_id: str, request_id: str, kind: RequestKind, form: AnswerForm | None = None
    ) -> None:
        self.endpoint_id, self.request_id, self.kind = endpoint_id, request_id, kind
        self.form = form or AnswerForm()
        self.at, self.start_time = time.time(), time.monotonic()
        self.key: GatewayKey | None = None
        self.body: JsonObject = {}
        self.user: str | None = None
        self.group: str | None = None
        self.assigned_version: str | None = None  # version whose share the caller is in
        self.copy_of: str | None = None  # for a shadow: id of the copied request
        self.route: Route | None = None
        self.role: Literal["live", "candidate", "shadow", "fallback"] = "live"
        self.first_token: float | None = None
        self.observer = AnswerObserver()
        self.reserved_tokens = 0  # tokens reserved from its key's daily quota
        self.headers: list[tuple[bytes, bytes]] = []  # response headers about its key's quota
        self.sampled = False
        self.started = False  # part of the answer was sent
        self.cancel_reason: CancelReason | None = None
        self._done = False
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = float("inf")

    def set_time_limit(self, seconds: float) -> None:
        """Cancel the call after this time."""
        self._deadline = time.monotonic() + seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel, "timeout")

    def compute_timeout(self, routes: int) -> float | None:
        """Return how many seconds a route has for the first byte, with `routes` routes left that can answer.

        It is an equal share of the time left; None for the last route, which may use all of it.
        """
        return max(0.0, self._deadline - time.monotonic()) / routes if routes > 1 else None

    def cancel(self, reason: CancelReason) -> None:
        """Cancel the call for this reason; no effect if it has ended."""
        if self.cancel_reason is None and not self._done and self._task:
            self.cancel_reason = reason
            self._task.cancel()

    def finish(self) -> None:
        """Prevent cancellation from now on."""
        self._done = True
        if self._timer:
            self._timer.cancel()

    def build_refusal(self, seconds: float) -> Refusal:
        """Return the error for a cancelled call."""
        if self.cancel_reason == "timeout":
            return build_timeout_refusal(seconds)
        if self.cancel_reason == "revoked":
            return build_key_refusal()
        return Refusal(CLIENT_GONE, "client_gone", "The caller went away.")

    def record_first_token(self) -> None:
        """Record the time of the answer's first piece."""
        if self.first_token is None:
            self.first_token = time.monotonic() - self.start_time

    @property
    def head(self) -> JsonObject:
        """First fields of each document of the answer."""
        version = self.route.document.version if self.route else ""
        return {"id": self.request_id, "created": int(self.at), "model": version}

    def get_routing_key(self) -> str:
        """Return the key by which a caller stays on the same route."""
        return self.user or (self.key["key_id"] if self.key else "")

    @property
    def charged_key(self) -> GatewayKey | None:
        """Key whose quota is charged; None for shadow copies, which the caller didn't request."""
        return self.key if self.role != "shadow" else None

    @property
    def tokens(self) -> int:
        """Tokens that count towards quotas, as reported by the backend.

        If the answer was cancelled before that, or the server doesn't report tokens, it is the number of
        pieces plus an estimate of the prompt; 0 without any piece.
        """
        if self.observer.total_tokens is not None:
            return self.observer.total_tokens
        generated = max(self.observer.pieces, self.observer.tally.tokens if self.observer.tally else 0)
        return generated and generated + estimate_prompt_tokens(self.body)

    def build_line(self, status: int, error: str | None, texts: Redactor | None) -> RequestLine:
        """Return the log line; `texts`: redacts personal data."""
        observer, key = self.observer, self.key
        request_messages = extract_messages(self.kind, self.body)
        answer = observer.output if status == 200 or observer.output else None
        messages, output, redacted = (request_messages, answer, 0) if self.sampled else (None, None, 0)
        if self.sampled and texts:
            (messages, in_messages), (output, in_output) = texts(request_messages), texts(answer)
            redacted = in_messages + in_output
        model = self.body.get("model")
        return {
            "request_id": self.request_id,
            "endpoint_id": self.endpoint_id,
            "at": self.at,
            "kind": self.kind,
            "model": model[:200] if isinstance(model, str) else "",
            "version": self.route.document.version if self.route else "",
            "role": self.role,
            "person_id": key["person_id"] if key else None,
            "user": _hash_user(self.endpoint_id, self.user) if self.user else None,
            "status": status,
            "error": error,
            "prompt_tokens": observer.prompt_tokens,
            "completion_tokens": observer.completion_tokens,
            "first_token_seconds": self.first_token,
            "seconds": time.monotonic() - self.start_time,
            "finish_reason": observer.finish_reason,
            "mean_logprob": observer.mean_logprob,
            "calls": observer.calls,
            "invalid_calls": observer.invalid_calls,
            "label": observer.label,
            "confidence": observer.confidence,
            "abstained": observer.abstained,
            "input_characters": count_characters(request_messages),
            "output_characters": None if answer is None else len(answer),
            "messages": messages,
            "output": output,
            "redacted": redacted,
            "group": self.group,
            "dealt": self.assigned_version,
            "dealt_to": _hash_user(self.endpoint_id, self.get_routing_key())
            if self.get_routing_key()
            else None,
            "copy_of": self.copy_of,
            "key_id": self.charged_key["key_id"] if self.charged_key else None,
            "tokens": self.tokens,
        }


Redactor = Callable[[Any], tuple[Any, int]]


def _hash_user(endpoint_id: str, user: str) -> str:
    """Return a stable pseudonym of a person for the log."""
    return hashlib.sha256(f"{endpoint_id}\n{user}".encode("utf-8", "replace")).hexdigest()[:16]


PATHS = {
    "chat": "/v1/chat/completions", "labels": "/v1/chat/completions",
    "completion": "/v1/completions", "decision": "/v1/systemone",
    "embedding": "/v1/embeddings",
}  # fmt: skip
MAX_VALUES = 10**6  # objects and lists per document: each takes far more memory than its text
TRAILER_SECONDS = 1.0  # for the rest after a stream's closing mark
OWN_FIELDS = ("user", "metadata")  # for the gateway only; backends don't see the user


class Attempt:
    """Context manager for one attempt at a backend, which holds a slot there."""

    def __init__(self, call: Call, route: Route, *, low_priority: bool = False) -> None:
        self._call, self.route, self._low_priority = call, route, low_priority
        self._reply: BackendReply | None = None
        self._acquired_at: float | None = None
        self._splitter = EventSplitter()
        self._wants_usage = True
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Attempt:
        await self.route.backend.slots.acquire(low_priority=self._low_priority)
        self._acquired_at = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release(complete=kind is None)

    def _release(self, *, complete: bool) -> None:
        """Release the slot, before the answer is passed on and logged."""
        if self._reply:
            self._reply.close()
            self._reply = None
        if self._acquired_at is not None:
            self.route.backend.slots.release(time.monotonic() - self._acquired_at if complete else None)
            self._acquired_at = None

    async def send_request(self) -> None:
        """Send the request and wait for the response's head. Raises BackendConnectionError."""
        client = self.route.backend.client
        if client is None or not self.route.can_answer:
            raise BackendConnectionError(self.route.backend.unavailable_reason)
        self._reply = await client.send("POST", PATHS[self._call.kind], self._build_body())
        self.status, self.headers = self._reply.status, self._reply.headers

    def _build_body(self) -> bytes:
        """Return the body with the backend's model name.

        It also requests token counts at the end of a stream, if supported.
        """
        body = {name: value for name, value in self._call.body.items() if name not in OWN_FIELDS}
        body["model"] = self.route.document.asked_as
        self._limit_answer(body)
        if body.get("stream"):
            options = body.get("stream_options")
            self._wants_usage = bool(isinstance(options, dict) and options.get("include_usage"))
            capabilities = self.route.backend.capabilities
            if capabilities and "stream_options" in capabilities.fields and options is None:
                body["stream_options"] = {"include_usage": True}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    def _limit_answer(self, body: JsonObject) -> None:
        """Set the endpoint's length limit for a remote backend if the request names no length.

        Our own backends know the limit. A server whose context isn't longer than it can't exceed it, and
        some reject a longer request, so chats set none there. Completions do, as the API's default length
        is 16 tokens, and an error is clearer than an answer that ends there.
        """
        backend = self.route.backend
        if backend.document.engine != "remote" or self._call.kind not in ("chat", "completion"):
            return
        fields = backend.capabilities.fields if backend.capabilities else []
        supported = [name for name in TOKENS if name in fields]
        context = backend.capabilities.context if backend.capabilities else None
        fills_context = context is not None and context <= backend.document.most_answer
        bounded = self._call.kind == "chat" and fills_context
        if supported and not bounded and not any(name in body for name in TOKENS):
            body[supported[0]] = backend.document.most_answer

    async def read_answer(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a single-document answer in the caller's form. Raises BackendConnectionError."""
        assert self._reply
        content = await self._reply.read_body(limit if self.status == 200 else MAX_ERROR_BYTES)
        self._release(complete=self.status == 200)
        if self.status != 200:
            return self._call.form.format_error(self._mask_key(content.decode("utf-8", "replace")))
        document = _parse_document(content, "its answer")
        self._call.record_first_token()
        self._read(document, parse_tally(self.headers.get(LOGPROBS_HEADER, "")))
        return self._format_document(document, self._call.form.format_answer)

    async def stream_events(self) -> AsyncIterator[bytes]:
        """Yield each piece of a stream in the caller's form, without the closing mark.

        Raises BackendConnectionError.
        """
        assert self._reply
        pieces = self._reply.iterate_pieces()
        async for piece in pieces:
            output, ended = bytearray(), False
            for event in self._split(piece):
                if event == DONE:
                    ended = True
                else:
                    output += self._convert_event(event)
            if self._call.observer.pieces:  # a stream starts with the role, which isn't a token
                self._call.record_first_token()
            if output:
                yield bytes(output)
            if ended:
                await self._read_rest(pieces)
                return
        raise BackendConnectionError("its stream ended without its closing mark")

    def _split(self, piece: bytes) -> Iterator[bytes]:
        try:
            yield from self._splitter.split(piece)
        except ValueError as error:
            raise BackendConnectionError(f"an event of its stream {error}") from error

    async def _read_rest(self, pieces: AsyncIterator[bytes]) -> None:
        """Read to the end of the body, so that the connection can be reused.

        If the end doesn't arrive in time the connection is closed; the answer is complete either way.
        """
        with contextlib.suppress(BackendConnectionError, TimeoutError):
            async with asyncio.timeout(TRAILER_SECONDS):
                async for _ in pieces:
                    pass
        self._release(complete=True)

    def _convert_event(self, event: bytes) -> bytes:
        document = _parse_document(event, "an event of its stream")
        if "error" in document:
            detail = document["error"]
            message = detail.get("message") if isinstance(detail, dict) else detail
            raise BackendConnectionError(self._mask_key(str(message))[:500])
        self._read(document, self._splitter.tally)
        if not self._wants_usage and "usage" in document:
            del document["usage"]
            if document.get("choices") == []:
                return b""
        return self._format_document(document, self._call.form.format_chunk)

    def _mask_key(self, text: str) -> str:
        client = self.route.backend.client
        return client.mask_key(text) if client else text

    def _read(self, document: JsonObject, tally: LogprobTally | None) -> None:
        """Record what the document says. Reports beside the answer are ignored for remote backends."""
        self._call.observer.read(document)
        trusted_tally = tally if self.route.backend.document.engine != "remote" else None
        self._call.observer.tally = trusted_tally
        self._call.observer.invalid_calls = trusted_tally.invalid_calls if trusted_tally else None

    def _format_document(self, document: JsonObject, formatter: Callable[[JsonObject], bytes]) -> bytes:
        """Format the document for the caller, with the request's id (for feedback) and the version."""
        document["id"] = self._call.request_id
        document["model"] = self.route.document.version
        try:
            return formatter(document)
        except (ValueError, RecursionError) as error:
            raise BackendConnectionError(
                "its response has an unpaired surrogate, or too deep nesting"
            ) from error


def _parse_document(content: bytes, what: str) -> JsonObject:
    """Parse a backend's document. Raises BackendConnectionError."""
    if content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise BackendConnectionError(f"{what} has more than {MAX_VALUES:,} lists and objects")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BackendConnectionError(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise BackendConnectionError(f"{what} is not an object")
    return document
