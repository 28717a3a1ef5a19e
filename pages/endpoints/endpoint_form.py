"""Serve something: what, under which name; and the key of a new endpoint, which is shown once."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.endpoints import endpoint_reads
from pages.endpoints.endpoint_list import LINK
from pages.shared.session import act, plain

KEY = "endpoint-key-made"


def draw_form() -> None:
    """The choice of a subject; "Serve it" makes and starts an endpoint with a first key."""
    options = endpoint_reads.subjects()
    if not options:
        st.markdown(
            "There is nothing to serve yet. Launch a run, and once it has finished it can be served here."
        )
        st.page_link("pages/launch/launch.py", label="Launch a run", icon=":material/rocket_launch:")
        return
    asked = st.query_params.get("serve", "")
    names = list(options)
    subject = st.selectbox(
        "What to serve",
        names,
        index=names.index(asked) if asked in options else 0,
        format_func=lambda name: f"{name} ({options[name]})" if name in options else name,
        accept_new_options=True,
        key="endpoint-subject",
        help="A registered model by its alias follows the alias. You can also type a version such as"
        " NAME@3, the path of a folder or of a GGUF file.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input(
            "Name of the endpoint, and of the model that callers ask for",
            value=str(subject or "").partition("@")[0].rpartition("/")[2],
            max_chars=80,
            key=f"endpoint-name-{subject}",
        )
        pressed = st.button("Serve it", type="primary", icon=":material/play_circle:", disabled=not subject)
    if pressed:
        body: dict[str, Any] = {
            "name": name,
            "models": [{"name": name, "routes": [{"subject": subject}]}],
            "with_key": "first",
        }
        made = act("make_endpoint", body, "The endpoint is being started.")
        if made is not None:
            show_once(made["endpoint_id"], "first", made["key"])
            st.query_params.from_dict({LINK: made["endpoint_id"]})
            st.rerun()


def show_once(endpoint_id: str, name: str, key: str) -> None:
    """Have the page of the endpoint show a new key, until the person has copied it."""
    st.session_state[KEY] = endpoint_id, name, key


def draw_new_key(endpoint_id: str) -> None:
    """The key that was just made."""
    made = st.session_state.get(KEY)
    if not made or made[0] != endpoint_id:
        return
    with st.container(border=True):
        st.markdown(f":material/key: The key **{plain(made[1])}**, which can't be shown again:")
        st.code(made[2], language=None, wrap_lines=True)
        if st.button("I have copied it", key="put-endpoint-key-away"):
            del st.session_state[KEY]
            st.rerun()
