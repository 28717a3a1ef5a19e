"""Commands for raters: list rounds, fetch the next tasks, and submit a rating.

No response reveals which model wrote what, or what others answered. A rating is stored in one transaction
and only once, however often it is sent.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.rating.answers import check_answer
from engine.rating.round_commands import RoundName, find_round_subject
from engine.rating.task_assignment import (
    RoundRater,
    fill_tasks,
    find_rater,
    is_qualified,
    renew_tasks,
    require_rater,
)
from engine.rating.task_selection import count_repeats, list_model_groups
from engine.rating.training_rows import find_judged_text
from engine.server.command import PERSONAL, ActivitySubject, Command
from store.core.config import Config
from store.core.errors import ForbiddenError, StateError
from store.core.rating_schemas import (
    AssignedTask,
    RatableRound,
    RatableRounds,
    RaterRound,
    RatingProgress,
    RatingReceipt,
    RatingTask,
    RatingTasks,
    ReleasedTaskCounts,
    Round,
    RoundItem,
    StoredRating,
)
from store.core.schemas import Person
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.rating import ratings, rounds, tasks
from store.rating.config import MARKING, REPEATED, RoundConfig
from store.rating.ratings import OwnTask

HELD_TASKS = 4  # tasks held by a rater: the one shown and the next few
REFILLED_BELOW = 3  # refill in batches rather than after each rating
LAST_RATINGS = 20  # own ratings that a rater can go back to
NOT_QUALIFIED = (
    "Thank you for your answers. You did not pass the qualification for this round, so it "
    "has no more items for you."
)
MIN_TIMED = 3  # minimum own ratings for an estimate of the time per rating


class TaskRequest(RoundName):
    want: int = Field(HELD_TASKS, ge=1, le=HELD_TASKS)
    have: list[str] = Field(default_factory=list, max_length=20)


class NewRating(TaskRequest):
    task: str = Field(min_length=1, max_length=80)
    revision: int = Field(1, ge=1, le=1_000)
    answer: dict[str, Any]
    comment: str = Field("", max_length=4_000)
    seconds: float = Field(0.0, ge=0, le=1e7, allow_inf_nan=False)


class TaskRelease(RoundName):
    """Release of the tasks of a page that is left, except those in `keep`, which another page shows."""

    keep: list[str] = Field(default_factory=list, max_length=20)


class EmptyBody(Config):
    """Body without fields."""


def _find_first_rating_subject(db: Queryable, body: NewRating, person: Person) -> ActivitySubject | None:
    """Return the round for a person's first rating, else None: one activity per rating would hide
    all others.
    """
    if ratings.has_rated(db, body.round, person.person_id):
        return None
    return find_round_subject(db, body)


class RatingCommands:
    """Commands for raters."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock
        self._random = random.Random(secrets.randbits(64))  # the next task must be unpredictable

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "rounds_to_rate": Command(EmptyBody, self.rounds_to_rate, PERSONAL, by_person=True),
            "next_rating_tasks": Command(TaskRequest, self.next_tasks, PERSONAL, by_person=True),
            "release_rating_tasks": Command(TaskRelease, self.release_tasks, PERSONAL, by_person=True),
            "rate": Command(NewRating, self.rate, _find_first_rating_subject, by_person=True),
        }

    def rounds_to_rate(self, _: EmptyBody, person: Person) -> RatableRounds:
        """Return the open rounds that this person may rate; rounds with assigned raters only if assigned."""
        with self.database.transaction() as tx:
            raters = [find_rater(tx, round, person) for round in rounds.list_open_rounds(tx)]
            listed = [_build_round_to_rate(tx, rater) for rater in raters if rater]
        return {"rounds": listed}

    def next_tasks(self, body: TaskRequest, person: Person) -> RatingTasks:
        """Return the person's unrated tasks, filled up to `want`, without those that the page has.

        Raises StateError if others are assigned to the round.
        """
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            rater = require_rater(tx, round, person)
            held: list[AssignedTask] = []
            if round.state == "open":
                at = job_queue.to_utc(self.clock())
                renew_tasks(tx, rater, body.have, at)
                held = fill_tasks(tx, rater, body.want, at, self._random)
            last = tasks.list_last_rated(tx, *rater.ids, LAST_RATINGS)
            waiting = _list_waiting(held, body)
            item_ids = [task.item_id for task in [*waiting, *last]]
            items = rounds.some_items(tx, round.round_id, item_ids)
            progress, notice = _compute_progress(tx, rater), None
            if not held:
                progress, notice = _describe_end(tx, rater, progress)
        return {
            "round": _build_round_for_rater(round),
            "tasks": [_build_task(rater.config, task, items) for task in waiting],
            "progress": progress,
            "last": [_build_stored_rating(rater.config, task, items) for task in last],
            "notice": notice,
        }

    def release_tasks(self, body: TaskRelease, person: Person) -> ReleasedTaskCounts:
        """Release the tasks of the page that the person left, so that other raters can get them."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            return {"released": tasks.release_holds(tx, round.round_id, person.person_id, body.keep)}

    def rate(self, body: NewRating, person: Person) -> RatingReceipt:
        """Store a rating, unless this revision is already stored, and return the next tasks.

        Raises StateError (409) if the round is closed, or if others completed an item whose task had
        expired.

        The next tasks are read after the rating is stored, so that others can store theirs meanwhile.
        """
        with self.database.transaction() as tx:
            rater, revision, already = self._keep(tx, body, person)
        held = tasks.list_held_tasks(self.database, *rater.ids)
        if len(held) < min(REFILLED_BELOW, body.want):
            with self.database.transaction() as tx:
                held = fill_tasks(tx, rater, body.want, job_queue.to_utc(self.clock()), self._random)
        waiting = _list_waiting(held, body)
        items = rounds.some_items(self.database, rater.ids[0], [each.item_id for each in waiting])
        return {
            "stored": True,
            "revision": revision,
            "already": already,
            "progress": _compute_progress(self.database, rater),
            "tasks": [_build_task(rater.config, each, items) for each in waiting],
        }

    def _keep(self, tx: Transaction, body: NewRating, person: Person) -> tuple[RoundRater, int, bool]:
        """Store the rating; return the rater, the stored revision, and whether it was stored before."""
        task = ratings.find_own_task(tx, body.round, body.task, person.person_id)
        if task is None and ratings.is_assigned(tx, body.task):
            raise ForbiddenError("This task is assigned to another rater.", fix="Sign in with that account.")
        if task is None:
            raise StateError("This task no longer exists.", fix="Continue with the next task.")
        round = rounds.get(tx, body.round)
        rater = require_rater(tx, round, person)
        if round.state != "open":
            raise StateError(f"{round.name} is closed.", fix="Ask its creator to reopen it.")
        at = job_queue.to_utc(self.clock())
        renew_tasks(tx, rater, body.have, at)
        if body.revision <= task.revision:
            return rater, task.revision, True
        _check_not_graded(tx, rater, task)
        if not task.revision:
            _check_still_wanted(tx, rater, body.task, task)
        text = ""  # that spans refer to
        if rater.config.protocol == "spans":
            item = rounds.some_items(tx, rater.ids[0], [task.item_id])[task.item_id]
            text = find_judged_text(rater.config.subject, item, task.systems)
        answer = check_answer(rater.config, body.answer, len(task.systems), text)
        ratings.insert(
            *(tx, round.round_id, body.task, task.revision + 1, answer),
            comment=body.comment,
            seconds=body.seconds,
            at=at,
        )
        tasks.end_hold(tx, body.task)
        if task.purpose == "first" and (more := int("skipped" not in answer) - task.counted):
            tasks.count_answer(tx, round.round_id, task.item_id, task.bits, more)
        return rater, task.revision + 1, False


def _check_not_graded(db: Queryable, rater: RoundRater, task: OwnTask) -> None:
    """Raise StateError for a changed answer once the qualification has been graded.

    Raters who know the result could otherwise try until they pass.
    """
    if task.purpose == "qualification" and task.revision and is_qualified(db, rater) is not None:
        raise StateError(
            "Qualification items are already graded, so their answers can't be changed.",
            fix="Continue with the next task.",
        )


def _check_still_wanted(db: Queryable, rater: RoundRater, task_id: str, task: OwnTask) -> None:
    """Raise StateError for an expired task whose unit others have completed since."""
    if tasks.is_held(db, task_id) or task.purpose != "first":
        return
    if tasks.is_full(db, rater.ids[0], task.item_id, task.bits, rater.config.overlap):
        raise StateError(
            "Other raters completed this item while this page was inactive.",
            fix="Continue with the next task.",
        )


def _list_waiting(held: Sequence[AssignedTask], body: TaskRequest) -> list[AssignedTask]:
    """Return as many tasks that the page doesn't have as it wants in addition."""
    have = set(body.have)
    room = body.want - sum(task.task_id in have for task in held)
    return [task for task in held if task.task_id not in have][: max(room, 0)]


