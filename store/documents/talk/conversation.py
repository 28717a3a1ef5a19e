"""Conversations as the store has them: a tree of turns, the answers to each, and the rows made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

from store.documents.data.row import Message
from store.documents.tables.job import ErrorDocument
from store.documents.talk.talk_events import EndReason, TalkFigures, TalkToken


class SettingsDocument(TypedDict):
    """Who talks and what each is told beforehand (`store.config.judging.talk_config.TalkSettings`)."""

    system: str
    models: list[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]  # what is common to the models


class ConversationLine(TypedDict):
    """A conversation in a list."""

    conversation_id: str
    title: str
    made_by: str
    created_at: datetime
    changed_at: datetime  # when something was last said in it
    turns: int


class Conversation(TypedDict):
    """A row of table `conversation`."""

    conversation_id: str
    title: str
    settings: SettingsDocument
    made_by: str
    created_at: datetime
    changed_at: datetime


class TurnAnswer(TypedDict):
    """What one model answered; as far as it came where somebody stopped it."""

    turn_id: str
    place: int
    label: str  # as the model was called
    model: dict[str, Any]  # TalkModel without its sampling
    text: str
    tokens: list[TalkToken]
    reason: EndReason
    figures: TalkFigures | None
    error: ErrorDocument | None


class Turn(TypedDict):
    """What a person said, with what was answered."""

    turn_id: str
    conversation_id: str
    parent_id: str | None  # null at the beginning
    prompt: str
    settings: SettingsDocument  # as they were
    said_by: str
    said_at: datetime
    answers: list[TurnAnswer]


class TurnPlace(TypedDict):
    """A turn in the tree."""

    turn_id: str
    parent_id: str | None
    prompt: str
    said_at: datetime


class KeptRow(TypedDict):
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


class RatableTurns(TypedDict):
    """What a rating round can take of a conversation, and how many of its turns it can't, by why."""

    lines: list[AnswersToRate]
    models: dict[str, dict[str, Any]]  # as it is called -> TalkModel without its sampling
    failed: int  # an answer failed, or somebody stopped it
    asked_otherwise: int  # the models had said different things before
    other_models: int  # not all of the models answered
