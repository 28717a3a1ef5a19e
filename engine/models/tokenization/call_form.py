"""The form in which a model writes function calls, derived from its chat template, and its parser.

A conversation whose answer calls functions is rendered like any row; the text around the calls' JSON is
the form, exactly as the model sees it in training. So Hermes and Qwen (`<tool_call>{…}</tool_call>`),
Llama (`{"name", "parameters"}` alone or after `<|python_tag|>`), Mistral (`[TOOL_CALLS][{…}]`) and
Tunebench's own written form need no table of models. A template whose calls aren't JSON objects of a name
and arguments is not supported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from engine.models.tokenization.rendering import render_conversation
from engine.models.tokenization.tool_turns import TOOL, TOOLS, StoredCall, format_calls
from store.core.errors import TunebenchError
from store.core.row_schemas import Message

NAMES = ("probe_function_a", "probe_function_b")
IDS = ("probeidaa", "probeidbb")  # nine characters: Mistral's templates accept no other ids
ARGUMENT = {"probe_argument": "probe_value"}
PLAIN = "probe_answer"
ARGUMENT_KEYS = ("arguments", "parameters")
MAX_FAILURES = 128  # markers without a call; after that many, the rest is text
_SPACE = re.compile(r"\s*")
_TAG = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_reject_constant)


@dataclass(frozen=True)
class CallForm:
    """The text around calls, as the template writes it. A call is `head` NAME `middle` ARGUMENTS `tail`.

    - between: text between two calls; None if an answer has one call only
    - marker: text that marks a call; empty if an answer that is JSON is a call
    - end: tag that closes a call, or empty
    - key: key of the arguments
    - written_id: placeholder for an id in `tail`; empty if the template writes none
    """

    opening: str
    head: str
    middle: str
    tail: str
    between: str | None
    closing: str
    marker: str
    end: str
    key: str
    written_id: str

    def read(self, text: str) -> list[str | list[StoredCall]]:
        """Split a whole answer into texts and calls, in order. An invalid call is text."""
        if not self.marker:
            calls = self._alone(text)
            return [calls] if calls else [text]
        return list(self._pieces(text))

    def may_call(self, text: str) -> bool:
        """Return whether a text is meant as a call: it has the marker, or starts like a call without one."""
        return self.marker in text if self.marker else text.lstrip().startswith("{")

    def free(self, text: str) -> int:
        """Return how many initial characters of an unfinished answer can't be part of a call."""
        if not self.marker:
            begun = text.lstrip()
            return 0 if not begun or begun.startswith("{") else len(text)
        if self.marker in text:
            return 0
        longest = min(len(self.marker) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if text.endswith(self.marker[:n])), 0)
        return len(text[: len(text) - held].rstrip())

    def _pieces(self, text: str) -> Iterator[str | list[StoredCall]]:
        at = failures = 0
        while failures < MAX_FAILURES and (start := text.find(self.marker, at)) >= 0:
            if start > at:
                yield text[at:start]
            calls, at = self._calls(text, start + len(self.marker))
            if calls is None:
                failures += 1
                at = text.find(self.marker, start + len(self.marker))
                at = len(text) if at < 0 else at
                yield text[start:at]
            else:
                yield calls
        if at < len(text):
            yield text[at:]

    def _calls(self, text: str, at: int) -> tuple[list[StoredCall] | None, int]:
        """Parse the JSON at this position as calls, and return them with their end."""
        value, at = _parse_value(text, at)
        calls = self._as_calls(value)
        after = _skip_space(text, at)
        if self.end and text.startswith(self.end, after):
            at = after + len(self.end)
        return calls, at

    def _alone(self, text: str) -> list[StoredCall] | None:
        value, at = _parse_value(text, 0)
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]
        return None if text[at:].strip() else self._as_calls(value)

    def _as_calls(self, value: Any) -> list[StoredCall] | None:
        listed = value if isinstance(value, list) else [value]
        calls: list[StoredCall] = []
        for each in listed:
            name = each.get("name") if isinstance(each, dict) else None
            arguments = each.get(self.key) if isinstance(each, dict) else None
            if not isinstance(name, str) or not isinstance(arguments, dict):
                return None
            calls.append({"name": name, "arguments": arguments})
        return calls or None


def _skip_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _parse_value(text: str, at: int) -> tuple[Any, int]:
    """Parse the JSON value at this position, after white space, and return it with its end.

    None if there is none, or one that no answer can hold: a lone surrogate, NaN, an infinite number.
    """
    try:
        value, end = _decoder.raw_decode(text, _skip_space(text, at))
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None, at
    return value, end


