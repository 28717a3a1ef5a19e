"""Rows of two versions as a table of one line each, opened one at a time with the changed words marked."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.clean.clean_preview import show_example
from pages.shared.common_start import differing
from pages.shared.session import plain

Document = dict[str, Any]
BEFORE = 30  # characters in front of the first change that a line shows


def show_table(
    rows: list[Document],
    words: dict[str, str],
    key: str,
    numbers: tuple[str, str] = ("Old row", "New row"),
    titles: tuple[str, str] = ("Before", "After"),
    badges: dict[str, str] | None = None,
) -> Document | None:
    """The row that is open. rows: {first, second: its number in both, fate, reason, before, after: the row or
    None}. words: what fates are called here; numbers: what the first columns are called."""
    cells, alike = differing([_line(row, words) for row in rows], {"text": "Text"})
    if alike:
        st.caption(plain(alike))
    reasons = ["reason"] if any(cell["reason"] for cell in cells) else []
    event = st.dataframe(
        cells,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_order=["fate", "text", *reasons, "first", "second"],  # on a phone only the first are in sight
        column_config={
            "first": st.column_config.NumberColumn(numbers[0], width=80, format="localized"),
            "second": st.column_config.NumberColumn(numbers[1], width=80, format="localized"),
            "fate": st.column_config.TextColumn("Fate", width=110),
            "reason": st.column_config.TextColumn("Why", width="medium"),
            "text": st.column_config.TextColumn("Text", width="large"),
        },
        height="content",
        placeholder="–",
        alt="Rows of both versions and what became of them",
    )
    for at in event.selection.rows[:1]:
        row = rows[at]
        number = row["second"] if row["first"] is None else row["first"]
        show_example({**row, "row_id": number}, titles, badges)
        return row
    return None


def _line(row: Document, words: dict[str, str]) -> Document:
    return {
        "first": row["first"],
        "second": row["second"],
        "fate": words[row["fate"]],
        "reason": row.get("reason"),
        "text": excerpt(_text(row["before"]), _text(row["after"])),
    }


def excerpt(before: str | None, after: str | None) -> str:
    """A text from its beginning, or, where it changed, from shortly before its first change."""
    if before is None or after is None or before == after:
        return before or after or ""
    pairs = enumerate(zip(before, after, strict=False))
    at = next((at for at, (old, new) in pairs if old != new), min(len(before), len(after)))
    if at <= BEFORE:
        return after
    start = after.find(" ", at - BEFORE, at) + 1 or at - BEFORE  # not in the middle of a word
    return f"… {after[start:]}"


def _text(row: Document | None) -> str | None:
    return None if row is None else str(row.get("text") or "")
