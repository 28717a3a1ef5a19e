"""Conversations that call functions: in the form in which rows store them, and as templates take them.

A row stores turns of {role, content} alone, so that search, digests, filters and recipes see calls as the
text that they are. Two roles are added: a first turn `tools`, whose content is the JSON list of what may be
called (`[]` where the file does not say), marks such a conversation; a turn `tool` is what one call gave. An
answer that calls has the JSON object {"content"?, "tool_calls": [{"id"?, "name", "arguments"}]} for content.

A template that knows of tools is given schemas and calls as such. For any other they are written out: the
schemas into the system turn, a call as its JSON, what it gave as a turn of the user.
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
    """A call of a function as a row stores it."""

    id: NotRequired[str]
    name: str
    arguments: NotRequired[Any]  # an object of the user's own; of some files its JSON as a text


class FunctionCall(TypedDict):
    """The function of a call, as templates and the OpenAI form have it."""

    name: str
    arguments: Any  # an object for templates, its JSON as a text in the OpenAI form


class TemplateCall(TypedDict):
    """A call of a function, as templates and the OpenAI form have it."""

    id: NotRequired[str]
    type: str
    function: FunctionCall


class TemplateTurn(TypedDict):
    """A turn as a chat template takes it."""

    role: str
    content: str | None  # null in the OpenAI form, of an answer that only calls
    tool_calls: NotRequired[list[TemplateCall]]
    name: NotRequired[str]  # of the function that gave this
    tool_call_id: NotRequired[str]


Schema = dict[str, object]  # what says how a function is called: JSON of the user's own


class OpenAIRow(TypedDict):
    """A conversation in the OpenAI form."""

    messages: list[TemplateTurn]
    tools: NotRequired[list[Schema]]


def format_calls(content: str, calls: Sequence[StoredCall | FunctionCall]) -> str:
    """A calling answer as it is stored. calls: name, arguments and perhaps id of each."""
    answer = {"content": content} if content else {}
    return json.dumps({**answer, "tool_calls": list(calls)}, ensure_ascii=False)


def parse_calls(content: str) -> tuple[str, list[StoredCall]] | None:
    """What `format_calls` made a text of; None for an answer that calls nothing."""
    if not content.startswith("{") or '"tool_calls"' not in content:
        return None
    answer = _parse_object(content) or {}
    calls: Any = answer.get("tool_calls")
    fine = isinstance(calls, list) and calls and all(isinstance(c, dict) and c.get("name") for c in calls)
    return (str(answer.get("content") or ""), calls) if fine else None


def _parse_object(text: str) -> dict[str, object] | None:
    """The JSON object that the text is; None for one that no tokenizer takes: with half a character in it."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def has_tools(messages: Sequence[Message]) -> bool:
    """Whether the conversation is one of those described above."""
    return bool(messages) and messages[0]["role"] == TOOLS


def supports_tools(tokenizer: Any) -> bool:
    """Whether the tokenizer's template renders schemas and calls by itself."""
    return _is_tool_template(str(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _is_tool_template(template: str) -> bool:
    from engine.models.tokenization.template_limits import find_undeclared_names

    try:
        asked = find_undeclared_names(template)
    except TemplateError:  # the words must do
        asked = {TOOLS} if TOOLS in template else set()
    return TOOLS in asked and "tool_calls" in template


def prepare_for_template(
    messages: Sequence[Message], native: bool
) -> tuple[list[TemplateTurn], list[Schema] | None]:
    """Messages and schemas for `apply_chat_template`; a conversation without tools comes back as it is."""
    if not has_tools(messages):
        return [_build_plain_turn(message) for message in messages], None
    schemas = json.loads(messages[0]["content"])
    if native:
        return _build_native_turns(messages[1:]), schemas or None
    return _write_out_turns(messages[1:], schemas), None


def _build_plain_turn(message: Message) -> TemplateTurn:
    return {"role": message["role"], "content": message["content"]}


def _build_native_turns(messages: Sequence[Message]) -> list[TemplateTurn]:
    """Turns in the OpenAI form, arguments as objects, which templates write as JSON themselves."""
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
    """Turns of system, user and assistant alone."""
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
            if result_before:  # templates want user and assistant in turn
                result = f"{turns.pop()['content']}\n\n{result}"
            turns.append({"role": "user", "content": result})
        else:
            turns.append(turn)
        result_before = is_result
    return turns


def build_openai_row(messages: Sequence[Message]) -> OpenAIRow:
    """The row as {"messages", "tools"?} of the OpenAI form, in which arguments are JSON texts."""
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
    """The inverse of `openai`, for a conversation that is asked: as a row would store it, so that it is
    rendered as rows are. Raises ValueError, in a sentence, where results and calls don't belong together."""
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
    """A message's content: a text, or parts of which some are texts; empty where there is none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