def detect_call_form(tokenizer: Any) -> CallForm | None:
    """Return how this tokenizer's template writes calls; None for an unsupported form."""
    try:
        return _detect_form(tokenizer)
    except (TemplateError, TunebenchError, TypeError, ValueError, KeyError):
        return None


def _detect_form(tokenizer: Any) -> CallForm | None:
    asked = _build_probe()
    prompt = render_conversation(tokenizer, asked, generation_prompt=True)
    plain = render_conversation(tokenizer, [*asked, {"role": "assistant", "content": PLAIN}])
    after_turn = plain.rpartition(PLAIN)[2]
    single = _render_calls(tokenizer, asked, prompt, after_turn, 1)
    if single is None:
        return None
    opening, value, closing = _split_calls(single)
    key = next((each for each in ARGUMENT_KEYS if each in json.loads(value)), None)
    parts = _split_call(value) if key else None
    marker, end = _find_markers(opening, closing)
    if key is None or parts is None or marker is None:
        return None
    head, middle, tail = parts
    return CallForm(opening, head, middle, tail, _find_separator(tokenizer, asked, prompt, after_turn, value),
                    closing, marker, end, key, IDS[0] if IDS[0] in tail else "")  # fmt: skip


def _build_probe() -> list[Message]:
    schemas = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": "A probe.",
                "parameters": {
                    "type": "object",
                    "properties": {"probe_argument": {"type": "string", "description": "A probe."}},
                    "required": ["probe_argument"],
                },
            },
        }
        for name in NAMES
    ]
    return [
        {"role": TOOLS, "content": json.dumps(schemas)},
        {"role": "user", "content": "probe_question"},
    ]


def _render_calls(
    tokenizer: Any, asked: list[Message], prompt: str, after_turn: str, calls: int
) -> str | None:
    """Render an answer with this many calls, without the text that closes any turn.

    None if the rendering doesn't start with the prompt, in which case rows aren't trained on it either.
    """
    made: list[StoredCall] = [
        {"id": call_id, "name": name, "arguments": ARGUMENT}
        for call_id, name in zip(IDS[:calls], NAMES[:calls], strict=True)
    ]
    results: list[Message] = [{"role": TOOL, "content": "probe_result"} for _ in made]
    answer: Message = {"role": "assistant", "content": format_calls("", made)}
    whole = render_conversation(tokenizer, [*asked, answer])
    if not whole.startswith(prompt):
        return None
    render_conversation(
        tokenizer, [*asked, answer, *results], generation_prompt=True
    )  # the template must also accept results
    return whole[len(prompt) :].removesuffix(after_turn)


def _split_calls(text: str) -> tuple[str, str, str]:
    """Split the text into what precedes the single call's JSON object, the object, and what follows.

    Raises ValueError if there is no such object.
    """
    place = text.index(NAMES[0])
    starts = [at for at, character in enumerate(text[:place]) if character == "{"]
    for start in reversed(starts):
        try:
            value, end = _decoder.raw_decode(text, start)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("name") == NAMES[0]:
            return text[:start], text[start:end], text[end:]
    raise ValueError("the template writes no JSON object of a call")


def _split_call(value: str) -> tuple[str, str, str] | None:
    """Return the texts around name and arguments; None for another order, or arguments as a string."""
    head, _, rest = value.partition(NAMES[0])
    start = rest.find("{")
    if start < 0 or "probe_argument" in rest[:start]:
        return None
    arguments, end = _decoder.raw_decode(rest, start)
    return (head, rest[:start], rest[end:]) if arguments == ARGUMENT else None


def _find_markers(opening: str, closing: str) -> tuple[str | None, str]:
    """Return the marker of calls, and the closing tag. The marker is None if the opening is other text."""
    ends = _TAG.findall(closing)
    tags = _TAG.findall(opening)
    if tags:
        return tags[-1], ends[0] if ends else ""
    return ("" if not opening.strip() or opening.lstrip().startswith("{") else None), ""


def _find_separator(
    tokenizer: Any, asked: list[Message], prompt: str, after_turn: str, value: str
) -> str | None:
    """Return the text between two calls; None if the template supports only one."""
    try:
        double = _render_calls(tokenizer, asked, prompt, after_turn, 2)
        if double is None:
            return None
        second = value.replace(NAMES[0], NAMES[1]).replace(IDS[0], IDS[1])
        before, second_there, _ = double.partition(second)
        _, first_there, between = before.partition(value)
    except (TemplateError, TypeError, ValueError):
        return None
    return between if second_there and first_there else None
