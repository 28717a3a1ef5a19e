"""A row drawn as what it is: a conversation, a text, or a preferred and a rejected answer."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import plain
from store.catalog.choice_text import lettered, without_choices
from store.documents.data.row import ConvertedRow
from store.documents.tables.dataset import CanonicalRow

AVATARS = {
    "user": ":material/person:",
    "assistant": ":material/smart_toy:",
    "system": ":material/settings:",
    "tool": ":material/build:",
    "tools": ":material/handyman:",
}
NAMES = {"user": "Prompt", "assistant": "Answer", "system": "System", "tool": "Result", "tools": "Tools"}
SHOWN = 4000  # characters of one turn; what is left off is said
MOST_SHOWN = 100_000  # of one that somebody wants to see whole: a page has several


def show_row(row: CanonicalRow | ConvertedRow, limit: int = SHOWN) -> None:
    """Draw one row of {messages | text, label, rejected, choices, answer_index}; content is shown as it is,
    never as Markdown.

    `limit`: characters of a turn that are shown.
    """
    messages = row.get("messages")
    if not messages:
        show_text(row.get("text") or "", limit)
        return
    choices = [str(choice) for choice in row.get("choices") or []]
    for place, message in enumerate(messages, 1):
        role, content = str(message["role"]), str(message["content"])
        asks = bool(choices) and place == len(messages) - 1
        preferred = bool(row.get("rejected")) and place == len(messages)
        avatar = ":material/thumb_up:" if preferred else AVATARS.get(role, ":material/chat:")
        with st.chat_message(role, avatar=avatar):
            if preferred:
                st.caption("Preferred answer")
            show_text(without_choices(content, choices) if asks else content, limit)
            if asks:
                _show_choices(choices, row["answer_index"], limit)
    if row.get("rejected"):
        with st.chat_message("assistant", avatar=":material/thumb_down:"):
            st.caption("Rejected answer, for preference tuning alone")
            show_text(str(row["rejected"]), limit)


def _show_choices(choices: list[str], right: int | None, limit: int) -> None:
    """The choices as the prompt lists them, the right one marked."""
    for place, (letter, choice) in enumerate(lettered(choices)):
        line = f"{letter}. {plain(shortened(choice, limit))}"
        st.markdown(f"**{line}** :green-badge[:material/check: right]" if place == right else line)


def show_text(text: str, limit: int = SHOWN, nothing: str = "") -> None:
    """Draw a text as it is, never as Markdown; of a long one its beginning, and below it a way to the rest,
    which counts what is hidden. nothing: in the place of an empty one."""
    st.text(f"{text[:limit]} …" if len(text) > limit else text or nothing)
    if len(text) > limit:
        with st.expander(f"Show all: {len(text) - limit:,} more characters"):
            st.text(f"… {shortened(text[limit:], MOST_SHOWN)}")


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
