"""The commands of those who rate: which rounds there are, the next tasks, and a rating.

Nothing that a rater is answered says which model wrote what, or what others said. A rating is stored in one
transaction and once, however often it is sent.
"""

from __future__ import annotations

import random
import secrets
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.diagnostics.rating.rows.judged_text import judged_text
from engine.rounds.answers import check_answer
from engine.rounds.dealing import deal, repeats_of, units
from engine.server.acts import subjects
from engine.server.acts.command import PERSONAL, Command
from engine.server.rating.dealing_table import dealing_table, lies_with_others
from engine.server.rating.round_commands import RoundName
from store.config.judging.round_config import MARKING, REPEATED, RoundConfig
from store.contract.document import Config
from store.contract.errors import ForbiddenError, StateError
from store.db.database import Database, Transaction
from store.documents.rating.rating_desk import (
    RatingProgress,
    RatingReceipt,
    RatingTask,
    RatingTasks,
    RoundForRater,
    StoredRating,
)
from store.documents.rating.round import DealtTask, Round, RoundItem, RoundsToRate, RoundToRate
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.rating import ratings, rounds

HELD = 20  # tasks that a rater's page holds
LAST = 20  # own ratings that a rater can go back to at once


class WantedTasks(RoundName):
    want: int = Field(HELD, ge=1, le=HELD)
    have: list[str] = Field(default_factory=list, max_length=4 * HELD)


class NewRating(WantedTasks):
    task: str = Field(min_length=1, max_length=80)
    revision: int = Field(1, ge=1, le=1_000)
    answer: dict[str, Any]
    comment: str = Field("", max_length=4_000)
    seconds: float = Field(0.0, ge=0, le=1e7, allow_inf_nan=False)


class Nobody(Config):
    """A body without fields."""


class RatingCommands:
    """The commands over one store."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock
        self._random = random.Random(secrets.randbits(64))  # which task comes next can't be guessed

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "rounds_to_rate": Command(Nobody, self.rounds_to_rate, PERSONAL, by_person=True),
            "next_rating_tasks": Command(WantedTasks, self.next_tasks, PERSONAL, by_person=True),
            "rate": Command(NewRating, self.rate, subjects.by_beginning, by_person=True),
        }

    def rounds_to_rate(self, _: Nobody, person: Person) -> RoundsToRate:
        """What this person can rate, or has rated."""
        with self.database.transaction() as tx:
            listed = [_to_rate(tx, round, person) for round in rounds.open_rounds(tx)]
        return {"rounds": listed}

    def next_tasks(self, body: WantedTasks, person: Person) -> RatingTasks:
        """The person's tasks that are not rated, filled up to as many as are wanted."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            config = RoundConfig.parse(round["config"])
            own = ratings.dealt(tx, round["round_id"], person["person_id"])
            if round["state"] == "open":
                own = self._fill(tx, round, own, person, body.want)
            rated = sorted((task for task in own if task["rated_at"]), key=_rated_at, reverse=True)[:LAST]
            waiting = _waiting(own, body) if round["state"] == "open" else []
            progress = _progress(round, own)
            if progress["done"] == len(own) and not lies_with_others(tx, round, config, own):
                progress["total"] = progress["done"]  # nothing is left that could come
            items = rounds.some_items(tx, round["round_id"], [task["item_id"] for task in [*waiting, *rated]])
        return {
            "round": _for_rater(round),
            "tasks": [_task(config, task, items) for task in waiting],
            "progress": progress,
            "last": [_stored(config, task, items) for task in rated],
        }

    def rate(self, body: NewRating, person: Person) -> RatingReceipt:
        """Keep a rating; what was sent before is not kept again. Raises StateError (409) where the round is
        closed or the task is no longer the person's.

        What comes next is read after the rating is stored, so that others store theirs meanwhile.
        """
        with self.database.transaction() as tx:
            round, revision, already = self._keep(tx, body, person)
        own = ratings.dealt(self.database, round["round_id"], person["person_id"])
        if sum(each["rated_at"] is None for each in own) <= HELD // 2:
            with self.database.transaction() as tx:
                own = ratings.dealt(tx, round["round_id"], person["person_id"])  # two tabs may be filled
                own = self._fill(tx, round, own, person, body.want)
        waiting = _waiting(own, body)
        items = rounds.some_items(self.database, round["round_id"], [each["item_id"] for each in waiting])
        config = RoundConfig.parse(round["config"])
        return {
            "stored": True,
            "revision": revision,
            "already": already,
            "progress": _progress(round, own),
            "tasks": [_task(config, each, items) for each in waiting],
        }

    def _keep(self, tx: Transaction, body: NewRating, person: Person) -> tuple[Round, int, bool]:
        """The round, the revision that is stored now, and whether it was stored before."""
        task = ratings.own_task(tx, body.round, body.task, person["person_id"])
        if task is None and ratings.is_dealt(tx, body.task):
            raise ForbiddenError("This is somebody else's to rate.", fix="Sign in as that person.")
        if task is None:
            raise StateError("This was taken back, as it was unrated for long.", fix="Take the next.")
        round = rounds.get(tx, body.round)
        if round["state"] != "open":
            raise StateError(f"{round['name']} is closed.", fix="Ask who started it to open it again.")
        if body.revision <= task.revision:
            return round, task.revision, True
        config = RoundConfig.parse(round["config"])
        text = _judged_text(tx, config, round, task) if config.protocol == "spans" else ""
        answer = check_answer(config, body.answer, len(task.systems), text)
        ratings.insert(
            *(tx, round["round_id"], body.task, task.revision + 1, answer),
            comment=body.comment,
            seconds=body.seconds,
            at=jobs.utc(self.clock()),
        )
        return round, task.revision + 1, False

    def _fill(
        self, tx: Transaction, round: Round, own: list[DealtTask], person: Person, want: int
    ) -> list[DealtTask]:
        """The person's tasks, with new ones where fewer than wanted are left to rate."""
        unrated = sum(task["rated_at"] is None for task in own)
        config = RoundConfig.parse(round["config"])
        most = want - unrated
        if config.per_rater is not None:
            most = min(most, config.per_rater - len(own))
        if most <= 0:
            return own
        at = self.clock()
        table = dealing_table(tx, round, config, own, at)
        new = [
            ratings.NewRow(
                secrets.token_urlsafe(12),
                *(task.unit.item_id, task.order, task.purpose, task.repeat_of, len(own) + place),
            )
            for place, task in enumerate(deal(table, most, self._random))
        ]
        if not new:
            return own
        ratings.insert_tasks(tx, round["round_id"], person, new, jobs.utc(at))
        return ratings.dealt(tx, round["round_id"], person["person_id"])


