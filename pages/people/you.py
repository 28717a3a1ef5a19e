"""The account page: name, password, sessions and API tokens."""

from __future__ import annotations

import streamlit as st

from pages.people.members import describe_ended_access, describe_session, format_moment
from pages.shared.session import escape_markdown, get_client, send_command, show_errors
from store.core.rights import MEANINGS
from store.core.schemas import ApiToken, OwnAccount
from store.people.config import MIN_PASSWORD

KEY = "token-made"


def draw_tokens(tokens: list[ApiToken]) -> None:
    """Draw existing tokens, a newly created one, and the form for another."""
    st.subheader("API tokens", anchor=False)
    st.markdown(
        "The command line and scripts on this machine act as you if the environment sets "
        "`TUNEBENCH_TOKEN`. A token has your permissions until you revoke it."
    )
    if not tokens:
        st.caption("No API tokens yet. Create one below.")
    for token in tokens:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{escape_markdown(token.name)}**")
            used = f"used {format_moment(token.used_at)}" if token.used_at else "never used"
            st.caption(f"created {format_moment(token.created_at)}, {used}", width="stretch")
            if (
                st.button("Revoke", key=f"revoke-{token.token_id}")
                and send_command("revoke_token", {"token": token.token_id}, "Token revoked.") is not None
            ):
                st.rerun()
    _draw_new()
    with st.form("new-token", border=True, clear_on_submit=True):
        name = st.text_input("Token name", placeholder="nightly import", max_chars=80)
        if st.form_submit_button("Create token", icon=":material/key:"):
            made = send_command("make_token", {"name": name})
            if made is not None:
                st.session_state[KEY] = name, made["token"]
                st.rerun()


def _draw_new() -> None:
    if KEY not in st.session_state:
        return
    name, token = st.session_state[KEY]
    with st.container(border=True):
        st.markdown(f":material/key: **{escape_markdown(name)}**, which can't be shown again:")
        st.code(token, language=None, wrap_lines=True)
        if st.button("I copied it", key="put-token-away"):
            del st.session_state[KEY]
            st.rerun()


def main() -> None:
    st.title("Your account", anchor=False)
    with show_errors():
        account = get_client().account()
        draw_name(account)
        if account.email is None:
            draw_owner(account)
            return
        draw_password(account)
        draw_sessions(account)
        draw_tokens(account.tokens)


def draw_name(account: OwnAccount) -> None:
    person = account.person
    with st.form("own-name", border=True):
        name = st.text_input("Name (visible to others)", person.name, max_chars=80)
        if account.email:
            role = person.role
            st.caption(f"{escape_markdown(account.email)} · {role}: {MEANINGS[role]}")
        if (
            st.form_submit_button("Change name")
            and send_command("set_own_name", {"name": name}, "Name changed.") is not None
        ):
            st.rerun()


def draw_owner(account: OwnAccount) -> None:
    """Explain that the owner of the home folder has no account and needs none."""
    if account.team:
        st.markdown("You are the owner of the home folder and need no account.")
    else:
        st.markdown(
            "Sign-in is off: there is no password, and scripts on this machine have full access. In a team"
            " everyone has an account; the **Team** page describes how to turn it on."
        )


def draw_password(account: OwnAccount) -> None:
    st.subheader("Password", anchor=False)
    with st.form("own-password", border=True, clear_on_submit=True):
        current = ""
        if account.has_password:
            current = st.text_input("Current password", type="password", autocomplete="current-password")
        else:
            st.caption(
                "You sign in with your organization's account; a password is an additional way to sign in."
            )
        password = st.text_input(
            "New password",
            type="password",
            autocomplete="new-password",
            help=f"{MIN_PASSWORD} characters or more, such as a sentence.",
        )
        st.caption("This ends all other sessions and revokes all API tokens.")
        if st.form_submit_button("Change password"):
            body = {"password": password} | ({"current": current} if account.has_password else {})
            ended = send_command("set_own_password", body)
            if ended is not None:
                st.toast(f"Password changed: {describe_ended_access(ended)}.", icon=":material/check:")
                st.rerun()


def draw_sessions(account: OwnAccount) -> None:
    st.subheader("Sessions", anchor=False)
    for session in account.sessions:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(describe_session(session))
            st.caption(f"since {format_moment(session.created_at)}", width="stretch")
            if session.current:
                st.badge("this browser", color="green")
            elif (
                st.button("End session", key=f"end-{session.session_id}")
                and send_command("end_session", {"session": session.session_id}, "Session ended.") is not None
            ):
                st.rerun()


main()
