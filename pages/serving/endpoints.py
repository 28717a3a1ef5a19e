"""The Endpoints page.

The link is `?endpoint=ID`; `?serve=NAME` opens the form with that run or model selected.
"""

from __future__ import annotations

import streamlit as st

from pages.serving import endpoint_list
from pages.serving.endpoint import draw_endpoint
from pages.serving.endpoint_list import LINK, draw_form, draw_list
from pages.shared.session import has_right, show_errors

EMPTY = (
    "No endpoints yet. Serve a finished run or a model with an OpenAI-compatible API. Requests are logged,"
    " and a share of them can go to another version."
)


def main() -> None:
    if endpoint := st.query_params.get(LINK, ""):
        with show_errors():
            draw_endpoint(endpoint)
        return
    st.title("Endpoints", anchor=False)
    with show_errors():
        listed = endpoint_list.list_endpoints()
        if not listed:
            st.markdown(EMPTY)
        if listed:
            draw_list()
        if has_right("work"):
            with st.expander(
                "Serve a model", icon=":material/add:", expanded=not listed or "serve" in st.query_params
            ):
                draw_form()


main()
