"""Answers in OpenAI's protocol: whole, as the chunks of a stream, and as errors; with what else both ends
share.

Objects are passed on as they came, and what is needed is read by name. How sure a model was is told beside
the protocol, in a header or a comment, and never in it. Invariant: light to import, as the gateway does.
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
    """A token of an answer, with the likeliest ones in its place."""

    top_logprobs: list[TokenLogprob]


class Usage(TypedDict):
    """Tokens that a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ClassifiedText(TypedDict):
    """What a classifier says beside its answer. label: null where it abstains."""

    label: str | None
    confidence: float
    abstained: bool
    probabilities: dict[str, float]
    threshold: NotRequired[float]
    coverage: NotRequired[float]  # share of all requests so far that were given a label
    requests: NotRequired[int]  # so far


class AnswerFunctionCall(TypedDict):
    """Name and arguments of a call, as answers have them."""

    name: str
    arguments: str  # the JSON of an object


class AnswerToolCall(TypedDict):
    """A call of a function, as answers have it."""

    id: str
    type: Literal["function"]
    function: AnswerFunctionCall


class CompletionLogprobs(TypedDict):
    """Log-probabilities of a completion's tokens, in the form that chats don't have."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]  # of each token, in characters


def build_completion_logprobs(tokens: Sequence[ContentLogprob], offset: int) -> CompletionLogprobs:
    """Those of a chat's form as a completion has them. offset: characters of the answer before them."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in token.get("top_logprobs", ())} for token in tokens
        ],
        "text_offset": offsets,
    }


def build_usage(prompt: int, made: int) -> Usage:
    """The counts of one request."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


class ResponseBuilder:
    """One answer's name, time and model, and the form of its kind."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self.chat = chat
        self._head = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, choices: list[JsonObject], counts: Usage) -> JsonObject:
        """The answer in one piece."""
        kind = "chat.completion" if self.chat else "text_completion"
        return self._head | {"object": kind, "choices": choices, "usage": counts}

    def choice(
        self,
        index: int,
        text: str,
        reason: str | None,
        logprobs: list[ContentLogprob] | None,
        calls: Sequence[AnswerToolCall] = (),
    ) -> JsonObject:
        """A choice of a whole answer."""
        own: JsonObject = {"text": text}
        if self.chat:
            called = {"tool_calls": [*calls]} if calls else {}
            content = text or None if calls else text
            own = {"message": {"role": "assistant", "content": content, "refusal": None, **called}}
        return {"index": index, **own, "logprobs": self._logprobs(logprobs, 0), "finish_reason": reason}

    def chunk(self, choices: list[JsonObject], *, counts: Usage | None = None, counted: bool) -> JsonObject:
        """A chunk of a stream; counted: the last one will have the counts, and all others say null."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        document = self._head | {"object": kind, "choices": choices}
        return document | {"usage": counts} if counted else document

    def opening(self, index: int) -> JsonObject:
        """What a chat's stream has before a choice's first text."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(
        self, index: int, text: str, logprobs: list[ContentLogprob] | None, offset: int = 0
    ) -> JsonObject:
        """More text of a choice."""
        own: JsonObject = {"delta": {"content": text}} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": self._logprobs(logprobs, offset), "finish_reason": None}

    def waiting(self, index: int) -> JsonObject:
        """That a choice goes on, and nothing of it is free yet."""
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": None}

    def calling(self, index: int, calls: Sequence[AnswerToolCall]) -> Iterator[JsonObject]:
        """Calls of a choice: of each who is called, then its arguments."""
        for place, call in enumerate(calls):
            function = call["function"]
            named = {"index": place, **call, "function": {**function, "arguments": ""}}
            given = {"index": place, "function": {"arguments": function["arguments"]}}
            for delta in (named, given):
                own = {"delta": {"tool_calls": [delta]}, "logprobs": None, "finish_reason": None}
                yield {"index": index, **own}

    def closing(self, index: int, reason: str) -> JsonObject:
        """The end of a choice."""
        own: JsonObject = {"delta": {}} if self.chat else {"text": ""}
        return {"index": index, **own, "logprobs": None, "finish_reason": reason}

    def _logprobs(
        self, tokens: list[ContentLogprob] | None, offset: int
    ) -> JsonObject | CompletionLogprobs | None:
        if tokens is None:
            return None
        if self.chat:
            return {"content": tokens, "refusal": None}
        return build_completion_logprobs(tokens, offset)


# How sure a model was of its answer, and how many of its calls were none, told beside the protocol and never
# in it.
#
# Of a whole answer a header says it, of a stream a comment in each event: so a document is OpenAI's to the
# letter, whoever asks. The gateway writes it down and passes on documents alone.

LOGPROBS_HEADER = "x-tunebench-logprobs"
LOGPROBS_COMMENT = b": logprobs "


class LogprobTally(NamedTuple):
    """Of the tokens of the first choice, as far as they were told, the closing one left out."""

    total: float  # nats, of the model's own distribution
    tokens: int
    invalid_calls: int = 0  # of all choices: what was meant for a call and is none, or has wrong arguments

    @property
    def mean(self) -> float | None:
        """Of a token."""
        return self.total / self.tokens if self.tokens else None

    def words(self) -> str:
        """As header and comment have it."""
        return f"{self.total!r} {self.tokens} {self.invalid_calls}"


def read_tally(words: str) -> LogprobTally | None:
    """None where they are no tally, or one of numbers that are none."""
    total, _, counts = words.strip().partition(" ")
    tokens, _, invalid = counts.partition(" ")
    try:
        tally = LogprobTally(float(total), int(tokens), int(invalid or 0))
    except ValueError:
        return None
    counted = tally.tokens > 0 and tally.invalid_calls >= 0
    return tally if math.isfinite(tally.total) and counted else None


CONTEXT_EXCEEDED = "context_length_exceeded"


class RefusalDetail(TypedDict):
    """What is wrong, for people and for programs. param: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class RefusalDocument(TypedDict):
    """An error as OpenAI's clients read it."""

    error: RefusalDetail


class RequestError(Exception):
    """A request that can't be answered as it is. code: what programs look at; field: of the body."""

    def __init__(
        self, message: str, *, status: int = 400, code: str = "invalid_value", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.field = message, status, code, field

    def document(self) -> RefusalDocument:
        """As the protocol has it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}

    def response(self) -> JSONResponse:
        """As an answer."""
        headers = {"Retry-After": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.document(), self.status, headers)


def describe_kinds(kinds: Sequence[str], asked: str) -> str:
    """What a model answers in the place of what it was asked for, and what can be done."""
    words = f"answers {' and '.join(kinds)} alone, not {asked}"
    if asked == "embedding":
        return f"{words}: embeddings are an encoder's; serve one, such as a BERT, and ask that"
    return words


def build_internal_error(error: BaseException) -> RequestError:
    """What went wrong here, for the one whose request met it."""
    text = " ".join(str(error).split())[:300]
    return RequestError(f"{type(error).__name__}: {text}", status=500, code="internal_error")


TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")
NO_TOOLS = (
    "its chat template has no functions, writes calls in an unknown form, or llama.cpp serves it."
    " Describe the functions in the system message and ask for JSON by response_format, or serve a"
    " model by our own worker whose template has tools"
)


def prepare_tools(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Tools as the model is shown them: as they came, without nulls, and without `strict`, which is for
    whoever reads the answer."""
    return [
        tool
        | {"function": {name: value for name, value in tool["function"].items()
                        if name != "strict" and value is not None}}
        for tool in tools
    ]  # fmt: skip
