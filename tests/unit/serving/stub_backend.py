"""A backend that knows no model: `python -m tests.unit.serving.stub_backend SPEC.json`.

The spec's `model` is JSON that says how it behaves: `delay` (seconds before an answer), `pause` (between the
words of a stream), `words`, `fields`, `kinds`, `fail` (its start fails; with `once` only the first), `status`
(of every answer), `calls` (functions that it calls after its words, with the JSON of their arguments),
`invalid_calls` (told beside the answer), `broken` (before | after: it breaks off before, or after, the first
piece), `label`, `nats` (of each word, told beside the answer as our worker does), `reason` (of the end).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.serving.protocol.answers import (
    LOGPROBS_COMMENT,
    LOGPROBS_HEADER,
    AnswerToolCall,
    LogprobTally,
    ResponseBuilder,
)

FIELDS = [
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "stop",
    "n",
    "logprobs",
    "seed",
    "response_format",
]
KINDS = ["chat", "completion", "decision"]
WORDS = ["This", " is", " a", " known", " answer"]


class Stub:
    """How it behaves, and what it was asked."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.does = json.loads(spec["model"])
        self.names = [*spec["names"], *(adapter["name"] for adapter in spec["adapters"])]
        self.words = self.does.get("words", WORDS)
        self.asked: list[dict[str, Any]] = []
        self.closed = 0

    @property
    def capabilities(self) -> dict[str, Any]:
        return {
            "engine": "worker", "version": "stub", "kinds": self.does.get("kinds", KINDS),
            "fields": self.does.get("fields", FIELDS), "context": 2048, "template": True,
            "models": self.names,
        }  # fmt: skip

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        if self.does.get("broken") == "before":
            os._exit(9) if self.does.get("die") else None
            return Response(b'{"half', headers={"content-length": "1000"})
        await asyncio.sleep(self.does.get("delay", 0.0))
        if (status := self.does.get("status", 200)) != 200:
            return JSONResponse({"error": {"message": "stubbed"}}, status)
        if request.url.path == "/v1/systemone":
            answer = {"type": "choice", "choice": "a", "probabilities": {"a": 0.8, "b": 0.2}}
            return JSONResponse({"answers": {"q": answer}, "usage": self._usage()})
        if request.url.path == "/v1/embeddings":
            vectors = [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}]
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            return JSONResponse({"object": "list", "data": vectors, "model": body["model"], "usage": usage})
        if body.get("stream"):
            return StreamingResponse(self._events(body), media_type="text/event-stream")
        tally = self._tally(len(self.words))
        return JSONResponse(self._whole(body), headers={LOGPROBS_HEADER: tally.to_text()} if tally else None)

    def _tally(self, words: int) -> LogprobTally | None:
        if "nats" not in self.does:
            return None
        return LogprobTally(words * self.does["nats"], words, self.does.get("invalid_calls", 0))

    @property
    def calls(self) -> list[AnswerToolCall]:
        return [
            {"id": f"call{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for place, (name, arguments) in enumerate(self.does.get("calls", {}).items())
        ]

    def _usage(self) -> dict[str, int]:
        return {"prompt_tokens": 7, "completion_tokens": len(self.words), "total_tokens": 7 + len(self.words)}

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "".join(self.words)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= (
            {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        )
        if self.calls:
            choice["message"]["tool_calls"], choice["finish_reason"] = self.calls, "tool_calls"
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": word, "logprob": -0.5} for word in self.words]}
        more = {"classification": self.does["label"]} if "label" in self.does else {}
        return {
            "id": "theirs", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
            "choices": [choice], "usage": self._usage(), **more,
        }  # fmt: skip

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        head = {"id": "theirs", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        try:
            for place, word in enumerate(self.words):
                delta = {"delta": {"content": word}} if "messages" in body else {"text": word}
                document = {**head, "choices": [{"index": 0, "finish_reason": None, **delta}]}
                yield _event(document, self._tally(place + 1))
                if place == 1 and self.does.get("broken") == "after":
                    return
                await asyncio.sleep(self.does.get("pause", 0.0))
            for piece in ResponseBuilder("", chat=True).build_call_deltas(0, self.calls):
                yield _event({**head, "choices": [piece]}, self._tally(len(self.words)))
            reason = self.does.get("reason", "tool_calls" if self.calls else "stop")
            yield _event(
                {**head, "choices": [{"index": 0, "finish_reason": reason, "delta": {}, "text": ""}]}
            )
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _event({**head, "choices": [], "usage": self._usage()})
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.closed += 1
            raise

    async def seen(self, request: Request) -> Response:
        return JSONResponse({"asked": self.asked, "closed": self.closed})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})


def _event(document: dict[str, Any], tally: LogprobTally | None = None) -> bytes:
    comment = LOGPROBS_COMMENT + tally.to_text().encode() + b"\n" if tally else b""
    return comment + b"data: " + json.dumps(document).encode() + b"\n\n"


def application(stub: Stub) -> Starlette:
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/systemone", "/v1/embeddings")
    return Starlette(
        routes=[
            *(Route(path, stub.answer, methods=["POST"]) for path in paths),
            Route("/seen", stub.seen),
            Route("/health", stub.health),
        ]
    )


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder = Path(sys.argv[1]).parent
    spec = json.loads(Path(sys.argv[1]).read_text())
    stub = Stub(spec)
    tried = folder / "tried"
    reason = stub.does.get("fail")
    if reason and not (stub.does.get("once") and tried.exists()):
        tried.touch()
        error = {"error": "ModelError", "message": reason, "fix": "Choose another.", "field": "model"}
        (folder / "failed.json").write_text(json.dumps(error))
        sys.exit(1)
    threading.Thread(target=end_with, args=(spec["parent"],), daemon=True).start()
    config = uvicorn.Config(application(stub), uds=spec["socket"], log_level="warning", access_log=False)
    server = uvicorn.Server(config)

    async def serve() -> None:
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        aside = folder / "ready.aside"
        aside.write_text(json.dumps({"pid": os.getpid(), "seconds": 0.1, "capabilities": stub.capabilities}))
        os.replace(aside, folder / "ready.json")
        await task

    asyncio.run(serve())


if __name__ == "__main__":
    main()
