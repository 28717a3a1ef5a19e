"""What lies with a rater of a round: held, renewed and filled up, in the transaction of the caller."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from engine.rounds.checks import qualified
from engine.rounds.dealing import NewTask, Table, deal
from engine.server.rating.dealing_table import check_units, dealing_table, ensure_units
from store.config.judging.round_config import RoundConfig
from store.contract.errors import StateError
from store.db.database import Queryable, Transaction
from store.documents.rating.round import CHECKS, DealtTask, Round
from store.documents.tables.person import Person
from store.queries.rating import assignments, holds, own_tasks, ratings, rounds
from store.queries.rating.own_tasks import OwnTasks


@dataclass(frozen=True)
class RoundRater:
    """A person who may rate a round. quota: so many ratings in all; None for all that there are."""

    round: Round
    config: RoundConfig
    person: Person
    quota: int | None

    @property
    def ids(self) -> tuple[str, str]:
        """Of the round and of the person."""
        return self.round["round_id"], self.person["person_id"]


def rater_of(db: Queryable, round: Round, person: Person) -> RoundRater | None:
    """None where others are named for the round."""
    named = assignments.assignments(db, round["round_id"])
    own = next((each for each in named if each["person_id"] == person["person_id"]), None)
    if named and own is None:
        return None
    config = RoundConfig.parse(round["config"])
    limits = [config.per_rater, own["quota"] if own else None]
    quota = min((limit for limit in limits if limit is not None), default=None)
    return RoundRater(round, config, person, quota)


def checked_rater(db: Queryable, round: Round, person: Person) -> RoundRater:
    """Raises StateError where others are named for the round."""
    rater = rater_of(db, round, person)
    if rater is None:
        raise StateError(
            f"{round['name']} is rated by people who are named for it, and you are not.",
            fix="Ask who started it to name you.",
        )
    return rater


def is_qualified(db: Queryable, rater: RoundRater) -> bool | None:
    """Whether the person may rate what the round is about; None while the qualification is not answered."""
    if not rater.config.qualification_items:
        return True
    round_id, person_id = rater.ids
    ids = rounds.check_ids(db, round_id)["qualification"]
    tasks = own_tasks.last_rated(db, round_id, person_id, len(ids), "qualification")
    let_in = any(each["person_id"] == person_id for each in ratings.let_in(db, round_id))
    return qualified(rater.config, tasks, rounds.some_items(db, round_id, ids).values(), let_in=let_in)


def hold_again(tx: Transaction, rater: RoundRater, have: Sequence[str], at: datetime) -> None:
    """Renew what the person's page has; what it had let go, it holds again where nobody took it."""
    holds.end_silent(tx, rater.ids[0], at)
    if have and holds.renew(tx, *rater.ids, have, at) < len(have):
        holds.take_up(tx, *rater.ids, at, overlap=rater.config.overlap, limit=len(have), task_ids=have)


def fill(tx: Transaction, rater: RoundRater, want: int, at: datetime, random: Random) -> list[DealtTask]:
    """What the person holds in the end: what they held, what they had let go, and new tasks up to `want`."""
    ensure_units(tx, rater.round, rater.config)
    holds.end_silent(tx, rater.ids[0], at)
    held = holds.held(tx, *rater.ids)
    most = want - len(held)
    may_rate = is_qualified(tx, rater)
    if most <= 0 or may_rate is False:
        return held
    own = own_tasks.counted(tx, *rater.ids)
    if may_rate and rater.quota is not None:
        most = min(most, rater.quota - _against_quota(own))
    if own.let_go and most > 0:
        taken_up = holds.take_up(
            *(tx, *rater.ids, at),
            overlap=rater.config.overlap,
            limit=most,
            purpose=None if may_rate else "qualification",
        )
        most -= taken_up
        own = own_tasks.counted(tx, *rater.ids) if taken_up else own
    if most > 0:
        tasks = (_new_tasks if may_rate else _qualification)(tx, rater, own, most, random)
        _insert(tx, rater, own, tasks, at)
    return holds.held(tx, *rater.ids)


def _against_quota(own: OwnTasks) -> int:
    """Tasks that are rated or held, but those by which raters are checked."""
    return sum(count for purpose, count in own.dealt.items() if purpose not in CHECKS)


def _new_tasks(tx: Transaction, rater: RoundRater, own: OwnTasks, most: int, random: Random) -> list[NewTask]:
    table = dealing_table(
        *(tx, rater.round, rater.config, rater.person, own), quota=rater.quota, most=most, random=random
    )
    return deal(table, most, random)


def _qualification(
    tx: Transaction, rater: RoundRater, own: OwnTasks, most: int, random: Random
) -> list[NewTask]:
    """Items of the qualification that the person has not had."""
    had = own_tasks.items_of(tx, *rater.ids, ["qualification"])
    ids = [each for each in rounds.check_ids(tx, rater.ids[0])["qualification"] if each not in had]
    units = check_units(rater.round, rater.config, ids)
    tasks = deal(Table(calibration=units, had=own.had), most, random)
    return [task._replace(purpose="qualification") for task in tasks]


def _insert(
    tx: Transaction, rater: RoundRater, own: OwnTasks, tasks: Sequence[NewTask], at: datetime
) -> None:
    if not tasks:
        return
    rows = [
        ratings.NewRow(
            secrets.token_urlsafe(12),
            *(task.unit.item_id, task.order, task.purpose, task.repeat_of, own.next_place + place),
        )
        for place, task in enumerate(tasks)
    ]
    ratings.insert_tasks(tx, rater.ids[0], rater.person, rows, at)
    holds.hold(tx, *rater.ids, [row.task_id for row in rows], at)
