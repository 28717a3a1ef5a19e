"""Response formats: a backend's documents unchanged, or converted for `/v1/responses`.

A request to `/v1/responses` is converted to `/v1/chat/completions`; a field without an equivalent there is
rejected by name.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from engine.serving.gateway.answer_reading import AnswerObserver
from engine.serving.gateway.request_bodies import Refusal, shorten
from store.core.schemas import JsonObject

# `POST /v1/responses` converted to a `/v1/chat/completions` request.
#
# Nothing is stored for later retrieval or continuation: `store` is false even if it is omitted, and the whole
# conversation has to be in `input`.

PASSED_THROUGH = ("model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "metadata")
TEXT_PARTS = ("input_text", "output_text", "text")
UNSUPPORTED_FIELDS = {
    "previous_response_id": "responses are not stored; send the whole conversation as input",
    "conversation": "conversations are not stored; send the whole conversation as input",
    "store": "responses are not stored for later retrieval; omit store, or set it to false",
    "background": "responses are not stored for later retrieval; stream them",
}
NO_EFFECT_VALUES: Mapping[str, object] = {
    "background": False, "include": [], "stream_options": {"include_obfuscation": False},
}  # fmt: skip
DEFAULT_VERBOSITY = (None, "medium")


def convert_to_chat(body: JsonObject) -> JsonObject:
    """Convert the request to a chat body. Raises Refusal, naming the field, for what chats don't support."""
    chat: JsonObject = {"model": body["model"]} if "model" in body else {}
    if "input" not in body:
        raise Refusal(400, "missing_parameter", "input is missing.", param="input")
    chat["messages"] = _convert_messages(body)
    for name, value in body.items():
        if name in PASSED_THROUGH:
            chat[name] = value
        elif name == "max_output_tokens":
            chat["max_tokens"] = value
        elif name == "tools":
            chat["tools"] = [_convert_tool(tool) for tool in value] if isinstance(value, list) else value
        elif name == "tool_choice":
            names_function = isinstance(value, dict) and value.get("type") == "function"
            chat["tool_choice"] = (
                {"type": "function", "function": {"name": value.get("name")}} if names_function else value
            )
        elif name == "text":
            _add_format(chat, value)
        elif name not in ("input", "instructions") and NO_EFFECT_VALUES.get(name, body) != value:
            reason = UNSUPPORTED_FIELDS.get(
                name, "it means nothing here, so it is refused rather than ignored"
            )
            raise Refusal(400, "unsupported_parameter", f"{shorten(name)}: {reason}.", param=shorten(name))
    return chat


def _convert_messages(body: JsonObject) -> list[JsonObject]:
    instructions, items = body.get("instructions"), body["input"]
    messages: list[JsonObject] = []
    if instructions is not None:
        if not isinstance(instructions, str):
            raise _build_refusal("instructions has to be a text", "instructions")
        messages.append({"role": "system", "content": instructions})
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    if not isinstance(items, list) or not items:
        raise _build_refusal("input has to be a text or a list of items", "input")
    for index, item in enumerate(items):
        _add_item(messages, item, f"input[{index}]")
    return messages


