"""`tunebench team` and `tunebench me`: sign-in on or off, invitations, who has an account, who asks, which
private networks may be reached.

`tunebench up` uses the same: whether the screens may be served to other machines, and what it prints.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from engine.diagnostics.phrasing import plural
from store.config.people_config import Invite
from store.contract.errors import ConfigError, NotFoundError
from store.contract.home import Home
from store.contract.process_record import read_record
from store.contract.roles import DEFAULT_ROLE, MEANINGS
from store.documents.tables.person import InvitationMade, TeamMember
from store.http.client import Client
from store.queries import settings
from tunebench.terminal.connection import Json, change, connect
from tunebench.terminal.output import errors, print_json, print_rows, say
from tunebench.terminal.processes import LOOPBACK, SCREENS_PORT, Served

FIRST_DAYS = 1  # that the first admin's link works

team = typer.Typer(no_args_is_help=True, help="Sign-in, invitations and people.")


@team.command()
def on(json: Json = False) -> None:
    """Have people sign in from now on; prints a link for the first admin where there is none."""
    with errors(json):
        client = connect(start=True)
        client.command("set_team", {"on": True})
        if json:
            print_json({"on": True, "link": first_link(client, address_of(client.home))})
            return
        say("Sign-in is on.")
        print_first_link(client, address_of(client.home))


@team.command()
def off(json: Json = False) -> None:
    """Let whoever has the address with its secret do everything, as before; accounts are kept."""
    with errors(json):
        connect(start=True).command("set_team", {"on": False})
        if json:
            print_json({"on": False})
        say("Sign-in is off. `tunebench url` prints the address with its secret.")


@team.command()
def invite(
    role: Annotated[str, typer.Option(help=f"{', '.join(MEANINGS)}")] = DEFAULT_ROLE,
    email: Annotated[str | None, typer.Option(help="Whose account it is to be")] = None,
    days: Annotated[int, typer.Option(min=1, max=30, help="That the link works")] = 7,
    json: Json = False,
) -> None:
    """Make an invitation and print its link, which works once. Nothing is mailed."""
    with errors(json):
        body = {"role": role, "days": days} | ({"email": email} if email else {})
        client = connect()
        made = client.command("invite", Invite.parse(body).model_dump(exclude_none=True))
        link = link_of(address_of(client.home), made)
        print_json({"invitation_id": made["invitation_id"], "link": link}) if json else print(link)


@team.command()
def password(email: Annotated[str, typer.Argument(help="Whose")], json: Json = False) -> None:
    """Print a link by which somebody sets a new password; that ends their sessions and API tokens."""
    with errors(json):
        client = connect()
        made = client.command("reset_password", {"person": _member(client, email)["person_id"]})
        link = link_of(address_of(client.home), made)
        if json:
            print_json({"invitation_id": made["invitation_id"], "link": link})
            return
        print(link)
        say("It works once, within a day, and then ends all sessions and API tokens of the account.")


@team.command()
def switch(
    email: Annotated[str, typer.Argument(help="Whose account")],
    on: Annotated[bool, typer.Option("--on/--off", help="Whether they may sign in")] = False,
    json: Json = False,
) -> None:
    """Switch an account off, which ends its sessions and API tokens, or on again."""
    with errors(json):
        client = connect()
        ended = client.command("set_active", {"person": _member(client, email)["person_id"], "active": on})
        if json:
            print_json(ended)
        elif on:
            say(f"{email} may sign in again.")
        else:
            sessions = plural(ended["ended_sessions"], "session")
            tokens = plural(ended["ended_tokens"], "API token")
            say(f"{email} may not sign in any more: ended {sessions} and {tokens}.")


@team.command("list")
def list_(json: Json = False) -> None:
    """Who has an account, and when they were seen."""
    with errors(json):
        everybody = connect().team()
        if json:
            print_json(everybody)
            return
        rows = [
            [person["name"], person["email"], person["role"], "yes" if person["active"] else "no", seen]
            for person in everybody["members"]
            for seen in [_day(person["seen_at"])]
        ]
        print_rows(["name", "email", "role", "may sign in", "seen"], rows)


@team.command()
def networks(json: Json = False) -> None:
    """Private networks in which judges, routes, webhooks and models elsewhere may be."""
    with errors(json):
        allowed = settings.networks(connect())
        print_json(allowed) if json else print("\n".join(allowed) or "None is allowed.")


@team.command()
def allow_network(
    network: Annotated[str, typer.Argument(help="Such as 10.1.0.0/16, or one address")], json: Json = False
) -> None:
    """Let judges, routes, webhooks and models elsewhere be in a private network. For admins."""
    change("allow_network", {"network": network}, f"Addresses in {network} may be reached.", json)


@team.command()
def refuse_network(
    network: Annotated[str, typer.Argument(help="One that was allowed")], json: Json = False
) -> None:
    """Take that back."""
    change("refuse_network", {"network": network}, f"{network} is not allowed any more.", json)


def me(name: Annotated[str | None, typer.Option(help="Another name")] = None, json: Json = False) -> None:
    """Who you are to the engine, and your name as others see it."""
    if name is not None:
        change("set_own_name", {"name": name}, f"You are {name} now.", json)
        return
    with errors(json):
        person = connect().me()
        print_json(person) if json else print(f"{person['name']}, {person['role']}")


def require_team(home: Home, served: Served, *, turn_on: bool = False) -> None:
    """See that people sign in, before the screens are served; turn it on where that is asked for.

    Raises ConfigError (field host) where they would be open to other machines without it.
    """
    client = Client(home, secret=home.token)
    if turn_on:
        client.command("set_team", {"on": True})
    elif served.is_open and not client.account()["team"]:
        raise ConfigError(
            f"--host {served.host} opens the screens to other machines, and nobody has to sign in.",
            fix="Turn sign-in on with --team, or leave --host out.",
            field="host",
        )


def print_entrance(home: Home, served: Served, entrance: str) -> None:
    """Where the screens are, and how one gets in."""
    client = Client(home, secret=home.token)
    if not client.account()["team"]:
        print(f"Tunebench is at {entrance}", flush=True)
        say("The address ends in a secret; `tunebench url` prints it again. Ctrl-C stops it.")
        return
    print(f"Tunebench is at {served.address}/", flush=True)
    say("People sign in there. `tunebench team invite` makes an invitation. Ctrl-C stops it.")
    print_first_link(client, served.address)


def print_first_link(client: Client, address: str) -> None:
    """The link for the first admin, where one is made."""
    if link := first_link(client, address):
        say("There is no admin yet. This link makes the first one's account, once, within a day:")
        print(link, flush=True)


def first_link(client: Client, address: str) -> str | None:
    """A link by which the first admin makes an account; it replaces earlier ones. None where there is an
    admin."""
    everybody = client.team()
    if any(person["role"] == "admin" and person["active"] for person in everybody["members"]):
        return None
    for earlier in everybody["invitations"]:
        if earlier["role"] == "admin" and not earlier["email"]:
            client.command("take_back_invitation", {"invitation": earlier["invitation_id"]})
    made = client.command("invite", {"role": "admin", "days": FIRST_DAYS})
    return link_of(address, made)


def address_of(home: Home) -> str:
    """Of the screens that run for a home folder; where they usually are where none run."""
    try:
        record = read_record(home.screens_file)
    except (OSError, ValueError):
        record = None
    return record.address if record else f"http://{LOOPBACK}:{SCREENS_PORT}"


def link_of(address: str, made: InvitationMade) -> str:
    """The address of an invitation's page."""
    return f"{address}/invitation?{urlencode({'code': made['secret']})}"


def _member(client: Client, email: str) -> TeamMember:
    for member in client.team()["members"]:
        if member["email"] == email.strip().lower():
            return member
    raise NotFoundError(f"Nobody has the address {email}.", fix="`tunebench team list` has everybody.")


def _day(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