def _build_round_for_rater(round: Round) -> RaterRound:
    config = RoundConfig.parse(round.config)
    return {
        "round_id": round.round_id,
        "title": round.name,
        "protocol": config.protocol,
        "instruction": config.instruction,
        "criteria": [
            {"name": each.name, "question": each.question, "anchors": list(each.anchors)}
            for each in config.criteria
        ],
        "reasons": list(config.reasons),
        "ties": config.ties,
        "both_bad": config.both_bad,
        "labels": list(config.labels),
        "several_labels": config.several_labels,
        "subject": config.subject,
        "overlapping": config.overlapping,
        "state": round.state,
    }


def _build_task(config: RoundConfig, task: AssignedTask, items: Mapping[int, RoundItem]) -> RatingTask:
    item = items[task.item_id]
    answers = [item.answers[system] or "" for system in task.systems]
    is_label = config.protocol == "label"  # hides the reference, and models' labels if blind
    of_prompt = config.protocol in MARKING and config.subject == "prompt"
    return {
        "task_id": task.task_id,
        "prompt": item.prompt,
        "answers": [] if of_prompt or (is_label and config.blind) else answers,
        "reference": None if is_label or of_prompt else item.reference,
    }


def _build_stored_rating(
    config: RoundConfig, task: AssignedTask, items: Mapping[int, RoundItem]
) -> StoredRating:
    assert task.answer is not None
    return {
        "task": _build_task(config, task, items),
        "revision": task.revision or 0,
        "answer": task.answer,
        "comment": task.comment or "",
    }


