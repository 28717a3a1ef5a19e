"""The line of the activity that a command leaves, written in the transaction of its change.

So there is no change without its line, and no line without its change, whatever is killed when. The thing is
looked up before the command acts, as a deleted one has no name afterwards; what the command makes, in its
transaction, before that is committed. A command whose change is not in the store leaves its line after it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from engine.server.acts.command import MADE, PERSONAL, ActivitySubject, Command
from engine.server.acts.subjects import of_made
from store.db.database import Database, Transaction
from store.documents.tables.person import Person
from store.queries import activity


class Note:
    """The line of one command. `write` is called with each of its transactions and writes once."""

    def __init__(self, name: str, command: Command, person: Person, at: datetime) -> None:
        self._name, self._command, self._person, self._at = name, command, person, at
        self._before: ActivitySubject | None = None
        self._due = command.subject is not PERSONAL

    def look(self, database: Database, *body: Any) -> None:
        """Before the command acts: which thing it is about."""
        if callable(self._command.subject):
            self._before = self._command.subject(database, *body)
            self._due = self._before is not None

    def write(self, tx: Transaction) -> None:
        """Add the line to the change, once there is one."""
        if not self._due:
            return
        subject = of_made(tx) if self._command.subject is MADE else self._before
        if subject is None:
            return
        self._due = False
        activity.add(
            tx,
            {
                "done_at": self._at,
                "person_id": self._person["person_id"],
                "person_name": self._person["name"],
                "command": self._name,
                "subject_kind": subject.kind,
                "subject_id": subject.id,
                "subject_name": subject.name,
                "detail": subject.detail,
                "comment_id": next(iter(tx.made["comment"]), subject.comment_id),
            },
        )

    def finish(self, database: Database) -> None:
        """After the command: its line, where it opened no transaction that could hold it."""
        if self._due and self._before is not None:
            with database.transaction() as tx:
                self.write(tx)
