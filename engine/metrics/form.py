"""Whether an answer has the form that was asked for: JSON, JSON by a schema, a pattern.

Patterns are matched by RE2, also those within a schema, so that none can take time beyond measure; and a
schema refers to nothing outside itself: no file and no address is ever opened for it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry

MOST_REASONS = 20
MOST_STEPS = 20_000  # references followed for one answer; each may double what the next one costs
_FENCE = re.compile(r"\s*```[A-Za-z0-9]*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class NotJson(ValueError):
    """The answer is no JSON; the message says where it breaks off."""


def read_json(text: str, *, fenced: bool = True) -> Any:
    """The document that the whole answer is. NaN and Infinity are no JSON. Raises NotJson."""
    inside = _FENCE.fullmatch(text) if fenced else None
    try:
        return json.loads(inside[1] if inside else text, parse_constant=_refuse)
    except RecursionError as error:
        raise NotJson("nested too deep") from error
    except ValueError as error:
        raise NotJson(str(error)) from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def valid_json(texts: Sequence[str], *, fenced: bool = True) -> np.ndarray:
    """1 where the answer is JSON."""
    return np.array([float(_reads(text, fenced)) for text in texts])


def _reads(text: str, fenced: bool) -> bool:
    try:
        read_json(text, fenced=fenced)
    except NotJson:
        return False
    return True


def json_schema(
    texts: Sequence[str], schema: Any, *, fenced: bool = True
) -> tuple[np.ndarray, dict[str, int]]:
    """(1 where the answer is JSON that the schema accepts, the 20 most frequent reasons why not -> rows).

    Raises ValueError for a schema that refers to something outside itself, or to a pattern that RE2 refuses.
    """
    steps = _Steps()
    validator = steps.kind(schema, registry=Registry())
    scores, reasons = np.zeros(len(texts)), Counter[str]()
    for row, text in enumerate(texts):
        steps.left = MOST_STEPS
        try:
            first = next(validator.iter_errors(read_json(text, fenced=fenced)), None)
        except NotJson:
            why = "not JSON"
        except RecursionError:
            why = "nested too deep"
        except _TooManySteps:
            why = "takes too many steps to check"
        else:
            if first is None:
                scores[row] = 1
                continue
            where = "/".join(str(part) for part in first.absolute_path)
            why = f"{where or 'at the top'}: {first.validator}"
        reasons[why] += 1
    return scores, dict(reasons.most_common(MOST_REASONS))


def regex(texts: Sequence[str], pattern: str, *, whole: bool = False) -> np.ndarray:
    """1 where the pattern is found in the answer, or is all of it."""
    if whole:
        pattern = rf"\A(?:{pattern})\z"
    matches = pc.match_substring_regex(pa.array(texts, pa.string()), pattern)
    return matches.to_numpy(zero_copy_only=False).astype(np.float64)


def _matches(pattern: str, text: str) -> bool:
    try:
        return bool(regex([text], pattern)[0])
    except pa.ArrowInvalid as error:
        raise ValueError(f"The schema's pattern {pattern!r} is refused by RE2: {error}") from error


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError("it does not match the pattern")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, _: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, schema in patterns.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, schema, path=name, schema_path=pattern)


_plain_additional = Draft202012Validator.VALIDATORS["additionalProperties"]


def _additional(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """Of names that no pattern of the schema takes; the library's own rule would match these with `re`."""
    patterns = schema.get("patternProperties", {})
    if isinstance(instance, dict) and patterns:
        named = {name for name in instance if any(_matches(pattern, name) for pattern in patterns)}
        instance = {name: value for name, value in instance.items() if name not in named}
        schema = {key: value for key, value in schema.items() if key != "patternProperties"}
    yield from _plain_additional(validator, rule, instance, schema)


_Validator: Any = extend(
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional},
)


class _TooManySteps(Exception):
    """One answer has led through a schema's references more often than is worth waiting for."""


class _Steps:
    """Validators of `kind` follow as many references as are `left`, and raise _TooManySteps then."""

    def __init__(self) -> None:
        self.left = MOST_STEPS
        counted = {name: self._counted(_Validator.VALIDATORS[name]) for name in ("$ref", "$dynamicRef")}
        self.kind: Any = extend(_Validator, counted)

    def _counted(self, follow: Any) -> Any:
        def followed(*rule: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise _TooManySteps
            return follow(*rule)

        return followed
