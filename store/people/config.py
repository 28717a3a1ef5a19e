"""Requests about people: sign-in, invitations, accounts, sessions and tokens.

Passwords are plain fields without validation rules in the model, so that no error ever repeats what was
entered: `engine.server.passwords` checks them.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from store.core.addresses import parse_network
from store.core.config import Config, Line
from store.core.rights import DEFAULT_ROLE
from store.core.schemas import Role

MAX_DAYS = 30
MIN_PASSWORD, MAX_PASSWORD = 10, 1024  # characters
_EMAIL = re.compile(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+")


def _check_email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("give an e-mail address, such as name@example.org")
    return value.lower()


Email = Annotated[Line, Field(max_length=254), AfterValidator(_check_email)]
Name = Annotated[Line, Field(min_length=1, max_length=80)]
Password = Annotated[str, StringConstraints(strip_whitespace=False)]
Secret = Annotated[str, Field(min_length=1, max_length=200)]


class Browser(Config):
    """The browser that a sign-in request came from."""

    address: str = Field("", max_length=100)
    agent: str = Field("", max_length=300)


class SignIn(Browser):
    """Sign-in with a password. `browser_cookie`: that of a browser in which someone has signed in before."""

    email: Email
    password: Password
    browser_cookie: str = Field("", max_length=200)


class VerifiedSignIn(Browser):
    """Sign-in through the organization's provider, which has verified the address."""

    email: Email
    name: Line = Field("", max_length=80)


class AcceptInvitation(Browser):
    """Acceptance of an invitation. `email` if the invitation leaves it open, `name` if it creates an
    account.
    """

    secret: Secret
    password: Password
    email: Email | None = None
    name: Name | None = None


class InvitationSecret(Browser):
    secret: Secret


class SessionSecret(Config):
    session: Secret


class Invite(Config):
    role: Role = DEFAULT_ROLE
    email: Email | None = None
    days: int = Field(7, ge=1, le=MAX_DAYS)


class InvitationId(Config):
    invitation: str


class PersonId(Config):
    person: str


class PersonRole(PersonId):
    role: Role


class PersonActive(PersonId):
    active: bool


class OwnName(Config):
    name: Name


class OwnPassword(Config):
    """Change of one's own password. `current` if there is one."""

    password: Password
    current: Password | None = None


class SessionId(Config):
    session: str


class NewApiToken(Config):
    name: Name


class ApiTokenId(Config):
    token: str


class TeamSetting(Config):
    on: bool


class NetworkName(Config):
    """A network such as 10.1.0.0/16, or a single address."""

    network: Line = Field(max_length=60)

    @field_validator("network")
    @classmethod
    def _written_one_way(cls, value: str) -> str:
        try:
            return str(parse_network(value))
        except ValueError as error:
            raise ValueError("give a network such as 10.1.0.0/16, or an address") from error