def _compute_progress(db: Queryable, rater: RoundRater) -> RatingProgress:
    """Return a rater's progress; `total` is the maximum for this rater, and others may take part of it."""
    pace, config, round = tasks.compute_own_pace(db, *rater.ids), rater.config, rater.round
    everything = round.item_count * len(list_model_groups(len(round.systems), config.protocol))
    if config.protocol in REPEATED:
        everything += count_repeats(everything, config.repeat_share)
    total = everything if rater.quota is None else min(rater.quota, everything)
    return {
        "done": pace.rated,
        "total": max(total + (round.details.qualification or 0), pace.rated),
        "seconds_each": pace.median_seconds if pace.timed >= MIN_TIMED else None,
    }


def _describe_end(
    db: Queryable, rater: RoundRater, progress: RatingProgress
) -> tuple[RatingProgress, str | None]:
    """Return the progress and notice for a rater without tasks.

    The total becomes what is done if nothing is left. There is no notice unless the rater failed the
    qualification. If others hold tasks, which may be released, the progress is unchanged.
    """
    if rater.round.state != "open":
        return progress, None
    if is_qualified(db, rater) is False:
        return {**progress, "total": progress["done"]}, NOT_QUALIFIED
    if not tasks.has_units_left(db, *rater.ids, rater.config.overlap):
        return {**progress, "total": progress["done"]}, None
    return progress, None


def _build_round_to_rate(db: Queryable, rater: RoundRater) -> RatableRound:
    round, progress = rater.round, _compute_progress(db, rater)
    return RatableRound(
        round_id=round.round_id,
        name=round.name,
        protocol=rater.config.protocol,
        state=round.state,
        instruction=rater.config.instruction,
        created_by_name=round.created_by_name,
        created_at=round.created_at.isoformat(),
        done=progress["done"],
        total=progress["total"],
    )
