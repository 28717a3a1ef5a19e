"""People and how they sign in: accounts, open invitations, browser sessions, and API tokens.

People are never deleted, because their activity refers to them. Secrets are stored as SHA-256 only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.core.errors import NotFoundError
from store.core.schemas import ActiveSession, ApiToken, Invitation, Role, TeamMember
from store.db.records import read_records, read_scalar

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


@dataclass(kw_only=True)
class Account:
    """A person with their credentials."""

    person_id: str
    name: str
    role: Role
    active: bool
    email: str
    password: str | None  # argon2id
    verified: bool  # the address was given by an admin or the provider, not entered by the person


_ACCOUNT = """
    SELECT person_id, name, role, active, email, password, verified FROM person JOIN account USING (person_id)
"""


def find_account_by_email(db: Queryable, email: str) -> Account | None:
    """Return the account with this email address, or None."""
    return next(iter(read_records(db.query(f"{_ACCOUNT} WHERE email = ?", [email]), Account)), None)


def get_account(db: Queryable, person_id: str) -> Account:
    """Return the account of a person. Raises NotFoundError."""
    rows = read_records(db.query(f"{_ACCOUNT} WHERE person_id = ?", [person_id]), Account)
    if not rows:
        raise NotFoundError(f"There is no person {person_id!r}.", fix="See the list on the Team page.")
    return rows[0]


def list_members(db: Queryable) -> list[TeamMember]:
    """Return all members by name, deactivated ones last."""
    sql = """
        SELECT p.person_id, p.name, a.email, p.role, p.active, a.password IS NOT NULL AS has_password,
               epoch(p.created_at) AS created_at,
               epoch(greatest(
                   (SELECT max(seen_at) FROM session s WHERE s.person_id = p.person_id),
                   (SELECT max(used_at) FROM api_token t WHERE t.person_id = p.person_id)
               )) AS seen_at
        FROM person p JOIN account a USING (person_id)
        ORDER BY p.active DESC, lower(p.name), p.person_id
    """
    return read_records(db.query(sql), TeamMember)


def add_account(tx: Transaction, person: Account, at: datetime) -> None:
    """Add a person with an account."""
    tx.execute(
        "INSERT INTO person VALUES (?, ?, ?, ?, ?)",
        [person.person_id, person.name, person.role, person.active, at],
    )
    tx.execute(
        "INSERT INTO account VALUES (?, ?, ?, ?)",
        [person.person_id, person.email, person.password, person.verified],
    )


def set_role(tx: Transaction, person_id: str, role: Role) -> None:
    """Change a person's role."""
    tx.execute("UPDATE person SET role = ? WHERE person_id = ?", [role, person_id])


def set_active(tx: Transaction, person_id: str, active: bool) -> None:
    """Set whether a person may sign in."""
    tx.execute("UPDATE person SET active = ? WHERE person_id = ?", [active, person_id])


def set_name(tx: Transaction, person_id: str, name: str) -> None:
    """Change a person's name."""
    tx.execute("UPDATE person SET name = ? WHERE person_id = ?", [name, person_id])


def set_password(tx: Transaction, person_id: str, password: str) -> None:
    """Set the password hash (argon2id)."""
    tx.execute("UPDATE account SET password = ? WHERE person_id = ?", [password, person_id])


def transfer_account(tx: Transaction, person_id: str) -> None:
    """Transfer an account to the verified owner of its address: password, sessions and tokens of whoever
    entered the address are removed.
    """
    tx.execute("UPDATE account SET password = NULL, verified = true WHERE person_id = ?", [person_id])
    tx.execute("DELETE FROM session WHERE person_id = ?", [person_id])
    tx.execute("DELETE FROM api_token WHERE person_id = ?", [person_id])


def count_admins(db: Queryable) -> int:
    """Return the number of active admins."""
    return int(read_scalar(db.query("SELECT count(*) FROM person WHERE role = 'admin' AND active")))


class NewInvitation(TypedDict):
    """Row of table `invitation`, in column order."""

    invitation_id: str
    secret: str  # SHA-256
    role: Role
    email: str | None
    person_id: str | None
    made_by: str  # person_id
    created_at: datetime
    expires_at: datetime


_OPEN = """
    SELECT i.invitation_id, i.role, i.email, i.person_id, p.name, coalesce(m.name, i.made_by) AS made_by,
           epoch(i.created_at) AS created_at, epoch(i.expires_at) AS expires_at
    FROM invitation i LEFT JOIN person p USING (person_id) LEFT JOIN person m ON m.person_id = i.made_by
"""


