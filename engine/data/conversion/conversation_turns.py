"""Convert conversations of files to turns of system, user and assistant, or reject them with a reason.

A conversation must have a question by the user and end with an answer. A system turn without text is left
out. Function calls (OpenAI's, ShareGPT's) are converted to the stored form of `tool_turns.py`; an invalid
call rejects the row, and nothing is guessed.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from engine.data.readers.file_rows import FileRow, RowSkipped
from engine.models.tokenization.tool_turns import TOOL, TOOLS, StoredCall, format_calls, parse_calls

EMPTY_RESULT = "(nothing)"  # result of a call that returned an empty text
CALL = "call"  # role of a turn that consists of a call only


def read_call(turn: FileRow, role: str, content: Any) -> str:
    """Return an answer that calls functions in the stored form. Raises RowSkipped.

    With `role` CALL, the content is the call.
    """
    if role == CALL:
        content, calls = "", _parse_json(content)
    else:
        calls = turn.get("tool_calls") or turn.get("function_call")
    calls = calls if isinstance(calls, list) else [calls]
    if content is not None and type(content) is not str:
        raise RowSkipped("an answer with a function call has content that is not text")
    return format_calls((content or "").strip(), [_convert_call(call) for call in calls])


def _convert_call(call: Any) -> StoredCall:
    function = call.get("function", call) if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
        raise RowSkipped("a call names no function")
    arguments = function.get("arguments", function.get("parameters"))
    stored: StoredCall = {"name": name, "arguments": {} if arguments is None else _parse_arguments(arguments)}
    return {"id": str(call["id"]), **stored} if call.get("id") else stored


def _parse_arguments(arguments: Any) -> Any:
    """Parse arguments given as the JSON text of an object; return other arguments unchanged."""
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except ValueError:
            return arguments
        return parsed if isinstance(parsed, dict) else arguments
    return arguments


def _parse_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise RowSkipped("a function call is not JSON") from None


def read_result(content: Any) -> str:
    """Return the result of a call as text; objects as JSON."""
    if type(content) is not str:
        content = "" if content is None else json.dumps(content, ensure_ascii=False, default=str)
    return EMPTY_RESULT if not content or content.isspace() else content


def read_schemas(value: Any) -> str:
    """Return the tool schemas as the JSON list that is stored. Raises RowSkipped."""
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
    return json.dumps([_drop_nulls(schema) for schema in value], ensure_ascii=False)


def _drop_nulls(value: Any) -> Any:
    """Drop null fields: Parquet gives every object the fields of all objects, with null for missing ones."""
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    return [_drop_nulls(item) for item in value] if isinstance(value, list) else value


def order_tool_results(turns: list[tuple[str, str]], ids: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the turns with the tool results in the order of their calls.

    ids: the id of the call that each turn answers, or None. Raises RowSkipped for a result that answers no
    earlier call.
    """
    ordered: list[tuple[str, str]] = []
    call_ids: list[Any] = []
    run: list[tuple[int, tuple[str, str]]] = []
    for turn, answered in zip(turns, ids, strict=True):
        if turn[0] == TOOL:
            if answered is not None and call_ids and str(answered) not in call_ids:
                raise RowSkipped("a function result has no preceding call")
            place = call_ids.index(str(answered)) if answered is not None and call_ids else len(run)
            run.append((place, turn))
            continue
        ordered += [result for _, result in sorted(run, key=lambda pair: pair[0])]
        run = []
        called = parse_calls(turn[1]) if turn[0] == "assistant" else None
        if called:
            call_ids = [call["id"] for call in called[1] if call.get("id")]
        ordered.append(turn)
    return [*ordered, *(result for _, result in sorted(run, key=lambda pair: pair[0]))]


def add_tools(turns: list[tuple[str, str]], schemas: Any, *, calls: bool) -> list[tuple[str, str]]:
    """Prepend the tool schemas if the row has any, or if a function is called (`calls`)."""
    if turns and turns[0][0] == TOOLS:
        return turns
    listed = read_schemas(schemas)
    return [(TOOLS, listed), *turns] if calls or listed != "[]" else turns


ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "tools": "tools",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "function_call": CALL,
    "tool_call": CALL,
}
STORED_ROLES = ("system", "user", "assistant", "tools", "tool")
TURN_KEYS = (("role", "content"), ("from", "value"))
_TURN_LIST = re.compile(r"\s*\[\s*(\{|\]\s*$)")
_LIST = re.compile(r"\s*[\[{].*[\]}]\s*$", re.DOTALL)
_SPOKEN_TURN = re.compile(r"\n\n(Human|Assistant): ?")

Turns = list[tuple[str, str]]  # (role, content)


