"""Who looks at the page: the one place where a screen asks for that."""

from __future__ import annotations

from store.contract.roles import OWNER
from store.documents.tables.person import Person


def current_person() -> Person:
    """Without a team it is whoever has the home folder."""
    return OWNER
