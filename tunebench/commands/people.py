"""`tunebench team`, `me` and `activity`: sign-in, invitations, accounts, private networks, and the activity
log.

`tunebench up` uses it to check whether the screens may be served to other machines, and for its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import typer

from store.core.errors import ConfigError, NotFoundError
from store.core.formatting import plural
from store.core.home import Home
from store.core.processes import read_record
from store.core.rights import DEFAULT_ROLE, MEANINGS
from store.core.schemas import Activity, CreatedInvitation, PersonName, TeamMember
from store.http.client import Client
from store.people import activity as queries
from store.people import settings
from store.people.activity import ActivityFilter
from store.people.activity_text import get_action, group_commands_by_kind
from store.people.config import Invite
from tunebench.terminal.connection import Json, connect, send_change
from tunebench.terminal.output import print_json, print_notice, print_rows, report_errors
from tunebench.terminal.processes import LOOPBACK, SCREENS_PORT, ScreensOptions

FIRST_DAYS = 1  # validity of the first admin's link

team = typer.Typer(no_args_is_help=True, help="Sign-in, invitations and accounts.")


@team.command()
def on(json: Json = False) -> None:
    """Turn on sign-in. Prints a link for the first admin if there is none."""
    with report_errors(json):
        client = connect(start=True)
        client.command("set_team", {"on": True})
        if json:
            print_json({"on": True, "link": create_first_link(client, find_screens_address(client.home))})
            return
        print_notice("Sign-in is on.")
        print_first_link(client, find_screens_address(client.home))


@team.command()
def off(json: Json = False) -> None:
    """Turn off sign-in: anyone with the secret address has full access. Accounts are kept."""
    with report_errors(json):
        connect(start=True).command("set_team", {"on": False})
        if json:
            print_json({"on": False})
        print_notice("Sign-in is off. `tunebench url` prints the address with its secret.")


@team.command()
def invite(
    role: Annotated[str, typer.Option(help=f"{', '.join(MEANINGS)}")] = DEFAULT_ROLE,
    email: Annotated[str | None, typer.Option(help="E-mail address of the new account")] = None,
    days: Annotated[int, typer.Option(min=1, max=30, help="Time until the link expires")] = 7,
    json: Json = False,
) -> None:
    """Create an invitation and print its one-time link. No e-mail is sent."""
    with report_errors(json):
        body = {"role": role, "days": days} | ({"email": email} if email else {})
        client = connect()
        made = client.command("invite", Invite.parse(body).model_dump(exclude_none=True))
        link = build_invitation_link(find_screens_address(client.home), made)
        print_json({"invitation_id": made["invitation_id"], "link": link}) if json else print(link)


@team.command()
def password(
    email: Annotated[str, typer.Argument(help="E-mail address of the account")], json: Json = False
) -> None:
    """Print a password reset link. Using it ends the sessions and API tokens of the account."""
    with report_errors(json):
        client = connect()
        made = client.command("reset_password", {"person": _find_member(client, email).person_id})
        link = build_invitation_link(find_screens_address(client.home), made)
        if json:
            print_json({"invitation_id": made["invitation_id"], "link": link})
            return
        print(link)
        print_notice(
            "The link works once within a day. Setting the password ends all sessions and revokes all API"
            " tokens of the account."
        )


@team.command()
def switch(
    email: Annotated[str, typer.Argument(help="E-mail address of the account")],
    on: Annotated[bool, typer.Option("--on/--off", help="Allow or block sign-in")] = False,
    json: Json = False,
) -> None:
    """Disable an account, which ends its sessions and API tokens, or enable it again."""
    with report_errors(json):
        client = connect()
        ended = client.command("set_active", {"person": _find_member(client, email).person_id, "active": on})
        if json:
            print_json(ended)
        elif on:
            print_notice(f"{email} can sign in again.")
        else:
            sessions = plural(ended["ended_sessions"], "session")
            tokens = plural(ended["ended_tokens"], "API token")
            print_notice(f"{email} can no longer sign in: ended {sessions} and {tokens}.")


@team.command("list")
def list_(json: Json = False) -> None:
    """List accounts and when they were last active."""
    with report_errors(json):
        everybody = connect().team()
        if json:
            print_json(everybody)
            return
        rows = [
            [
                person.name,
                person.email,
                person.role,
                "yes" if person.active else "no",
                _format_day(person.seen_at),
            ]
            for person in everybody.members
        ]
        print_rows(["name", "email", "role", "can sign in", "seen"], rows)


@team.command()
def networks(json: Json = False) -> None:
    """List private networks allowed for judges, routes, webhooks and remote models."""
    with report_errors(json):
        allowed = settings.networks(connect())
        print_json(allowed) if json else print("\n".join(allowed) or "No private networks are allowed.")


@team.command()
def allow_network(
    network: Annotated[str, typer.Argument(help="Network such as 10.1.0.0/16, or a single address")],
    json: Json = False,
) -> None:
    """Allow a private network for judges, routes, webhooks and remote models (admins only)."""
    send_change("allow_network", {"network": network}, f"Addresses in {network} are allowed.", json)


@team.command()
def refuse_network(
    network: Annotated[str, typer.Argument(help="Allowed network")], json: Json = False
) -> None:
    """Remove an allowed private network (admins only)."""
    send_change("refuse_network", {"network": network}, f"{network} is no longer allowed.", json)


def me(name: Annotated[str | None, typer.Option(help="New name")] = None, json: Json = False) -> None:
    """Show your account, or change your display name."""
    if name is not None:
        send_change("set_own_name", {"name": name}, f"Name changed to {name}.", json)
        return
    with report_errors(json):
        person = connect().me()
        print_json(person) if json else print(f"{person.name}, {person.role}")


def require_team(home: Home, served: ScreensOptions, *, turn_on: bool = False) -> None:
    """Check that sign-in is on before the screens are served; turn it on if requested.

    Raises: ConfigError (field host) if they would be open to other machines without it.
    """
    client = Client(home, secret=home.token)
    if turn_on:
        client.command("set_team", {"on": True})
    elif served.is_open and not client.account().team:
        raise ConfigError(
            f"--host {served.host} opens Tunebench to other machines without sign-in.",
            fix="Turn sign-in on with --team, or remove --host.",
            field="host",
        )


def print_entrance(home: Home, served: ScreensOptions, entrance: str) -> None:
    """Print the address of the screens, and how to sign in."""
    client = Client(home, secret=home.token)
    if not client.account().team:
        print(f"Tunebench: {entrance}", flush=True)
        print_notice("The address contains a secret; print it again with `tunebench url`. Stop with Ctrl-C.")
        return
    print(f"Tunebench: {served.address}/", flush=True)
    print_notice("Sign-in is required. Create an invitation with `tunebench team invite`. Stop with Ctrl-C.")
    print_first_link(client, served.address)


def print_first_link(client: Client, address: str) -> None:
    """Print the link for the first admin, if one is created."""
    if link := create_first_link(client, address):
        print_notice(
            "There is no admin yet. This link creates the first admin account; it works once within a day:"
        )
        print(link, flush=True)


def create_first_link(client: Client, address: str) -> str | None:
    """Create the invitation link of the first admin, replacing earlier ones; None if there is an admin."""
    everybody = client.team()
    if any(person.role == "admin" and person.active for person in everybody.members):
        return None
    for earlier in everybody.invitations:
        if earlier.role == "admin" and not earlier.email:
            client.command("take_back_invitation", {"invitation": earlier.invitation_id})
    made = client.command("invite", {"role": "admin", "days": FIRST_DAYS})
    return build_invitation_link(address, made)


def find_screens_address(home: Home) -> str:
    """Return the address of a home folder's running screens, or the default address."""
    try:
        record = read_record(home.screens_file)
    except (OSError, ValueError):
        record = None
    return record.address if record else f"http://{LOOPBACK}:{SCREENS_PORT}"


