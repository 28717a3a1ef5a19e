"""A row drawn as what it is: a conversation, a text, or a preferred and a rejected answer."""

from __future__ import annotations

from typing import Any

import streamlit as st

AVATARS = {
    "user": ":material/person:",
    "assistant": ":material/smart_toy:",
    "system": ":material/settings:",
    "tool": ":material/build:",
    "tools": ":material/handyman:",
}
NAMES = {"user": "Prompt", "assistant": "Answer", "system": "System", "tool": "Result", "tools": "Tools"}
SHOWN = 4000  # characters of one turn; what is left off is said


def show_row(row: dict[str, Any], limit: int = SHOWN) -> None:
    """Draw one row of {messages | text, label, rejected}; content is shown as it is, never as Markdown.

    `limit`: characters of a turn that are shown.
    """
    messages = row.get("messages")
    if not messages:
        st.text(shortened(row.get("text") or "", limit))
        return
    for message in messages:
        role = str(message["role"])
        with st.chat_message(role, avatar=AVATARS.get(role, ":material/chat:")):
            st.text(shortened(str(message["content"]), limit))
    if row.get("rejected"):
        with st.chat_message("assistant", avatar=":material/thumb_down:"):
            st.caption("Rejected answer, not trained on")
            st.text(shortened(str(row["rejected"]), limit))


def shortened(text: str, limit: int = SHOWN) -> str:
    """`text`, or its beginning and how many characters are left off."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def shortened_middle(text: str, limit: int) -> str:
    """`text`, or its two ends: names often differ in their last letters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 1].rstrip()}…{text[-end:].lstrip()}"
