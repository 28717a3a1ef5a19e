"""What the playground reads."""

from __future__ import annotations

import json

from pages.shared import reads
from pages.shared.session import client, kept_for
from store.documents.talk.conversation import (
    Conversation,
    ConversationLine,
    KeptRow,
    RatableTurns,
    Turn,
    TurnPlace,
)
from store.documents.talk.talk_events import PlaygroundState
from store.queries import conversations

MOST = 50  # conversations in the list


@kept_for(reads.LIVE, most=4)
def listed() -> tuple[int, list[ConversationLine]]:
    """How many there are, and the newest."""
    return conversations.count(client()), conversations.conversations(client(), MOST)


@kept_for(reads.LIVE, most=32)
def conversation(conversation_id: str) -> Conversation:
    return conversations.get_conversation(client(), conversation_id)


@kept_for(reads.LIVE, most=32)
def tree(conversation_id: str) -> list[TurnPlace]:
    return conversations.tree(client(), conversation_id)


@kept_for(reads.LIVE, most=32)
def path(conversation_id: str, leaf: str) -> list[Turn]:
    return conversations.path(client(), conversation_id, leaf)


@kept_for(reads.LIVE, most=32)
def ratable(conversation_id: str, models: str | None) -> RatableTurns:
    """models: of the round, as JSON; those of the conversation where None."""
    return conversations.answers_to_rate(client(), conversation_id, json.loads(models) if models else None)


@kept_for(reads.LIVE, most=8)
def answered_by(names: tuple[str, ...], made_by: str) -> list[ConversationLine]:
    return conversations.answered_by(client(), list(names), made_by)


@kept_for(reads.LIVE, most=4)
def kept_rows() -> list[KeptRow]:
    return conversations.kept_rows(client())


@kept_for(reads.LIVE, most=4)
def state() -> PlaygroundState:
    return client().playground()