def build_invitation_link(address: str, made: CreatedInvitation) -> str:
    """Return the address of an invitation's page."""
    return f"{address}/invitation?{urlencode({'code': made['secret']})}"


def _find_member(client: Client, email: str) -> TeamMember:
    for member in client.team().members:
        if member.email == email.strip().lower():
            return member
    raise NotFoundError(
        f"No account with the address {email}.", fix="List all accounts with: tunebench team list"
    )


def _format_day(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def activity(
    by: Annotated[str, typer.Option(help="Person id or name")] = "",
    kind: Annotated[str, typer.Option(help="Kind of action: Launched, Deleted, …")] = "",
    search: Annotated[str, typer.Option(help="Text in the name of an item or in the details")] = "",
    days: Annotated[int, typer.Option(min=0, help="Only the last days; 0 for all time")] = 0,
    mentions: Annotated[str, typer.Option(help="Comments that mention this person with @")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """List activity, newest first."""
    with report_errors(json):
        client = connect()
        people = queries.names(client)
        which = ActivityFilter(
            person_id=_find_person_id(people, by, "by"),
            commands=_list_commands(kind),
            search=search,
            days=days,
            mentions=_find_person_id(people, mentions, "mentions"),
        )
        total, lines = queries.listed(client, which, limit=limit)
        if json:
            print_json({"activity": lines, "total": total})
            return
        footer = plural(total, "line") if total == len(lines) else f"{len(lines)} of {plural(total, 'line')}"
        print_rows(
            ["when (UTC)", "who", "did", "what", "detail"], [_build_row(line) for line in lines], footer
        )


def _build_row(line: Activity) -> list[str]:
    did = get_action(line.command).words
    comment = line.comment if line.command == "comment" else None
    detail = " ".join((comment or line.detail).split())
    return [f"{line.done_at:%Y-%m-%d %H:%M}", line.person_name, did, line.subject_name, detail]


def _find_person_id(people: Sequence[PersonName], name: str, field: str) -> str:
    """Return a person's id by id or name. Raises NotFoundError, or ConfigError for an ambiguous name."""
    if not name:
        return ""
    ids = [each.person_id for each in people if name in (each.person_id, each.name)]
    if not ids:
        names = ", ".join(each.name for each in people)
        fix = f"Choose one of: {names}." if names else "No activity yet."
        raise NotFoundError(f"Nobody is named {name!r}.", fix=fix, field=field)
    if len(ids) > 1:
        raise ConfigError(
            f"Several people are named {name!r}.", fix=f"Give an id: {', '.join(ids)}.", field=field
        )
    return ids[0]


def _list_commands(kind: str) -> tuple[str, ...]:
    if not kind:
        return ()
    by_kind = {name.lower(): commands for name, commands in group_commands_by_kind().items()}
    if kind.lower() not in by_kind:
        raise ConfigError(
            f"{kind!r} is not a kind of action.",
            fix=f"Choose one of {', '.join(group_commands_by_kind())}.",
            field="kind",
        )
    return by_kind[kind.lower()]
