"""Parsing and limits of the functions that a request offers, and of its settings for calling them.

A schema is untrusted and goes into a prompt, a grammar and a validator: anything that could keep one of
them from terminating is rejected here, by field name.
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
MAX_TOOL_BYTES = 256 * 1024  # of JSON, all tools together
MAX_CALLS = 128  # calls per message
MAX_PATTERN_SIZE = 2**15  # all patterns of a request: RE2 compiles that size in a quarter second
PATTERN_SIZE = 16  # base size of each pattern
NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


TypeName = Literal["null", "boolean", "object", "array", "number", "string", "integer"]


class _PatternBudget:
    """Remaining budget for the patterns of one request."""

    def __init__(self) -> None:
        self._remaining = MAX_PATTERN_SIZE

    def charge(self, pattern: str) -> None:
        """Charge a pattern before it is compiled. Raises ValueError."""
        self._remaining -= PATTERN_SIZE + estimate_pattern_size(pattern)
        if self._remaining < 0:
            raise ValueError(
                f"with {pattern[:80]!r} the patterns of the functions become too large, repetitions written"
                " out; repeat less, or leave classes such as \\p{L} out"
            )


def _check_pattern(pattern: str, validation: ValidationInfo) -> str:
    assert isinstance(validation.context, _PatternBudget)
    validation.context.charge(pattern)
    return check_pattern(pattern)


Pattern = Annotated[str, AfterValidator(_check_pattern)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


SubSchema = TypeAliasType("SubSchema", "Schema | bool")
SubSchemas = dict[str, SubSchema]

# JSON Schema 2020-12, as far as an invalid form would break its users. The library's own check takes a second
# per 20 KiB of schema, and a request may have many schemas.
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
        """Schema of its arguments."""
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
    """A call in an assistant message, as in an earlier answer."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(min_length=1, max_length=64)
    type: Literal["function"] = "function"
    function: TurnFunctionCall


class FunctionChoice(BaseModel):
    """The function that must be called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str


class _ToolChoiceBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: FunctionChoice


def check_tools(tools: object) -> object:
    """Check the tools and return them unchanged, which is how the model sees them.

    Raises ValueError, with a clear message, if they are unusable.
    """
    if not isinstance(tools, list):
        return tools  # rejected by pydantic
    if len(tools) > MAX_TOOLS:
        raise ValueError(f"there are {len(tools):,} functions; at most {MAX_TOOLS} may be offered")
    try:
        size = len(json.dumps(tools, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("they are nested too deeply") from error
    if size > MAX_TOOL_BYTES:
        raise ValueError(f"they are {size:,} bytes of JSON; at most {MAX_TOOL_BYTES:,} may be")
    budget = _PatternBudget()
    names = [_check_tool(index, tool, budget) for index, tool in enumerate(tools)]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the function {duplicate} is there twice")
    return tools


def _check_tool(index: int, tool: object, budget: _PatternBudget) -> str:
    """Check a tool and return its function's name. Raises ValueError."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind != "function":
        raise ValueError(f"tool {index} is of the type {kind[:40]!r}, and functions alone can be called here")
    try:
        function = FunctionTool.model_validate(tool).function
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"tool {index}: {location or 'it'}: {first['msg']}") from error
    try:
        _check_parameters(function.schema_, budget)
    except ValueError as error:
        raise ValueError(f"the function {function.name}: {error}") from error
    return function.name


def _check_parameters(schema: JsonObject, budget: _PatternBudget) -> None:
    check_schema(schema)
    if schema.get("type", "object") != "object":
        raise ValueError("its parameters have to be a schema of the type object")
    try:
        _schemas.validate_python(schema, strict=True, context=budget)
    except ValidationError as error:
        first = error.errors()[0]
        steps = [str(part) for part in first["loc"]]
        location = "/".join(step for step in steps if step != "Schema" and not step.startswith("literal["))
        reason = first.get("ctx", {}).get("error", first["msg"])
        raise ValueError(f"its parameters are not a JSON schema: {location}: {str(reason)[:200]}") from error
    text = json.dumps(schema)
    if '"unevaluatedProperties"' in text and '"patternProperties"' in text:
        raise ValueError(
            "unevaluatedProperties with patternProperties can take unlimited time; use additionalProperties"
        )


def _parse_tool_choice(choice: object) -> object:
    """Parse a keyword or a function choice. Raises ValueError."""
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
    """Return the functions of validated tools by name."""
    functions = [FunctionTool.model_validate(tool).function for tool in tools]
    return {function.name: function for function in functions}
