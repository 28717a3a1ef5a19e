"""Where an import's rows come from: an upload, a path on the engine's machine, or the Hugging Face hub."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.components.session import client, guarded, plain

UPLOAD, PATH, HUB = "Upload a file", "A file on this machine", "Hugging Face hub"
KINDS = "CSV, TSV, JSON, JSONL, Parquet or plain text, also compressed with gzip; up to 2 GB."


def draw_source() -> dict[str, Any] | None:
    """The source as `ImportConfig` has it, or None until there is one."""
    kind = st.segmented_control(
        "Where are the rows?", (UPLOAD, PATH, HUB), default=UPLOAD, required=True, key="import-kind"
    )
    if kind == PATH:
        path = st.text_input("Path", key="import-path", placeholder="/home/me/rows.csv", help=KINDS)
        return {"path": path.strip()} if path and path.strip() else None
    if kind == HUB:
        return _hub()
    return _upload()


def _upload() -> dict[str, Any] | None:
    file = st.file_uploader("File", key="import-file", help=KINDS)
    st.caption(f"A larger file need not be copied: choose “{PATH}”.")
    if file is None:
        return None
    sent = st.session_state.get("import-sent")
    if not sent or sent[0] != file.file_id:
        with guarded(), st.spinner(f"Copying {plain(file.name)} into the home folder …"):
            sent = (file.file_id, client().upload(file.name, file))
            st.session_state["import-sent"] = sent
    return {"upload": sent[1]} if sent and sent[0] == file.file_id else None


def _hub() -> dict[str, Any] | None:
    left, middle, right = st.columns([2, 1, 1])
    hub_id = left.text_input(
        "Data set id",
        key="import-hub",
        placeholder="owner/name",
        help="Needs a network that reaches the hub.",
    )
    config = middle.text_input("Configuration", key="import-hub-config", placeholder="default")
    split = right.text_input("Part", key="import-hub-split", value="train")
    if not hub_id or not hub_id.strip():
        return None
    source = {"hub_id": hub_id.strip(), "hub_split": (split or "train").strip()}
    return source | ({"hub_config": config.strip()} if config and config.strip() else {})
