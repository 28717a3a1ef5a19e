"""Invitations that are open. One that was used, taken back or has expired is gone."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.records import records
from store.documents.tables.person import Invitation, Role

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class NewInvitation(TypedDict):
    """A row of table `invitation`, in its order."""

    invitation_id: str
    secret: str  # SHA-256
    role: Role
    email: str | None
    person_id: str | None
    made_by: str  # a person's id
    created_at: datetime
    expires_at: datetime


_OPEN = """
    SELECT i.invitation_id, i.role, i.email, i.person_id, p.name, coalesce(m.name, i.made_by) AS made_by,
           epoch(i.created_at) AS created_at, epoch(i.expires_at) AS expires_at
    FROM invitation i LEFT JOIN person p USING (person_id) LEFT JOIN person m ON m.person_id = i.made_by
"""


def add(tx: Transaction, invitation: NewInvitation) -> None:
    """A new invitation."""
    tx.execute("INSERT INTO invitation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", list(invitation.values()))


def open_ones(db: Queryable, at: datetime) -> list[Invitation]:
    """Those that can be used, newest first."""
    return records(db.query(f"{_OPEN} WHERE expires_at > ? ORDER BY i.created_at DESC", [at]), Invitation)


def by_secret(db: Queryable, hashed: str) -> Invitation | None:
    """The invitation of a link, expired or not."""
    return next(iter(records(db.query(f"{_OPEN} WHERE secret = ?", [hashed]), Invitation)), None)


def for_email(db: Queryable, email: str, at: datetime) -> Invitation | None:
    """The newest open one that makes an account for this address."""
    sql = f"{_OPEN} WHERE email = ? AND expires_at > ? AND i.person_id IS NULL ORDER BY i.created_at DESC"
    return next(iter(records(db.query(sql, [email, at]), Invitation)), None)


def remove(tx: Transaction, invitation_id: str) -> int:
    """Take one back, or count it as used; how many went."""
    return tx.execute("DELETE FROM invitation WHERE invitation_id = ?", [invitation_id])


def remove_of_person(tx: Transaction, person_id: str) -> None:
    """Those that would set this person's password."""
    tx.execute("DELETE FROM invitation WHERE person_id = ?", [person_id])


def remove_by_maker(tx: Transaction, made_by: str) -> None:
    """All that a person made."""
    tx.execute("DELETE FROM invitation WHERE made_by = ?", [made_by])


def remove_expired(tx: Transaction, at: datetime) -> None:
    """Those whose time was over some while ago; until then their page can say why they don't open."""
    tx.execute("DELETE FROM invitation WHERE expires_at < ?", [at])
