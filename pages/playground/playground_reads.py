"""What the playground reads."""

from __future__ import annotations

import json

import streamlit as st

from pages.shared import reads
from pages.shared.session import client, remembered
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


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def listed() -> tuple[int, list[ConversationLine]]:
    """How many there are, and the newest."""
    return conversations.count(client()), conversations.conversations(client(), MOST)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def conversation(conversation_id: str) -> Conversation:
    return conversations.get_conversation(client(), conversation_id)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def tree(conversation_id: str) -> list[TurnPlace]:
    return conversations.tree(client(), conversation_id)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def path(conversation_id: str, leaf: str) -> list[Turn]:
    return conversations.path(client(), conversation_id, leaf)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=32, show_spinner=False)
def ratable(conversation_id: str, models: str | None) -> RatableTurns:
    """models: of the round, as JSON; those of the conversation where None."""
    return conversations.answers_to_rate(client(), conversation_id, json.loads(models) if models else None)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=8, show_spinner=False)
def answered_by(names: tuple[str, ...], made_by: str) -> list[ConversationLine]:
    return conversations.answered_by(client(), list(names), made_by)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def kept_rows() -> list[KeptRow]:
    return conversations.kept_rows(client())


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def state() -> PlaygroundState:
    return client().playground()
