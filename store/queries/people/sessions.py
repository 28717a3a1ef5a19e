"""Sessions: browsers in which somebody is signed in, each known by the SHA-256 of its cookie's secret."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.records import records
from store.documents.tables.person import Role, SessionSeen

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


class OpenSession(TypedDict):
    """A session with its person."""

    session_id: str
    person_id: str
    name: str
    role: Role
    created_at: datetime
    seen_at: datetime


class NewSession(TypedDict):
    """A row of table `session`, in its order."""

    session_id: str
    secret: str
    person_id: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime


def by_secret(db: Queryable, hashed: str) -> OpenSession | None:
    """The session of a person who may sign in."""
    sql = """
        SELECT s.session_id, p.person_id, p.name, p.role, s.created_at, s.seen_at
        FROM session s JOIN person p USING (person_id) WHERE s.secret = ? AND p.active
    """
    return next(iter(records(db.query(sql, [hashed]), OpenSession)), None)


def add(tx: Transaction, session: NewSession) -> None:
    """A new session."""
    tx.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", list(session.values()))


_SEEN = """
    SELECT session_id, person_id, epoch(created_at) AS created_at, epoch(seen_at) AS seen_at,
           address, agent, coalesce(session_id = ?, false) AS current
    FROM session
"""


def of_person(db: Queryable, person_id: str, current: str | None) -> list[SessionSeen]:
    """Where a person is signed in, seen last first; `current` is the id of the session that asks."""
    sql = f"{_SEEN} WHERE person_id = ? ORDER BY current DESC, seen_at DESC"
    return records(db.query(sql, [current, person_id]), SessionSeen)


def of_everybody(db: Queryable) -> list[SessionSeen]:
    """Where people are signed in, seen last first."""
    return records(db.query(f"{_SEEN} ORDER BY seen_at DESC", [None]), SessionSeen)


def touch(tx: Transaction, session_id: str, at: datetime) -> None:
    """It was seen."""
    tx.execute("UPDATE session SET seen_at = ? WHERE session_id = ?", [at, session_id])


def end(tx: Transaction, session_id: str, person_id: str | None = None) -> int:
    """End one, of that person where one is named; how many ended."""
    return tx.execute(
        "DELETE FROM session WHERE session_id = ? AND (?::VARCHAR IS NULL OR person_id = ?)",
        [session_id, person_id, person_id],
    )


def end_by_secret(tx: Transaction, hashed: str) -> None:
    """Sign out."""
    tx.execute("DELETE FROM session WHERE secret = ?", [hashed])


def end_all(tx: Transaction, person_id: str, but: str | None = None) -> int:
    """End all of a person but one; how many ended."""
    return tx.execute(
        "DELETE FROM session WHERE person_id = ? AND session_id IS DISTINCT FROM ?", [person_id, but]
    )


def end_old(tx: Transaction, created_before: datetime, seen_before: datetime) -> None:
    """Remove those that have expired."""
    tx.execute("DELETE FROM session WHERE created_at < ? OR seen_at < ?", [created_before, seen_before])
