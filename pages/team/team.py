"""Team: who works here, and what may each do? For admins; the engine refuses it to everybody else."""

from __future__ import annotations

import streamlit as st

from pages.entry.provider import read_provider
from pages.shared.session import client, guarded, plain
from pages.team import invitations, members, networks
from store.contract.errors import ConfigError
from store.contract.home import Home
from store.contract.roles import MEANINGS


def main() -> None:
    st.title("Who works here?", anchor=False)
    with guarded():
        if not client().account()["team"]:
            draw_alone()
            networks.draw_networks()
            return
        team = client().team()
        members.draw_members(team)
        invitations.draw_invitations(team)
        draw_roles()
        networks.draw_networks()
        draw_provider()


def draw_alone() -> None:
    """What a team is for, and how one person turns it on."""
    st.markdown(
        "You work alone: whoever has the address of these screens may do everything. With sign-in on,"
        " everybody has an account and a role, and what they do has their name. Turn it on with this command,"
        " on the machine on which Tunebench runs; it prints a link by which you make the first admin's"
        " account."
    )
    st.code("tunebench up --team", language=None)
    draw_roles()


def draw_roles() -> None:
    st.subheader("What each role may do", anchor=False)
    st.markdown("\n".join(f"- **{role}** {meaning}" for role, meaning in MEANINGS.items()))


def draw_provider() -> None:
    st.subheader("Sign-in by OpenID Connect", anchor=False)
    try:
        provider = read_provider(Home())
    except ConfigError as error:
        st.warning(plain(str(error)), icon=":material/warning:")
        return
    if provider:
        st.markdown(
            f":material/verified_user: People may sign in with **{plain(provider.name)}**. Their verified"
            " e-mail address has to have an account here, or an invitation."
        )
    else:
        st.markdown(
            "Not configured: people sign in with passwords. `docs/team.md` shows how your organisation's own"
            " sign-in is set up."
        )


main()
