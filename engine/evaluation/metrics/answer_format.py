"""Whether an answer has the form that was asked for: JSON, JSON by a schema, a pattern.

Patterns are matched by RE2, also those within a schema, so that none can take time beyond measure; and a
schema refers to nothing outside itself: no file and no address is ever opened for it.
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
MAX_STEPS = 200_000  # keywords that one answer may be held to
REFERENCE_STEPS = 10  # of a reference followed: each may double what the next one costs
REFERENCES = ("$ref", "$dynamicRef")
_FENCE = re.compile(r"\s*```[A-Za-z0-9]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class InvalidJson(ValueError):
    """The answer is no JSON; the message says where it breaks off."""


def read_json(text: str, *, fenced: bool = True) -> Any:
    """The document that the whole answer is. NaN and Infinity are no JSON. Raises NotJson."""
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
    """1 where the answer is JSON."""
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
    """(1 where the answer is JSON that the schema accepts, the 20 most frequent reasons why not -> rows).

    Raises ValueError for a schema that refers to something outside itself, or to a pattern that RE2 refuses.
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
    """Why a validator of `ValidationBudget` does not accept the answer; None where it does. Raises as
    json_schema."""
    try:
        first = next(validator.iter_errors(read_json(text, fenced=fenced)), None)
    except InvalidJson:
        return "not JSON"
    except RecursionError:
        return "nested too deep"
    except OverflowError:
        return "a number is too large to check"
    except _ValidationBudgetExceeded:
        return "takes too many steps to check"
    if first is None:
        return None
    where = "/".join(str(part) for part in first.absolute_path)
    return f"{where or 'at the top'}: {first.validator}"


def score_regex(texts: Sequence[str], pattern: str, *, whole: bool = False) -> np.ndarray:
    """1 where the pattern is found in the answer, or is all of it."""
    if whole:
        pattern = rf"\A(?:{pattern})\z"
    matches = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    scores: np.ndarray = matches.to_numpy(zero_copy_only=False).astype(np.float64)
    return scores


def _find_matches(pattern: str, texts: Sequence[str]) -> list[str]:
    """The texts in which the pattern is found: all at once, as it is compiled each time."""
    try:
        return [text for text, score in zip(texts, score_regex(texts, pattern), strict=True) if score]
    except pa.ArrowInvalid as error:
        raise ValueError(f"The schema's pattern {pattern!r} is refused by RE2: {error}") from error


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
    """The library's own rule compares each item with each."""
    if (
        wanted
        and isinstance(instance, list)
        and len({_make_comparable(item) for item in instance}) < len(instance)
    ):
        yield ValidationError("it has an item twice")


def _make_comparable(value: Any) -> Any:
    """What is equal, and hashes alike, where JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _make_comparable(part)) for name, part in value.items())
    if isinstance(value, list):
        return tuple(_make_comparable(part) for part in value)
    return (bool, value) if isinstance(value, bool) else value


_plain_additional = Draft202012Validator.VALIDATORS["additionalProperties"]


def _validate_additional_properties(
    validator: Any, rule: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    """Of names that no pattern of the schema takes; the library's own rule would match these with `re`."""
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
    """To check an answer takes longer than is worth waiting for."""


class ValidationBudget:
    """Validators that together take as many steps as are `left`, and so many seconds where given."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.left, self._until = MAX_STEPS, time.monotonic() + seconds
        counted = {name: self._counted(name, rule) for name, rule in _Validator.VALIDATORS.items()}
        self._kind: Any = extend(_Validator, counted)

    def validator(self, schema: Any) -> Any:
        """For `find_schema_error`."""
        return self._kind(schema, registry=Registry())

    def _counted(self, name: str, rule: Any) -> Any:
        steps = REFERENCE_STEPS if name in REFERENCES else 1

        def checked(*given: Any) -> Any:
            self.left -= steps
            if self.left < 0 or time.monotonic() >= self._until:
                raise _ValidationBudgetExceeded
            return rule(*given)

        return checked
