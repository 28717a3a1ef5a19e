"""API tokens: what scripts act by, each known by its SHA-256."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.records import records
from store.documents.tables.person import ApiToken, Role

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class TokenOfPerson(TypedDict):
    """A token with its person."""

    token_id: str
    person_id: str
    name: str
    role: Role
    used_at: datetime | None


class NewToken(TypedDict):
    """A row of table `api_token`, in its order."""

    token_id: str
    secret: str
    person_id: str
    name: str
    created_at: datetime


def by_secret(db: Queryable, hashed: str) -> TokenOfPerson | None:
    """The token of a person who may sign in."""
    sql = """
        SELECT t.token_id, p.person_id, p.name, p.role, t.used_at
        FROM api_token t JOIN person p USING (person_id) WHERE t.secret = ? AND p.active
    """
    return next(iter(records(db.query(sql, [hashed]), TokenOfPerson)), None)


def add(tx: Transaction, token: NewToken) -> None:
    """A new token."""
    tx.execute("INSERT INTO api_token VALUES (?, ?, ?, ?, ?, NULL)", list(token.values()))


def of_person(db: Queryable, person_id: str) -> list[ApiToken]:
    """A person's tokens, newest first."""
    sql = """
        SELECT token_id, name, epoch(created_at) AS created_at, epoch(used_at) AS used_at
        FROM api_token WHERE person_id = ? ORDER BY created_at DESC, token_id DESC
    """
    return records(db.query(sql, [person_id]), ApiToken)


def touch(tx: Transaction, token_id: str, at: datetime) -> None:
    """It was used."""
    tx.execute("UPDATE api_token SET used_at = ? WHERE token_id = ?", [at, token_id])


def revoke(tx: Transaction, token_id: str, person_id: str) -> int:
    """End one of a person's tokens; how many ended."""
    return tx.execute("DELETE FROM api_token WHERE token_id = ? AND person_id = ?", [token_id, person_id])


def revoke_all(tx: Transaction, person_id: str) -> int:
    """End all of a person's tokens; how many ended."""
    return tx.execute("DELETE FROM api_token WHERE person_id = ?", [person_id])
