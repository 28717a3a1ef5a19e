"""One request on its way: who asks what, each try to get an answer of a backend, and the line that is
written of it.

Invariant: another backend may be tried up to the first of an answer, and none after it.
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
from engine.serving.protocol.answers import LOGPROBS_HEADER, LogprobTally, read_tally
from store.core.schemas import JsonObject
from store.serving.schemas import GatewayKey, RequestKind, RequestLine

# One request on its way: who asks what, what came of it, and the line that is written of it.
#
# A call is cut where its caller goes away, its key is revoked, or its time is over: its task is cancelled, so
# that the backend's request is closed at once, and ends with the reason.

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
        self.seen = AnswerObserver()
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
            return build_timeout_refusal(seconds)
        if self.cut_reason == "revoked":
            return build_key_refusal()
        return Refusal(CLIENT_GONE, "client_gone", "The caller went away.")

    def note_first(self) -> None:
        """A first piece of the answer has come."""
        if self.first_token is None:
            self.first_token = time.monotonic() - self.began

    @property
    def head(self) -> JsonObject:
        """What a document of its answer begins with."""
        version = self.route.document.version if self.route else ""
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
        return made and made + estimate_prompt_tokens(self.body)

    def line(self, status: int, error: str | None, texts: Redactor | None) -> RequestLine:
        """What is kept of it. `texts`: takes personal data out."""
        seen, key = self.seen, self.key
        asked = extract_messages(self.kind, self.body)
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
            "version": self.route.document.version if self.route else "",
            "role": self.role,
            "person_id": key["person_id"] if key else None,
            "user": _hash_user(self.endpoint_id, self.user) if self.user else None,
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
            "input_characters": count_characters(asked),
            "output_characters": None if answered is None else len(answered),
            "messages": messages,
            "output": output,
            "redacted": redacted,
            "group": self.group,
            "dealt": self.dealt,
            "dealt_to": _hash_user(self.endpoint_id, self.sticky()) if self.sticky() else None,
            "copy_of": self.copy_of,
            "key_id": self.charged["key_id"] if self.charged else None,
            "tokens": self.tokens,
        }


Redactor = Callable[[Any], tuple[Any, int]]


def _hash_user(endpoint_id: str, user: str) -> str:
    """A person's mark in the log: the same one each time, and no name."""
    return hashlib.sha256(f"{endpoint_id}\n{user}".encode("utf-8", "replace")).hexdigest()[:16]


PATHS = {
    "chat": "/v1/chat/completions", "labels": "/v1/chat/completions",
    "completion": "/v1/completions", "decision": "/v1/systemone",
    "embedding": "/v1/embeddings",
}  # fmt: skip
MAX_VALUES = 10**6  # objects and lists of one document: each takes far more memory than its text
TRAILER_SECONDS = 1.0  # for what comes after the closing mark of a stream
OWN_FIELDS = ("user", "metadata")  # the gateway's; no backend sees whom a request is of


