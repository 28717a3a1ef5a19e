"""Where an import's rows come from: an upload, a path on the engine's machine, or the Hugging Face hub."""

from __future__ import annotations

from typing import TypedDict

import streamlit as st

from pages.shared.session import client, guarded, owns_machine, plain

UPLOAD, PATH, HUB = "Upload a file", "A file on this machine", "Hugging Face hub"
KINDS = "CSV, TSV, JSON, JSONL, Parquet or plain text, also compressed with gzip; up to 2 GB."


class ImportSource(TypedDict, total=False):
    """Where the rows come from (`store.config.data.import_config.Source`): an upload or several, a path or a
    hub id."""

    upload: str
    uploads: list[str]
    path: str
    hub_id: str
    hub_split: str
    hub_config: str


def draw_source() -> ImportSource | None:
    """The source as `ImportConfig` has it, or None until there is one."""
    kinds = (UPLOAD, PATH, HUB) if owns_machine() else (UPLOAD, HUB)
    kind = st.segmented_control(
        "Where are the rows?", kinds, default=UPLOAD, required=True, key="import-kind"
    )
    if kind == PATH:
        path = st.text_input(
            "Path of a file or folder", key="import-path", placeholder="/home/me/rows.csv", help=KINDS
        )
        return {"path": path.strip()} if path and path.strip() else None
    if kind == HUB:
        return _hub()
    return _upload()


def _upload() -> ImportSource | None:
    files = st.file_uploader("Files", key="import-file", help=KINDS, accept_multiple_files=True)
    larger = f" A larger file need not be copied: choose “{PATH}”." if owns_machine() else ""
    st.caption(f"Several files, such as train.csv and test.csv, are one data set.{larger}")
    sent: dict[str, str] = st.session_state.setdefault("import-sent", {})
    for file in files:
        if file.file_id not in sent:
            with guarded(), st.spinner(f"Copying {plain(file.name)} into the home folder …"):
                sent[file.file_id] = client().upload(file.name, file)
    uploads = [sent[file.file_id] for file in files if file.file_id in sent]
    if not files or len(uploads) < len(files):
        return None
    return {"upload": uploads[0]} if len(uploads) == 1 else {"uploads": uploads}


def _hub() -> ImportSource | None:
    left, middle, right = st.columns([2, 1, 1])
    hub_id = left.text_input(
        "Data set id",
        key="import-hub",
        placeholder="owner/name",
        help="Needs a network that reaches the hub.",
    )
    config = middle.text_input("Configuration", key="import-hub-config", placeholder="default")
    split = right.text_input(
        "Split", key="import-hub-split", value="all", help="One of its splits, such as train, or all of them."
    )
    if not hub_id or not hub_id.strip():
        return None
    source: ImportSource = {"hub_id": hub_id.strip(), "hub_split": (split or "all").strip()}
    if config and config.strip():
        source["hub_config"] = config.strip()
    return source
