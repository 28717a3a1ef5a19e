"""The people of the team: a row each, with role, when they were seen, and what can be done about it; and a
link that was made a moment ago, which can be read this once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import streamlit as st

from pages.shared import display
from pages.shared.session import act, plain
from store.core.formatting import plural
from store.core.rights import MEANINGS
from store.core.schemas import InvitationMade, SessionSeen, Team, TeamMember

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
    return display.span(max(0.0, expires_at - time.time()))


def invitation_link(address: str, secret: str) -> str:
    """The address of the invitation's page."""
    return f"{address}/invitation?{urlencode({'code': secret})}"


def origin() -> str:
    """Scheme and host by which this browser has come."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


ROLES = list(MEANINGS)


def draw_members(team: Team) -> None:
    """Everybody who has an account; where nobody has, that is said."""
    active = sum(member["active"] for member in team["members"])
    st.subheader("1 person" if active == 1 else f"{active:,} people", anchor=False)
    if not team["members"]:
        st.markdown("Nobody has an account yet. Invite the first person below.")
    for member in team["members"]:
        own = [session for session in team["sessions"] if session["person_id"] == member["person_id"]]
        draw_member(member, own)


def draw_member(member: TeamMember, sessions: list[SessionSeen]) -> None:
    with st.container(border=True, key=f"member-{member['person_id']}"):
        who, role, more = st.columns([5, 2, 2], vertical_alignment="center")
        with who:
            off = "" if member["active"] else " :gray-badge[may not sign in]"
            st.markdown(f"**{plain(member['name'])}**{off}  \n{plain(member['email'])}")
            st.caption(seen(member, sessions))
        person_id = member["person_id"]
        with role:
            chosen = st.selectbox(
                "Role",
                ROLES,
                index=ROLES.index(member["role"]),
                key=f"role-{person_id}-{member['role']}",
                label_visibility="collapsed",
                disabled=not member["active"],
            )
        if chosen != member["role"]:
            name = member["name"]
            if act("set_role", {"person": person_id, "role": chosen}, f"{name} is {chosen} now.") is not None:
                st.rerun()
        with more, st.popover("Account", icon=":material/manage_accounts:", width="stretch"):
            draw_account(member, sessions)


def draw_account(member: TeamMember, sessions: list[SessionSeen]) -> None:
    """What can be done about somebody's account."""
    person_id, name = member["person_id"], member["name"]
    if not member["active"]:
        if st.button("Let sign in again", key=f"on-{person_id}", width="stretch"):
            _change("set_active", {"person": person_id, "active": True}, f"{name} may sign in again.")
        return
    if st.button("Link to a new password", key=f"reset-{person_id}", width="stretch"):
        made = act("reset_password", {"person": person_id})
        if made is not None:
            keep_link(made, f"a new password of {name}")
            st.rerun()
    for session in sessions:
        st.caption(where(session))
        if st.button("End this session", key=f"end-{session['session_id']}", width="stretch"):
            _change("end_session", {"session": session["session_id"]}, "The session has ended.")
    if len(sessions) > 1 and st.button("End all sessions", key=f"end-all-{person_id}", width="stretch"):
        _change("end_sessions", {"person": person_id}, f"{name} is signed out everywhere.")
    if st.button("Switch off", key=f"off-{person_id}", icon=":material/block:", width="stretch"):
        ended = act("set_active", {"person": person_id, "active": False})
        if ended is not None:
            st.toast(
                f"{plain(name)} may not sign in any more: {ended_words(ended)}.", icon=":material/check:"
            )
            st.rerun()


def _change(command: str, body: dict[str, object], done: str) -> None:
    if act(command, body, done) is not None:
        st.rerun()


def ended_words(ended: Mapping[str, int]) -> str:
    """What an `AccessEnded` says."""
    sessions, tokens = plural(ended["ended_sessions"], "session"), plural(ended["ended_tokens"], "API token")
    return f"ended {sessions} and {tokens}"


def seen(member: TeamMember, sessions: list[SessionSeen]) -> str:
    """When somebody was seen last, and in how many browsers they are signed in."""
    if member["seen_at"] is None:
        return "not seen yet" if member["active"] else "never seen"
    where_in = f" · signed in in {plural(len(sessions), 'browser')}" if sessions else ""
    return f"seen {moment(member['seen_at'])}{where_in}"


def where(session: SessionSeen) -> str:
    """A session in words: browser, address and when."""
    return (
        f"{plain(browser(session['agent']))} from {plain(session['address'] or 'an unknown address')},"
        f" seen {moment(session['seen_at'])}"
    )


def browser(agent: str) -> str:
    """What a browser calls itself, in two words where it is a usual one."""
    systems = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows"}
    systems |= {"Mac OS X": "macOS", "Linux": "Linux"}
    browsers = {"Firefox/": "Firefox", "Edg/": "Edge", "Chrome/": "Chrome", "Safari/": "Safari"}
    name = next((title for mark, title in browsers.items() if mark in agent), "")
    system = next((title for mark, title in systems.items() if mark in agent), "")
    return f"{name} on {system}" if name and system else name or agent[:40] or "A program"


def moment(at: float) -> str:
    """How long ago a time of people's tables was."""
    return display.ago(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
