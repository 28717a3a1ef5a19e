"""How an endpoint is called, to be copied: on its own page, and where nobody has asked it yet."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import plain
from store.documents.tables.endpoint_state import EndpointSeen
from store.words.endpoint_words import examples, first_kinds


def draw_calling(seen: EndpointSeen) -> None:
    """Address and examples, to be copied."""
    address = seen["state"]["address"] if seen["state"] else f"http://127.0.0.1:{seen['settings']['port']}"
    models = [model["name"] for model in seen["config"]["models"]] if seen["config"] else []
    st.markdown("**How to call it**")
    st.caption("It speaks OpenAI's protocol. The address, for whatever asks for a base URL:")
    st.code(f"{address}/v1", language=None)
    curl, python = examples(address, models[0] if models else "NAME", first_kinds(seen))
    by_python, by_curl = st.tabs(["Python", "curl"])
    by_python.code(python, language="python", wrap_lines=True)
    by_curl.code(curl, language="bash", wrap_lines=True)
    if len(models) > 1:
        st.caption(plain(f"Models to ask for: {', '.join(models)}."))
