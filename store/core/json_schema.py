"""Safety checks on JSON schemas from outside, before they are given to any library.

Rejected is what would never terminate or exhaust the stack: a schema that refers to itself for the same
value, and one with too many levels, including those it refers to. Libraries respond to both with an infinite
loop, a stack overflow, or a crash of their process. A schema that refers to itself further inside the value,
as that of a tree does, is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from store.core.schemas import JsonObject

MAX_DEPTH = 64  # nested brackets; typical schemas have ten
MAX_LEVELS = 1000  # of the schema and all that it refers to
MAX_VALUES = 100_000
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
NAMES = ("$anchor", "$dynamicAnchor", "$id")
SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")  # apply to the same value
SAME_VALUE_BY_NAME = ("dependentSchemas", "dependencies")


def check_schema(schema: object) -> None:
    """Raise ValueError, with a sentence as message, for a schema that can't be processed."""
    _Schema(schema).check()


class _Schema:
    """A schema with the targets of its references. Traversed iteratively, to protect the stack."""

    def __init__(self, schema: object) -> None:
        self._order: list[Any] = []  # every object and list, parents before children
        self._roots: dict[int, Any] = {}  # by id() of each object: the schema that "#" refers to
        self._named: JsonObject = {}  # subschemas by anchor and $id
        self._top = schema
        self._walk()

    def check(self) -> None:
        """Raise ValueError if the schema has too many levels or does not terminate."""
        heights: dict[int, int] = {}
        for value in reversed(self._order):
            heights[id(value)] = 1 + max(
                (heights.get(id(part), 0) for part in _list_children(value)), default=0
            )
        reached = {id(target) for value in self._order for target in self._referred(value)}
        levels = heights.get(id(self._top), 0) + sum(heights[target] for target in reached)
        if levels > MAX_LEVELS:
            raise ValueError(
                f"the JSON schema has {levels:,} levels, with those that it refers to; at most {MAX_LEVELS:,}"
                " may be"
            )
        self._check_ends()

    def _walk(self) -> None:
        waiting: list[tuple[Any, Any, int]] = [(self._top, self._top, 1)]
        for _ in range(MAX_VALUES):
            if not waiting:
                return
            value, root, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise ValueError(f"the JSON schema is nested more than {MAX_DEPTH} deep")
            if isinstance(value, dict | list):
                root = value if isinstance(value, dict) and "$id" in value else root
                self._order.append(value)
                self._roots[id(value)] = root
                waiting += [(part, root, depth + 1) for part in _list_children(value)]
            if isinstance(value, dict):
                for key in NAMES:
                    if isinstance(name := value.get(key), str):
                        self._named.setdefault(name.rstrip("#"), value)
        raise ValueError(f"the JSON schema has more than {MAX_VALUES:,} values")

    def _check_ends(self) -> None:
        """Raise ValueError if a chain of schemas that apply to the same value is cyclic or too long."""
        lengths: dict[int, int] = {}  # by id(): longest chain from each completed schema
        for start in self._order:
            way = [(start, self._of_same_value(start))] if id(start) not in lengths else []
            on_way = {id(start)}
            while way:
                schema, following = way[-1]
                next_one = next((each for each in following if id(each) not in lengths), None)
                if next_one is None:
                    on_way.discard(id(schema))
                    after = (lengths[id(each)] for each in self._of_same_value(schema))
                    lengths[id(schema)] = 1 + max(after, default=0)
                    way.pop()
                elif id(next_one) in on_way:
                    raise ValueError(
                        "the JSON schema refers to itself without a step into the value, which never ends"
                    )
                else:
                    on_way.add(id(next_one))
                    way.append((next_one, self._of_same_value(next_one)))
        if (longest := max(lengths.values(), default=0)) > MAX_DEPTH:
            raise ValueError(
                f"the JSON schema leads from schema to schema {longest:,} times for one value; at most"
                f" {MAX_DEPTH} may be"
            )

    def _of_same_value(self, schema: Any) -> Iterator[Any]:
        """Yield the schemas that apply to the same value as this one."""
        if not isinstance(schema, dict):
            return
        yield from self._referred(schema)
        for key in SAME_VALUE:
            part = schema.get(key)
            yield from (
                each for each in (part if isinstance(part, list) else [part]) if isinstance(each, dict)
            )
        for key in SAME_VALUE_BY_NAME:
            if isinstance(by_name := schema.get(key), dict):
                yield from (each for each in by_name.values() if isinstance(each, dict))

    def _referred(self, schema: Any) -> Iterator[Any]:
        """Yield the targets of a schema's references within the document; libraries reject external ones."""
        if not isinstance(schema, dict):
            return
        for key in REFERENCES:
            if not isinstance(name := schema.get(key), str):
                continue
            base, _, place = name.partition("#")
            target = self._named.get(base) if base else self._roots[id(schema)]
            if place and not place.startswith("/"):
                target = self._named.get(place)
            for step in unquote(place).split("/")[1:] if place.startswith("/") else ():
                target = _get_part(target, step.replace("~1", "/").replace("~0", "~"))
            if isinstance(target, dict):
                yield target


def _list_children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _get_part(value: Any, step: str) -> Any:
    if isinstance(value, list):
        return value[int(step)] if step.isdecimal() and int(step) < len(value) else None
    return value.get(step) if isinstance(value, dict) else None