class Attempt:
    """`async with Attempt(call, route) as attempt`: a place at the backend for as long as the block."""

    def __init__(self, call: Call, route: Route, *, low: bool = False) -> None:
        self._call, self.route, self._low = call, route, low
        self._reply: BackendReply | None = None
        self._taken: float | None = None
        self._splitter = EventSplitter()
        self._wants_usage = True
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Attempt:
        await self.route.backend.slots.take(low=self._low)
        self._taken = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(whole=kind is None)

    def _leave(self, *, whole: bool) -> None:
        """Give the place back: to whoever waits, before the answer is passed on and written down."""
        if self._reply:
            self._reply.close()
            self._reply = None
        if self._taken is not None:
            self.route.backend.slots.give(time.monotonic() - self._taken if whole else None)
            self._taken = None

    async def ask(self) -> None:
        """Send it, and wait for the head. Raises BackendBroken."""
        client = self.route.backend.client
        if client is None or not self.route.can_answer:
            raise BackendConnectionError(self.route.backend.why_not)
        self._reply = await client.send("POST", PATHS[self._call.kind], self._body())
        self.status, self.headers = self._reply.status, self._reply.headers

    def _body(self) -> bytes:
        """As the backend knows the model, and with counts of tokens at the end of a stream where it can."""
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
        """Where no length is named, the endpoint's limit is said; processes of our own know it. A server
        whose context is no longer than the limit can't go beyond it, and some refuse to be asked for more:
        so nothing is said to it of a chat. Of a completion it is, as the protocol's own length is 16 tokens,
        and a refusal is clearer than an answer that ends there."""
        backend = self.route.backend
        if backend.document.engine != "remote" or self._call.kind not in ("chat", "completion"):
            return
        fields = backend.capabilities.fields if backend.capabilities else []
        obeyed = [name for name in TOKENS if name in fields]
        context = backend.capabilities.context if backend.capabilities else None
        fills_context = context is not None and context <= backend.document.most_answer
        bounded = self._call.kind == "chat" and fills_context
        if obeyed and not bounded and not any(name in body for name in TOKENS):
            body[obeyed[0]] = backend.document.most_answer

    async def whole(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """An answer that is one document, as the caller gets it. Raises BackendBroken."""
        assert self._reply
        content = await self._reply.body(limit if self.status == 200 else MAX_ERROR_BYTES)
        self._leave(whole=self.status == 200)
        if self.status != 200:
            return self._call.form.refused(self._without_key(content.decode("utf-8", "replace")))
        document = _parse_document(content, "its answer")
        self._call.note_first()
        self._read(document, read_tally(self.headers.get(LOGPROBS_HEADER, "")))
        return self._passed_on(document, self._call.form.whole)

    async def events(self) -> AsyncIterator[bytes]:
        """Each piece of a stream as the caller gets it, the closing mark left out. Raises BackendBroken."""
        assert self._reply
        pieces = self._reply.pieces()
        async for piece in pieces:
            out, ended = bytearray(), False
            for event in self._split(piece):
                if event == DONE:
                    ended = True
                else:
                    out += self._event(event)
            if self._call.seen.pieces:  # a stream begins with whose turn it is, which is no token
                self._call.note_first()
            if out:
                yield bytes(out)
            if ended:
                await self._read_rest(pieces)
                return
        raise BackendConnectionError("its stream ended without its closing mark")

    def _split(self, piece: bytes) -> Iterator[bytes]:
        try:
            yield from self._splitter.events(piece)
        except ValueError as error:
            raise BackendConnectionError(f"an event of its stream {error}") from error

    async def _read_rest(self, pieces: AsyncIterator[bytes]) -> None:
        """To the end of the body, so that the connection can be kept, which is cut where that is not at
        hand: the answer is whole."""
        with contextlib.suppress(BackendConnectionError, TimeoutError):
            async with asyncio.timeout(TRAILER_SECONDS):
                async for _ in pieces:
                    pass
        self._leave(whole=True)

    def _event(self, event: bytes) -> bytes:
        document = _parse_document(event, "an event of its stream")
        if "error" in document:
            detail = document["error"]
            message = detail.get("message") if isinstance(detail, dict) else detail
            raise BackendConnectionError(self._without_key(str(message))[:500])
        self._read(document, self._splitter.tally)
        if not self._wants_usage and "usage" in document:
            del document["usage"]
            if document.get("choices") == []:
                return b""
        return self._passed_on(document, self._call.form.events)

    def _without_key(self, text: str) -> str:
        client = self.route.backend.client
        return client.without_key(text) if client else text

    def _read(self, document: JsonObject, tally: LogprobTally | None) -> None:
        """Note what it says. An address elsewhere has nothing to tell beside its answer."""
        self._call.seen.read(document)
        own = tally if self.route.backend.document.engine != "remote" else None
        self._call.seen.tally = own
        self._call.seen.invalid_calls = own.invalid_calls if own else None

    def _passed_on(self, document: JsonObject, written: Callable[[JsonObject], bytes]) -> bytes:
        """As the caller gets it: by the id that feedback takes, and the version that answered."""
        document["id"] = self._call.request_id
        document["model"] = self.route.document.version
        try:
            return written(document)
        except (ValueError, RecursionError) as error:
            raise BackendConnectionError(
                "its answer holds half a character, or is nested too deeply"
            ) from error


def _parse_document(content: bytes, what: str) -> JsonObject:
    """A document of a backend. Raises BackendBroken."""
    if content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise BackendConnectionError(f"{what} holds more than {MAX_VALUES:,} lists and objects")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BackendConnectionError(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise BackendConnectionError(f"{what} is no object")
    return document
