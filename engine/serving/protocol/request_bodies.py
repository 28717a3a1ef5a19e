"""Bodies of requests as they may be: a field that is not here is refused by its name, never dropped."""

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
MAX_TEXTS = 2048  # of one request for embeddings
UNSUPPORTED_PARTS = {  # of a message: what they are
    "image_url": "an image",
    "input_image": "an image",
    "input_audio": "a sound",
    "video_url": "a video",
    "file": "a file",
    "refusal": "a refusal",
}


class RequestBody(BaseModel):
    """Of any request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str


class StreamOptions(BaseModel):
    """What a stream has beside the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False


def _check_json_schema(schema: JsonObject) -> JsonObject:
    check_schema(schema)
    return schema


class JsonSchema(BaseModel):
    """A schema with its name."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = ""
    description: str | None = None
    schema_: Annotated[JsonObject, AfterValidator(_check_json_schema)] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """What the answer must be."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @property
    def wanted(self) -> JsonObject | None:
        """The schema to be held to; None for any text. Raises Refused."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise RequestError("response_format says json_schema and has none.", field="response_format")
        return self.json_schema.schema_


def _wrap_in_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class SamplingFields(RequestBody):
    """What chat and completions have in common."""

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
    user: str | None = None  # whom it is for: nothing hangs on it here


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


def _check_text_parts(content: object) -> object:
    """Refuse parts that are no text in a sentence: the error of a type would not say what can be done."""
    for place, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in UNSUPPORTED_PARTS:
            raise ValueError(
                f"part {place} is {UNSUPPORTED_PARTS[kind]}, and this model reads text alone; leave it out"
            )
    return content


def _drop_empty_fields(turn: object) -> object:
    """Without what says nothing: clients send answers back as they came, nulls and empty lists included, and
    the name of the function that a result is of, which its call has."""
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
        """Its content."""
        parts = self.content if isinstance(self.content, list) else []
        return self.content if isinstance(self.content, str) else "".join(part.text for part in parts)

    @property
    def of_tools(self) -> bool:
        """Whether it calls functions, or is what a call gave."""
        return self.role == "tool" or self.tool_calls is not None

    _whole = model_validator(mode="before")(_drop_empty_fields)

    @model_validator(mode="after")
    def _of_its_role(self) -> Self:
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
    def of_tools(self) -> bool:
        """Whether functions have to do with it."""
        return self.tools is not None or any(turn.of_tools for turn in self.messages)

    @property
    def offered(self) -> dict[str, ToolFunction]:
        """Functions that the answer may call, by their names. Raises Refused where tool_choice has none to
        choose from."""
        functions, chosen = index_functions(self.tools or ()), self.tool_choice
        if chosen in (None, "auto", "required"):
            if chosen == "required" and not functions:
                raise RequestError("tool_choice is required, and there are no tools.", field="tool_choice")
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
        """Whether an answer without a call is none."""
        return self.tool_choice not in (None, "auto", "none")

    @property
    def alternatives(self) -> int | None:
        """How many likely tokens each token comes with; None without log-probabilities. Raises Refused."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs to be true.", field="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(SamplingFields):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=MAX_ALTERNATIVES)

    @property
    def alternatives(self) -> int | None:
        """As of ChatBody."""
        return self.logprobs


class EmbeddingBody(RequestBody):
    """`POST /v1/embeddings`. A list of numbers is the tokens of one text."""

    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str | list[int]]:
        """Each that a vector is wanted of. Raises Refused."""
        given = self.input
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [[token for token in given if isinstance(token, int)]]
        if not 0 < len(given) <= MAX_TEXTS:
            raise RequestError(
                f"input has {len(given):,} texts; from 1 to {MAX_TEXTS:,} may be.", field="input"
            )
        return [each for each in given if not isinstance(each, int)]


class DecisionBody(RequestBody):
    """`POST /v1/systemone`. The questions are read by transformers, whose form they have."""

    state: str | JsonObject | list[Any]
    questions: dict[str, JsonObject] = Field(min_length=1, max_length=64)


FIELDS = sorted(
    {*ChatBody.model_fields, *CompletionBody.model_fields} - {"model", "messages", "prompt", *TOOL_FIELDS}
)


Kind = TypeVar("Kind", bound=RequestBody)


def parse(kind: type[Kind], document: object, status: int = 400) -> Kind:
    """The body as `kind`. Raises Refused that names the field."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"{field} is no field that this backend obeys, so it is refused rather than ignored."
            raise RequestError(message, status=status, code="unsupported_parameter", field=field) from error
        message = f"{field or 'The body'}: {first.get('ctx', {}).get('error', first['msg'])}."
        raise RequestError(message, status=status, field=field or None) from error