def _judged_text(tx: Transaction, config: RoundConfig, round: Round, task: ratings.OwnTask) -> str:
    """That in which spans lie."""
    item = rounds.some_items(tx, round["round_id"], [task.item_id])[task.item_id]
    return judged_text(config.subject, item, task.systems)


def _waiting(own: Sequence[DealtTask], body: WantedTasks) -> list[DealtTask]:
    """Unrated tasks that the page does not hold, so that it holds as many as it wants."""
    have = set(body.have)
    unrated = [task for task in own if task["rated_at"] is None]
    room = body.want - sum(task["task_id"] in have for task in unrated)
    return [task for task in unrated if task["task_id"] not in have][: max(room, 0)]


def _rated_at(task: DealtTask) -> Any:
    return task["rated_at"]


def _for_rater(round: Round) -> RoundForRater:
    config = RoundConfig.parse(round["config"])
    return {
        "round_id": round["round_id"],
        "title": round["name"],
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
        "state": round["state"],
    }


def _task(config: RoundConfig, task: DealtTask, items: Mapping[int, RoundItem]) -> RatingTask:
    item = items[task["item_id"]]
    answers = [item["answers"][system] for system in task["systems"]]
    is_label = config.protocol == "label"  # of which the right one is not shown, nor, if blind, the model's
    of_prompt = config.protocol in MARKING and config.subject == "prompt"
    return {
        "task_id": task["task_id"],
        "prompt": item["prompt"],
        "answers": [] if of_prompt or (is_label and config.blind) else answers,
        "reference": None if is_label or of_prompt else item["reference"],
    }


def _stored(config: RoundConfig, task: DealtTask, items: Mapping[int, RoundItem]) -> StoredRating:
    assert task["answer"] is not None
    return {
        "task": _task(config, task, items),
        "revision": task["revision"] or 0,
        "answer": task["answer"],
        "comment": task["comment"] or "",
    }


def _progress(round: Round, own: Sequence[DealtTask]) -> RatingProgress:
    """How far one rater is. total: what the person may rate at most; others may take some of it."""
    rated = [task for task in own if task["rated_at"] is not None]
    config = RoundConfig.parse(round["config"])
    everything = len(units(range(round["item_count"]), len(round["systems"]), config.protocol))
    if config.protocol in REPEATED:
        everything += repeats_of(everything, config.repeat_share)
    paces = [task["seconds"] for task in rated if task["seconds"]]
    return {
        "done": len(rated),
        "total": min(config.per_rater or everything, everything),
        "seconds_each": statistics.median(paces) if len(paces) >= 3 else None,
    }


def _to_rate(tx: Transaction, round: Round, person: Person) -> RoundToRate:
    own = ratings.dealt(tx, round["round_id"], person["person_id"])
    progress = _progress(round, own)
    config = RoundConfig.parse(round["config"])
    return {
        "round_id": round["round_id"],
        "name": round["name"],
        "protocol": config.protocol,
        "state": round["state"],
        "instruction": config.instruction,
        "created_by_name": round["created_by_name"],
        "created_at": round["created_at"].isoformat(),
        "done": progress["done"],
        "total": progress["total"],
    }
