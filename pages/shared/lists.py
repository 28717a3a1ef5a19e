"""Long lists: a page of one at a time, and a line that leads to what it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from pages.shared.session import plain

Row = TypeVar("Row")


def page_of(key: str, size: int, read: Callable[[int], tuple[int, list[Row]]]) -> tuple[int, list[Row]]:
    """How many there are of all, and the rows of the page that was chosen; the first page where a filter has
    left fewer. read: all and rows from an offset on. key: of the `st.pagination` below."""
    number = int(st.session_state.get(key) or 1)
    total, rows = read(size * (number - 1))
    if not rows and total:
        st.session_state.pop(key, None)
        total, rows = read(0)
    return total, rows


def draw_link(page: str, name: str, query_params: dict[str, str], summary: str, badge: str) -> None:
    """A line of a list: the name as a link, a summary below, how it stands at the right. Of these summary
    and badge are Markdown."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            st.page_link(page, label=f"**{plain(name)}**", query_params=query_params)
            st.caption(summary)
        st.markdown(badge, width="content")
