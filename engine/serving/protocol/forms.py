"""Answers in the protocol's forms: whole, and as the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Literal, NotRequired, TypedDict

from engine.serving.protocol.json_object import JsonObject


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


class FormOfFunction(TypedDict):
    """Name and arguments of a call, as answers have them."""

    name: str
    arguments: str  # the JSON of an object


class FormOfCall(TypedDict):
    """A call of a function, as answers have it."""

    id: str
    type: Literal["function"]
    function: FormOfFunction


class CompletionLogprobs(TypedDict):
    """Log-probabilities of a completion's tokens, in the form that chats don't have."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]  # of each token, in characters


def completion_logprobs(tokens: Sequence[ContentLogprob], offset: int) -> CompletionLogprobs:
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


def usage(prompt: int, made: int) -> Usage:
    """The counts of one request."""
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


class Form:
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
        calls: Sequence[FormOfCall] = (),
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

    def calling(self, index: int, calls: Sequence[FormOfCall]) -> Iterator[JsonObject]:
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
        return completion_logprobs(tokens, offset)
