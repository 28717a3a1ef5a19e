"""The Team page for admins: members, invitations, and private networks that requests may reach. The engine
refuses it to everybody else.
"""

from __future__ import annotations

import streamlit as st

from pages.people import members
from pages.people.members import ROLES, draw_link, format_time_left, keep_link
from pages.people.single_sign_on import read_provider
from pages.shared.session import escape_markdown, get_client, send_command, show_errors
from store.core.errors import ConfigError
from store.core.home import Home
from store.core.rights import DEFAULT_ROLE, MEANINGS
from store.core.schemas import Invitation, Team
from store.people import settings

DAYS = {1: "1 day", 7: "7 days", 30: "30 days"}


def draw_invitations(team: Team) -> None:
    """Draw the invitation form, a new link, and open invitations."""
    st.subheader("Invite a person", anchor=False)
    draw_form()
    draw_link()
    if team.invitations:
        st.subheader("Open invitations", anchor=False)
    for invitation in team.invitations:
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
        for_days = days.selectbox("Expires in", list(DAYS), index=1, format_func=DAYS.__getitem__)
        email = st.text_input(
            "E-mail (optional)",
            help="If set, the account gets this address, and OpenID Connect sign-in matches it.",
        )
        if not st.form_submit_button("Create invitation link", type="primary", icon=":material/link:"):
            return
    made = send_command("invite", {"role": chosen, "days": for_days, "email": email or None})
    if made is not None:
        keep_link(made, f"an account with the role {chosen}" + (f" for {email}" if email else ""))
        st.rerun()


def draw_invitation(invitation: Invitation) -> None:
    if invitation.name:
        what = f"New password for **{escape_markdown(invitation.name)}**"
    else:
        to = escape_markdown(invitation.email or "anyone with the link")
        what = f"Account with the role **{invitation.role}** for {to}"
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(what)
        left = format_time_left(invitation.expires_at)
        st.caption(f"created by {escape_markdown(invitation.made_by)}, expires in {left}", width="stretch")
        if (
            st.button("Revoke", key=f"take-back-{invitation.invitation_id}")
            and send_command("take_back_invitation", {"invitation": invitation.invitation_id}) is not None
        ):
            st.rerun()


def draw_networks() -> None:
    """Draw the list of networks, and the form that adds one."""
    st.subheader("Private networks", anchor=False)
    st.markdown(
        "Members choose the addresses of judges, remote models and endpoint routes, and admins those of "
        "webhooks. Addresses in a private network are blocked unless the network is listed here; link-local "
        "addresses and Tunebench's own ports are always blocked."
    )
    for network in settings.networks(get_client()):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{escape_markdown(network)}**", width="stretch")
            if (
                st.button("Revoke", key=f"refuse-{network}")
                and send_command("refuse_network", {"network": network}) is not None
            ):
                st.rerun()
    with st.form("allow_network", border=True, clear_on_submit=True):
        network = st.text_input("Network", placeholder="10.1.0.0/16", help="Or a single address")
        if not st.form_submit_button("Allow", icon=":material/lan:"):
            return
    if send_command("allow_network", {"network": network}) is not None:
        st.rerun()


def main() -> None:
    st.title("Team", anchor=False)
    with show_errors():
        if not get_client().account().team:
            draw_single_user()
            draw_networks()
            return
        team = get_client().team()
        members.draw_members(team)
        draw_invitations(team)
        draw_roles()
        draw_networks()
        draw_provider()


def draw_single_user() -> None:
    """Explain what a team is for, and how to turn it on."""
    st.markdown(
        "Sign-in is off: anyone with the address of this app can do everything. With sign-in on, "
        "everyone has an account and a role, and actions are recorded under their name. Turn it on with "
        "this command on the machine that runs Tunebench; it prints a link to create the first admin "
        "account."
    )
    st.code("tunebench up --team", language=None)
    draw_roles()


def draw_roles() -> None:
    st.subheader("Role permissions", anchor=False)
    st.markdown("\n".join(f"- **{role}** {meaning}" for role, meaning in MEANINGS.items()))


def draw_provider() -> None:
    st.subheader("Sign-in with OpenID Connect", anchor=False)
    try:
        provider = read_provider(Home())
    except ConfigError as error:
        st.warning(escape_markdown(str(error)), icon=":material/warning:")
        return
    if provider:
        st.markdown(
            f":material/verified_user: People can sign in with **{escape_markdown(provider.name)}**. "
            "Their verified e-mail address needs an account or an invitation here."
        )
    else:
        st.markdown(
            "Not configured: people sign in with passwords. To set up your organization's sign-in, see"
            " `docs/team.md`."
        )


main()
