"""Answers in the protocol's forms: whole, and as the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from typing import Any, NotRequired, TypedDict


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

    def whole(self, choices: list[dict[str, Any]], counts: Usage) -> dict[str, Any]:
        """The answer in one piece."""
        kind = "chat.completion" if self.chat else "text_completion"
        return self._head | {"object": kind, "choices": choices, "usage": counts}

    def choice(
        self, index: int, text: str, reason: str | None, logprobs: list[ContentLogprob] | None
    ) -> dict[str, Any]:
        """A choice of a whole answer."""
        own: dict[str, Any] = {"text": text}
        if self.chat:
            own = {"message": {"role": "assistant", "content": text, "refusal": None}}
        return {"index": index, **own, "logprobs": self._logprobs(logprobs, 0), "finish_reason": reason}

    def chunk(
        self, choices: list[dict[str, Any]], *, counts: Usage | None = None, counted: bool
    ) -> dict[str, Any]:
        """A chunk of a stream; counted: the last one will have the counts, and all others say null."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        document = self._head | {"object": kind, "choices": choices}
        return document | {"usage": counts} if counted else document

    def opening(self, index: int) -> dict[str, Any]:
        """What a chat's stream has before a choice's first text."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(
        self, index: int, text: str, logprobs: list[ContentLogprob] | None, offset: int = 0
    ) -> dict[str, Any]:
        """More text of a choice."""
        own: dict[str, Any] = {"delta": {"content": text}} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": self._logprobs(logprobs, offset), "finish_reason": None}

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        """The end of a choice."""
        own: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return {"index": index, **own, "logprobs": None, "finish_reason": reason}

    def _logprobs(self, tokens: list[ContentLogprob] | None, offset: int) -> dict[str, Any] | None:
        if tokens is None:
            return None
        if self.chat:
            return {"content": tokens, "refusal": None}
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token["token"])
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [
                {other["token"]: other["logprob"] for other in token["top_logprobs"]} for token in tokens
            ],
            "text_offset": offsets,
        }
