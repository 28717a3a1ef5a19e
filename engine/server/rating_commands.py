"""The commands of rating rounds: making them, dealing tasks to raters, keeping what they say.

Two kinds of person ask. Members make, close and judge rounds. Raters get tasks and rate: nothing that a rater
is answered says which model wrote what, or what others said. A rating is stored in one transaction and once,
however often it is sent.
"""

from __future__ import annotations

import random
import secrets
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.rounds.answers import check_answer
from engine.rounds.dealing import DealtUnit, Table, Unit, deal, units
from engine.server import subjects
from engine.server.command import MADE, PERSONAL, Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.launching import Launching
from store.config.evaluate_config import EvaluateConfig
from store.config.import_config import suggested_name
from store.config.round_config import COMPARING, ImportRound, RoundConfig, RoundModel
from store.contract.document import Config
from store.contract.errors import ConfigError, ForbiddenError, NotFoundError, StateError
from store.db.database import Database, Transaction
from store.documents.evaluations.evaluation import Evaluation
from store.documents.rating.rating_desk import (
    RatingProgress,
    RatingReceipt,
    RatingTask,
    RatingTasks,
    RoundForRater,
    StoredRating,
)
from store.documents.rating.round import DealtTask, Round, RoundItem, RoundsToRate, RoundToRate
from store.documents.tables.job import Done, JobQueued, RoundQueued
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.data import datasets
from store.queries.evaluations import evaluations
from store.queries.rating import ratings, rounds

HELD = 20  # tasks that a rater's page holds
STALE_SECONDS = 3_600.0  # a task that lies with a rater for longer unrated may go to others
LAST = 20  # own ratings that a rater can go back to at once
GOLD_SHARE = 0.1
ANSWERS_METRIC = "chrf"  # the cheapest that looks at answers


class RoundName(Config):
    round: str = Field(min_length=1, max_length=120)


class WantedTasks(RoundName):
    want: int = Field(HELD, ge=1, le=HELD)
    have: list[str] = Field(default_factory=list, max_length=4 * HELD)


class NewRating(WantedTasks):
    task: str = Field(min_length=1, max_length=80)
    revision: int = Field(1, ge=1, le=1_000)
    answer: dict[str, Any]
    comment: str = Field("", max_length=4_000)
    seconds: float = Field(0.0, ge=0, le=1e7, allow_inf_nan=False)


class RaterOfRound(RoundName):
    person: str = Field(min_length=1, max_length=200)


class Nobody(Config):
    """A body without fields."""


