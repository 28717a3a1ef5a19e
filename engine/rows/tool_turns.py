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
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateError, meta

TOOLS, TOOL = "tools", "tool"
HOW_TO_CALL = (
    'Functions that can be called, as JSON. A call is an answer of the form {"tool_calls": [{"name": …,'
    ' "arguments": {…}}]} alone.'
)
Message = dict[str, Any]


def call_text(content: str, calls: Sequence[Message]) -> str:
    """A calling answer as it is stored. calls: name, arguments and perhaps id of each."""
    answer = {"content": content} if content else {}
    return json.dumps({**answer, "tool_calls": list(calls)}, ensure_ascii=False)


def calls_of(content: str) -> tuple[str, list[Message]] | None:
    """What `call_text` made a text of; None for an answer that calls nothing."""
    if not content.startswith("{") or '"tool_calls"' not in content:
        return None
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    calls = answer.get("tool_calls")
    fine = isinstance(calls, list) and calls and all(isinstance(c, dict) and c.get("name") for c in calls)
    return (str(answer.get("content") or ""), calls) if fine else None


def has_tools(messages: Sequence[Message]) -> bool:
    """Whether the conversation is one of those described above."""
    return bool(messages) and messages[0]["role"] == TOOLS


def knows_tools(tokenizer: Any) -> bool:
    """Whether the tokenizer's template renders schemas and calls by itself."""
    return _knows(str(tokenizer.chat_template))


@lru_cache(maxsize=16)
def _knows(template: str) -> bool:
    try:
        asked = meta.find_undeclared_variables(
            Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        )
    except TemplateError:  # such as transformers' own generation blocks: the words must do
        asked = {TOOLS} if TOOLS in template else set()
    return TOOLS in asked and "tool_calls" in template


def for_template(messages: Sequence[Message], native: bool) -> tuple[list[Message], list[Message] | None]:
    """Messages and schemas for `apply_chat_template`; a conversation without tools comes back as it is."""
    if not has_tools(messages):
        return list(messages), None
    schemas = json.loads(messages[0]["content"])
    if native:
        return _native(messages[1:]), schemas or None
    return _written(messages[1:], schemas), None


def _native(messages: Sequence[Message]) -> list[Message]:
    """Turns in the OpenAI form, arguments as objects, which templates write as JSON themselves."""
    turns: list[Message] = []
    waiting: deque[Message] = deque()
    for message in messages:
        called = calls_of(message["content"]) if message["role"] == "assistant" else None
        if called:
            waiting = deque(called[1])
            functions = [{"name": c["name"], "arguments": c.get("arguments") or {}} for c in called[1]]
            calls = [
                {**({"id": call["id"]} if call.get("id") else {}), "type": "function", "function": function}
                for call, function in zip(called[1], functions, strict=True)
            ]
            turns.append({"role": "assistant", "content": called[0], "tool_calls": calls})
        elif message["role"] == TOOL and waiting:
            call = waiting.popleft()
            ids = {"tool_call_id": call["id"]} if call.get("id") else {}
            turns.append({**message, "name": call["name"], **ids})
        else:
            turns.append(dict(message))
    return turns


def _written(messages: Sequence[Message], schemas: list[Message]) -> list[Message]:
    """Turns of system, user and assistant alone."""
    turns: list[Message] = []
    if schemas:
        lines = [HOW_TO_CALL, *(json.dumps(schema, ensure_ascii=False) for schema in schemas)]
        system_text = messages[0]["content"] + "\n\n" if messages[0]["role"] == "system" else ""
        turns.append({"role": "system", "content": system_text + "\n".join(lines)})
        messages = messages[1:] if system_text else messages
    for message in _native(messages):
        called = message.get("tool_calls")
        if called:
            calls = [{"name": c["function"]["name"], "arguments": c["function"]["arguments"]} for c in called]
            turns.append({"role": "assistant", "content": call_text(message["content"], calls)})
        elif message["role"] == TOOL:
            name = f" of {message['name']}" if message.get("name") else ""
            result = f"Result{name}:\n{message['content']}"
            if turns and turns[-1].get("result"):
                turns[-1]["content"] += f"\n\n{result}"  # templates want user and assistant in turn
            else:
                turns.append({"role": "user", "content": result, "result": True})
        else:
            turns.append(message)
    return [{"role": m["role"], "content": m["content"]} for m in turns]


def openai(messages: Sequence[Message]) -> Message:
    """The row as {"messages", "tools"?} of the OpenAI form, in which arguments are JSON texts."""
    if not has_tools(messages):
        return {"messages": list(messages)}
    schemas = json.loads(messages[0]["content"])
    turns = _native(messages[1:])
    for turn in turns:
        for call in turn.get("tool_calls", ()):
            function = call["function"]
            if not isinstance(function["arguments"], str):
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
        if turn.get("tool_calls"):
            turn["content"] = turn["content"] or None
    return {"messages": turns, **({"tools": schemas} if schemas else {})}
