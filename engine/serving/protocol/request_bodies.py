"""Schemas of request bodies: an unknown field is rejected by name, never dropped."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from engine.serving.protocol.answers import TOOL_FIELDS, RequestError
from engine.serving.protocol.tools import (
    FunctionChoice,
    ToolChoice,
    ToolFunction,
    Tools,
    TurnCalls,
    index_functions,
)
from store.core.json_schema import check_schema
from store.core.schemas import JsonObject

MAX_ALTERNATIVES = 20
MAX_STOPS = 16
MAX_TEXTS = 2048  # texts per embeddings request
UNSUPPORTED_PARTS = {  # part types in messages, in words
    "image_url": "an image",
    "input_image": "an image",
    "input_audio": "a sound",
    "video_url": "a video",
    "file": "a file",
    "refusal": "a refusal",
}


class RequestBody(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


def _check_json_schema(schema: JsonObject) -> JsonObject:
    check_schema(schema)
    return schema


class JsonSchema(BaseModel):
    """A named JSON schema."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = ""
    description: str | None = None
    schema_: Annotated[JsonObject, AfterValidator(_check_json_schema)] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """Required form of the answer."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def required_schema(self) -> JsonObject | None:
        """The schema that the answer must follow; None for any text. Raises RequestError."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise RequestError(
                "response_format is json_schema, but the schema is missing.", field="response_format"
            )
        return self.json_schema.schema_


def _wrap_in_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class SamplingFields(RequestBody):
    """Fields common to chats and completions."""

    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]] | None, BeforeValidator(_wrap_in_list)] = Field(
        None, max_length=MAX_STOPS
    )
    n: int | None = Field(1, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    presence_penalty: float | None = Field(0.0, ge=-2, le=2)
    frequency_penalty: float | None = Field(0.0, ge=-2, le=2)
    response_format: ResponseFormat | None = None
    user: str | None = None  # end user; has no effect here


class TextPart(BaseModel):
    """A text part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


def _check_text_parts(content: object) -> object:
    """Reject non-text parts with a helpful message, which a plain type error wouldn't give."""
    for index, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in UNSUPPORTED_PARTS:
            raise ValueError(
                f"part {index} is {UNSUPPORTED_PARTS[kind]}, and this model reads text alone; leave it out"
            )
    return content


def _drop_empty_fields(turn: object) -> object:
    """Drop fields without information.

    Clients send answers back unchanged, including nulls and empty lists, and a result's function name,
    which its call already has.
    """
    if not isinstance(turn, dict):
        return turn
    dropped = {name for name in ("tool_calls", "annotations") if turn.get(name) == []}
    dropped |= {name for name, value in turn.items() if value is None}
    dropped |= {"name"} if turn.get("role") == "tool" else set()
    return {name: value for name, value in turn.items() if name not in dropped}


class ChatTurn(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | list[TextPart] | None, BeforeValidator(_check_text_parts)] = None
    tool_calls: TurnCalls | None = None
    tool_call_id: str | None = Field(None, max_length=64)

    @property
    def text(self) -> str:
        """The message's text."""
        parts = self.content if isinstance(self.content, list) else []
        return self.content if isinstance(self.content, str) else "".join(part.text for part in parts)

    @property
    def uses_tools(self) -> bool:
        """Whether the message calls functions or is the result of a call."""
        return self.role == "tool" or self.tool_calls is not None

    _whole = model_validator(mode="before")(_drop_empty_fields)

    @model_validator(mode="after")
    def _valid_for_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls are of the assistant, not of {self.role}")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise ValueError("tool_call_id belongs to a message of the role tool, which needs it")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self


class ChatBody(SamplingFields):
    """`POST /v1/chat/completions`."""

    messages: list[ChatTurn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)
    tools: Tools | None = Field(None, min_length=1)
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None

    @property
    def uses_tools(self) -> bool:
        """Whether the conversation involves functions."""
        return self.tools is not None or any(turn.uses_tools for turn in self.messages)

    @property
    def callable_functions(self) -> dict[str, ToolFunction]:
        """Functions by name that the answer may call.

        Raises RequestError if tool_choice doesn't match the tools.
        """
        functions, chosen = index_functions(self.tools or ()), self.tool_choice
        if chosen in (None, "auto", "required"):
            if chosen == "required" and not functions:
                raise RequestError("tool_choice is required, but there are no tools.", field="tool_choice")
            return functions
        if chosen == "none":
            return {}
        assert isinstance(chosen, FunctionChoice)
        if chosen.name not in functions:
            raise RequestError(
                f"tool_choice names {chosen.name[:80]!r}, which tools don't have.", field="tool_choice"
            )
        return {chosen.name: functions[chosen.name]}

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a call."""
        return self.tool_choice not in (None, "auto", "none")

    @property
    def alternatives(self) -> int | None:
        """Number of alternatives per token; None without log-probabilities. Raises RequestError."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs to be true.", field="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(SamplingFields):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)

    @property
    def alternatives(self) -> int | None:
        """Number of alternatives per token; None without log-probabilities."""
        return self.logprobs


class EmbeddingBody(RequestBody):
    """`POST /v1/embeddings`. A list of numbers is the tokens of one text."""

    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str | list[int]]:
        """The texts to embed. Raises RequestError."""
        content = self.input
        if isinstance(content, str):
            return [content]
        if content and isinstance(content[0], int):
            return [[token for token in content if isinstance(token, int)]]
        if not 0 < len(content) <= MAX_TEXTS:
            raise RequestError(
                f"input has {len(content):,} texts; from 1 to {MAX_TEXTS:,} may be.", field="input"
            )
        return [text for text in content if not isinstance(text, int)]


class DecisionBody(RequestBody):
    """`POST /v1/systemone`. The questions have transformers' form and are parsed by it."""

    state: str | JsonObject | list[Any]
    questions: dict[str, JsonObject] = Field(min_length=1, max_length=64)


FIELDS = sorted(
    {*ChatBody.model_fields, *CompletionBody.model_fields} - {"model", "messages", "prompt", *TOOL_FIELDS}
)


Kind = TypeVar("Kind", bound=RequestBody)


def parse(kind: type[Kind], document: object, status: int = 400) -> Kind:
    """Parse the body as `kind`. Raises RequestError that names the field."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"{field} is not supported by this backend, so it is rejected rather than ignored."
            raise RequestError(message, status=status, code="unsupported_parameter", field=field) from error
        message = f"{field or 'The body'}: {first.get('ctx', {}).get('error', first['msg'])}."
        raise RequestError(message, status=status, field=field or None) from error
