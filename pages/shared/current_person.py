"""Who is at the screen, and what their role allows. The engine holds every request to it all the same."""

from __future__ import annotations

from store.contract.roles import OWNER, RIGHTS
from store.documents.tables.person import Person, Right


def current_person() -> Person:
    """The person of this run of the page."""
    return OWNER


def may(right: Right) -> bool:
    """Whether the person at the screen has a right: what they may not do is not offered."""
    return right in RIGHTS[current_person()["role"]]
