"""Who rates a round: the people whom its lead has named; where nobody is, whoever may rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from store.config.judging.round_config import AssignedRater
from store.contract.errors import ConfigError
from store.db.named_query import named_query
from store.db.records import records
from store.documents.rating.workload import Assignment, PersonWhoRates

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction


# -- reads ------------------------------------------------------------------------------------------


def assignments(db: Queryable, round_id: str) -> list[Assignment]:
    """The people who are named for a round, in the order in which they were; none: it is everybody's."""
    sql = """SELECT person_id, quota, by_name, assigned_at FROM rating_assignment WHERE round_id = ?
             ORDER BY assigned_at, person_id"""
    return records(db.query(sql, [round_id]), Assignment)


@named_query
def people_who_rate(db: Queryable) -> list[PersonWhoRates]:
    """Everybody with an account who may rate, by name."""
    sql = """SELECT person_id, name FROM person WHERE active AND role <> 'viewer'
             ORDER BY lower(name), person_id"""
    return records(db.query(sql), PersonWhoRates)


def named(db: Queryable, raters: Sequence[AssignedRater]) -> list[AssignedRater]:
    """The people who are named for a round, by their ids. Raises ConfigError that names the one who is
    nobody, may not rate, or is named twice."""
    by_id: dict[str, AssignedRater] = {}
    for place, rater in enumerate(raters):
        field = f"raters.{place}.person"
        person_id = _person_named(db, rater.person, field)
        if person_id in by_id:
            raise ConfigError(f"{rater.person} is named twice.", fix="Name each person once.", field=field)
        by_id[person_id] = rater.model_copy(update={"person": person_id})
    return list(by_id.values())


def _person_named(db: Queryable, name: str, field: str) -> str:
    """The id of the person with this id, e-mail address or name."""
    sql = """
        SELECT p.person_id, p.active AND p.role <> 'viewer' AS rates,
               p.person_id = $name AS by_id, a.email = lower($name) AS by_email
        FROM person p LEFT JOIN account a USING (person_id)
        WHERE p.person_id = $name OR a.email = lower($name) OR lower(p.name) = lower($name)
    """
    people = db.query(sql, {"name": name}).to_pylist()
    exact = [row for row in people if row["by_id"]] or [row for row in people if row["by_email"]] or people
    if not exact:
        raise ConfigError(
            f"There is no person {name!r}.", fix="Name an account by its e-mail address.", field=field
        )
    if len(exact) > 1:
        raise ConfigError(
            f"{len(exact)} people are called {name!r}.", fix="Give the e-mail address.", field=field
        )
    if not exact[0]["rates"]:
        raise ConfigError(
            f"{name!r} may not rate: a viewer, or an account that is switched off.",
            fix="Name somebody else, or ask an admin for another role.",
            field=field,
        )
    return str(exact[0]["person_id"])


# -- writes -----------------------------------------------------------------------------------------


def set_assignments(
    tx: Transaction, round_id: str, raters: Sequence[AssignedRater], by_name: str, at: datetime
) -> None:
    """Have exactly these people, by their ids, rate a round; nobody named: everybody. Who was named before
    stays so by whom and since when."""
    before = {each["person_id"]: each for each in assignments(tx, round_id)}
    tx.execute("DELETE FROM rating_assignment WHERE round_id = ?", [round_id])
    for rater in raters:
        earlier = before.get(rater.person)
        by = (earlier["by_name"], earlier["assigned_at"]) if earlier else (by_name, at)
        tx.execute(
            "INSERT INTO rating_assignment VALUES (?, ?, ?, ?, ?)",
            [round_id, rater.person, rater.quota, *by],
        )
