"""Calls in answers, where whoever wrote the functions or had the model answer means harm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.models.tokenization.call_form import MAX_FAILURES, CallForm
from engine.models.tokenization.tool_turns import parse_calls, parse_openai_messages
from engine.serving.protocol.tools import MAX_PATTERN_SIZE, check_tools
from engine.serving.torch_backend import structured_answers
from engine.serving.torch_backend.structured_answers import ToolAnswer, ToolOffer
from store.core.metric_options import CLASS_SIZE, estimate_pattern_size

HERMES = CallForm(
    opening="<tool_call>\n", head='{"name": "', middle='", "arguments": ', tail="}", between="",
    closing="\n</tool_call>", marker="<tool_call>", end="</tool_call>", key="arguments", written_id="",
)  # fmt: skip


def tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object", **parameters}}}


def written(arguments: str) -> str:
    return f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call>'


def read(text: str, schema: dict[str, Any]) -> ToolAnswer:
    reader = ToolOffer(HERMES, {"f": schema}, True, frozenset(), None).create_reader()
    reader.add(text)
    return reader.finish(truncated=False)


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        ("a{2,5}", 5),
        ("(ab{3}){10}", 40),
        ("(?:a{30}){30}|b", 30 * (2 + 30) + 2),
        (r"(\pL{1,30}){1,9}", 270 * (CLASS_SIZE + 3)),
        (r"([[:alpha:])]x{10}){9}", 9 * (12 + 10)),
        (r"(\Q)\Ex{10}){9}", 9 * (5 + 10)),
        (r"\x{100}", 7),
        (r"[\p{L}(]{2}", 2 * (8 + CLASS_SIZE)),
    ],
)
def test_a_pattern_is_as_large_as_its_repetitions_written_out(pattern: str, size: int) -> None:
    assert estimate_pattern_size(pattern) == size


@pytest.mark.parametrize(
    "patterns",
    [
        [r"(\pL{1,30}){1,9}"],
        [r"\pL{1,3}" for _ in range(300)],
        ["a" * (MAX_PATTERN_SIZE + 1)],
        ["[" * MAX_PATTERN_SIZE],
        [f"a{place}" for place in range(MAX_PATTERN_SIZE // 16)],
    ],
)
def test_patterns_that_take_seconds_to_compile_are_refused(patterns: list[str]) -> None:
    properties = {f"p{place}": {"pattern": pattern} for place, pattern in enumerate(patterns)}
    with pytest.raises(ValueError, match="become too large"):
        check_tools([tool(properties=properties)])


def test_usual_patterns_are_taken() -> None:
    patterns = [r"^\d{4}-\d{2}-\d{2}$", r"^[\p{L}\p{N} _-]{1,64}$", "^(?:[0-9a-f]{4}-){7}[0-9a-f]{4}$"]
    assert check_tools([tool(properties={name: {"pattern": name} for name in patterns})])


@pytest.mark.parametrize("name", ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef"])
def test_names_in_a_schema_are_texts(name: str) -> None:
    with pytest.raises(ValueError, match="not a JSON schema"):
        check_tools([tool(**{name: 5})])


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        ({"properties": {"a": {"multipleOf": 0.5}}}, {"a": 10**400}),
        ({"$id": 5}, {}),
        ({"$dynamicRef": 5}, {}),
        ({"$ref": "#/enum/0", "enum": [[1]]}, {}),
        ({"$ref": "#/default", "default": {"type": "strnig"}}, {"a": 1}),
        ({"$ref": "elsewhere"}, {}),
    ],
)
def test_arguments_that_can_not_be_checked_are_invalid_and_the_answer_is_whole(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    ended = read(written(json.dumps(arguments)), schema)
    assert [json.loads(call["function"]["arguments"]) for call in ended.calls] == [arguments]
    assert ended.invalid == 1


def test_the_calls_of_an_answer_share_what_checking_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured_answers, "CHECK_SECONDS", 3600)
    schema = {"properties": {"a": {"items": {"allOf": [{"type": "object"}] * 100}}}}
    call = written(json.dumps({"a": [{}] * 600}))  # 61,800 keywords
    ended = read(call * 5, schema)
    assert (len(ended.calls), ended.invalid) == (5, 2)
    monkeypatch.setattr(structured_answers, "CHECK_SECONDS", 0)
    ended = read(written("{}"), schema)
    assert (len(ended.calls), ended.invalid) == (1, 1)


def test_arguments_are_json_or_the_call_is_text() -> None:
    text = written('{"a": 1e999}')
    ended = read(text, {})
    assert (ended.calls, ended.text, ended.invalid) == ([], text, 1)


def test_space_around_a_call_belongs_to_it() -> None:
    ended = read(written("{}") + "  \n" + written("{}").replace("\n", " \t\u2003\n") + " so", {})
    assert (len(ended.calls), ended.text) == (2, "  \n so")


def test_what_follows_many_markers_without_calls_is_text() -> None:
    text = HERMES.marker * MAX_FAILURES + "{" + written("{}")
    assert "".join(str(piece) for piece in HERMES.read(text)) == text
    few = HERMES.marker * (MAX_FAILURES - 1)
    assert len(read(few + written("{}"), {}).calls) == 1


def called(arguments: str) -> list[dict[str, Any]]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "?"},
    ]


@pytest.mark.parametrize("value", [r'"\ud800"', "[" * 100_000, "1" * 5000])
def test_arguments_that_no_tokenizer_takes_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not the JSON of an object"):
        parse_openai_messages(called(f'{{"a": {value}}}'), [])


@pytest.mark.parametrize("value", [r'"\ud800"', "[" * 100_000, "1" * 5000])
def test_a_text_that_looks_like_calls_and_is_none_stays_text(value: str) -> None:
    assert parse_calls(f'{{"tool_calls": [{{"name": "f", "arguments": {value}') is None
    assert parse_calls(f'{{"tool_calls": [{{"name": "f", "arguments": {value}}}]}}') is None