class RatingCommands:
    """The commands over one store."""

    def __init__(
        self,
        database: Database,
        launching: Launching,
        evaluating: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.launching, self.evaluating, self.clock = database, launching, evaluating, clock
        self._random = random.Random(secrets.randbits(64))  # which task comes next can't be guessed

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "start_round": Command(RoundConfig, self.start_round, MADE, makes_work=True, by_person=True),
            "import_round": Command(ImportRound, self.import_round, MADE, makes_work=True, by_person=True),
            "close_round": Command(RoundName, self.close_round, subjects.by_round, by_person=True),
            "open_round": Command(RoundName, self.open_round, subjects.by_round),
            "leave_rater_out": Command(RaterOfRound, self.leave_rater_out, subjects.by_rater, by_person=True),
            "take_rater_in": Command(RaterOfRound, self.take_rater_in, subjects.by_rater),
            "rounds_to_rate": Command(Nobody, self.rounds_to_rate, PERSONAL, right="rate", by_person=True),
            "next_rating_tasks": Command(
                WantedTasks, self.next_tasks, PERSONAL, right="rate", by_person=True
            ),
            "rate": Command(NewRating, self.rate, subjects.by_beginning, right="rate", by_person=True),
        }

    # -- rounds -------------------------------------------------------------------------------------

    def start_round(self, config: RoundConfig, person: Person) -> RoundQueued:
        """Queue the gathering of answers, after the evaluations that lack. Raises ConfigError that names the
        field."""
        made: list[str] = []
        ids: list[str] = []
        with self.database.transaction() as tx:
            present = [self._evaluation(tx, config, place) for place, _ in enumerate(config.models)]
            of = [evaluation for evaluation in present if evaluation]
            dataset = self._dataset(tx, config, of)
            for place, model in enumerate(config.models):
                evaluation = present[place]
                if evaluation is None:
                    made.append(self._evaluate(tx, config, place, model, dataset, of))
                ids.append(evaluation["evaluation_id"] if evaluation else made[-1])
            return self._queue(tx, config, ids, made, dataset, person)

    def _queue(
        self,
        tx: Transaction,
        config: RoundConfig,
        ids: Sequence[str],
        made: Sequence[str],
        dataset: str,
        person: Person,
    ) -> RoundQueued:
        models = [RoundModel(evaluation=evaluation_id) for evaluation_id in ids]
        changes: dict[str, Any] = {"models": models, "dataset": dataset}
        if config.gold_dataset:
            changes["gold_dataset"] = _gold(tx, config.gold_dataset)
        document = config.model_copy(update=changes).document()
        at = self.clock()
        job_id = jobs.new_id("round", at)
        work = {"round": document, "created_by": dict(person)}
        jobs.insert(
            tx,
            jobs.NewJob(
                job_id=job_id,
                kind="round",
                title=f"Round {config.name}",
                config=work,
                at=at,
                after_jobs=list(made),
            ),
        )
        return {"round_id": job_id, "job_ids": list(made)}

    def _evaluation(self, tx: Transaction, config: RoundConfig, place: int) -> Evaluation | None:
        """The evaluation that a model of the round names; None for a run or a model."""
        name = config.models[place].evaluation
        if not name:
            return None
        field = f"models.{place}.evaluation"
        try:
            evaluation = evaluations.get(tx, name)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field=field) from error
        if not EvaluateConfig.parse(evaluation["config"]).generates:
            raise ConfigError(
                f"{evaluation['name']} has no answers: none of its metrics looks at them.",
                fix="Choose an evaluation with answers, or the model itself.",
                field=field,
            )
        return evaluation

    def _dataset(self, tx: Transaction, config: RoundConfig, of: Sequence[Evaluation]) -> str:
        """The id of the data set that the prompts are of. Raises ConfigError where evaluations differ."""
        if not config.dataset and not of:
            raise ConfigError(
                "The round has no data set to take prompts from.", fix="Choose one.", field="dataset"
            )
        named = config.dataset or of[0]["dataset_id"]
        dataset = datasets.get_dataset(tx, named)
        for evaluation in of:
            if evaluation["data_fingerprint"] != dataset["fingerprint"]:
                raise ConfigError(
                    f"{evaluation['name']} is of other rows than {dataset['name']}.",
                    fix="Choose evaluations of the same data set.",
                    field="models",
                )
        return dataset["dataset_id"]

    def _evaluate(
        self,
        tx: Transaction,
        config: RoundConfig,
        place: int,
        model: RoundModel,
        dataset: str,
        of: Sequence[Evaluation],
    ) -> str:
        """Queue the answers of a model: to the very prompts that others answered, where some did."""
        document: dict[str, Any] = {
            **({"run": model.run, "checkpoint": model.checkpoint} if model.run else {"model": model.model}),
            **({"rows_of": of[0]["evaluation_id"]} if of else {"part": config.part}),
            "dataset": dataset,
            "max_rows": config.items,
            "seed": config.seed,
            "max_new_tokens": config.max_new_tokens,
            "do_sample": config.do_sample,
            "metrics": [ANSWERS_METRIC],
        }
        if config.do_sample:
            document |= {"temperature": config.temperature, "top_p": config.top_p}
        try:
            return self.evaluating.queue(tx, EvaluateConfig.parse(document))
        except (ConfigError, StateError) as error:
            error.field = f"models.{place}.{error.field}" if error.field in ("run", "model") else error.field
            raise

    def import_round(self, config: ImportRound, person: Person) -> JobQueued:
        """Queue the reading of a round that was rated elsewhere."""
        if not config.name:
            config = config.model_copy(
                update={"name": suggested_name({"path": config.path or config.upload})}
            )
        work = {"round": config.model_dump(exclude_none=True), "created_by": dict(person)}
        with self.database.transaction() as tx:
            return {"job_id": self.launching.queue_job(tx, "import_round", f"Import {config.name}", work)}

    def close_round(self, body: RoundName, person: Person) -> Done:
        """Nobody rates any more, and the results can be seen."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if round["state"] == "closed":
                raise StateError(f"{round['name']} is closed already.")
            at = jobs.utc(self.clock())
            rounds.update(tx, round["round_id"], state="closed", closed_at=at, closed_by_name=person["name"])
        return {}

    def open_round(self, body: RoundName) -> Done:
        """Have a closed round rated further."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if round["state"] == "open":
                raise StateError(f"{round['name']} is open already.")
            if not round["dataset_id"]:
                raise StateError(f"{round['name']} was rated elsewhere.", fix="Start a round of your own.")
            rounds.update(tx, round["round_id"], state="open", closed_at=None, closed_by_name=None)
        return {}

    def leave_rater_out(self, body: RaterOfRound, person: Person) -> Done:
        """Have what a rater said not count; it is kept, and said so."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if not ratings.dealt(tx, round["round_id"], body.person):
                raise NotFoundError(f"{body.person!r} has no task in {round['name']}.")
            ratings.leave_out(tx, round["round_id"], body.person, person, jobs.utc(self.clock()))
        return {}

    def take_rater_in(self, body: RaterOfRound) -> Done:
        """Have it count again."""
        with self.database.transaction() as tx:
            ratings.take_in(tx, rounds.get(tx, body.round)["round_id"], body.person)
        return {}

    # -- rating -------------------------------------------------------------------------------------

    def rounds_to_rate(self, _: Nobody, person: Person) -> RoundsToRate:
        """What this person can rate, or has rated."""
        with self.database.transaction() as tx:
            listed = [_to_rate(tx, round, person) for round in rounds.open_rounds(tx)]
        return {"rounds": listed}

    def next_tasks(self, body: WantedTasks, person: Person) -> RatingTasks:
        """The person's tasks that are not rated, filled up to as many as are wanted."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            own = ratings.dealt(tx, round["round_id"], person["person_id"])
            if round["state"] == "open":
                own = self._fill(tx, round, own, person, body.want)
            rated = sorted((task for task in own if task["rated_at"]), key=_rated_at, reverse=True)[:LAST]
            waiting = _waiting(own, body) if round["state"] == "open" else []
            items = rounds.some_items(tx, round["round_id"], [task["item_id"] for task in [*waiting, *rated]])
        return {
            "round": _for_rater(round),
            "tasks": [_task(task, items) for task in waiting],
            "progress": _progress(round, own),
            "last": [_stored(task, items) for task in rated],
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
        return {
            "stored": True,
            "revision": revision,
            "already": already,
            "progress": _progress(round, own),
            "tasks": [_task(each, items) for each in waiting],
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
        answer = check_answer(RoundConfig.parse(round["config"]), body.answer, task.answers)
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
        table = _table(tx, round, config, own, at)
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


def _gold(tx: Transaction, name: str) -> str:
    dataset = datasets.get_dataset(tx, name)
    if dataset["kind"] != "preference":
        raise ConfigError(
            f"{dataset['name']} has no pairs of answers.",
            fix="Choose preference pairs.",
            field="gold_dataset",
        )
    return dataset["dataset_id"]


def _table(tx: Transaction, round: Round, config: RoundConfig, own: Sequence[DealtTask], at: float) -> Table:
    """What the dealer sees of a round."""
    item_ids, gold_ids = rounds.item_ids(tx, round["round_id"])
    systems = len(round["systems"])
    everyone = ratings.dealt(tx, round["round_id"])
    counting = [task for task in everyone if task["purpose"] in ("first", "adjudication")]
    taken = Counter(_unit(task) for task in counting if _counts(task, at))
    own_tasks = [
        DealtUnit(task["task_id"], _unit(task), tuple(task["systems"]), task["purpose"], task["repeat_of"])
        for task in own
    ]
    return Table(
        units=units(item_ids, systems, config.protocol),
        taken=taken,
        own=own_tasks,
        overlap=config.overlap,
        repeat_share=config.repeat_share if config.protocol in COMPARING else 0.0,
        gold=[Unit(item_id, (0, 1)) for item_id in gold_ids],
        gold_share=GOLD_SHARE if gold_ids else 0.0,
        disputed=_disputed(counting, config) if config.adjudicate else frozenset(),
        uncertainty=_uncertainty(counting),
    )


def _unit(task: DealtTask) -> Unit:
    return Unit(task["item_id"], tuple(sorted(task["systems"])))


def _counts(task: DealtTask, at: float) -> bool:
    """Whether a task is rated, or may still be; one that was skipped goes to others."""
    if task["answer"] is not None:
        return "skipped" not in task["answer"]
    return at - jobs.epoch(task["given_at"]) < STALE_SECONDS


def _winner(task: DealtTask) -> object:
    """What a pairwise rating says, whatever the sides: the number of a model, tie or both_bad."""
    answer: Mapping[str, object] = task["answer"] or {}
    choice = answer.get("choice")
    return {"A": task["systems"][0], "B": task["systems"][-1]}.get(str(choice), choice)


def _disputed(tasks: Iterable[DealtTask], config: RoundConfig) -> frozenset[Unit]:
    """Units with all their ratings, none beyond them yet, that differ."""
    verdicts_of: dict[Unit, list[object]] = {}
    for task in tasks:
        if task["answer"] is not None and "skipped" not in task["answer"]:
            verdict = _winner(task) if config.protocol == "pairwise" else repr(task["answer"])
            verdicts_of.setdefault(_unit(task), []).append(verdict)
    return frozenset(
        unit
        for unit, verdicts in verdicts_of.items()
        if len(verdicts) == config.overlap and len(set(verdicts)) > 1
    )


def _uncertainty(tasks: Iterable[DealtTask]) -> Mapping[tuple[int, ...], float]:
    """How little is known of each pair of models: the variance of the share of decided votes, a vote for
    either added."""
    wins: Counter[tuple[tuple[int, ...], object]] = Counter()
    pairs = set()
    for task in tasks:
        if task["answer"] is not None and len(task["systems"]) == 2:
            pair = tuple(sorted(task["systems"]))
            pairs.add(pair)
            wins[pair, _winner(task)] += 1
    variances = {}
    for pair in pairs:
        first, second = wins[pair, pair[0]] + 1, wins[pair, pair[1]] + 1
        variances[pair] = first * second / (first + second) ** 2 / (first + second + 1)
    return variances


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
        "state": round["state"],
    }


def _task(task: DealtTask, items: Mapping[int, RoundItem]) -> RatingTask:
    item = items[task["item_id"]]
    return {
        "task_id": task["task_id"],
        "prompt": item["prompt"],
        "answers": [item["answers"][system] for system in task["systems"]],
        "reference": item["reference"],
    }


def _stored(task: DealtTask, items: Mapping[int, RoundItem]) -> StoredRating:
    assert task["answer"] is not None
    return {
        "task": _task(task, items),
        "revision": task["revision"] or 0,
        "answer": task["answer"],
        "comment": task["comment"] or "",
    }


def _progress(round: Round, own: Sequence[DealtTask]) -> RatingProgress:
    """How far one rater is. total: what the person may rate at most; others may take some of it."""
    rated = [task for task in own if task["rated_at"] is not None]
    config = RoundConfig.parse(round["config"])
    everything = len(units(range(round["item_count"]), len(round["systems"]), config.protocol))
    if config.protocol in COMPARING:
        everything = round_up(everything * (1 + config.repeat_share))
    paces = [task["seconds"] for task in rated if task["seconds"]]
    return {
        "done": len(rated),
        "total": min(config.per_rater or everything, everything),
        "seconds_each": statistics.median(paces) if len(paces) >= 3 else None,
    }


def round_up(value: float) -> int:
    """The next whole number."""
    return -int(-value // 1)


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
