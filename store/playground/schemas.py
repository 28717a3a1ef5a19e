"""Playground conversations as trees of turns with answers, and the stream of answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from store.core.row_schemas import Message
from store.core.schemas import ConfigDocument, ErrorDocument

# Events of the playground's stream, one object per line, and messages between the engine and the chat
# process.
#
# Every event of an answer has the `place` of its model; `turn` and `alive` apply to all models. An answer
# starts with `begin` and ends with `end` or `failed`.

EndReason = Literal["end", "stop", "length", "stopped", "failed"]


class TokenAlternative(TypedDict):
    """An alternative to a token."""

    text: str
    logprob: float  # nats, of the model's distribution before sampling settings


class ChatToken(TypedDict):
    """A token of an answer. `logprob` is null for an endpoint without probabilities."""

    text: str  # text added to the answer; empty within a multi-token character
    logprob: float | None
    top: list[TokenAlternative]  # most likely tokens, best first


class ChatFigures(TypedDict):
    """Measurements of an answer."""

    prompt_tokens: int | None
    tokens: int
    first_token_seconds: float | None  # measured from when the model was ready
    tokens_per_second: float | None  # after the first token; null with fewer than two tokens


class ChatEvent(TypedDict):
    """A line of the stream."""

    type: Literal["turn", "waiting", "loading", "begin", "token", "end", "failed", "alive"]
    place: NotRequired[int]
    turn: NotRequired[str]  # for `turn`: its id
    labels: NotRequired[list[str]]  # for `turn`: labels of its models
    title: NotRequired[str]  # for `waiting`: title of the job that occupies the machine
    seconds_left: NotRequired[float | None]  # for `waiting`: that job's own estimate of its remaining time
    left_out: NotRequired[int]  # for `begin`: earlier turns left out because they have no answer
    prompt_tokens: NotRequired[int | None]
    text: NotRequired[str]
    logprob: NotRequired[float | None]
    top: NotRequired[list[TokenAlternative]]
    reason: NotRequired[EndReason]  # for `end`
    figures: NotRequired[ChatFigures]  # missing for stopped answers
    error: NotRequired[ErrorDocument]  # for `failed`


class ChatCommand(TypedDict):
    """A command to the chat process, one per line."""

    do: Literal["answer", "stop", "taken", "share"]
    id: str
    model: NotRequired[ConfigDocument]  # store.playground.config.ChatModel
    label: NotRequired[str]  # label of the model
    messages: NotRequired[list[Message]]
    networks: NotRequired[list[str]]  # private networks allowed for endpoints
    tokens: NotRequired[int]  # for `taken`: tokens that the reader has received so far
    memory: NotRequired[int]  # maximum bytes of all models while a run occupies the machine
    threads: NotRequired[int]  # for `share`: number of threads to use from now on


class HostEvent(ChatEvent):
    """An event of the chat process: of an answer with its id or, without an id, of its memory."""

    id: str
    gpu_bytes: NotRequired[int]
    loaded: NotRequired[list[str]]


class SettingsDocument(TypedDict):
    """Models of a chat and their system prompt (`store.playground.config.ChatSettings`)."""

    system: str
    models: list[ConfigDocument]
    sampling: NotRequired[ConfigDocument]  # sampling common to the models


@dataclass(kw_only=True)
class ConversationSummary:
    """A conversation in a list."""

    conversation_id: str
    title: str
    made_by: str
    created_at: datetime
    changed_at: datetime  # time of the last turn
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
    """Answer of one model; partial if it was stopped."""

    turn_id: str
    place: int
    label: str  # label of the model
    model: ConfigDocument  # ChatModel without sampling
    text: str
    tokens: list[ChatToken]
    reason: EndReason
    figures: ChatFigures | None
    error: ErrorDocument | None


@dataclass(kw_only=True)
class Turn:
    """A prompt with its answers."""

    turn_id: str
    conversation_id: str
    parent_id: str | None  # null for a root
    prompt: str
    settings: SettingsDocument  # settings at that time
    said_by: str
    said_at: datetime
    answers: list[TurnAnswer] = field(default_factory=list)


@dataclass(kw_only=True)
class TurnPlace:
    """A turn in the tree, without answers."""

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
    messages: list[Message]  # the last one is the correct answer
    corrected: bool  # whether a person changed the model's answer
    kept_by: str
    kept_at: datetime
    dataset_name: str | None  # data set that it was added to; null if none yet
    job_id: str | None  # job that creates the data set


class AnswersToRate(TypedDict):
    """A line for a rating round: a prompt, and an answer by each model."""

    messages: list[Message]
    answers: dict[str, str]  # label of the model -> text


@dataclass(kw_only=True)
class RatableTurns:
    """Turns of a conversation for a rating round, and the number of unusable ones by reason."""

    lines: list[AnswersToRate]
    models: dict[str, ConfigDocument]  # label -> ChatModel without sampling
    failed: int  # turns with a failed or stopped answer
    asked_otherwise: int  # turns whose earlier answers differ between models
    other_models: int  # turns not answered by all of the models
