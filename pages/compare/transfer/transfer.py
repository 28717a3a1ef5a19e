"""Transfer: what does training on one data set do for the others?"""

from __future__ import annotations

import streamlit as st

from pages.compare.transfer.transfer_view import draw_transfer
from pages.shared.session import guarded


def main() -> None:
    st.title("What does training on one data set do for the others?", anchor=False)
    with guarded():
        draw_transfer()


main()
