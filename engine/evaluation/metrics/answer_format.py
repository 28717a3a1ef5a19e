"""Format checks of answers: JSON, JSON Schema, regular expressions.

Patterns are matched by RE2, including those within a schema, so that none can take excessive time. A schema
can't refer to anything outside itself: no file or URL is ever opened for it.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry

MAX_REASONS = 20
MAX_STEPS = 200_000  # schema keywords evaluated per answer at most
REFERENCE_STEPS = 10  # steps per followed reference: each may double the cost of the next
REFERENCES = ("$ref", "$dynamicRef")
_FENCE = re.compile(r"\s*```[A-Za-z0-9]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class InvalidJson(ValueError):
    """The answer is not JSON; the message says where parsing failed."""


def read_json(text: str, *, fenced: bool = True) -> Any:
    """Parse the whole answer as JSON. NaN and Infinity are not JSON. Raises InvalidJson."""
    inside = _FENCE.fullmatch(text) if fenced else None
    try:
        return json.loads(inside[1] if inside else text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise InvalidJson("nested too deep") from error
    except ValueError as error:
        raise InvalidJson(str(error)) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def score_valid_json(texts: Sequence[str], *, fenced: bool = True) -> np.ndarray:
    """Return 1 for each answer that is JSON, otherwise 0."""
    return np.array([float(_is_json(text, fenced)) for text in texts])


def _is_json(text: str, fenced: bool) -> bool:
    try:
        read_json(text, fenced=fenced)
    except InvalidJson:
        return False
    return True


def score_json_schema(
    texts: Sequence[str], schema: Any, *, fenced: bool = True
) -> tuple[np.ndarray, dict[str, int]]:
    """Return 1 for each answer that is JSON valid under the schema, and the rows by failure reason (the 20
    most frequent).

    Raises ValueError for a schema that refers to something outside itself, or to a pattern that RE2 rejects.
    """
    checking = ValidationBudget()
    validator = checking.validator(schema)
    scores, reasons = np.ones(len(texts)), Counter[str]()
    for row, text in enumerate(texts):
        checking.left = MAX_STEPS
        if why := find_schema_error(validator, text, fenced=fenced):
            scores[row] = 0
            reasons[why] += 1
    return scores, dict(reasons.most_common(MAX_REASONS))


def find_schema_error(validator: Any, text: str, *, fenced: bool) -> str | None:
    """Return why a validator of `ValidationBudget` rejects the answer; None if it accepts it. Raises as
    `score_json_schema`.
    """
    try:
        first = next(validator.iter_errors(read_json(text, fenced=fenced)), None)
    except InvalidJson:
        return "not JSON"
    except RecursionError:
        return "nested too deep"
    except OverflowError:
        return "a number is too large to check"
    except _ValidationBudgetExceeded:
        return "is too complex to check"
    if first is None:
        return None
    where = "/".join(str(part) for part in first.absolute_path)
    return f"{where or 'at the top'}: {first.validator}"


def score_regex(texts: Sequence[str], pattern: str, *, whole: bool = False) -> np.ndarray:
    """Return 1 for each answer that contains a match of the pattern, or with `whole` matches it entirely."""
    if whole:
        pattern = rf"\A(?:{pattern})\z"
    matches = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    scores: np.ndarray = matches.to_numpy(zero_copy_only=False).astype(np.float64)
    return scores


def _find_matches(pattern: str, texts: Sequence[str]) -> list[str]:
    """Return the texts containing a match; all in one call, since the pattern is compiled each time."""
    try:
        return [text for text, score in zip(texts, score_regex(texts, pattern), strict=True) if score]
    except pa.ArrowInvalid as error:
        raise ValueError(f"RE2 rejects the pattern {pattern!r} of the schema: {error}") from error


def _validate_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _find_matches(pattern, [instance]):
        yield ValidationError("it does not match the pattern")


def _validate_pattern_properties(
    validator: Any, patterns: dict[str, object], instance: Any, _: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, schema in patterns.items():
            for name in _find_matches(pattern, [*instance]):
                yield from validator.descend(instance[name], schema, path=name, schema_path=pattern)


def _validate_unique_items(_: Any, wanted: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Check for duplicates by hash; the library's own rule compares every pair of items."""
    if (
        wanted
        and isinstance(instance, list)
        and len({_make_comparable(item) for item in instance}) < len(instance)
    ):
        yield ValidationError("it has an item twice")


def _make_comparable(value: Any) -> Any:
    """Return a hashable value with JSON equality: 1 equals 1.0, but not true."""
    if isinstance(value, dict):
        return frozenset((name, _make_comparable(part)) for name, part in value.items())
    if isinstance(value, list):
        return tuple(_make_comparable(part) for part in value)
    return (bool, value) if isinstance(value, bool) else value


_plain_additional = Draft202012Validator.VALIDATORS["additionalProperties"]


def _validate_additional_properties(
    validator: Any, rule: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """Check the names that match no pattern of the schema; the library's own rule would match them
    with `re`.
    """
    patterns = schema.get("patternProperties", {})
    if isinstance(instance, dict) and patterns:
        named = {name for pattern in patterns for name in _find_matches(pattern, [*instance])}
        instance = {name: value for name, value in instance.items() if name not in named}
        schema = {key: value for key, value in schema.items() if key != "patternProperties"}
    yield from _plain_additional(validator, rule, instance, schema)


_Validator: Any = extend(
    Draft202012Validator,
    {"pattern": _validate_pattern, "patternProperties": _validate_pattern_properties,
        "additionalProperties": _validate_additional_properties,
     "uniqueItems": _validate_unique_items},
)  # fmt: skip


class _ValidationBudgetExceeded(Exception):
    """Checking an answer takes too long."""


class ValidationBudget:
    """Validators that share a budget of `left` steps and, if given, of seconds."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.left, self._until = MAX_STEPS, time.monotonic() + seconds
        counted = {name: self._counted(name, rule) for name, rule in _Validator.VALIDATORS.items()}
        self._kind: Any = extend(_Validator, counted)

    def validator(self, schema: Any) -> Any:
        """Return a validator for `find_schema_error`."""
        return self._kind(schema, registry=Registry())

    def _counted(self, name: str, rule: Any) -> Any:
        steps = REFERENCE_STEPS if name in REFERENCES else 1

        def checked(*given: Any) -> Any:
            self.left -= steps
            if self.left < 0 or time.monotonic() >= self._until:
                raise _ValidationBudgetExceeded
            return rule(*given)

        return checked