def _add_item(messages: list[JsonObject], item: object, location: str) -> None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(kind, str):
        raise _build_refusal(f"{location} is not an item", "input")
    if kind == "message":
        messages.append({"role": item.get("role"), "content": _convert_content(item.get("content"))})
    elif kind == "function_call":
        function = {name: item.get(name) for name in ("name", "arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        if messages and messages[-1]["role"] == "assistant":  # text and calls of one answer
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        content = _convert_content(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
    else:
        raise _build_refusal(f"{location} is of the type {shorten(kind)}, which no answer here has", "input")


def _convert_content(content: Any) -> Any:
    """Convert texts to the chat form; other parts stay unchanged, for the backend to accept or reject."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("text")}
        if isinstance(part, dict) and part.get("type") in TEXT_PARTS
        else part
        for part in content
    ]


def _convert_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool  # rejected along with a chat's tools
    return {"type": "function", "function": {name: tool[name] for name in tool if name != "type"}}


def _add_format(chat: JsonObject, text: Any) -> None:
    """Add `text.format`; in a chat the schema is in an object of its own."""
    default = isinstance(text, dict) and text.get("verbosity") in DEFAULT_VERBOSITY
    if not default or not {*text} <= {"format", "verbosity"}:
        raise _build_refusal("text has to be an object with format alone", "text")
    response_format = text.get("format")
    if response_format is None or response_format == {"type": "text"}:
        return
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        schema = {name: response_format[name] for name in response_format if name != "type"}
        response_format = {"type": "json_schema", "json_schema": schema}
    chat["response_format"] = response_format


def _build_refusal(message: str, param: str) -> Refusal:
    return Refusal(400, "invalid_value", f"{message}.", param=param)


ECHOED: Mapping[str, object] = {  # request fields repeated in the response, with the values of omitted ones
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
    "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
    "top_p": 1.0, "user": None,
}  # fmt: skip

OWN_NAMES = {"messages": "input", "max_tokens": "max_output_tokens", "response_format": "text"}


def encode_json(document: Mapping[str, Any]) -> bytes:
    """Encode as JSON. Raises ValueError or RecursionError for what can't be encoded."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


class AnswerForm:
    """The backend's own response format, which is OpenAI's."""

    def convert_request(self, body: JsonObject) -> JsonObject:
        """Return the request as sent to backends. Raises Refusal."""
        return body

    def format_answer(self, document: JsonObject) -> bytes:
        """Format a complete response."""
        return encode_json(document)

    def format_chunk(self, document: JsonObject) -> bytes:
        """Format a chunk of a stream."""
        return b"data: " + encode_json(document) + b"\n\n"

    def format_error(self, content: str) -> bytes:
        """Format a backend's error response."""
        return content.encode()

    def format_end(self, observer: AnswerObserver, head: JsonObject) -> bytes:
        """Format the end of a stream; `head`: id, model and time, as in its documents."""
        return b"data: [DONE]\n\n"

    def format_failure(self, refusal: Refusal) -> bytes:
        """Format an error that replaces the rest of a stream."""
        return refusal.encode_event()

    def get_field_name(self, name: str | None) -> str | None:
        """Return the caller's name of a field."""
        return name


class ResponsesForm(AnswerForm):
    """The format of `/v1/responses`: output items, and named events with sequence numbers."""

    def __init__(self) -> None:
        self._echo: JsonObject = {}
        self._head: JsonObject = {}
        self._next_number = 0
        self._reason: str | None = None
        self._extra_fields: JsonObject = {}  # a classifier's additional fields
        self._output: list[JsonObject] = []
        self._open_items: list[int] = []  # output indices of the open items
        self._calls: dict[int, int] = {}  # output index by index of the call

    def convert_request(self, body: JsonObject) -> JsonObject:
        self._echo = {name: body.get(name, default) for name, default in ECHOED.items()}
        return convert_to_chat(body)

    def format_answer(self, document: JsonObject) -> bytes:
        self._start_response(document)
        usage = document.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        for choice in _find_first_choice(document):
            message = choice.get("message")
            list(self._add_piece(message if isinstance(message, dict) else {}))
            self._reason = choice.get("finish_reason")
        list(self._close_items())
        self._record_extra_fields(document)
        return encode_json(self._build_response(usage.get("prompt_tokens"), usage.get("completion_tokens")))

    def format_chunk(self, document: JsonObject) -> bytes:
        events: list[bytes] = []
        if not self._head:
            self._start_response(document)
            response = self._build_response(None, None) | {"status": "in_progress"}
            events += [
                self._build_event(kind, response=response)
                for kind in ("response.created", "response.in_progress")
            ]
        for choice in _find_first_choice(document):
            delta = choice.get("delta")
            events += self._add_piece(delta if isinstance(delta, dict) else {})
            self._reason = choice.get("finish_reason") or self._reason
        self._record_extra_fields(document)
        return b"".join(events)

    def format_error(self, content: str) -> bytes:
        try:
            document = json.loads(content)
            error = document["error"]
            error["param"] = self.get_field_name(error["param"])
            return encode_json(document)
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):  # no field to rename
            return content.encode()

    def format_end(self, observer: AnswerObserver, head: JsonObject) -> bytes:
        events = [b"" if self._head else self.format_chunk(head), *self._close_items()]
        response = self._build_response(observer.prompt_tokens, observer.completion_tokens)
        return b"".join([*events, self._build_event(f"response.{response['status']}", response=response)])

    def format_failure(self, refusal: Refusal) -> bytes:
        error = {"code": refusal.code, "message": refusal.message, "param": refusal.param}
        return self._build_event("error", **error, error=json.loads(refusal.encode_body())["error"])

    def get_field_name(self, name: str | None) -> str | None:
        field = (name or "").partition(".")[0]  # nested fields have other paths in the caller's request
        return OWN_NAMES.get(field, name)

    def _start_response(self, document: JsonObject) -> None:
        self._head = {
            "id": document["id"],
            "object": "response",
            "created_at": document.get("created"),
            "model": document["model"],
        }

    def _record_extra_fields(self, document: JsonObject) -> None:
        if "classification" in document:
            self._extra_fields = {"classification": document["classification"]}

    def _add_piece(self, piece: JsonObject) -> Iterator[bytes]:
        """Add to the answer: its text, then its calls, whole or in pieces, which may be interleaved."""
        if isinstance(text := piece.get("content"), str) and text:
            index = self._open_message_index
            if index is None:
                index = yield from self._open_message()
            self._output[index]["content"][0]["text"] += text
            yield self._build_item_event(
                index, "response.output_text.delta", delta=text, content_index=0, logprobs=[]
            )
        calls = piece.get("tool_calls")
        for call_index, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                yield from self._add_call_piece(call, call.get("index", call_index))

    def _add_call_piece(self, call: JsonObject, call_index: Any) -> Iterator[bytes]:
        function, call_id = call["function"], call.get("id")
        output_index = self._calls.get(call_index) if isinstance(call_index, int) else None
        if output_index is None:
            if not isinstance(call_id, str) or not isinstance(call_index, int):
                return
            output_index = self._calls[call_index] = yield from self._open_call(
                call_id, str(function.get("name") or "")
            )
        item, arguments = self._output[output_index], function.get("arguments")
        item["name"] = item["name"] or str(function.get("name") or "")
        if isinstance(arguments, str) and arguments:
            item["arguments"] += arguments
            yield self._build_item_event(
                output_index, "response.function_call_arguments.delta", delta=arguments
            )

    def _open_message(self) -> Generator[bytes, None, int]:
        item_id = f"msg_{str(self._head['id']).removeprefix('resp_')}_{len(self._output)}"
        message: JsonObject = {"id": item_id, "type": "message", "role": "assistant"}
        message |= {"status": "in_progress", "content": []}
        index = yield from self._add_output(message)
        part: JsonObject = {"type": "output_text", "text": "", "annotations": []}
        message["content"] = [part]
        yield self._build_item_event(index, "response.content_part.added", content_index=0, part=part)
        return index

    def _open_call(self, call_id: str, name: str) -> Generator[bytes, None, int]:
        if (message := self._open_message_index) is not None:
            yield from self._close_item(message)
        call = {"id": f"fc_{call_id}", "type": "function_call", "status": "in_progress", "call_id": call_id,
                "name": name, "arguments": ""}  # fmt: skip
        return (yield from self._add_output(call))

    def _add_output(self, item: JsonObject) -> Generator[bytes, None, int]:
        index = len(self._output)
        self._output.append(item)
        self._open_items.append(index)
        yield self._build_event("response.output_item.added", output_index=index, item=item)
        return index

    @property
    def _open_message_index(self) -> int | None:
        """Output index of the open message."""
        return next((index for index in self._open_items if self._output[index]["type"] == "message"), None)

    def _close_items(self) -> Iterator[bytes]:
        """Close the open items."""
        for index in [*self._open_items]:
            yield from self._close_item(index)

    def _close_item(self, index: int) -> Iterator[bytes]:
        self._open_items.remove(index)
        item = self._output[index]
        item["status"] = "incomplete" if self._reason == "length" else "completed"
        if item["type"] == "message":
            (part,) = item["content"]
            done = {"content_index": 0, "text": part["text"], "logprobs": []}
            yield self._build_item_event(index, "response.output_text.done", **done)
            yield self._build_item_event(index, "response.content_part.done", content_index=0, part=part)
        else:
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield self._build_item_event(index, "response.function_call_arguments.done", **done)
        yield self._build_event("response.output_item.done", output_index=index, item=item)

    def _build_item_event(self, index: int, kind: str, **fields: Any) -> bytes:
        return self._build_event(kind, item_id=self._output[index]["id"], output_index=index, **fields)

    def _build_event(self, kind: str, **fields: Any) -> bytes:
        document = {"type": kind, "sequence_number": self._next_number, **fields}
        self._next_number += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode_json(document) + b"\n\n"

    def _build_response(self, prompt_tokens: int | None, completion_tokens: int | None) -> JsonObject:
        truncated = self._reason == "length"
        usage = None
        if prompt_tokens is not None or completion_tokens is not None:
            usage = {
                "input_tokens": prompt_tokens or 0, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": completion_tokens or 0, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": (prompt_tokens or 0) + (completion_tokens or 0),
            }  # fmt: skip
        return self._head | self._echo | self._extra_fields | {
            "status": "incomplete" if truncated else "completed", "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if truncated else None,
            "output": self._output, "previous_response_id": None, "store": False, "truncation": "disabled",
            "usage": usage,
        }  # fmt: skip


def _find_first_choice(document: JsonObject) -> list[JsonObject]:
    choices = document.get("choices")
    entries = choices if isinstance(choices, list) else []
    return [choice for choice in entries if isinstance(choice, dict) and choice.get("index", 0) == 0][:1]
