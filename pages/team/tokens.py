"""API tokens: what scripts and the command line act by in somebody's name."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import act, plain
from pages.team.members import moment
from store.documents.tables.person import ApiToken

KEY = "token-made"


def draw_tokens(tokens: list[ApiToken]) -> None:
    """Those that there are, a new one, and the form for another."""
    st.subheader("API tokens", anchor=False)
    st.markdown(
        "The command line and scripts on this machine act in your name where the environment has"
        " `TUNEBENCH_TOKEN`. A token may do what you may do, until you revoke it."
    )
    if not tokens:
        st.caption("There is none.")
    for token in tokens:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(token['name'])}**")
            used = f"used {moment(token['used_at'])}" if token["used_at"] else "never used"
            st.caption(f"made {moment(token['created_at'])}, {used}", width="stretch")
            if (
                st.button("Revoke", key=f"revoke-{token['token_id']}")
                and act("revoke_token", {"token": token["token_id"]}, "The token is revoked.") is not None
            ):
                st.rerun()
    _draw_new()
    with st.form("new-token", border=True, clear_on_submit=True):
        name = st.text_input("What is it for?", placeholder="nightly import", max_chars=80)
        if st.form_submit_button("Make a token", icon=":material/key:"):
            made = act("make_token", {"name": name})
            if made is not None:
                st.session_state[KEY] = name, made["token"]
                st.rerun()


def _draw_new() -> None:
    if KEY not in st.session_state:
        return
    name, token = st.session_state[KEY]
    with st.container(border=True):
        st.markdown(f":material/key: **{plain(name)}**, which can't be shown again:")
        st.code(token, language=None, wrap_lines=True)
        if st.button("I have copied it", key="put-token-away"):
            del st.session_state[KEY]
            st.rerun()
