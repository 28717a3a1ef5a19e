"""The model card of a version, as it leaves the house, and what a person says it is meant for."""

from __future__ import annotations

import streamlit as st

from pages.models import model_reads
from pages.shared.session import act, may
from store.documents.shipping.version import ModelLine, ModelVersion
from store.http.client import Client
from store.words import model_card


def draw_card(_: Client, model: ModelLine, version: ModelVersion) -> None:
    """What the model is meant for, to be written; then the card."""
    reference = f"{model['name']}@{version['version']}"
    text = model_card.write(model_reads.card(reference))
    if may("work"):
        _draw_intended(model)
    st.download_button(
        "Download the card", text, f"{reference}.md", "text/markdown", icon=":material/download:",
        key="card-download",
    )  # fmt: skip
    front, _rule, body = text.removeprefix("---\n").partition("\n---\n")
    with st.container(border=True, key="model-card"):
        st.markdown(body.replace("$", r"\$"))
    with st.expander("What hubs read of it (front matter)", icon=":material/code:"):
        st.code(front, language="yaml")


def _draw_intended(model: ModelLine) -> None:
    with (
        st.expander("What is it meant for?", icon=":material/edit:", expanded=not model["description"]),
        st.form(f"intended-{model['model_id']}", border=False),
    ):
        typed = st.text_area(
            "Intended use", model["description"], height=120, max_chars=10_000, key="card-intended",
            placeholder="Answers questions about our products, in English. Not for medical advice.",
        )  # fmt: skip
        if st.form_submit_button("Save", icon=":material/save:"):
            body = {"model": model["name"], "description": (typed or "").strip()}
            if act("describe_model", body | {"seen": model["description"]}, "Saved") is not None:
                st.rerun()
