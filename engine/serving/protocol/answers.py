"""Responses in OpenAI's form: complete, as chunks of a stream, and as errors; shared by gateway and backends.

Confidence is reported beside the response, in a header or a comment, never in it. Invariant: light to
import, as the gateway imports it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, NotRequired, TypedDict

from starlette.responses import JSONResponse

from store.core.schemas import JsonObject


class TokenLogprob(TypedDict):
    """A token with its log-probability, in nats."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TokenLogprob):
    """A token of an answer, with the likeliest alternatives."""

    top_logprobs: list[TokenLogprob]


class Usage(TypedDict):
    """Numbers of tokens that a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ClassifiedText(TypedDict):
    """A classifier's result beside its answer. label: None if it abstains."""

    label: str | None
    confidence: float
    abstained: bool
    probabilities: dict[str, float]
    threshold: NotRequired[float]
    coverage: NotRequired[float]  # share of all requests so far that got a label
    requests: NotRequired[int]  # so far


class AnswerFunctionCall(TypedDict):
    """Name and arguments of a function call in an answer."""

    name: str
    arguments: str  # the JSON of an object


class AnswerToolCall(TypedDict):
    """A function call in an answer."""

    id: str
    type: Literal["function"]
    function: AnswerFunctionCall


class CompletionLogprobs(TypedDict):
    """Log-probabilities of a completion's tokens, in a form that differs from that of chats."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]  # per token, in characters


def build_completion_logprobs(tokens: Sequence[ContentLogprob], offset: int) -> CompletionLogprobs:
    """Convert log-probabilities from the chat form.

    `offset`: characters of the answer before these tokens.
    """
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {alternative["token"]: alternative["logprob"] for alternative in token.get("top_logprobs", ())}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def build_usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    """Build the token counts of one request."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


class ResponseBuilder:
    """Builder of one response with its id, time and model, in the form of a chat or a completion."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self.chat = chat
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def build_response(self, choices: list[JsonObject], usage: Usage) -> JsonObject:
        """Return the complete response."""
        object_type = "chat.completion" if self.chat else "text_completion"
        return self._head | {"object": object_type, "choices": choices, "usage": usage}

    def build_choice(
        self,
        index: int,
        text: str,
        reason: str | None,
        logprobs: list[ContentLogprob] | None,
        calls: Sequence[AnswerToolCall] = (),
    ) -> JsonObject:
        """Return a choice of a complete response."""
        content_fields: JsonObject = {"text": text}
        if self.chat:
            call_fields = {"tool_calls": [*calls]} if calls else {}
            content = text or None if calls else text
            content_fields = {
                "message": {"role": "assistant", "content": content, "refusal": None, **call_fields}
            }
        return {
            "index": index,
            **content_fields,
            "logprobs": self._build_logprobs(logprobs, 0),
            "finish_reason": reason,
        }

    def build_chunk(
        self, choices: list[JsonObject], *, usage: Usage | None = None, with_usage: bool
    ) -> JsonObject:
        """Return a chunk of a stream.

        `with_usage`: usage is null in all chunks but the last, which has the counts.
        """
        object_type = "chat.completion.chunk" if self.chat else "text_completion"
        document = self._head | {"object": object_type, "choices": choices}
        return document | {"usage": usage} if with_usage else document

    def build_opening(self, index: int) -> JsonObject:
        """Return the first delta of a choice in a chat stream, before its text."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def build_piece(
        self, index: int, text: str, logprobs: list[ContentLogprob] | None, offset: int = 0
    ) -> JsonObject:
        """Return more text of a choice."""
        content_fields: JsonObject = {"delta": {"content": text}} if self.chat else {"text": text}
        return {
            "index": index,
            **content_fields,
            "logprobs": self._build_logprobs(logprobs, offset),
            "finish_reason": None,
        }

    def build_empty_delta(self, index: int) -> JsonObject:
        """Return an empty delta for a choice that continues while its text is held back."""
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": None}

    def build_call_deltas(self, index: int, calls: Sequence[AnswerToolCall]) -> Iterator[JsonObject]:
        """Yield the deltas of a choice's calls: for each the function name, then its arguments."""
        for call_index, call in enumerate(calls):
            function = call["function"]
            name_delta = {"index": call_index, **call, "function": {**function, "arguments": ""}}
            arguments_delta = {"index": call_index, "function": {"arguments": function["arguments"]}}
            for delta in (name_delta, arguments_delta):
                choice_fields = {"delta": {"tool_calls": [delta]}, "logprobs": None, "finish_reason": None}
                yield {"index": index, **choice_fields}

    def build_closing(self, index: int, reason: str) -> JsonObject:
        """Return the end of a choice."""
        content_fields: JsonObject = {"delta": {}} if self.chat else {"text": ""}
        return {"index": index, **content_fields, "logprobs": None, "finish_reason": reason}

    def _build_logprobs(
        self, tokens: list[ContentLogprob] | None, offset: int
    ) -> JsonObject | CompletionLogprobs | None:
        if tokens is None:
            return None
        if self.chat:
            return {"content": tokens, "refusal": None}
        return build_completion_logprobs(tokens, offset)


