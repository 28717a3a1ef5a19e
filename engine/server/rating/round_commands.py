"""The commands of rating rounds for those who make them: start, import, close, open again, leave a rater out.

A round takes the answers of evaluations; those that lack are queued with it, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from engine.server.acts import subjects
from engine.server.acts.command import MADE, Command
from engine.server.topics.evaluation_commands import EvaluationCommands, answered_evaluation
from engine.server.work.launching import Launching
from store.config.evaluate_config import EvaluateConfig
from store.config.import_config import suggested_name
from store.config.round_config import ImportRound, RoundConfig, RoundModel
from store.contract.document import Config
from store.contract.errors import ConfigError, NotFoundError, StateError
from store.db.database import Database, Transaction
from store.documents.evaluations.evaluation import Evaluation
from store.documents.tables.job import Done, JobQueued, RoundQueued
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.data import datasets
from store.queries.rating import ratings, rounds

ANSWERS_METRIC = "chrf"  # the cheapest that looks at answers


class RoundName(Config):
    round: str = Field(min_length=1, max_length=120)


class RaterOfRound(RoundName):
    person: str = Field(min_length=1, max_length=200)


class RoundCommands:
    """The commands over one store."""

    def __init__(
        self,
        database: Database,
        launching: Launching,
        evaluating: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.launching, self.evaluating, self.clock = database, launching, evaluating, clock

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "start_round": Command(RoundConfig, self.start_round, MADE, makes_work=True, by_person=True),
            "import_round": Command(ImportRound, self.import_round, MADE, makes_work=True, by_person=True),
            "close_round": Command(RoundName, self.close_round, subjects.by_round, by_person=True),
            "open_round": Command(RoundName, self.open_round, subjects.by_round),
            "leave_rater_out": Command(RaterOfRound, self.leave_rater_out, subjects.by_rater, by_person=True),
            "take_rater_in": Command(RaterOfRound, self.take_rater_in, subjects.by_rater),
        }

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
        return answered_evaluation(tx, name, f"models.{place}.evaluation")

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


def _gold(tx: Transaction, name: str) -> str:
    dataset = datasets.get_dataset(tx, name)
    if dataset["kind"] != "preference":
        raise ConfigError(
            f"{dataset['name']} has no pairs of answers.",
            fix="Choose preference pairs.",
            field="gold_dataset",
        )
    return dataset["dataset_id"]
