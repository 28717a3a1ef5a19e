"""Conversations with function calls: the form in which rows store them, and the form that templates take.

A row stores turns of {role, content} only, so that search, digests, filters and recipes see calls as plain
text. Two roles are added: a first turn `tools`, which marks such a conversation, has as its content the JSON
list of the available functions (`[]` if the file doesn't list them); a turn `tool` is the result of one call.
An answer with calls has the JSON object {"content"?, "tool_calls": [{"id"?, "name", "arguments"}]} as its
content.

A template that supports tools gets schemas and calls as such. For any other they are written out: the schemas
in the system turn, a call as its JSON, its result as a user turn.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NotRequired, TypedDict

from jinja2 import TemplateError

from store.core.row_schemas import Message

TOOLS, TOOL = "tools", "tool"
HOW_TO_CALL = (
    'Functions that can be called, as JSON. A call is an answer of the form {"tool_calls": [{"name": …,'
    ' "arguments": {…}}]} alone.'
)


class StoredCall(TypedDict):
    """A function call as stored in a row."""

    id: NotRequired[str]
    name: str
    arguments: NotRequired[Any]  # a user-defined object; in some files its JSON as a string


class FunctionCall(TypedDict):
    """The function of a call, as in templates and in the OpenAI form."""

    name: str
    arguments: Any  # an object for templates, its JSON as a string in the OpenAI form


class TemplateCall(TypedDict):
    """A function call, as in templates and in the OpenAI form."""

    id: NotRequired[str]
    type: str
    function: FunctionCall


class TemplateTurn(TypedDict):
    """A turn as passed to a chat template."""

    role: str
    content: str | None  # null in the OpenAI form if an answer only has calls
    tool_calls: NotRequired[list[TemplateCall]]
    name: NotRequired[str]  # of the function with this result
    tool_call_id: NotRequired[str]


Schema = dict[str, object]  # description of a function: user-defined JSON


class OpenAIRow(TypedDict):
    """A conversation in the OpenAI form."""

    messages: list[TemplateTurn]
    tools: NotRequired[list[Schema]]


def format_calls(content: str, calls: Sequence[StoredCall | FunctionCall]) -> str:
    """Format an answer with calls for storage. calls: name, arguments and optional id of each."""
    answer = {"content": content} if content else {}
    return json.dumps({**answer, "tool_calls": list(calls)}, ensure_ascii=False)


def parse_calls(content: str) -> tuple[str, list[StoredCall]] | None:
    """Parse a text from `format_calls`; None for an answer without calls."""
    if not content.startswith("{") or '"tool_calls"' not in content:
        return None
    answer = _parse_object(content) or {}
    calls: Any = answer.get("tool_calls")
    fine = isinstance(calls, list) and calls and all(isinstance(c, dict) and c.get("name") for c in calls)
    return (str(answer.get("content") or ""), calls) if fine else None


def _parse_object(text: str) -> dict[str, object] | None:
    """Parse the text as a JSON object.

    None if it isn't one, or has a lone surrogate, which no tokenizer accepts.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def has_tools(messages: Sequence[Message]) -> bool:
    """Return whether the conversation starts with a `tools` turn."""
    return bool(messages) and messages[0]["role"] == TOOLS


