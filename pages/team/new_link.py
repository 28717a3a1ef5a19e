"""A link that was made a moment ago: it can be read this once, so it stays until it is put away."""

from __future__ import annotations

import time
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import streamlit as st

from pages.shared import quantities
from pages.shared.session import plain
from store.documents.tables.person import InvitationMade

KEY = "link-made"


def keep_link(made: dict[str, Any], purpose: str) -> None:
    """Keep an invitation that the engine made, for `draw_link`."""
    st.session_state[KEY] = cast(InvitationMade, made), purpose


def draw_link() -> None:
    """The link, to be copied; nothing where none was made."""
    if KEY not in st.session_state:
        return
    made, purpose = st.session_state[KEY]
    with st.container(border=True):
        st.markdown(f":material/link: **The link to {plain(purpose)}**")
        st.code(invitation_link(origin(), made["secret"]), language=None, wrap_lines=True)
        left = time_left(made["expires_at"])
        st.markdown(
            f"Send it to that person alone; nothing is mailed. It works once, for {left}, and can't be shown"
            " again."
        )
        if st.button("I have copied it", key="put-link-away"):
            del st.session_state[KEY]
            st.rerun()


def time_left(expires_at: float) -> str:
    """How long a link works."""
    return quantities.span(max(0.0, expires_at - time.time()))


def invitation_link(address: str, secret: str) -> str:
    """The address of the invitation's page."""
    return f"{address}/invitation?{urlencode({'code': secret})}"


def origin() -> str:
    """Scheme and host by which this browser has come."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
