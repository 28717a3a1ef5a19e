"""What an endpoint serves and how to call it: its address, and examples to copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared.session import escape_markdown
from store.serving.schemas import EndpointStatus
from store.serving.text import build_examples, list_first_kinds


def draw_calling(seen: EndpointStatus) -> None:
    """Draw the address and examples for copying."""
    address = seen.state.address if seen.state else f"http://127.0.0.1:{seen.settings['port']}"
    models = [model.name for model in seen.config.models] if seen.config else []
    st.markdown("**API usage**")
    st.caption("OpenAI-compatible API. Base URL:")
    st.code(f"{address}/v1", language=None)
    curl, python = build_examples(address, models[0] if models else "NAME", list_first_kinds(seen))
    by_python, by_curl = st.tabs(["Python", "curl"])
    by_python.code(python, language="python", wrap_lines=True)
    by_curl.code(curl, language="bash", wrap_lines=True)
    if len(models) > 1:
        st.caption(escape_markdown(f"Model names: {', '.join(models)}."))


def list_subjects(settings: Mapping[str, Any]) -> list[str]:
    """Return the subjects served according to an endpoint's settings."""
    routes = [route for model in settings.get("models", []) for route in model.get("routes", [])]
    return [str(route.get("subject", "")) for route in routes]
