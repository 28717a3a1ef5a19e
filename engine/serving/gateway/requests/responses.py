"""`POST /v1/responses` as a chat: the same request, said in the words of `/v1/chat/completions`.

Nothing is kept to be fetched or gone on with: `store` is false whatever is left out, and a whole conversation
comes as `input`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.serving.gateway.requests.bodies import short
from engine.serving.gateway.requests.refusals import Refusal
from engine.serving.protocol.json_object import JsonObject

AS_THEY_ARE = ("model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "metadata")
TEXT_PARTS = ("input_text", "output_text", "text")
KEPT_ELSEWHERE = {
    "previous_response_id": "answers are not kept, so that none can be gone on with; send the whole"
    " conversation as input",
    "conversation": "conversations are not kept; send the whole of one as input",
    "store": "answers are not kept to be fetched later; leave store out, or set it to false",
    "background": "answers are not kept to be fetched later; stream them",
}
NOTHING: Mapping[str, object] = {
    "background": False, "include": [], "stream_options": {"include_obfuscation": False},
}  # fmt: skip
USUAL_VERBOSITY = (None, "medium")


def chat_of(body: JsonObject) -> JsonObject:
    """The request as a chat's body. Raises Refusal for what a chat can't say, by its name."""
    chat: JsonObject = {"model": body["model"]} if "model" in body else {}
    if "input" not in body:
        raise Refusal(400, "missing_parameter", "input is missing.", param="input")
    chat["messages"] = _messages(body)
    for name, value in body.items():
        if name in AS_THEY_ARE:
            chat[name] = value
        elif name == "max_output_tokens":
            chat["max_tokens"] = value
        elif name == "tools":
            chat["tools"] = [_tool(tool) for tool in value] if isinstance(value, list) else value
        elif name == "tool_choice":
            chat["tool_choice"] = _choice(value)
        elif name == "text":
            _add_format(chat, value)
        elif name not in ("input", "instructions") and NOTHING.get(name, body) != value:
            why = KEPT_ELSEWHERE.get(name, "it means nothing here, so it is refused rather than ignored")
            raise Refusal(400, "unsupported_parameter", f"{short(name)}: {why}.", param=short(name))
    return chat


def _messages(body: JsonObject) -> list[JsonObject]:
    instructions, asked = body.get("instructions"), body["input"]
    messages: list[JsonObject] = []
    if instructions is not None:
        if not isinstance(instructions, str):
            raise _wrong("instructions has to be a text", "instructions")
        messages.append({"role": "system", "content": instructions})
    if isinstance(asked, str):
        return [*messages, {"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        raise _wrong("input has to be a text or a list of items", "input")
    for place, item in enumerate(asked):
        _add_item(messages, item, f"input[{place}]")
    return messages


def _add_item(messages: list[JsonObject], item: object, where: str) -> None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(kind, str):
        raise _wrong(f"{where} is no item", "input")
    if kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
    elif kind == "function_call":
        function = {name: item.get(name) for name in ("name", "arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        if messages and messages[-1]["role"] == "assistant":  # one answer: its text, then its calls
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        content = _content(item.get("output"))
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
    else:
        raise _wrong(f"{where} is of the type {short(kind)}, which no answer here has", "input")


def _content(content: Any) -> Any:
    """Texts in a chat's form; what else there is, as it came: who can read it says so."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "text", "text": part.get("text")}
        if isinstance(part, dict) and part.get("type") in TEXT_PARTS
        else part
        for part in content
    ]


def _tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool  # refused with those of a chat
    return {"type": "function", "function": {name: tool[name] for name in tool if name != "type"}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _add_format(chat: JsonObject, text: Any) -> None:
    """`text.format`, of which a chat has the schema in an object of its own."""
    usual = isinstance(text, dict) and text.get("verbosity") in USUAL_VERBOSITY
    if not usual or not {*text} <= {"format", "verbosity"}:
        raise _wrong("text has to be an object with format alone", "text")
    wanted = text.get("format")
    if wanted is None or wanted == {"type": "text"}:
        return
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        schema = {name: wanted[name] for name in wanted if name != "type"}
        wanted = {"type": "json_schema", "json_schema": schema}
    chat["response_format"] = wanted


def _wrong(message: str, param: str) -> Refusal:
    return Refusal(400, "invalid_value", f"{message}.", param=param)
