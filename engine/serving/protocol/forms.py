"""Answers in the protocol's forms: whole, and as the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import NotRequired, TypedDict

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
        self, index: int, text: str, reason: str | None, logprobs: list[ContentLogprob] | None
    ) -> JsonObject:
        """A choice of a whole answer."""
        own: JsonObject = {"text": text}
        if self.chat:
            own = {"message": {"role": "assistant", "content": text, "refusal": None}}
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
