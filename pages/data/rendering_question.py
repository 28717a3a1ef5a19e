"""What is asked of the tab "How the model sees it": model, chat template, length, loss, and a row."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.shared import reads
from pages.shared.session import plain
from store.catalog.templates import TEMPLATES
from store.config.train_config import BUNDLED_MODEL

OWN, WRITTEN = "The model's own", "Written here"
TITLES = {"chatml": "ChatML", "llama3": "Llama 3", "zephyr": "Zephyr", "headings": "Plain headings"}


def ask_rendering(dataset: dict[str, Any]) -> dict[str, Any] | None:
    """Model, template and length as chosen; None while a template is being written."""
    key = f"rendering-{dataset['dataset_id']}"
    names = [model["name"] for model in reads.models()]
    model, template, length = st.columns([2, 2, 1])
    chosen = model.selectbox(
        "Model",
        list(dict.fromkeys([BUNDLED_MODEL, *names])),
        key=f"{key}-model",
        accept_new_options=True,
        help="One of the home folder, a local folder or a hub id.",
    )
    named = template.selectbox(
        "Chat template",
        [OWN, *TEMPLATES, WRITTEN],
        format_func=lambda name: TITLES.get(name, name),
        key=f"{key}-template",
        disabled=dataset["kind"] == "text",
    )
    limit = length.text_input("max_length", key=f"{key}-length", placeholder="99% fit")
    text = "" if named == OWN else named
    if named == WRITTEN:
        text = st.text_area("Jinja over messages", key=f"{key}-jinja", height=140)
        if not text.strip():
            st.caption("Write a template, for example:")
            st.code(TEMPLATES["chatml"], "jinja2", wrap_lines=True)
            return None
    if limit and not (limit.strip().isdigit() and int(limit) >= 8):
        st.error(f"max_length is {plain(limit)}: give a whole number from 8 on, or leave it empty.")
        return None
    only = dataset["kind"] == "text" or st.toggle(  # a text has no answer apart
        "Take the loss on answers alone", value=True, key=f"{key}-only"
    )
    return {
        "fingerprint": dataset["fingerprint"],
        "kind": dataset["kind"],
        "model": chosen or BUNDLED_MODEL,
        "chat_template": text,
        "completion_only_loss": only,
        "max_length": int(limit) if limit else None,
        "row": _row(dataset),
    }


def row_key(dataset: dict[str, Any]) -> str:
    """Where the session keeps the row that is shown."""
    return f"rendering-{dataset['dataset_id']}-row"


def _row(dataset: dict[str, Any]) -> int:
    return int(st.session_state.get(row_key(dataset), 0))
