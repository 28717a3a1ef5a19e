"""What the playground reads."""

from __future__ import annotations

import streamlit as st

from pages.shared import reads
from pages.shared.session import client, remembered
from store.documents.talk.conversation import Conversation, ConversationLine, KeptRow, Turn, TurnPlace
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
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def kept_rows() -> list[KeptRow]:
    return conversations.kept_rows(client())


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def state() -> PlaygroundState:
    return client().playground()
