"""In what form a caller gets an answer: a backend's documents as they are, or as `/v1/responses` has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.serving.gateway.backends.answer_reading import AnswerSeen
from engine.serving.gateway.requests.refusals import Refusal
from engine.serving.gateway.requests.responses import chat_of
from engine.serving.protocol.json_object import JsonObject

ECHOED: Mapping[str, object] = {  # of a request, and what stands in an answer where it is left out
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
    "top_p": 1.0, "user": None,
}  # fmt: skip

OWN_NAMES = {"messages": "input", "max_tokens": "max_output_tokens", "response_format": "text"}


def compact(document: Mapping[str, Any]) -> bytes:
    """As JSON. Raises ValueError and RecursionError for what can't be sent."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


class AnswerForm:
    """The backend's own, which is the protocol's."""

    def asked(self, body: JsonObject) -> JsonObject:
        """The request as backends are asked it. Raises Refusal."""
        return body

    def whole(self, document: JsonObject) -> bytes:
        """An answer in one piece."""
        return compact(document)

    def events(self, document: JsonObject) -> bytes:
        """What a chunk of a stream is."""
        return b"data: " + compact(document) + b"\n\n"

    def closing(self, seen: AnswerSeen) -> bytes:
        """The end of a stream."""
        return b"data: [DONE]\n\n"

    def failed(self, refusal: Refusal) -> bytes:
        """In the place of the rest of a stream."""
        return refusal.event()

    def param(self, name: str | None) -> str | None:
        """A field as the caller knows it."""
        return name


class ResponsesForm(AnswerForm):
    """That of `/v1/responses`: items of output, and named events, each with its number."""

    def __init__(self) -> None:
        self._echo: JsonObject = {}
        self._head: JsonObject = {}
        self._numbers = 0
        self._reason: str | None = None
        self._output: list[JsonObject] = []
        self._open: JsonObject | None = None  # the item that grows, the last of the output

    def asked(self, body: JsonObject) -> JsonObject:
        self._echo = {name: body.get(name, usual) for name, usual in ECHOED.items()}
        return chat_of(body)

    def whole(self, document: JsonObject) -> bytes:
        self._begin(document)
        usage = document.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        for choice in _first_choice(document):
            message = choice.get("message")
            for _ in self._grow(message if isinstance(message, dict) else {}):
                pass
            self._reason = choice.get("finish_reason")
        list(self._close())
        return compact(self._response(usage.get("prompt_tokens"), usage.get("completion_tokens")))

    def events(self, document: JsonObject) -> bytes:
        events: list[bytes] = []
        if not self._head:
            self._begin(document)
            begun = self._response(None, None) | {"status": "in_progress"}
            events += [
                self._event(kind, response=begun) for kind in ("response.created", "response.in_progress")
            ]
        for choice in _first_choice(document):
            delta = choice.get("delta")
            events += self._grow(delta if isinstance(delta, dict) else {})
            self._reason = choice.get("finish_reason") or self._reason
        return b"".join(events)

    def closing(self, seen: AnswerSeen) -> bytes:
        events = [*self._close()]
        response = self._response(seen.prompt_tokens, seen.completion_tokens)
        return b"".join([*events, self._event(f"response.{response['status']}", response=response)])

    def failed(self, refusal: Refusal) -> bytes:
        error = {"code": refusal.code, "message": refusal.message, "param": refusal.param}
        return self._event("error", **error, error=json.loads(refusal.body())["error"])

    def param(self, name: str | None) -> str | None:
        return OWN_NAMES.get(name or "", name)

    def _begin(self, document: JsonObject) -> None:
        self._head = {
            "id": document["id"],
            "object": "response",
            "created_at": document.get("created"),
            "model": document["model"],
        }

    def _grow(self, piece: JsonObject) -> Iterator[bytes]:
        """More of the answer: its text, then its calls, whole or in pieces."""
        if isinstance(text := piece.get("content"), str) and text:
            if self._open is None or self._open["type"] != "message":
                yield from self._close()
                yield from self._open_message()
            assert self._open
            self._open["content"][0]["text"] += text
            yield self._item_event("response.output_text.delta", delta=text, content_index=0, logprobs=[])
        calls = piece.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                continue
            if isinstance(call.get("id"), str):
                yield from self._close()
                yield from self._open_call(call["id"], str(function.get("name", "")))
            arguments = function.get("arguments")
            if (
                self._open
                and self._open["type"] == "function_call"
                and isinstance(arguments, str)
                and arguments
            ):
                self._open["arguments"] += arguments
                yield self._item_event("response.function_call_arguments.delta", delta=arguments)

    def _open_message(self) -> Iterator[bytes]:
        item_id = f"msg_{str(self._head['id']).removeprefix('resp_')}_{len(self._output)}"
        message: JsonObject = {"id": item_id, "type": "message", "role": "assistant"}
        message |= {"status": "in_progress", "content": []}
        yield from self._add(message)
        part: JsonObject = {"type": "output_text", "text": "", "annotations": []}
        message["content"] = [part]
        yield self._item_event("response.content_part.added", content_index=0, part=part)

    def _open_call(self, call_id: str, name: str) -> Iterator[bytes]:
        call = {"id": f"fc_{call_id}", "type": "function_call", "status": "in_progress", "call_id": call_id,
                "name": name, "arguments": ""}  # fmt: skip
        yield from self._add(call)

    def _add(self, item: JsonObject) -> Iterator[bytes]:
        self._output.append(item)
        self._open = item
        place = len(self._output) - 1
        yield self._event("response.output_item.added", output_index=place, item=item)

    def _close(self) -> Iterator[bytes]:
        """End the item that grows."""
        item = self._open
        if item is None:
            return
        item["status"] = "incomplete" if self._reason == "length" else "completed"
        if item["type"] == "message":
            (part,) = item["content"]
            done = {"content_index": 0, "text": part["text"], "logprobs": []}
            yield self._item_event("response.output_text.done", **done)
            yield self._item_event("response.content_part.done", content_index=0, part=part)
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._item_event("response.function_call_arguments.done", **done)
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)
        self._open = None

    def _item_event(self, kind: str, **fields: Any) -> bytes:
        assert self._open
        return self._event(kind, item_id=self._open["id"], output_index=len(self._output) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        document = {"type": kind, "sequence_number": self._numbers, **fields}
        self._numbers += 1
        return b"event: " + kind.encode() + b"\ndata: " + compact(document) + b"\n\n"

    def _response(self, read: int | None, written: int | None) -> JsonObject:
        cut = self._reason == "length"
        usage = None
        if read is not None or written is not None:
            usage = {
                "input_tokens": read or 0, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": written or 0, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": (read or 0) + (written or 0),
            }  # fmt: skip
        return self._head | self._echo | {
            "status": "incomplete" if cut else "completed", "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": self._output, "previous_response_id": None, "store": False, "truncation": "disabled",
            "usage": usage,
        }  # fmt: skip


def _first_choice(document: JsonObject) -> list[JsonObject]:
    choices = document.get("choices")
    listed = choices if isinstance(choices, list) else []
    return [choice for choice in listed if isinstance(choice, dict) and choice.get("index", 0) == 0][:1]
