"""Roles, and what each may do. The engine holds every request to this table, whatever a page shows."""

from __future__ import annotations

from store.contract.errors import ForbiddenError
from store.documents.tables.person import Person, Right, Role

RIGHTS: dict[Role, frozenset[Right]] = {
    "viewer": frozenset({"own", "look"}),
    "rater": frozenset({"own", "rate"}),  # and sees rating rounds alone
    "member": frozenset({"own", "look", "rate", "work"}),
    "admin": frozenset({"own", "look", "rate", "work", "govern"}),
}
DEFAULT_ROLE: Role = "viewer"  # of an invitation that names none: sees the work, and harms nothing
OWNER: Person = {"person_id": "owner", "name": "you", "role": "admin"}  # whoever has the home folder
MEANINGS: dict[Role, str] = {
    "viewer": "sees everything, changes nothing",
    "rater": "rates, and sees rating rounds alone",
    "member": "works: imports, launches, rates, deletes",
    "admin": "works, and says who else may",
}
_DOES = {
    "look": "look at runs, data sets and evaluations",
    "rate": "rate",
    "work": "change, launch or delete anything, or ask in SQL",
    "govern": "manage people and settings",
    "own": "change their own account",
}


def is_owner(person: Person) -> bool:
    """Whether it is whoever has the home folder, and with it all that the engine's user may do."""
    return person["person_id"] == OWNER["person_id"]


def check_right(person: Person, right: Right | None) -> None:
    """Raise ForbiddenError where the role of a person does not have a right; None is nobody's."""
    if right is None:
        raise ForbiddenError("Nobody may ask for that: it has no right in store.contract.rights.")
    if right not in RIGHTS[person["role"]]:
        raise ForbiddenError(
            f"A {person['role']} may not {_DOES[right]}.",
            fix="Ask an admin for another role.",
        )
