"""Invitations: make one, copy its link, take it back."""

from __future__ import annotations

import streamlit as st

from pages.shared.session import act, plain
from pages.team.members import ROLES
from pages.team.new_link import draw_link, keep_link, time_left
from store.contract.roles import DEFAULT_ROLE, MEANINGS
from store.documents.tables.person import Invitation, Team

DAYS = {1: "1 day", 7: "7 days", 30: "30 days"}


def draw_invitations(team: Team) -> None:
    """The form, the link that it made, and those that are open."""
    st.subheader("Invite somebody", anchor=False)
    draw_form()
    draw_link()
    if team["invitations"]:
        st.subheader("Open invitations", anchor=False)
    for invitation in team["invitations"]:
        draw_invitation(invitation)


def draw_form() -> None:
    with st.form("invite", border=True):
        role, days = st.columns([3, 1])
        chosen = role.selectbox(
            "Role",
            ROLES,
            ROLES.index(DEFAULT_ROLE),
            format_func=lambda name: f"{name}: {MEANINGS[name]}",
        )
        for_days = days.selectbox("Works for", list(DAYS), index=1, format_func=DAYS.__getitem__)
        email = st.text_input(
            "E-mail (may stay empty)",
            help="With an address the account gets that one, and sign-in by OpenID Connect finds it.",
        )
        if not st.form_submit_button("Make a link", type="primary", icon=":material/link:"):
            return
    made = act("invite", {"role": chosen, "days": for_days, "email": email or None})
    if made is not None:
        keep_link(made, f"an account as {chosen}" + (f" for {email}" if email else ""))
        st.rerun()


def draw_invitation(invitation: Invitation) -> None:
    if invitation["name"]:
        what = f"A new password for **{plain(invitation['name'])}**"
    else:
        to = plain(invitation["email"] or "whoever has the link")
        what = f"An account as **{invitation['role']}** for {to}"
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(what)
        left = time_left(invitation["expires_at"])
        st.caption(f"made by {plain(invitation['made_by'])}, for {left} more", width="stretch")
        if (
            st.button("Take back", key=f"take-back-{invitation['invitation_id']}")
            and act("take_back_invitation", {"invitation": invitation["invitation_id"]}) is not None
        ):
            st.rerun()
