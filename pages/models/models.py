"""Models: which version is in production, and may the next one take its place?

The link is `?model=NAME`, with `&version=3` and `&tab=gate`. Without a model: all of them, and how to
register one.
"""

from __future__ import annotations

import streamlit as st

from pages.models import model_list
from pages.models.model_page import draw_model
from pages.shared.session import guarded

LINK = "model"


def main() -> None:
    name = st.query_params.get(LINK, "")
    with guarded():
        if name:
            draw_model(name)
        else:
            model_list.draw()


main()
