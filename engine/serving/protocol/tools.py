"""Functions that a request offers, and what it says of calling them: read, and held to limits.

A schema comes from outside and goes into a prompt, a grammar and a validator: what could end none of them is
refused here, by the field's name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from typing_extensions import TypeAliasType, TypedDict

from store.core.json_schema import check_schema
from store.core.metric_options import check_pattern, estimate_pattern_size
from store.core.schemas import JsonObject

MAX_TOOLS = 128
MAX_TOOL_BYTES = 256 * 1024  # of the JSON of all of them
MAX_CALLS = 128  # of one message
MAX_PATTERN_SIZE = 2**15  # of all patterns of a request: RE2 compiles so many characters in a quarter second
PATTERN_SIZE = 16  # of a pattern itself
NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


TypeName = Literal["null", "boolean", "object", "array", "number", "string", "integer"]


class _PatternBudget:
    """What is left for the patterns of one request."""

    def __init__(self) -> None:
        self._left = MAX_PATTERN_SIZE

    def take(self, pattern: str) -> None:
        """Before it is compiled. Raises ValueError."""
        self._left -= PATTERN_SIZE + estimate_pattern_size(pattern)
        if self._left < 0:
            raise ValueError(
                f"with {pattern[:80]!r} the patterns of the functions become too large, repetitions written"
                " out; repeat less, or leave classes such as \\p{L} out"
            )


def _check_pattern(pattern: str, validation: ValidationInfo) -> str:
    assert isinstance(validation.context, _PatternBudget)
    validation.context.take(pattern)
    return check_pattern(pattern)


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


SubSchema = TypeAliasType("SubSchema", "Schema | bool")
SubSchemas = dict[str, SubSchema]

# JSON Schema 2020-12, as far as a wrong form would break who works with it. The library's own check takes a
# second for each 20 KiB of a schema, and a request may have many.
Schema = TypedDict(
    "Schema",
    {
        "type": TypeName | list[TypeName], "enum": list[Any], "$ref": str, "$dynamicRef": str, "$id": str,
        "$anchor": str, "$dynamicAnchor": str, "$defs": SubSchemas,
        "definitions": SubSchemas, "properties": SubSchemas, "patternProperties": dict[Pattern, SubSchema],
        "dependentSchemas": SubSchemas, "dependentRequired": dict[str, list[str]], "required": list[str],
        "additionalProperties": SubSchema, "unevaluatedProperties": SubSchema, "propertyNames": SubSchema,
        "items": SubSchema, "unevaluatedItems": SubSchema, "contains": SubSchema,
        "prefixItems": list[SubSchema], "allOf": list[SubSchema], "anyOf": list[SubSchema],
        "oneOf": list[SubSchema], "not": SubSchema, "if": SubSchema, "then": SubSchema, "else": SubSchema,
        "pattern": Pattern, "uniqueItems": bool, "minimum": float, "maximum": float, "multipleOf": Positive,
        "exclusiveMinimum": float, "exclusiveMaximum": float, "minLength": Count, "maxLength": Count,
        "minItems": Count, "maxItems": Count, "minContains": Count, "maxContains": Count,
        "minProperties": Count, "maxProperties": Count,
    },
    total=False,
)  # fmt: skip
_schemas = TypeAdapter[Schema](Schema)


class ToolFunction(BaseModel):
    """A function that may be called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None

    @property
    def schema_(self) -> JsonObject:
        """That of its arguments."""
        return self.parameters or NO_PARAMETERS


class FunctionTool(BaseModel):
    """An entry of `tools`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: ToolFunction


class TurnFunctionCall(BaseModel):
    """Name and arguments of a call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FunctionName
    arguments: str


class TurnToolCall(BaseModel):
    """A call in a message of the assistant, as an answer had it."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=64)
    type: Literal["function"] = "function"
    function: TurnFunctionCall


class FunctionChoice(BaseModel):
    """The one that has to be called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str


class _ToolChoiceBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: FunctionChoice


def check_tools(tools: object) -> object:
    """The tools as they came, which is how the model is shown them. Raises ValueError, in a sentence, for
    what can't be worked with."""
    if not isinstance(tools, list):
        return tools  # pydantic says so
    if len(tools) > MAX_TOOLS:
        raise ValueError(f"there are {len(tools):,} functions; at most {MAX_TOOLS} may be offered")
    try:
        size = len(json.dumps(tools, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("they are nested too deeply") from error
    if size > MAX_TOOL_BYTES:
        raise ValueError(f"they are {size:,} bytes of JSON; at most {MAX_TOOL_BYTES:,} may be")
    room = _PatternBudget()
    names = [_check_tool(place, tool, room) for place, tool in enumerate(tools)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the function {twice} is there twice")
    return tools


def _check_tool(place: int, tool: object, room: _PatternBudget) -> str:
    """The function's name. Raises ValueError."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"tool {place} is of the type {kind[:40]!r}, and functions alone can be called here")
    try:
        function = FunctionTool.model_validate(tool).function
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"tool {place}: {where or 'it'}: {first['msg']}") from error
    try:
        _check_parameters(function.schema_, room)
    except ValueError as error:
        raise ValueError(f"the function {function.name}: {error}") from error
    return function.name


def _check_parameters(schema: JsonObject, room: _PatternBudget) -> None:
    check_schema(schema)
    if schema.get("type", "object") != "object":
        raise ValueError("its parameters have to be a schema of the type object")
    try:
        _schemas.validate_python(schema, strict=True, context=room)
    except ValidationError as error:
        first = error.errors()[0]
        steps = [str(part) for part in first["loc"]]
        where = "/".join(step for step in steps if step != "Schema" and not step.startswith("literal["))
        why = first.get("ctx", {}).get("error", first["msg"])
        raise ValueError(f"its parameters are no JSON schema: {where}: {str(why)[:200]}") from error
    text = json.dumps(schema)
    if '"unevaluatedProperties"' in text and '"patternProperties"' in text:
        raise ValueError(
            "unevaluatedProperties beside patternProperties can take time without end; use"
            " additionalProperties"
        )


def _parse_tool_choice(choice: object) -> object:
    """One of the words, or the name of a function. Raises ValueError."""
    if choice is None or choice in ("none", "auto", "required"):
        return choice
    try:
        return _ToolChoiceBody.model_validate(choice).function
    except ValidationError as error:
        raise ValueError(
            'it has to be none, auto, required, or {"type": "function", "function": {"name": …}}'
        ) from error


Tools = Annotated[list[JsonObject], BeforeValidator(check_tools)]
ToolChoice = Annotated[
    Literal["none", "auto", "required"] | FunctionChoice | None, BeforeValidator(_parse_tool_choice)
]
TurnCalls = Annotated[list[TurnToolCall], Field(min_length=1, max_length=MAX_CALLS)]


def index_functions(tools: Sequence[JsonObject]) -> dict[str, ToolFunction]:
    """Functions by their names, of tools that were checked."""
    functions = [FunctionTool.model_validate(tool).function for tool in tools]
    return {function.name: function for function in functions}
