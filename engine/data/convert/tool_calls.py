"""Calls of functions as files have them (OpenAI's tool_calls and function_call, ShareGPT's turns), read into
the form of `tool_turns.py`. Nothing is guessed: what is no call is a reason to leave the row out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.data.readers.raw_rows import FileRow, RowSkipped
from engine.rows.tool_turns import TOOL, TOOLS, StoredCall, call_text, calls_of

NOTHING = "(nothing)"  # of a call that gave an empty text
CALL = "call"  # the role of a turn that is nothing but a call


def read_call(turn: FileRow, role: str, content: Any) -> str:
    """A calling answer as it is stored. `role` CALL: the content is the call. Raises RowSkipped."""
    if role == CALL:
        content, calls = "", _parsed(content)
    else:
        calls = turn.get("tool_calls") or turn.get("function_call")
    calls = calls if isinstance(calls, list) else [calls]
    if content is not None and type(content) is not str:
        raise RowSkipped("an answer that calls a function holds something other than text")
    return call_text((content or "").strip(), [_call(call) for call in calls])


def _call(call: Any) -> StoredCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise RowSkipped("a call names no function")
    arguments = function.get("arguments", function.get("parameters"))
    stored: StoredCall = {"name": name, "arguments": {} if arguments is None else _object(arguments)}
    return {"id": str(call["id"]), **stored} if call.get("id") else stored


def _object(arguments: Any) -> Any:
    """Arguments that come as the JSON text of an object, as that object; others as they are."""
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except ValueError:
            return arguments
        return parsed if isinstance(parsed, dict) else arguments
    return arguments


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise RowSkipped("a function call is not JSON") from None


def read_result(content: Any) -> str:
    """What a call gave, as text: objects as their JSON."""
    if type(content) is not str:
        content = "" if content is None else json.dumps(content, ensure_ascii=False, default=str)
    return NOTHING if not content or content.isspace() else content


def read_schemas(value: Any) -> str:
    """What may be called, as the JSON list that is stored. Raises RowSkipped."""
    if value is None or value == "":
        return "[]"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowSkipped("the tools are not JSON") from None
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(schema, dict) for schema in value):
        raise RowSkipped("the tools are not a list of objects")
    return json.dumps([_without_nulls(schema) for schema in value], ensure_ascii=False)


def _without_nulls(value: Any) -> Any:
    """Parquet gives every object the fields of all of them, null where one lacks it."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def in_order(turns: list[tuple[str, str]], ids: Sequence[Any]) -> list[tuple[str, str]]:
    """The turns with what calls gave in the order of the calls; ids: of the call that each turn answers, or
    None. Raises RowSkipped for one that answers no call before it."""
    ordered: list[tuple[str, str]] = []
    call_ids: list[Any] = []
    run: list[tuple[int, tuple[str, str]]] = []
    for turn, answered in zip(turns, ids, strict=True):
        if turn[0] == TOOL:
            if answered is not None and call_ids and str(answered) not in call_ids:
                raise RowSkipped("what a function gave answers no call before it")
            place = call_ids.index(str(answered)) if answered is not None and call_ids else len(run)
            run.append((place, turn))
            continue
        ordered += [result for _, result in sorted(run, key=lambda pair: pair[0])]
        run = []
        called = calls_of(turn[1]) if turn[0] == "assistant" else None
        if called:
            call_ids = [call["id"] for call in called[1] if call.get("id")]
        ordered.append(turn)
    return [*ordered, *(result for _, result in sorted(run, key=lambda pair: pair[0]))]


def with_tools(turns: list[tuple[str, str]], schemas: Any, *, calls: bool) -> list[tuple[str, str]]:
    """The turns headed by what may be called, where the row says so or (`calls`) a function is called."""
    if turns and turns[0][0] == TOOLS:
        return turns
    listed = read_schemas(schemas)
    return [(TOOLS, listed), *turns] if calls or listed != "[]" else turns