# Confidence of the answer and number of invalid calls, reported beside the response, never in it.
#
# A complete response has a header for it, a stream a comment in each event, so that every document strictly
# follows OpenAI's form. The gateway logs the values and passes on the documents only.

LOGPROBS_HEADER = "x-tunebench-logprobs"
LOGPROBS_COMMENT = b": logprobs "


class LogprobTally(NamedTuple):
    """Running log-probability of the first choice's tokens, without the closing one."""

    total: float  # nats, under the model's own distribution
    tokens: int
    invalid_calls: int = 0  # of all choices: malformed calls, or calls with wrong arguments

    @property
    def mean(self) -> float | None:
        """Mean log-probability per token."""
        return self.total / self.tokens if self.tokens else None

    def to_text(self) -> str:
        """Return the tally as written in the header and the comments."""
        return f"{self.total!r} {self.tokens} {self.invalid_calls}"


def parse_tally(text: str) -> LogprobTally | None:
    """Parse a tally; None if it is invalid or not finite."""
    total, _, counts = text.strip().partition(" ")
    tokens, _, invalid = counts.partition(" ")
    try:
        tally = LogprobTally(float(total), int(tokens), int(invalid or 0))
    except ValueError:
        return None
    valid = tally.tokens > 0 and tally.invalid_calls >= 0
    return tally if math.isfinite(tally.total) and valid else None


CONTEXT_EXCEEDED = "context_length_exceeded"


class RefusalDetail(TypedDict):
    """Details of an error. param: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class RefusalDocument(TypedDict):
    """An error in the form that OpenAI's clients read."""

    error: RefusalDetail


class RequestError(Exception):
    """Raised for a request that can't be answered. code: for programs; field: the body's field at fault."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_value", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.field = message, status, code, field

    def to_document(self) -> RefusalDocument:
        """Return the error in OpenAI's form."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}

    def to_response(self) -> JSONResponse:
        """Return the error as an HTTP response."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.to_document(), self.status, headers)


def describe_kinds(kinds: Sequence[str], requested: str) -> str:
    """Describe which kinds of requests a model answers instead, and what can be done."""
    description = f"answers {' and '.join(kinds)} alone, not {requested}"
    if requested == "embedding":
        return f"{description}: embeddings are an encoder's; serve one, such as a BERT, and ask that"
    return description


def build_internal_error(error: BaseException) -> RequestError:
    """Build the error for an exception in this process."""
    text = " ".join(str(error).split())[:300]
    return RequestError(f"{type(error).__name__}: {text}", status=500, code="internal_error")


TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
NO_TOOLS = (
    "its chat template has no functions, writes calls in an unknown form, or llama.cpp serves it."
    " Describe the functions in the system message and ask for JSON by response_format, or serve a"
    " model by our own worker whose template has tools"
)


def prepare_tools(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the tools as shown to the model.

    Nulls are left out, and `strict`, which concerns the answer's reader.
    """
    return [
        tool
        | {"function": {name: value for name, value in tool["function"].items()
                        if name != "strict" and value is not None}}
        for tool in tools
    ]  # fmt: skip
