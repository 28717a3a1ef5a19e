"""Schemas that come from outside: what never ends or takes the stack is refused before any library has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.evaluation.metrics import answer_format
from engine.serving.gateway import request_bodies
from engine.serving.gateway.request_bodies import Refusal
from engine.serving.protocol.answers import RequestError
from engine.serving.protocol.request_bodies import ChatBody, parse
from store.core.errors import ConfigError
from store.core.json_schema import check_schema
from store.core.metrics_config import MetricsConfig


def nested(deep: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(deep):
        schema = {"properties": {"a": schema}}
    return schema


def chain(count: int, *, inside: bool = False) -> dict[str, Any]:
    """Each definition is the next one, or has it inside."""
    following = [{"$ref": f"#/$defs/d{n + 1}"} for n in range(count)]
    definitions = {f"d{n}": {"properties": {"a": it}} if inside else it for n, it in enumerate(following)}
    return {"$defs": {**definitions, f"d{count}": {"type": "string"}}, "$ref": "#/$defs/d0"}


SELF = "refers to itself without a step into the value"
BAD = [
    ({"$ref": "#"}, SELF),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, SELF),
    (
        {
            "properties": {
                "x": {"$defs": {"~/": {"$ref": "#/properties/x"}}, "$ref": "#/properties/x/$defs/~0~1"}
            }
        },
        SELF,
    ),
    ({"allOf": [{"$ref": "#"}]}, SELF),
    ({"anyOf": [{"type": "null"}, {"not": {"$ref": "#"}}]}, SELF),
    ({"if": {"$ref": "#"}, "then": False}, SELF),
    ({"dependentSchemas": {"a": {"$ref": "#"}}}, SELF),
    ({"dependencies": {"a": {"$ref": "#"}}}, SELF),
    ({"$anchor": "top", "$ref": "#top"}, SELF),
    ({"$id": "http://example.org/s", "$ref": "http://example.org/s#"}, SELF),
    ({"$dynamicRef": "#"}, SELF),
    ({"$recursiveRef": "#"}, SELF),
    (nested(10_000), "nested more than 64 deep"),
    (chain(10_000), "levels, with those that it refers to"),
    (chain(10_000, inside=True), "levels, with those that it refers to"),
    (chain(300), "leads from schema to schema 302 times for one value"),
    ({"enum": list(range(100_000))}, "more than 100,000 values"),
]
TREE = {"type": "object", "properties": {"name": {"type": "string"}, "parts": {"items": {"$ref": "#"}}}}
GOOD = [
    True,
    {},
    TREE,
    nested(20),
    chain(50),
    chain(200, inside=True),
    {"$ref": "#/nowhere"},
    {"$ref": "https://example.org/other"},
    {"$ref": 5, "allOf": 5, "dependencies": 5},
    {"$defs": {"list": {"properties": {"next": {"$ref": "#/$defs/list"}}}}, "$ref": "#/$defs/list"},
]


def asked(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(("schema", "why"), BAD)
def test_what_never_ends_or_takes_the_stack_is_refused_in_one_sentence(schema: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_schema(schema)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": asked(schema)}
    with pytest.raises(RequestError, match=why) as by_backend:
        parse(ChatBody, body)
    assert (by_backend.value.status, "\n" in by_backend.value.message) == (400, False)
    with pytest.raises(Refusal, match=why) as by_gateway:
        request_bodies.check_format({"response_format": asked(schema)})
    assert (by_gateway.value.status, by_gateway.value.param) == (400, "response_format")
    with pytest.raises(ConfigError, match=why):
        MetricsConfig.parse({"metrics": [{"metric": "json_schema", "json_schema": schema}]})


@pytest.mark.parametrize("schema", GOOD)
def test_what_ends_is_taken(schema: Any) -> None:
    check_schema(schema)
    request_bodies.check_format({"response_format": asked(schema)})


@pytest.mark.parametrize("wanted", [None, 5, {"type": "text"}, {"type": "json_schema", "json_schema": []}])
def test_other_forms_of_an_answer_are_the_backends_to_check(wanted: Any) -> None:
    request_bodies.check_format({"response_format": wanted})


def test_a_tree_is_checked_as_deep_as_it_is() -> None:
    good = {"name": "a", "parts": [{"name": "b", "parts": [{"name": "c"}]}]}
    bad = {"name": "a", "parts": [{"name": "b", "parts": [{"name": 3}]}]}
    scores, why = answer_format.score_json_schema([json.dumps(good), json.dumps(bad)], TREE)
    assert (scores.tolist(), why) == ([1, 0], {"parts/0/parts/0/name: type": 1})


def test_references_that_double_at_each_level_are_given_up() -> None:
    schema = {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    check_schema(schema)
    answer: dict[str, Any] = {}
    for _ in range(60):  # 2 to the 60 steps
        answer = {"a": answer}
    scores, why = answer_format.score_json_schema([json.dumps(answer), '{"a": {}}'], schema)
    assert (scores.tolist(), why) == ([0, 1], {"is too complex to check": 1})


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, True, "1", None, [1], {"a": 1}], True),
        ([1, 1.0], False),
        ([{"a": 1, "b": [0]}, {"b": [0.0], "a": 1}], False),
        ([[1], [True]], True),
        ([{"a": [[]]}, {"a": []}, {}], True),
    ],
)
def test_items_are_unique_as_the_schema_language_has_it(items: list[Any], unique: bool) -> None:
    scores, _ = answer_format.score_json_schema([json.dumps(items)], {"uniqueItems": True})
    assert scores.tolist() == [unique]


def test_uniqueness_compares_no_item_with_each() -> None:
    compared = answer_format.ValidationBudget().validator({"uniqueItems": True})
    items = [_Counted() for _ in range(1000)]
    assert [*compared.iter_errors(items)] == []
    assert _Counted.times <= 1000


class _Counted:
    """A value that counts how often it is compared."""

    times = 0

    def __eq__(self, other: object) -> bool:
        _Counted.times += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


def test_a_number_too_large_to_divide_ends_its_row_alone() -> None:
    scores, why = answer_format.score_json_schema(["1" + "0" * 400, "1"], {"multipleOf": 0.5})
    assert (scores.tolist(), why) == ([0, 1], {"a number is too large to check": 1})
