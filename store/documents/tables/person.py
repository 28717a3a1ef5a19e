"""People: who asks for something, and what is kept of them. Times are seconds since the epoch."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Role = Literal["viewer", "rater", "member", "admin"]
Right = Literal["look", "rate", "work", "govern", "own"]


class Person(TypedDict):
    """A person, as requests and what they changed name them."""

    person_id: str
    name: str
    role: Role
    session_id: NotRequired[str]  # by which the request came; missing for a token


class TeamMember(TypedDict):
    """One who has an account, as admins see them."""

    person_id: str
    name: str
    email: str
    role: Role
    active: bool  # false: may not sign in, and what they did keeps their name
    has_password: bool  # false: signs in by the provider alone
    created_at: float
    seen_at: float | None  # of their sessions and tokens; null: never


class Invitation(TypedDict):
    """A link that lets somebody make an account, once, as admins see it; a new password for one that is there
    where `person_id` is set."""

    invitation_id: str
    role: Role
    email: str | None  # null: whoever has the link chooses
    person_id: str | None
    name: str | None  # of that person
    made_by: str  # name
    created_at: float
    expires_at: float


class InvitationMade(TypedDict):
    """A new invitation: the only time that its secret can be read."""

    invitation_id: str
    secret: str
    expires_at: float


class InvitationOffer(TypedDict):
    """What an invitation offers to whoever has its secret."""

    role: Role
    email: str | None
    name: str | None  # of the account that gets a new password; null: a new account
    expires_at: float


class SessionSeen(TypedDict):
    """A browser in which somebody is signed in."""

    session_id: str
    person_id: str
    created_at: float
    seen_at: float
    address: str
    agent: str  # what the browser calls itself
    current: bool  # the one that asks


class Team(TypedDict):
    """Everybody, the invitations that are open, and where people are signed in."""

    members: list[TeamMember]
    invitations: list[Invitation]
    sessions: list[SessionSeen]


class ApiToken(TypedDict):
    """What lets a script act as a person."""

    token_id: str
    name: str
    created_at: float
    used_at: float | None


class ApiTokenMade(TypedDict):
    """A new token: the only time that it can be read."""

    token_id: str
    token: str


class OwnAccount(TypedDict):
    """What people see of themselves."""

    person: Person
    team: bool  # sign-in is on
    email: str | None  # null: the owner of the home folder, who has no account
    has_password: bool
    sessions: list[SessionSeen]
    tokens: list[ApiToken]


class SignedIn(TypedDict):
    """A new session: its secret goes into the browser's cookie."""

    session: str
    person: Person
    browser_cookie: str  # for the cookie by which this browser is known at the next sign-in
    ended_tokens: int  # API tokens that a new password by link has ended


class AccessEnded(TypedDict):
    """What of a person's ended by a change of their account."""

    ended_sessions: int
    ended_tokens: int


class DoorState(TypedDict):
    """What the door of the screens asks for."""

    team: bool  # sign-in is on


class PersonMade(TypedDict):
    """A person's id, as a change answers it."""

    person_id: str
