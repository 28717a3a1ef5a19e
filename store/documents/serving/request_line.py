"""The log of an endpoint: a line of JSON for each request that it answered or refused."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

RequestKind = Literal["chat", "completion", "decision", "labels", "embedding"]


class RequestLine(TypedDict):
    """`requests-NNNNNN.jsonl` in the log of an endpoint's folder, appended to alone.

    Texts are null where the request was not drawn into the sample, or texts are not to be kept.
    """

    request_id: str  # as the answer's `id`; feedback names it
    endpoint_id: str
    at: float  # Unix time at which it came, s
    kind: RequestKind
    model: str  # as it was asked for
    version: str  # NAME@3, or the backend's name of what answered
    role: Literal["live", "candidate", "shadow", "fallback"]
    person_id: str | None
    user: str | None  # whom the caller names, by a hash
    status: int  # of HTTP
    error: str | None  # its code
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_seconds: float | None
    seconds: float  # until the last byte
    finish_reason: str | None
    mean_logprob: (
        float | None
    )  # of the answer's tokens, nats, of the model's own distribution; null: not told
    calls: NotRequired[int]  # of functions, in the first choice
    # of all choices: meant for a call and none, or with arguments that don't fit; null: not checked
    invalid_calls: NotRequired[int | None]
    label: str | None  # of a classifier or a decision model
    confidence: float | None  # of that label
    abstained: bool
    input_characters: int
    output_characters: int | None
    # what was asked; null: not kept. With functions as rows have it: first a turn `tools`, calls as JSON
    messages: list[dict[str, Any]] | None
    output: str | None  # calls as rows have them
    redacted: int  # places where personal data was taken out
    group: str | None  # by which the caller wants figures apart
    dealt: str | None  # the version in whose share of callers it is, whichever answered
    dealt_to: str | None  # to whom that was dealt, by a hash: whom the caller names, else the key
    copy_of: str | None  # of a shadow: the request that it copies
    key_id: NotRequired[str | None]  # whose quota it counts in; null: nobody's
    tokens: NotRequired[int]  # that it counts there
