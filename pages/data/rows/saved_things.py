"""Saving under a name what others may have saved under it: recipes and slices, one's own or shared.

What the page knows of is what may be replaced. Where it is another by now, that is told, and the person says
whether theirs replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages.shared.session import act, client, current_person, plain, show_error
from store.contract.errors import ConflictError, TunebenchError
from store.documents.tables.dataset import Saved
from store.queries.data.saved import is_own, own_of


def share_switch(command: str, body: Mapping[str, Any], row: Saved, key: str) -> None:
    """Whether others see what is one's own; `body`: what it is, to be saved anew."""
    person = current_person()
    if not is_own(row, person):
        return
    widget = f"{key}-shared-{row['revision']}"  # a new one of each revision: a refusal leaves it as it is
    st.toggle("Shared", row["shared"], key=widget, on_change=_ask, args=(f"{widget}-asked",))
    if not st.session_state.pop(f"{widget}-asked", False):
        return
    body = {**body, "name": row["name"], "shared": not row["shared"], "seen": row["revision"]}
    done = "It is yours alone." if row["shared"] else "Everybody sees it."
    if act(command, body, done) is not None:
        st.rerun()


def _ask(key: str) -> None:
    """Callback: the switch was pressed."""
    st.session_state[key] = True


def save_unseen(
    command: str, body: Mapping[str, Any], rows: Sequence[Saved], done: str, key: str, *, pressed: bool
) -> None:
    """Save under `body["name"]` and draw the page anew. `rows`: what is there; what was there when the page
    was drawn before is what the person has seen. Of a conflict both are told, and the person chooses."""
    own = [row for row in rows if own_of(rows, row["name"], current_person()) is row]
    revisions = {row["name"]: row["revision"] for row in own}
    seen = st.session_state.get(f"{key}-seen", revisions)
    conflict: tuple[str, str] | None = st.session_state.get(f"{key}-conflict")
    if conflict and conflict[0] == body["name"]:
        st.warning(plain(conflict[1]), icon=":material/group:")
        with st.container(horizontal=True):
            st.button("Keep that", key=f"{key}-theirs", on_click=_settle, args=(key,))
            pressed = st.button("Replace it with mine", type="primary", key=f"{key}-mine")
    st.session_state[f"{key}-seen"] = revisions
    if not pressed:
        return
    try:
        client().command(command, {**body, "seen": seen.get(body["name"], 0)})
    except ConflictError as error:
        st.session_state[f"{key}-conflict"] = body["name"], error.message
    except TunebenchError as error:
        show_error(error)
        return
    else:
        st.toast(done, icon=":material/check:")
        _settle(key)
    st.cache_data.clear()
    st.rerun()


def _settle(key: str) -> None:
    """Callback: there is no conflict any more."""
    st.session_state.pop(f"{key}-conflict", None)
    st.session_state.pop(f"{key}-seen", None)
