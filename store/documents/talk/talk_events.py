"""What the playground's stream says, an object a line, and what engine and talking process tell each other.

Every event of an answer has the `place` of its model among those asked; `turn` and `alive` are of all. An
answer begins with `begin` and ends with `end` or `failed`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from store.documents.data.row import Message
from store.documents.tables.job import ErrorDocument

EndReason = Literal["end", "stop", "length", "stopped", "failed"]


class TokenChance(TypedDict):
    """A token that might have come instead."""

    text: str
    logprob: float  # nats, of the model's own distribution before any sampling setting


class TalkToken(TypedDict):
    """A token of an answer. An endpoint that gives no probabilities leaves `logprob` null."""

    text: str  # that it adds to the answer; empty in the middle of a character
    logprob: float | None
    top: list[TokenChance]  # the likeliest, best first


class TalkFigures(TypedDict):
    """What was measured of an answer."""

    prompt_tokens: int | None
    tokens: int
    first_token_seconds: float | None  # from when the model was ready
    tokens_per_second: float | None  # after the first; null below two tokens


class TalkEvent(TypedDict):
    """A line of the stream."""

    type: Literal["turn", "waiting", "loading", "begin", "token", "end", "failed", "alive"]
    place: NotRequired[int]
    turn: NotRequired[str]  # of `turn`: its id
    labels: NotRequired[list[str]]  # of `turn`: what its models are called
    title: NotRequired[str]  # of `waiting`: what has the machine
    seconds_left: NotRequired[float | None]  # of `waiting`: until that is over, by its own count
    left_out: NotRequired[int]  # of `begin`: earlier turns that this model gave no answer to
    prompt_tokens: NotRequired[int | None]
    text: NotRequired[str]
    logprob: NotRequired[float | None]
    top: NotRequired[list[TokenChance]]
    reason: NotRequired[EndReason]  # of `end`
    figures: NotRequired[TalkFigures]  # not of an answer that was stopped
    error: NotRequired[ErrorDocument]  # of `failed`


class TalkOrder(TypedDict):
    """What the talking process is told, a line each."""

    do: Literal["answer", "stop", "taken", "share"]
    id: str
    model: NotRequired[dict[str, Any]]  # store.config.judging.talk_config.TalkModel
    label: NotRequired[str]  # as the model is called
    messages: NotRequired[list[Message]]
    networks: NotRequired[list[str]]  # private ones in which an endpoint may be
    tokens: NotRequired[int]  # of `taken`: that the reader has by now
    memory: NotRequired[int]  # bytes that models may hold in all, beside a run that has the machine
    threads: NotRequired[int]  # of `share`: with which it answers from now on


class HostEvent(TalkEvent):
    """An event of the talking process: of an answer, by its id; or, without an id, of its memory."""

    id: str
    gpu_bytes: NotRequired[int]
    loaded: NotRequired[list[str]]


class PlaygroundState(TypedDict):
    """How the talking process stands."""

    state: Literal["away", "ready"]
    memory_bytes: int | None  # of its process
    gpu_bytes: int | None
    loaded: list[str]
    machine_has: str | None  # the job that has the machine, which models share it with or give way to
    beside: bool  # models answer beside that job, with a share of the machine
    seconds_left: float | None  # until that job is over, by its own count
    slowdown: float | None  # how many times longer its steps take while models answer; null until measured
    answering: list[str]  # turns that are being answered
