"""The keys of an endpoint: whose they are, what they may use, and how they end."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from pages.endpoints.endpoint_form import show_once
from pages.shared import quantities
from pages.shared.session import act, current_person, may, plain
from store.documents.serving.endpoint import EndpointKey
from store.documents.tables.endpoint_state import EndpointSeen


def draw_keys(seen: EndpointSeen) -> None:
    """Those that work, a form for another, and those that were revoked."""
    st.markdown("**Keys**")
    working = [key for key in seen["keys"] if key["revoked_at"] is None]
    if not working:
        st.caption("There is none, so nobody can ask. Make one below.")
    used = {use["key_id"]: use["tokens"] for use in seen["state"]["keys"]} if seen["state"] else {}
    for key in working:
        _draw_key(key, used.get(key["key_id"], 0))
    if may("work"):
        _draw_making(seen)
    revoked = [key for key in seen["keys"] if key["revoked_at"] is not None]
    if revoked:
        with st.expander(f"Revoked: {len(revoked)}"):
            for key in revoked:
                st.caption(f"{plain(key['name'])} of {plain(key['person_name'])}, {_ago(key['revoked_at'])}")


def _draw_key(key: EndpointKey, tokens: int) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            st.markdown(f"**{plain(key['name'])}**")
            parts = [
                f"of {plain(key['person_name'])}",
                f"made {_ago(key['created_at'])}",
                f"used {_ago(key['used_at'])}" if key["used_at"] else "never used",
            ]
            if most := key["requests_per_minute"]:
                parts.append(f"up to {most:,} requests a minute")
            if most := key["tokens_per_day"]:
                parts.append(f"{quantities.count(tokens)} of {quantities.count(most)} tokens today")
            st.caption(" · ".join(parts))
        own = key["person_id"] == current_person()["person_id"]
        if (own and may("work")) or may("govern"):
            pressed = st.button("Revoke", key=f"revoke-{key['key_id']}", help="Its streams end too.")
            if pressed and act("revoke_key", {"key": key["key_id"]}, "The key is revoked.") is not None:
                st.rerun()


def _draw_making(seen: EndpointSeen) -> None:
    with (
        st.expander("Make a key", icon=":material/key:", expanded=False),
        st.form(f"new-key-{seen['endpoint_id']}", border=False, clear_on_submit=True),
    ):
        name = st.text_input("What is it for?", placeholder="the web shop", max_chars=80)
        left, right = st.columns(2)
        requests = left.number_input(
            "Requests a minute", min_value=1, value=None, placeholder="no limit", step=1
        )
        tokens = right.number_input("Tokens a day", min_value=1, value=None, placeholder="no limit", step=1)
        if st.form_submit_button("Make it", icon=":material/key:"):
            body = {"endpoint": seen["endpoint_id"], "name": name}
            made = act("make_key", body | {"requests_per_minute": requests, "tokens_per_day": tokens})
            if made is not None:
                show_once(seen["endpoint_id"], name, made["key"])
                st.rerun()


def _ago(at: float | None) -> str:
    return "" if at is None else quantities.ago(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
