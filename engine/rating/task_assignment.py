"""Assign raters and tasks: people assigned to a round, an LLM judge as a named rater, and each rater's tasks.

Tasks are held, renewed and filled up in the caller's transaction, from counts in the store. A judge's
ratings are copied from an existing judging of both orders; where the order decided, it is a tie.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Self

import pyarrow.parquet as pq
from pydantic import Field, model_validator

from engine.rating.round_commands import RoundName, find_round_subject
from engine.rating.task_selection import (
    REPEAT_AFTER,
    CheckUnits,
    NewTask,
    RatedTask,
    SelectionState,
    Unit,
    build_check_unit,
    compute_calibration_size,
    has_qualified,
    list_model_groups,
    select_tasks,
)
from engine.server.command import Command
from store.core.config import Config
from store.core.errors import ConfigError, StateError
from store.core.home import Home
from store.core.rating_schemas import (
    CHECKS,
    AssignedTask,
    CheckKind,
    PairChoice,
    ReleasedTaskCounts,
    Round,
    is_imported_round,
)
from store.core.schemas import Job, Person
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import EmptyAnswer
from store.jobs import job_queue
from store.rating import ratings, rounds, tasks, workload
from store.rating import tasks as holds
from store.rating import tasks as own_tasks
from store.rating.config import MAX_RATERS, REPEATED, AssignedRater, RoundConfig
from store.rating.tasks import OpenUnit, OwnTasks


def ensure_units(tx: Transaction, round: Round, config: RoundConfig) -> None:
    """Make sure that the units of a round are counted."""
    groups = list_model_groups(len(round.systems), config.protocol)
    size = compute_calibration_size(round.item_count, config.calibration_share)
    tasks.ensure_units(tx, round.round_id, groups, size, config.seed)


def build_selection_state(
    tx: Transaction, round: Round, config: RoundConfig, person: Person, own: OwnTasks, *,
    quota: int | None, most: int, random: Random,
) -> SelectionState:  # fmt: skip
    """Build the state from which `most` new tasks are selected for a rater with this quota."""
    round_id, person_id = round.round_id, person.person_id
    calibration: list[OpenUnit] = []
    if config.calibration_share:
        size = compute_calibration_size(round.item_count, config.calibration_share)
        everybodys = size if quota is None else min(size, quota // 2)
        calibration = tasks.list_calibration_units(tx, round_id, person_id, most=everybodys, limit=most)
    salt = random.getrandbits(31)
    wanting = tasks.list_incomplete_units(
        *(tx, round_id, person_id), overlap=config.overlap, salt=salt, limit=most
    )
    disputed: list[OpenUnit] = []
    if config.adjudicate and len(calibration) + len(wanting) < most:
        disputed = tasks.list_disputed_units(tx, round, person_id, overlap=config.overlap, limit=most)
    return SelectionState(
        calibration=_build_units(calibration),
        wanting=_build_units(wanting),
        disputed=_build_units(disputed),
        had=own.had,
        dealt=own.dealt,
        repeatable=_list_repeatable(tx, round_id, person_id, config, own, most),
        repeat_share=config.repeat_share if config.protocol in REPEATED else 0.0,
        checks=_list_check_units(tx, round, config, person_id),
    )


def _list_check_units(
    db: Queryable, round: Round, config: RoundConfig, person_id: str
) -> dict[CheckKind, CheckUnits]:
    """Return the gold and attention items that the person hasn't had."""
    shares: dict[CheckKind, float] = {"gold": config.gold_share, "attention": config.attention_share}
    ids = rounds.list_check_ids(db, round.round_id)
    if not any(ids[kind] for kind in shares):
        return {}
    had = tasks.list_own_items(db, round.round_id, person_id, list(shares))
    return {
        kind: CheckUnits(
            build_check_units(round, config, [each for each in ids[kind] if each not in had]), share
        )
        for kind, share in shares.items()
    }


def build_check_units(round: Round, config: RoundConfig, item_ids: Sequence[int]) -> list[Unit]:
    """Return the units of check items."""
    return [build_check_unit(item_id, len(round.systems), config.protocol) for item_id in item_ids]


def _list_repeatable(
    db: Queryable, round_id: str, person_id: str, config: RoundConfig, own: OwnTasks, most: int
) -> list[RatedTask]:
    """Return tasks that can be repeated; read only if one of the next tasks is due to be a repeat."""
    due = int((own.dealt.total() + most) * config.repeat_share)
    if config.protocol not in REPEATED or own.dealt["repeat"] >= due:
        return []
    return [
        RatedTask(task.task_id, Unit(task.item_id, tuple(sorted(task.systems))), tuple(task.systems))
        for task in tasks.list_repeatable_tasks(db, round_id, person_id, but_last=REPEAT_AFTER - 1)
    ]


def _build_units(open_units: list[OpenUnit]) -> list[Unit]:
    return [Unit(unit.item_id, unit.systems) for unit in open_units]