def supports_tools(tokenizer: Any) -> bool:
    """Return whether the tokenizer's template renders schemas and calls by itself."""
    return _is_tool_template(str(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _is_tool_template(template: str) -> bool:
    from engine.models.tokenization.template_limits import find_undeclared_names

    try:
        asked = find_undeclared_names(template)
    except TemplateError:  # fall back to a text search
        asked = {TOOLS} if TOOLS in template else set()
    return TOOLS in asked and "tool_calls" in template


def prepare_for_template(
    messages: Sequence[Message], native: bool
) -> tuple[list[TemplateTurn], list[Schema] | None]:
    """Return messages and schemas for `apply_chat_template`; a conversation without tools is unchanged."""
    if not has_tools(messages):
        return [_build_plain_turn(message) for message in messages], None
    schemas = json.loads(messages[0]["content"])
    if native:
        return _build_native_turns(messages[1:]), schemas or None
    return _write_out_turns(messages[1:], schemas), None


def _build_plain_turn(message: Message) -> TemplateTurn:
    return {"role": message["role"], "content": message["content"]}


def _build_native_turns(messages: Sequence[Message]) -> list[TemplateTurn]:
    """Build turns in the OpenAI form, with arguments as objects, which templates themselves write as JSON."""
    turns: list[TemplateTurn] = []
    waiting: deque[StoredCall] = deque()
    for message in messages:
        turn = _build_plain_turn(message)
        called = parse_calls(message["content"]) if message["role"] == "assistant" else None
        if called:
            waiting = deque(called[1])
            turn["content"] = called[0]
            turn["tool_calls"] = [_build_template_call(call) for call in called[1]]
        elif message["role"] == TOOL and waiting:
            call = waiting.popleft()
            turn["name"] = call["name"]
            if call.get("id"):
                turn["tool_call_id"] = call["id"]
        turns.append(turn)
    return turns


def _build_template_call(call: StoredCall) -> TemplateCall:
    function: FunctionCall = {"name": call["name"], "arguments": call.get("arguments") or {}}
    if call.get("id"):
        return {"id": call["id"], "type": "function", "function": function}
    return {"type": "function", "function": function}


def _write_out_turns(messages: Sequence[Message], schemas: list[Schema]) -> list[TemplateTurn]:
    """Write schemas, calls and results out as system, user and assistant turns."""
    turns: list[TemplateTurn] = []
    if schemas:
        lines = [HOW_TO_CALL, *(json.dumps(schema, ensure_ascii=False) for schema in schemas)]
        system_text = messages[0]["content"] + "\n\n" if messages[0]["role"] == "system" else ""
        turns.append({"role": "system", "content": system_text + "\n".join(lines)})
        messages = messages[1:] if system_text else messages
    result_before = False
    for turn in _build_native_turns(messages):
        called = turn.get("tool_calls")
        is_result = not called and turn["role"] == TOOL
        if called:
            calls = [call["function"] for call in called]
            turns.append({"role": "assistant", "content": format_calls(turn["content"] or "", calls)})
        elif is_result:
            name = f" of {turn['name']}" if turn.get("name") else ""
            result = f"Result{name}:\n{turn['content']}"
            if result_before:  # templates require alternating user and assistant turns
                result = f"{turns.pop()['content']}\n\n{result}"
            turns.append({"role": "user", "content": result})
        else:
            turns.append(turn)
        result_before = is_result
    return turns


def build_openai_row(messages: Sequence[Message]) -> OpenAIRow:
    """Return the row as {"messages", "tools"?} in the OpenAI form, with arguments as JSON strings."""
    if not has_tools(messages):
        return {"messages": [_build_plain_turn(message) for message in messages]}
    schemas = json.loads(messages[0]["content"])
    turns = _build_native_turns(messages[1:])
    for turn in turns:
        for call in turn.get("tool_calls", ()):
            function = call["function"]
            if not isinstance(function["arguments"], str):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
        if turn.get("tool_calls"):
            turn["content"] = turn["content"] or None
    return {"messages": turns, "tools": schemas} if schemas else {"messages": turns}


def parse_openai_messages(turns: Sequence[Mapping[str, Any]], tools: Sequence[Schema]) -> list[Message]:
    """Convert a request's OpenAI messages to the stored form, so that they are rendered like rows.

    The inverse of `build_openai_row`. Raises ValueError, with a clear message, if results and calls don't
    match.
    """
    rows: list[Message] = [{"role": TOOLS, "content": json.dumps(list(tools), ensure_ascii=False)}]
    waiting: list[str] = []
    results: dict[str, str] = {}
    for place, turn in enumerate(turns):
        text = read_message_text(turn.get("content"))
        if turn.get("role") == TOOL:
            call_id = str(turn.get("tool_call_id") or "")
            if call_id not in waiting or call_id in results:
                raise ValueError(
                    f"message {place} is the result of the call {call_id[:80]!r}, and the message before"
                    " its results has no such call, or it has a result already"
                )
            results[call_id] = text
            if len(results) == len(waiting):
                rows += [{"role": TOOL, "content": results[each]} for each in waiting]
                waiting, results = [], {}
            continue
        _check_answered(waiting, results)
        calls = [_build_stored_call(call) for call in turn.get("tool_calls") or ()]
        waiting = [call["id"] for call in calls]
        if len({*waiting}) < len(waiting):
            raise ValueError(f"two calls of message {place} have the same id")
        rows.append({"role": str(turn["role"]), "content": format_calls(text, calls) if calls else text})
    _check_answered(waiting, results)
    return rows


def _check_answered(waiting: Sequence[str], results: Mapping[str, str]) -> None:
    missing = next((each for each in waiting if each not in results), None)
    if missing is not None:
        raise ValueError(f"the call {missing[:80]!r} has no result: a message of the role tool has to follow")


def _build_stored_call(call: Mapping[str, Any]) -> StoredCall:
    function = call["function"]
    arguments = _parse_object(function["arguments"])
    if arguments is None:
        raise ValueError(
            f"the arguments of a call of {str(function['name'])[:80]} are not the JSON of an object"
        )
    return {"id": str(call["id"]), "name": str(function["name"]), "arguments": arguments}


def read_message_text(content: Any) -> str:
    """Return a message's content as text: a string, or the joined text parts; empty without any."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
