"""Members of the team: one row each with role, last activity and actions, and a newly created link, which is
shown only once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import streamlit as st

from pages.shared import display
from pages.shared.session import escape_markdown, send_command
from store.core.formatting import plural
from store.core.rights import MEANINGS
from store.core.schemas import ActiveSession, CreatedInvitation, Team, TeamMember

KEY = "link-made"


def keep_link(made: dict[str, Any], purpose: str) -> None:
    """Store an invitation created by the engine, for `draw_link`."""
    st.session_state[KEY] = cast(CreatedInvitation, made), purpose


def draw_link() -> None:
    """Draw the created link for copying; nothing if there is none."""
    if KEY not in st.session_state:
        return
    made, purpose = st.session_state[KEY]
    with st.container(border=True):
        st.markdown(f":material/link: **The link to {escape_markdown(purpose)}**")
        st.code(build_invitation_link(get_origin(), made["secret"]), language=None, wrap_lines=True)
        left = format_time_left(made["expires_at"])
        st.markdown(
            f"Send it only to that person; Tunebench sends no e-mail. It works once, expires in {left}, "
            "and can't be shown again."
        )
        if st.button("I copied it", key="put-link-away"):
            del st.session_state[KEY]
            st.rerun()


def format_time_left(expires_at: float) -> str:
    """Format how long a link remains valid."""
    return display.format_duration(max(0.0, expires_at - time.time()))


def build_invitation_link(address: str, secret: str) -> str:
    """Build the address of the invitation page."""
    return f"{address}/invitation?{urlencode({'code': secret})}"


def get_origin() -> str:
    """Return scheme and host used by this browser, or ""."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


ROLES = list(MEANINGS)


def draw_members(team: Team) -> None:
    """Draw everyone with an account, or a hint that there is nobody."""
    active = sum(member.active for member in team.members)
    st.subheader("1 person" if active == 1 else f"{active:,} people", anchor=False)
    if not team.members:
        st.markdown("No accounts yet. Invite the first person below.")
    for member in team.members:
        own = [session for session in team.sessions if session.person_id == member.person_id]
        draw_member(member, own)


def draw_member(member: TeamMember, sessions: list[ActiveSession]) -> None:
    with st.container(border=True, key=f"member-{member.person_id}"):
        who, role, more = st.columns([5, 2, 2], vertical_alignment="center")
        with who:
            off = "" if member.active else " :gray-badge[deactivated]"
            st.markdown(f"**{escape_markdown(member.name)}**{off}  \n{escape_markdown(member.email)}")
            st.caption(describe_last_seen(member, sessions))
        person_id = member.person_id
        with role:
            chosen = st.selectbox(
                "Role",
                ROLES,
                index=ROLES.index(member.role),
                key=f"role-{person_id}-{member.role}",
                label_visibility="collapsed",
                disabled=not member.active,
            )
        if chosen != member.role:
            name = member.name
            if (
                send_command(
                    "set_role", {"person": person_id, "role": chosen}, f"{name} now has the role {chosen}."
                )
                is not None
            ):
                st.rerun()
        with more, st.popover("Account", icon=":material/manage_accounts:", width="stretch"):
            draw_account(member, sessions)


def draw_account(member: TeamMember, sessions: list[ActiveSession]) -> None:
    """Draw the actions on an account."""
    person_id, name = member.person_id, member.name
    if not member.active:
        if st.button("Reactivate", key=f"on-{person_id}", width="stretch"):
            _send_change("set_active", {"person": person_id, "active": True}, f"{name} can sign in again.")
        return
    if st.button("Create password reset link", key=f"reset-{person_id}", width="stretch"):
        made = send_command("reset_password", {"person": person_id})
        if made is not None:
            keep_link(made, f"a new password for {name}")
            st.rerun()
    for session in sessions:
        st.caption(describe_session(session))
        if st.button("End session", key=f"end-{session.session_id}", width="stretch"):
            _send_change("end_session", {"session": session.session_id}, "Session ended.")
    if len(sessions) > 1 and st.button("End all sessions", key=f"end-all-{person_id}", width="stretch"):
        _send_change("end_sessions", {"person": person_id}, f"{name} is signed out everywhere.")
    if st.button("Deactivate", key=f"off-{person_id}", icon=":material/block:", width="stretch"):
        ended = send_command("set_active", {"person": person_id, "active": False})
        if ended is not None:
            st.toast(
                f"{escape_markdown(name)} can't sign in any more: {describe_ended_access(ended)}.",
                icon=":material/check:",
            )
            st.rerun()


def _send_change(command: str, body: dict[str, object], done: str) -> None:
    if send_command(command, body, done) is not None:
        st.rerun()


def describe_ended_access(ended: Mapping[str, int]) -> str:
    """Describe a `RevokedAccess`."""
    sessions, tokens = plural(ended["ended_sessions"], "session"), plural(ended["ended_tokens"], "API token")
    return f"ended {sessions} and {tokens}"


def describe_last_seen(member: TeamMember, sessions: list[ActiveSession]) -> str:
    """Describe when somebody was last seen, and in how many browsers they are signed in."""
    if member.seen_at is None:
        return "not active yet" if member.active else "never active"
    where_in = f" · signed in in {plural(len(sessions), 'browser')}" if sessions else ""
    return f"active {format_moment(member.seen_at)}{where_in}"


def describe_session(session: ActiveSession) -> str:
    """Describe a session: browser, address and time."""
    return (
        f"{escape_markdown(format_browser(session.agent))} from "
        f"{escape_markdown(session.address or 'an unknown address')}, active "
        f"{format_moment(session.seen_at)}"
    )


def format_browser(agent: str) -> str:
    """Format the user agent of a common browser in two words."""
    systems = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows"}
    systems |= {"Mac OS X": "macOS", "Linux": "Linux"}
    browsers = {"Firefox/": "Firefox", "Edg/": "Edge", "Chrome/": "Chrome", "Safari/": "Safari"}
    name = next((title for mark, title in browsers.items() if mark in agent), "")
    system = next((title for mark, title in systems.items() if mark in agent), "")
    return f"{name} on {system}" if name and system else name or agent[:40] or "A program"


def format_moment(at: float) -> str:
    """Format how long ago a time in the people tables was."""
    return display.format_ago(datetime.fromtimestamp(at, UTC).replace(tzinfo=None))
