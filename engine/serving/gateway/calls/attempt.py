"""One try to get an answer of one backend, up to the first of it: until then another backend can be asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType

from engine.serving.gateway.backends.answer_reading import DONE, EventSplitter
from engine.serving.gateway.backends.backend_http import (
    MAX_ANSWER_BYTES,
    MAX_ERROR_BYTES,
    BackendBroken,
    BackendReply,
)
from engine.serving.gateway.calls.call import Call
from engine.serving.gateway.calls.routing import Route
from engine.serving.gateway.requests.bodies import TOKENS
from engine.serving.protocol.json_object import JsonObject
from engine.serving.protocol.logprob_tally import HEADER, LogprobTally, read_tally

PATHS = {
    "chat": "/v1/chat/completions", "labels": "/v1/chat/completions",
    "completion": "/v1/completions", "decision": "/v1/systemone",
    "embedding": "/v1/embeddings",
}  # fmt: skip
MAX_VALUES = 10**6  # objects and lists of one document: each takes far more memory than its text
REST_SECONDS = 1.0  # for what comes after the closing mark of a stream
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
            raise BackendBroken(self.route.backend.why_not)
        self._reply = await client.send("POST", PATHS[self._call.kind], self._body())
        self.status, self.headers = self._reply.status, self._reply.headers

    def _body(self) -> bytes:
        """As the backend knows the model, and with counts of tokens at the end of a stream where it can."""
        body = {name: value for name, value in self._call.body.items() if name not in OWN_FIELDS}
        body["model"] = self.route.document["asked_as"]
        self._limit_answer(body)
        if body.get("stream"):
            options = body.get("stream_options")
            self._wants_usage = bool(isinstance(options, dict) and options.get("include_usage"))
            capabilities = self.route.backend.capabilities
            if capabilities and "stream_options" in capabilities["fields"] and options is None:
                body["stream_options"] = {"include_usage": True}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    def _limit_answer(self, body: JsonObject) -> None:
        """Where no length is named, the endpoint's limit is said; processes of our own know it. A server
        whose context is no longer than the limit can't go beyond it, and some refuse to be asked for more:
        so nothing is said to it of a chat. Of a completion it is, as the protocol's own length is 16 tokens,
        and a refusal is clearer than an answer that ends there."""
        backend = self.route.backend
        if backend.document["engine"] != "remote" or self._call.kind not in ("chat", "completion"):
            return
        fields = backend.capabilities["fields"] if backend.capabilities else []
        obeyed = [name for name in TOKENS if name in fields]
        context = backend.capabilities["context"] if backend.capabilities else None
        fills_context = context is not None and context <= backend.document["most_answer"]
        bounded = self._call.kind == "chat" and fills_context
        if obeyed and not bounded and not any(name in body for name in TOKENS):
            body[obeyed[0]] = backend.document["most_answer"]

    async def whole(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """An answer that is one document, as the caller gets it. Raises BackendBroken."""
        assert self._reply
        content = await self._reply.body(limit if self.status == 200 else MAX_ERROR_BYTES)
        self._leave(whole=self.status == 200)
        if self.status != 200:
            return self._call.form.refused(self._without_key(content.decode("utf-8", "replace")))
        document = _parsed(content, "its answer")
        self._call.note_first()
        self._read(document, read_tally(self.headers.get(HEADER, "")))
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
            if out:
                self._call.note_first()
                yield bytes(out)
            if ended:
                await self._read_rest(pieces)
                return
        raise BackendBroken("its stream ended without its closing mark")

    def _split(self, piece: bytes) -> Iterator[bytes]:
        try:
            yield from self._splitter.events(piece)
        except ValueError as error:
            raise BackendBroken(f"an event of its stream {error}") from error

    async def _read_rest(self, pieces: AsyncIterator[bytes]) -> None:
        """To the end of the body, so that the connection can be kept, which is cut where that is not at
        hand: the answer is whole."""
        with contextlib.suppress(BackendBroken, TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                async for _ in pieces:
                    pass
        self._leave(whole=True)

    def _event(self, event: bytes) -> bytes:
        document = _parsed(event, "an event of its stream")
        if "error" in document:
            detail = document["error"]
            message = detail.get("message") if isinstance(detail, dict) else detail
            raise BackendBroken(self._without_key(str(message))[:500])
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
        own = tally if self.route.backend.document["engine"] != "remote" else None
        self._call.seen.tally = own
        self._call.seen.invalid_calls = own.invalid_calls if own else None

    def _passed_on(self, document: JsonObject, written: Callable[[JsonObject], bytes]) -> bytes:
        """As the caller gets it: by the id that feedback takes, and the version that answered."""
        document["id"] = self._call.request_id
        document["model"] = self.route.document["version"]
        try:
            return written(document)
        except (ValueError, RecursionError) as error:
            raise BackendBroken("its answer holds half a character, or is nested too deeply") from error


def _parsed(content: bytes, what: str) -> JsonObject:
    """A document of a backend. Raises BackendBroken."""
    if content.count(b"[") + content.count(b"{") > MAX_VALUES:
        raise BackendBroken(f"{what} holds more than {MAX_VALUES:,} lists and objects")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BackendBroken(f"{what} is not JSON") from error
    if not isinstance(document, dict):
        raise BackendBroken(f"{what} is no object")
    return document
