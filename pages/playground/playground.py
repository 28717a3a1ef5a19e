"""The Playground page: up to four models side by side, streamed, with the probability of each token.

The link is `?conversation=ID`, and `&turn=ID` for a branch of it; without one a new conversation begins.
"""

from __future__ import annotations

import streamlit as st

from pages.playground.conversation import draw_playground
from pages.shared.session import show_errors


def main() -> None:
    st.title("Playground", anchor=False)
    with show_errors():
        draw_playground()


main()
