"""In what form a caller gets an answer: a backend's documents as they are, or as `/v1/responses` has them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
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

    def refused(self, content: str) -> bytes:
        """What a backend says that is wrong with the request."""
        return content.encode()

    def closing(self, seen: AnswerSeen, head: JsonObject) -> bytes:
        """The end of a stream. head: id, model and time, as its documents have them."""
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
        self._beside: JsonObject = {}  # what a classifier has beside its answer
        self._output: list[JsonObject] = []
        self._open: list[int] = []  # places in the output of the items that grow
        self._calls: dict[int, int] = {}  # such places, by the calls' own in the answer

    def asked(self, body: JsonObject) -> JsonObject:
        self._echo = {name: body.get(name, usual) for name, usual in ECHOED.items()}
        return chat_of(body)

    def whole(self, document: JsonObject) -> bytes:
        self._begin(document)
        usage = document.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        for choice in _first_choice(document):
            message = choice.get("message")
            list(self._grow(message if isinstance(message, dict) else {}))
            self._reason = choice.get("finish_reason")
        list(self._close())
        self._note_beside(document)
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
        self._note_beside(document)
        return b"".join(events)

    def refused(self, content: str) -> bytes:
        try:
            document = json.loads(content)
            error = document["error"]
            error["param"] = self.param(error["param"])
            return compact(document)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):  # it names no field
            return content.encode()

    def closing(self, seen: AnswerSeen, head: JsonObject) -> bytes:
        events = [b"" if self._head else self.events(head), *self._close()]
        response = self._response(seen.prompt_tokens, seen.completion_tokens)
        return b"".join([*events, self._event(f"response.{response['status']}", response=response)])

    def failed(self, refusal: Refusal) -> bytes:
        error = {"code": refusal.code, "message": refusal.message, "param": refusal.param}
        return self._event("error", **error, error=json.loads(refusal.body())["error"])

    def param(self, name: str | None) -> str | None:
        field = (name or "").partition(".")[0]  # what is inside it has other places in the caller's request
        return OWN_NAMES.get(field, name)

    def _begin(self, document: JsonObject) -> None:
        self._head = {
            "id": document["id"],
            "object": "response",
            "created_at": document.get("created"),
            "model": document["model"],
        }

    def _note_beside(self, document: JsonObject) -> None:
        if "classification" in document:
            self._beside = {"classification": document["classification"]}

    def _grow(self, piece: JsonObject) -> Iterator[bytes]:
        """More of the answer: its text, then its calls, whole or in pieces, which may take turns."""
        if isinstance(text := piece.get("content"), str) and text:
            at = self._message
            if at is None:
                at = yield from self._open_message()
            self._output[at]["content"][0]["text"] += text
            yield self._item_event(at, "response.output_text.delta", delta=text, content_index=0, logprobs=[])
        calls = piece.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                yield from self._grow_call(call, call.get("index", place))

    def _grow_call(self, call: JsonObject, index: Any) -> Iterator[bytes]:
        function, call_id = call["function"], call.get("id")
        at = self._calls.get(index) if isinstance(index, int) else None
        if at is None:
            if not isinstance(call_id, str) or not isinstance(index, int):
                return
            at = self._calls[index] = yield from self._open_call(call_id, str(function.get("name") or ""))
        item, arguments = self._output[at], function.get("arguments")
        item["name"] = item["name"] or str(function.get("name") or "")
        if isinstance(arguments, str) and arguments:
            item["arguments"] += arguments
            yield self._item_event(at, "response.function_call_arguments.delta", delta=arguments)

    def _open_message(self) -> Generator[bytes, None, int]:
        item_id = f"msg_{str(self._head['id']).removeprefix('resp_')}_{len(self._output)}"
        message: JsonObject = {"id": item_id, "type": "message", "role": "assistant"}
        message |= {"status": "in_progress", "content": []}
        at = yield from self._add(message)
        part: JsonObject = {"type": "output_text", "text": "", "annotations": []}
        message["content"] = [part]
        yield self._item_event(at, "response.content_part.added", content_index=0, part=part)
        return at

    def _open_call(self, call_id: str, name: str) -> Generator[bytes, None, int]:
        if (message := self._message) is not None:
            yield from self._close_item(message)
        call = {"id": f"fc_{call_id}", "type": "function_call", "status": "in_progress", "call_id": call_id,
                "name": name, "arguments": ""}  # fmt: skip
        return (yield from self._add(call))

    def _add(self, item: JsonObject) -> Generator[bytes, None, int]:
        at = len(self._output)
        self._output.append(item)
        self._open.append(at)
        yield self._event("response.output_item.added", output_index=at, item=item)
        return at

    @property
    def _message(self) -> int | None:
        """The place of the message that grows."""
        return next((at for at in self._open if self._output[at]["type"] == "message"), None)

    def _close(self) -> Iterator[bytes]:
        """End the items that grow."""
        for at in [*self._open]:
            yield from self._close_item(at)

    def _close_item(self, at: int) -> Iterator[bytes]:
        self._open.remove(at)
        item = self._output[at]
        item["status"] = "incomplete" if self._reason == "length" else "completed"
        if item["type"] == "message":
            (part,) = item["content"]
            done = {"content_index": 0, "text": part["text"], "logprobs": []}
            yield self._item_event(at, "response.output_text.done", **done)
            yield self._item_event(at, "response.content_part.done", content_index=0, part=part)
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._item_event(at, "response.function_call_arguments.done", **done)
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _item_event(self, at: int, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._output[at]["id"], output_index=at, **fields)

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
        return self._head | self._echo | self._beside | {
            "status": "incomplete" if cut else "completed", "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": self._output, "previous_response_id": None, "store": False, "truncation": "disabled",
            "usage": usage,
        }  # fmt: skip


def _first_choice(document: JsonObject) -> list[JsonObject]:
    choices = document.get("choices")
    listed = choices if isinstance(choices, list) else []
    return [choice for choice in listed if isinstance(choice, dict) and choice.get("index", 0) == 0][:1]