def format_value(value: Any, name: str) -> str:
    """Return a value as text, with numbers as written and true/false.

    Raises RowSkipped for missing and nested values.
    """
    if isinstance(value, str):
        return value
    kind = type(value)
    if value is None or (kind is float and math.isnan(value)):
        raise RowSkipped(f"{name} is missing")
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, list | dict | tuple):
        raise RowSkipped(f"{name} is {'an object' if kind is dict else 'a list'}, not a text")
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise RowSkipped(f"{name} is bytes, not a text") from None
    return str(value)


def parse_list(value: Any) -> Any:
    """Parse a list of objects given as text, in JSON or as a Python literal; return other values as is."""
    if type(value) is not str or not _TURN_LIST.match(value):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            turns = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if type(turns) is list and all(type(turn) is dict for turn in turns):
            return turns
    return value


def parse_texts(value: Any) -> Any:
    """Parse a list or object given as text, in JSON or as a Python literal; return other values as is."""
    if type(value) is not str or not _LIST.match(value):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list | dict):
            return parsed
    return value


def find_turn_keys(value: Any) -> tuple[str, str] | None:
    """Return the keys of speaker and text in a list of turns, or None if it is not a list of turns."""
    value = parse_list(value)
    if type(value) is list and value and all(type(turn) is dict for turn in value):
        return next((keys for keys in TURN_KEYS if all(key in value[0] for key in keys)), None)
    return None


def read_turns(value: Any, name: str) -> Turns:
    """Return the turns of a conversation with normalized roles. Raises RowSkipped."""
    value = parse_list(value)
    if value is None:
        raise RowSkipped(f"{name} is missing")
    if type(value) is not list:
        raise RowSkipped(f"{name} is not a list of turns")
    if not value:
        raise RowSkipped(f"{name} is empty")
    turns: Turns = []
    answered: list[Any] = []  # for each turn, the id of the call that it answers
    for turn in value:
        if type(turn) is not dict:
            raise RowSkipped("a turn is not an object")
        role, content = turn.get("role"), turn.get("content")
        if role is None:
            role = turn.get("from")
        if content is None:
            content = turn.get("value")
        if role not in STORED_ROLES:
            role = _map_role(role)
        if role == CALL or turn.get("tool_calls") or turn.get("function_call"):
            role, content = "assistant", read_call(turn, role, content)
        elif role in ("tool", "tools"):
            content = read_result(content) if role == "tool" else read_schemas(content)
        elif type(content) is not str:
            content = _read_content(content, role)
        if content and not content.isspace():
            turns.append((role, content))
            answered.append(turn.get("tool_call_id"))
        elif role != "system":
            raise RowSkipped("an answer is empty" if role == "assistant" else "a question is empty")
    return order_tool_results(turns, answered) if any(call_id is not None for call_id in answered) else turns


def has_function_calls(value: Any) -> bool:
    """Return whether a source conversation has a function call.

    An answer whose text looks like a call is no call.
    """
    value = parse_list(value)
    return type(value) is list and any(type(turn) is dict and _is_call(turn) for turn in value)


def _is_call(turn: FileRow) -> bool:
    speaker = turn.get("from") if turn.get("role") is None else turn.get("role")
    named = ROLES.get(str(speaker).strip().lower()) in ("tool", CALL)
    return bool(named or turn.get("tool_calls") or turn.get("function_call"))


def _map_role(speaker: Any) -> str:
    if speaker is None:
        raise RowSkipped("a turn has no speaker")
    role = ROLES.get(str(speaker).strip().lower())
    if role is None:
        raise RowSkipped(
            f"a turn is by {str(speaker)[:30]!r}, who is neither system, user, assistant nor tool"
        )
    return role


def _read_content(content: Any, role: str) -> str:
    """Return content given in parts, as the OpenAI format allows; only text parts are supported."""
    if content is None:
        raise RowSkipped(f"a turn of {role} has no content")
    if type(content) is not list:
        return format_value(content, "the content of a turn")
    texts = []
    for part in content:
        if type(part) is not dict or type(part.get("text")) is not str:
            raise RowSkipped("a message has content that is not text")
        texts.append(part["text"])
    return "\n".join(texts)


def check_turns(turns: Turns) -> None:
    """Raise RowSkipped unless there is a question and the last turn is an answer."""
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        raise RowSkipped("no turn by the assistant")
    if "user" not in roles:
        raise RowSkipped("no turn by the user")
    if "tools" in roles[1:]:
        raise RowSkipped("the tools are not the first turn")
    if roles[-1] != "assistant":
        raise RowSkipped("the last turn is not by the assistant")


def parse_spoken_turns(text: str) -> Turns:
    r"""Parse `\n\nHuman: …\n\nAssistant: …`, as in the HH data sets, into turns; empty for other texts."""
    pieces = _SPOKEN_TURN.split("\n\n" + text.lstrip())
    if len(pieces) < 5 or pieces[0].strip():
        return []
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return [("user" if speaker == "Human" else "assistant", content.strip()) for speaker, content in turns]