def add_invitation(tx: Transaction, invitation: NewInvitation) -> None:
    """Add an invitation."""
    tx.execute("INSERT INTO invitation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(invitation.values()))


def list_open_invitations(db: Queryable, at: datetime) -> list[Invitation]:
    """Return the valid invitations, newest first."""
    return read_records(
        db.query(f"{_OPEN} WHERE expires_at > ? ORDER BY i.created_at DESC", [at]), Invitation
    )


def find_invitation_by_secret(db: Queryable, hashed: str) -> Invitation | None:
    """Return the invitation of a link, expired or not."""
    return next(iter(read_records(db.query(f"{_OPEN} WHERE secret = ?", [hashed]), Invitation)), None)


def find_invitation_for_email(db: Queryable, email: str, at: datetime) -> Invitation | None:
    """Return the newest valid invitation that creates an account for this address."""
    sql = f"{_OPEN} WHERE email = ? AND expires_at > ? AND i.person_id IS NULL ORDER BY i.created_at DESC"
    return next(iter(read_records(db.query(sql, [email, at]), Invitation)), None)


def remove_invitation(tx: Transaction, invitation_id: str) -> int:
    """Remove a revoked or used invitation; return the number of removed ones."""
    return tx.execute("DELETE FROM invitation WHERE invitation_id = ?", [invitation_id])


def remove_invitations_of(tx: Transaction, person_id: str) -> None:
    """Remove the invitations that would set this person's password."""
    tx.execute("DELETE FROM invitation WHERE person_id = ?", [person_id])


def remove_invitations_by(tx: Transaction, made_by: str) -> None:
    """Remove all invitations created by a person."""
    tx.execute("DELETE FROM invitation WHERE made_by = ?", [made_by])


def remove_expired_invitations(tx: Transaction, at: datetime) -> None:
    """Remove invitations that expired some time ago; until then, their page can say why they are invalid."""
    tx.execute("DELETE FROM invitation WHERE expires_at < ?", [at])


@dataclass(kw_only=True)
class OpenSession:
    """A session with its person."""

    session_id: str
    person_id: str
    name: str
    role: Role
    created_at: datetime
    seen_at: datetime


class NewSession(TypedDict):
    """Row of table `session`, in column order."""

    session_id: str
    secret: str
    person_id: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime


def find_session_by_secret(db: Queryable, hashed: str) -> OpenSession | None:
    """Return the session with this secret if its person is active."""
    sql = """
        SELECT s.session_id, p.person_id, p.name, p.role, s.created_at, s.seen_at
        FROM session s JOIN person p USING (person_id) WHERE s.secret = ? AND p.active
    """
    return next(iter(read_records(db.query(sql, [hashed]), OpenSession)), None)


def add_session(tx: Transaction, session: NewSession) -> None:
    """Add a session."""
    tx.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", list(session.values()))


_SEEN = """
    SELECT session_id, person_id, epoch(created_at) AS created_at, epoch(seen_at) AS seen_at,
           address, agent, coalesce(session_id = ?, false) AS current
    FROM session
"""


def list_sessions(db: Queryable, person_id: str, current: str | None) -> list[ActiveSession]:
    """Return a person's sessions, the current one first, then most recently seen first; `current` is the id
    of the requesting session.
    """
    sql = f"{_SEEN} WHERE person_id = ? ORDER BY current DESC, seen_at DESC"
    return read_records(db.query(sql, [current, person_id]), ActiveSession)


def list_all_sessions(db: Queryable) -> list[ActiveSession]:
    """Return all sessions, most recently seen first."""
    return read_records(db.query(f"{_SEEN} ORDER BY seen_at DESC", [None]), ActiveSession)


def touch_session(tx: Transaction, session_id: str, at: datetime) -> None:
    """Update when a session was last seen."""
    tx.execute("UPDATE session SET seen_at = ? WHERE session_id = ?", [at, session_id])


def end_session(tx: Transaction, session_id: str, person_id: str | None = None) -> int:
    """End a session, only if it belongs to that person if one is given; return the number of ended ones."""
    return tx.execute(
        "DELETE FROM session WHERE session_id = ? AND (?::VARCHAR IS NULL OR person_id = ?)",
        [session_id, person_id, person_id],
    )


def end_session_by_secret(tx: Transaction, hashed: str) -> None:
    """End the session with this secret (sign out)."""
    tx.execute("DELETE FROM session WHERE secret = ?", [hashed])


def end_sessions(tx: Transaction, person_id: str, but: str | None = None) -> int:
    """End all sessions of a person except one; return the number of ended ones."""
    return tx.execute(
        "DELETE FROM session WHERE person_id = ? AND session_id IS DISTINCT FROM ?", [person_id, but]
    )


def end_old_sessions(tx: Transaction, created_before: datetime, seen_before: datetime) -> None:
    """Remove expired sessions."""
    tx.execute("DELETE FROM session WHERE created_at < ? OR seen_at < ?", [created_before, seen_before])


@dataclass(kw_only=True)
class PersonToken:
    """A token with its person."""

    token_id: str
    person_id: str
    name: str
    role: Role
    used_at: datetime | None


class NewToken(TypedDict):
    """Row of table `api_token`, in column order."""

    token_id: str
    secret: str
    person_id: str
    name: str
    created_at: datetime


def find_token_by_secret(db: Queryable, hashed: str) -> PersonToken | None:
    """Return the token with this secret if its person is active."""
    sql = """
        SELECT t.token_id, p.person_id, p.name, p.role, t.used_at
        FROM api_token t JOIN person p USING (person_id) WHERE t.secret = ? AND p.active
    """
    return next(iter(read_records(db.query(sql, [hashed]), PersonToken)), None)


def add_token(tx: Transaction, token: NewToken) -> None:
    """Add an API token."""
    tx.execute("INSERT INTO api_token VALUES (?, ?, ?, ?, ?, NULL)", list(token.values()))


def list_tokens(db: Queryable, person_id: str) -> list[ApiToken]:
    """Return a person's tokens, newest first."""
    sql = """
        SELECT token_id, name, epoch(created_at) AS created_at, epoch(used_at) AS used_at
        FROM api_token WHERE person_id = ? ORDER BY created_at DESC, token_id DESC
    """
    return read_records(db.query(sql, [person_id]), ApiToken)


def touch_token(tx: Transaction, token_id: str, at: datetime) -> None:
    """Update when a token was last used."""
    tx.execute("UPDATE api_token SET used_at = ? WHERE token_id = ?", [at, token_id])


def revoke_token(tx: Transaction, token_id: str, person_id: str) -> int:
    """Revoke one of a person's tokens; return the number of revoked ones."""
    return tx.execute("DELETE FROM api_token WHERE token_id = ? AND person_id = ?", [token_id, person_id])


def revoke_tokens(tx: Transaction, person_id: str) -> int:
    """Revoke all of a person's tokens; return the number of revoked ones."""
    return tx.execute("DELETE FROM api_token WHERE person_id = ?", [person_id])