@dataclass(frozen=True)
class RoundRater:
    """Person who may rate a round; `quota` is the maximum number of ratings, None for no limit."""

    round: Round
    config: RoundConfig
    person: Person
    quota: int | None

    @property
    def ids(self) -> tuple[str, str]:
        """Ids of the round and of the person."""
        return self.round.round_id, self.person.person_id


def find_rater(db: Queryable, round: Round, person: Person) -> RoundRater | None:
    """Return the rater, or None if others are assigned to the round."""
    named = workload.list_assignments(db, round.round_id)
    own = next((each for each in named if each.person_id == person.person_id), None)
    if named and own is None:
        return None
    config = RoundConfig.parse(round.config)
    limits = [config.per_rater, own.quota if own else None]
    quota = min((limit for limit in limits if limit is not None), default=None)
    return RoundRater(round, config, person, quota)


def require_rater(db: Queryable, round: Round, person: Person) -> RoundRater:
    """Return the rater. Raises StateError if others are assigned to the round."""
    rater = find_rater(db, round, person)
    if rater is None:
        raise StateError(
            f"{round.name} is restricted to assigned raters, and you are not one of them.",
            fix="Ask its creator to assign you.",
        )
    return rater


def is_qualified(db: Queryable, rater: RoundRater) -> bool | None:
    """Return whether the person may rate the round's items; None until the qualification is answered."""
    if not rater.config.qualification_items:
        return True
    round_id, person_id = rater.ids
    ids = rounds.list_check_ids(db, round_id)["qualification"]
    tasks = own_tasks.list_last_rated(db, round_id, person_id, len(ids), "qualification")
    let_in = any(each.person_id == person_id for each in ratings.let_in(db, round_id))
    return has_qualified(rater.config, tasks, rounds.some_items(db, round_id, ids).values(), let_in=let_in)


def renew_tasks(tx: Transaction, rater: RoundRater, have: Sequence[str], at: datetime) -> None:
    """Renew the tasks on the person's page; expired ones are held again unless someone else took them."""
    holds.release_silent(tx, rater.ids[0], at)
    if have and holds.renew_holds(tx, *rater.ids, have, at) < len(have):
        holds.hold_again(tx, *rater.ids, at, overlap=rater.config.overlap, limit=len(have), task_ids=have)


def fill_tasks(
    tx: Transaction, rater: RoundRater, want: int, at: datetime, random: Random
) -> list[AssignedTask]:
    """Return the person's held tasks, filled up to `want` with expired tasks and new ones."""
    ensure_units(tx, rater.round, rater.config)
    holds.release_silent(tx, rater.ids[0], at)
    held = holds.list_held_tasks(tx, *rater.ids)
    most = want - len(held)
    may_rate = is_qualified(tx, rater)
    if most <= 0 or may_rate is False:
        return held
    own = own_tasks.count_own_tasks(tx, *rater.ids)
    if may_rate and rater.quota is not None:
        counted = sum(count for purpose, count in own.dealt.items() if purpose not in CHECKS)
        most = min(most, rater.quota - counted)
    if own.let_go and most > 0:
        taken_up = holds.hold_again(
            *(tx, *rater.ids, at),
            overlap=rater.config.overlap,
            limit=most,
            purpose=None if may_rate else "qualification",
        )
        most -= taken_up
        own = own_tasks.count_own_tasks(tx, *rater.ids) if taken_up else own
    if most > 0:
        tasks = (_select_new_tasks if may_rate else _select_qualification_tasks)(tx, rater, own, most, random)
        _insert(tx, rater, own, tasks, at)
    return holds.list_held_tasks(tx, *rater.ids)


def _select_new_tasks(
    tx: Transaction, rater: RoundRater, own: OwnTasks, most: int, random: Random
) -> list[NewTask]:
    table = build_selection_state(
        *(tx, rater.round, rater.config, rater.person, own), quota=rater.quota, most=most, random=random
    )
    return select_tasks(table, most, random)


def _select_qualification_tasks(
    tx: Transaction, rater: RoundRater, own: OwnTasks, most: int, random: Random
) -> list[NewTask]:
    """Return tasks for qualification items that the person hasn't had."""
    had = own_tasks.list_own_items(tx, *rater.ids, ["qualification"])
    ids = [each for each in rounds.list_check_ids(tx, rater.ids[0])["qualification"] if each not in had]
    units = build_check_units(rater.round, rater.config, ids)
    tasks = select_tasks(SelectionState(calibration=units, had=own.had), most, random)
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
    holds.hold_tasks(tx, *rater.ids, [row.task_id for row in rows], at)


class RoundAssignment(RoundName):
    """Assignment of a round to these raters only, or to everybody who may rate."""

    raters: list[AssignedRater] = Field(default_factory=list, max_length=MAX_RATERS)
    everybody: bool = Field(False, description="Everyone who can rate, with no assignments")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.raters) == self.everybody:
            raise ValueError("name raters, or choose everybody")
        return self


