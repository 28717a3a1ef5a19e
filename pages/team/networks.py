"""Private networks that requests to addresses of people's choice may go to: those allowed, and one more."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import act, client, plain
from store.queries import settings


def draw_networks() -> None:
    """The list, and the form that adds to it."""
    st.subheader("Private networks", anchor=False)
    st.markdown(
        "Whoever works here chooses the addresses of judges, of models elsewhere and of webhooks. Those in a"
        " private network are refused unless it is listed here; link-local addresses and Tunebench's own"
        " ports are always refused."
    )
    for network in settings.networks(client()):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(network)}**", width="stretch")
            if (
                st.button("Take back", key=f"refuse-{network}")
                and act("refuse_network", {"network": network}) is not None
            ):
                st.rerun()
    with st.form("allow_network", border=True, clear_on_submit=True):
        network = st.text_input("Network", placeholder="10.1.0.0/16", help="Or one address")
        if not st.form_submit_button("Allow", icon=":material/lan:"):
            return
    if act("allow_network", {"network": network}) is not None:
        st.rerun()
