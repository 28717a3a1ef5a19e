"""Persons and how they sign in. A person is never deleted: what they did names them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.contract.errors import NotFoundError
from store.db.records import records, scalar
from store.documents.tables.person import Role, TeamMember

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class Account(TypedDict):
    """A person with what they sign in by."""

    person_id: str
    name: str
    role: Role
    active: bool
    email: str
    password: str | None  # argon2id
    verified: bool  # an admin or the provider has given the address; else its person typed it


_ACCOUNT = """
    SELECT person_id, name, role, active, email, password, verified FROM person JOIN account USING (person_id)
"""


def by_email(db: Queryable, email: str) -> Account | None:
    """The account with this address."""
    return next(iter(records(db.query(f"{_ACCOUNT} WHERE email = ?", [email]), Account)), None)


def account(db: Queryable, person_id: str) -> Account:
    """The account of a person. Raises NotFoundError."""
    rows = records(db.query(f"{_ACCOUNT} WHERE person_id = ?", [person_id]), Account)
    if not rows:
        raise NotFoundError(f"There is no person {person_id!r}.", fix="The page Team lists them.")
    return rows[0]


def members(db: Queryable) -> list[TeamMember]:
    """Everybody, by name; those who may not sign in any more last."""
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
    return records(db.query(sql), TeamMember)


def add(tx: Transaction, person: Account, at: datetime) -> None:
    """A new person with an account."""
    tx.execute(
        "INSERT INTO person VALUES (?, ?, ?, ?, ?)",
        [person["person_id"], person["name"], person["role"], person["active"], at],
    )
    tx.execute(
        "INSERT INTO account VALUES (?, ?, ?, ?)",
        [person["person_id"], person["email"], person["password"], person["verified"]],
    )


def set_role(tx: Transaction, person_id: str, role: Role) -> None:
    """Another role."""
    tx.execute("UPDATE person SET role = ? WHERE person_id = ?", [role, person_id])


def set_active(tx: Transaction, person_id: str, active: bool) -> None:
    """Whether they may sign in."""
    tx.execute("UPDATE person SET active = ? WHERE person_id = ?", [active, person_id])


def set_name(tx: Transaction, person_id: str, name: str) -> None:
    """Another name."""
    tx.execute("UPDATE person SET name = ? WHERE person_id = ?", [name, person_id])


def set_password(tx: Transaction, person_id: str, password: str) -> None:
    """Another password, as argon2id."""
    tx.execute("UPDATE account SET password = ? WHERE person_id = ?", [password, person_id])


def hand_over(tx: Transaction, person_id: str) -> None:
    """The account is whose address it is, from now on: what whoever typed the address had made is gone."""
    tx.execute("UPDATE account SET password = NULL, verified = true WHERE person_id = ?", [person_id])
    tx.execute("DELETE FROM session WHERE person_id = ?", [person_id])
    tx.execute("DELETE FROM api_token WHERE person_id = ?", [person_id])


def count_admins(db: Queryable) -> int:
    """Admins who may sign in."""
    return int(scalar(db.query("SELECT count(*) FROM person WHERE role = 'admin' AND active")))