class AssignmentRelease(RoundName):
    """Release of a person's held tasks, or of everybody's if no person is given."""

    person: str = Field("", max_length=200)


class AssignmentCommands:
    """Commands to assign and release tasks."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "assign_round": Command(RoundAssignment, self.assign_round, find_round_subject, by_person=True),
            "release_round": Command(AssignmentRelease, self.release_round, find_round_subject),
        }

    def assign_round(self, body: RoundAssignment, person: Person) -> ReleasedTaskCounts:
        """Restrict a round to these people; tasks held by others are released.

        Raises ConfigError that names the rater.
        """
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if is_imported_round(round):
                raise StateError(f"{round.name} was rated elsewhere.", fix="Create a round of your own.")
            round_id = round.round_id
            named = workload.resolve_people(tx, body.raters)
            workload.set_assignments(tx, round_id, named, person.name, job_queue.to_utc(self.clock()))
            if not named:
                return {"released": 0}
            return {"released": tasks.release_others(tx, round_id, [each.person for each in named])}

    def release_round(self, body: AssignmentRelease) -> ReleasedTaskCounts:
        """Release the held tasks of a person or of everybody.

        A rating of a released task is still accepted as long as nobody else has rated the item.
        """
        with self.database.transaction() as tx:
            round_id = rounds.get(tx, body.round).round_id
            tasks.release_silent(
                tx, round_id, job_queue.to_utc(self.clock())
            )  # expired already, so not counted
            return {"released": tasks.release_holds(tx, round_id, body.person or None)}


# An LLM judge can be one of the round's raters, named as a judge. It isn't queried again: the verdicts of a
# judging of the round's two evaluations, in both orders, are copied by prompt.


class JudgeRatingRequest(Config):
    """Request to copy a judge's ratings; `judging` is the job that compared the round's two evaluations."""

    round: str = Field(min_length=1, max_length=120)
    judging: str = Field(min_length=1, max_length=120)


class JudgeRatingCommands:
    """Command to add a judge as a rater."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {"judge_rates": Command(JudgeRatingRequest, self.judge_rates, find_round_subject)}

    def judge_rates(self, body: JudgeRatingRequest) -> EmptyAnswer:
        """Store the judge's verdicts as ratings. Raises ConfigError (judging) and StateError."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            job = job_queue.get_job(tx, body.judging)
            by_row = self._preferences(round, job)
            name = f"LLM judge {job.config['judge']['model']}"
            judge = Person(person_id=f"judge:{job.job_id}", name=name, role="rater")
            if ratings.dealt(tx, round.round_id, judge.person_id):
                raise StateError(f"{judge.name} has rated this round already.")
            self._rate(tx, round, judge, by_row)
        return {}

    def _preferences(self, round: Round, job: Job) -> dict[int, float]:
        """Return the preference by row id: 1 for the first model's answer, 0 for the second's, 0.5
        for a tie.
        """
        if not all(system.evaluation_id for system in round.systems):
            raise StateError(
                f"The answers in {round.name} come from no evaluation, and a judge compares evaluations.",
                fix="Create a round from evaluations of these models, and run a judge on them.",
            )
        ids = [str(system.evaluation_id) for system in round.systems]
        asked = [str(job.config.get(side)) for side in ("first", "second")]
        if round.protocol != "pairwise" or job.kind != "judge" or sorted(ids) != sorted(asked):
            raise ConfigError(
                f"{job.title} did not judge the answers in {round.name}.",
                fix="Run a judge on the round's two evaluations, then choose that job.",
                field="judging",
            )
        path = self.home.jobs / job.job_id / "judgements.parquet"
        if job.status != "finished" or not path.exists():
            raise StateError(
                f"{job.title} has no result.", fix="Wait until it finishes, or run the judge again."
            )
        rows: list[dict[str, Any]] = pq.read_table(path, columns=["row_id", "score"]).to_pylist()
        turned = asked[0] != ids[0]
        return {
            row["row_id"]: 1 - row["score"] if turned else row["score"]
            for row in rows
            if row["score"] is not None
        }

    def _rate(self, tx: Transaction, round: Round, judge: Person, by_row: dict[int, float]) -> None:
        at, place = job_queue.to_utc(self.clock()), 0
        for item in rounds.items(tx, round.round_id):
            if item.row_id not in by_row:
                continue
            score = by_row[item.row_id]
            answer: PairChoice = {"choice": "A" if score > 0.5 else "B" if score < 0.5 else "tie"}
            row = ratings.NewRow(secrets.token_urlsafe(12), item.item_id, (0, 1), "first", None, place)
            ratings.insert_tasks(tx, round.round_id, judge, [row], at)
            ratings.insert(
                *(tx, round.round_id, row.task_id, 1, answer),
                comment="",
                seconds=0.0,
                at=at,
            )
            place += 1
        tasks.forget_units(tx, round.round_id)
        if not place:
            raise StateError("The judge saw none of the prompts of this round.")
