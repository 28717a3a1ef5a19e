"""Conversations of the playground, a tree of turns with their answers; and the stream in which answers
come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.row_schemas import Message
from store.core.schemas import ConfigDocument, ErrorDocument

# What the playground's stream says, an object a line, and what engine and talking process tell each other.
#
# Every event of an answer has the `place` of its model among those asked; `turn` and `alive` are of all. An
# answer begins with `begin` and ends with `end` or `failed`.

EndReason = Literal["end", "stop", "length", "stopped", "failed"]


class TokenAlternative(TypedDict):
    """A token that might have come instead."""

    text: str
    logprob: float  # nats, of the model's own distribution before any sampling setting


class ChatToken(TypedDict):
    """A token of an answer. An endpoint that gives no probabilities leaves `logprob` null."""

    text: str  # that it adds to the answer; empty in the middle of a character
    logprob: float | None
    top: list[TokenAlternative]  # the likeliest, best first


class ChatFigures(TypedDict):
    """What was measured of an answer."""

    prompt_tokens: int | None
    tokens: int
    first_token_seconds: float | None  # from when the model was ready
    tokens_per_second: float | None  # after the first; null below two tokens


class ChatEvent(TypedDict):
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
    top: NotRequired[list[TokenAlternative]]
    reason: NotRequired[EndReason]  # of `end`
    figures: NotRequired[ChatFigures]  # not of an answer that was stopped
    error: NotRequired[ErrorDocument]  # of `failed`


class ChatCommand(TypedDict):
    """What the talking process is told, a line each."""

    do: Literal["answer", "stop", "taken", "share"]
    id: str
    model: NotRequired[ConfigDocument]  # store.playground.config.TalkModel
    label: NotRequired[str]  # as the model is called
    messages: NotRequired[list[Message]]
    networks: NotRequired[list[str]]  # private ones in which an endpoint may be
    tokens: NotRequired[int]  # of `taken`: that the reader has by now
    memory: NotRequired[int]  # bytes that models may hold in all, beside a run that has the machine
    threads: NotRequired[int]  # of `share`: with which it answers from now on


class HostEvent(ChatEvent):
    """An event of the talking process: of an answer, by its id; or, without an id, of its memory."""

    id: str
    gpu_bytes: NotRequired[int]
    loaded: NotRequired[list[str]]


class SettingsDocument(TypedDict):
    """Who talks and what each is told beforehand (`store.playground.config.TalkSettings`)."""

    system: str
    models: list[ConfigDocument]
    sampling: NotRequired[ConfigDocument]  # what is common to the models


@dataclass(kw_only=True)
class ConversationSummary:
    """A conversation in a list."""

    conversation_id: str
    title: str
    made_by: str
    created_at: datetime
    changed_at: datetime  # when something was last said in it
    turns: int


@dataclass(kw_only=True)
class Conversation:
    """A row of table `conversation`."""

    conversation_id: str
    title: str
    settings: SettingsDocument
    made_by: str
    created_at: datetime
    changed_at: datetime


@dataclass(kw_only=True)
class TurnAnswer:
    """What one model answered; as far as it came where somebody stopped it."""

    turn_id: str
    place: int
    label: str  # as the model was called
    model: ConfigDocument  # TalkModel without its sampling
    text: str
    tokens: list[ChatToken]
    reason: EndReason
    figures: ChatFigures | None
    error: ErrorDocument | None


@dataclass(kw_only=True)
class Turn:
    """What a person said, with what was answered."""

    turn_id: str
    conversation_id: str
    parent_id: str | None  # null at the beginning
    prompt: str
    settings: SettingsDocument  # as they were
    said_by: str
    said_at: datetime
    answers: list[TurnAnswer] = field(default_factory=list)


@dataclass(kw_only=True)
class TurnPlace:
    """A turn in the tree."""

    turn_id: str
    parent_id: str | None
    prompt: str
    said_at: datetime


@dataclass(kw_only=True)
class KeptRow:
    """A row of table `kept_row`."""

    kept_id: str
    conversation_id: str
    turn_id: str
    kind: Literal["test", "training"]
    messages: list[Message]  # the last one is the answer as it should be
    corrected: bool  # a person changed what the model said
    kept_by: str
    kept_at: datetime
    dataset_name: str | None  # the data set that it went into; null while it waits
    job_id: str | None  # whose result that is


class AnswersToRate(TypedDict):
    """One line for a rating round: a prompt, and an answer of each model."""

    messages: list[Message]
    answers: dict[str, str]  # model as it is called -> text


@dataclass(kw_only=True)
class RatableTurns:
    """What a rating round can take of a conversation, and how many of its turns it can't, by why."""

    lines: list[AnswersToRate]
    models: dict[str, ConfigDocument]  # as it is called -> TalkModel without its sampling
    failed: int  # an answer failed, or somebody stopped it
    asked_otherwise: int  # the models had said different things before
    other_models: int  # not all of the models answered
