"""Files and folders that are to be removed, as the rows that named them are gone.

They are noted in the transaction that removes the rows: an engine that is killed before it has removed the
files leaves the note, and the next one removes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.contract.home import Home
    from store.db.database import Queryable, Transaction


def note(tx: Transaction, home: Home, paths: Iterable[Path]) -> None:
    """That these are to be removed; each lies in the home folder."""
    for path in paths:
        tx.execute("INSERT INTO removal VALUES (?)", [path.relative_to(home.path).as_posix()])


def noted(db: Queryable) -> list[str]:
    """All of them, as paths beneath the home folder."""
    table = db.query("SELECT DISTINCT path FROM removal ORDER BY path")
    return [str(path) for path in table["path"].to_pylist()]


def forget(tx: Transaction, paths: list[str]) -> None:
    """Those are gone, or belong to somebody else by now."""
    tx.execute("DELETE FROM removal WHERE list_contains(?::VARCHAR[], path)", [paths])
