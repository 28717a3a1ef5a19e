"""The launch form as YAML: written from the fields on every run, and an edit read back into them.

An edit that does not parse stays as it was typed, with its error, until it does or is dropped.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.run_parts import config_fields as fields
from pages.shared.session import plain
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError
from store.contract.yaml_text import to_yaml

YAML_KEY, YAML_ERROR = "launch-yaml", "launch-yaml-error"


def draw_yaml(document: dict[str, Any]) -> None:
    """The config as YAML, written from the form and read back into it."""
    st.caption("The same run as a file: edit it here, or save it and start it with `tunebench launch FILE`.")
    if YAML_ERROR not in st.session_state:
        st.session_state[YAML_KEY] = to_yaml(document)
    st.text_area("YAML", key=YAML_KEY, height=420, on_change=read_yaml, label_visibility="collapsed")
    if YAML_ERROR in st.session_state:
        st.error(plain(st.session_state[YAML_ERROR]), icon=":material/error:")
        st.button("Back to what the form says", on_click=forget_yaml, icon=":material/undo:")
    name = document.get("name") or "run"
    st.download_button(
        "Save as a file",
        st.session_state[YAML_KEY],
        file_name=f"{'-'.join(str(name).lower().split())}.yaml",
        mime="application/yaml",
        icon=":material/download:",
        on_click="ignore",
    )


def read_yaml() -> None:
    """Callback: take the YAML into the form, or keep it with its error."""
    try:
        config = TrainConfig.from_yaml(st.session_state[YAML_KEY])
    except ConfigError as error:
        st.session_state[YAML_ERROR] = str(error)
        return
    st.session_state.pop(YAML_ERROR, None)
    fields.fill(config.model_dump(exclude_none=True))


def forget_yaml() -> None:
    """Callback: drop an edit that does not parse."""
    st.session_state.pop(YAML_ERROR, None)
