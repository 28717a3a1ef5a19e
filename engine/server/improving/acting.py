"""Who answers for what an improvement does by itself: whoever began it, or went on with it. They need the
right to when it is done, not only when they asked for it."""

from __future__ import annotations

from store.contract.errors import ForbiddenError, NotFoundError
from store.contract.roles import OWNER, check_right
from store.db.database import Queryable
from store.documents.tables.improvement import Improvement
from store.documents.tables.person import Person
from store.queries.people import accounts


def who_acts(improvement: Improvement) -> tuple[str, str]:
    """Id and name."""
    facts = improvement["facts"]
    began = improvement["begun_by"], improvement["begun_by_name"]
    return facts.get("resumed_by", began[0]), facts.get("resumed_by_name", began[1])


def may_act(db: Queryable, person_id: str, name: str) -> Person:
    """The person with the role that they have now. Raises ForbiddenError where they may not sign in any more
    or may not work. The owner of the home folder is in no table, and always may."""
    if person_id == OWNER["person_id"]:
        return OWNER
    try:
        account = accounts.account(db, person_id)
    except NotFoundError:
        raise ForbiddenError(
            f"{name} is no person of this house any more, so nothing is done for them.", fix=_ANOTHER
        ) from None
    person: Person = {"person_id": person_id, "name": account["name"], "role": account["role"]}
    if not account["active"]:
        raise ForbiddenError(f"{person['name']} was switched off, so nothing is done for them.", fix=_ANOTHER)
    try:
        check_right(person, "work")
    except ForbiddenError as error:
        raise ForbiddenError(
            f"{person['name']} is a {person['role']} by now, and nothing is done for them. {error.message}",
            fix=_ANOTHER,
        ) from error
    return person


_ANOTHER = "A member or an admin can take it over: by going on with it, or by saving the schedule."
