"""Commands to manage rating rounds: start, import, close, reopen, and exclude a rater.

A round uses the answers of evaluations, or of a file of prompts; missing ones are queued with it, in one
transaction. Its input files are copied to the folder of its job, so that it doesn't depend on the upload
or path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from engine.data.readers.source_files import locate_file
from engine.server import registered_versions
from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands, get_answered_evaluation
from engine.server.job_submission import JobSubmission
from store.core.config import Config
from store.core.errors import ConfigError, DataError, NotFoundError, StateError
from store.core.home import Home
from store.core.job_folder import JobDir, write_atomically
from store.core.rating_schemas import is_imported_round
from store.core.schemas import Person
from store.data import datasets
from store.data.config import suggest_name
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig, ModelSelection
from store.evaluation.schemas import Evaluation
from store.http.schemas import EmptyAnswer, JobQueued, RoundQueued
from store.jobs import job_queue
from store.rating import ratings, rounds, tasks, workload
from store.rating.config import (
    MAX_MIB,
    SERVED,
    AnswerPrompts,
    ImportRound,
    RatingSettings,
    RoundConfig,
    RoundModel,
    RowFile,
)
from store.rating.templates import find_named_model
from store.runs import runs
from store.runs.schemas import Run

FIELD, GOLD_FILE = "prompts_file", "gold_file"
MAX_NAME = 50  # characters from the end: keeps the extension, within file system limits


@contextmanager
def hold_files(home: Home, config: RoundConfig, round_id: str) -> Iterator[None]:
    """Copy the round's files of prompts and known answers to its folder while the block queues it.

    Uploads are deleted afterwards; if the block raises, the uploads remain and the copies are deleted.

    The scheduler removes the copies when the round is in the store, and they are deleted with the round.
    Raises DataError and ConfigError, which name the field, for a file that can't be copied.
    """
    named = [("", FIELD, config.prompts_file), (GOLD_FILE, GOLD_FILE, config.gold_file)]
    files = [(folder, field, file, _locate_file(home, file, field)) for folder, field, file in named if file]
    if not files:
        yield
        return
    held = JobDir(home.jobs / round_id)
    try:
        for folder, _, _, path in files:
            (held.held / folder).mkdir(parents=True, exist_ok=True)
            # a leading dot marks unfinished files
            name = path.name[-MAX_NAME:].lstrip(".") or "prompts"
            with write_atomically(held.held / folder / name) as unfinished:
                shutil.copyfile(path, unfinished)
        yield
    except BaseException:
        shutil.rmtree(held.path, ignore_errors=True)
        raise
    for _, _, file, path in files:
        if file.upload:
            path.unlink(missing_ok=True)


def _locate_file(home: Home, file: RowFile, field: str) -> Path:
    try:
        path = locate_file(home, file.source())
    except DataError as error:
        raise DataError(error.message, fix=error.fix, field=field) from error
    if (size := os.path.getsize(path)) > MAX_MIB * 2**20:
        raise ConfigError(
            f"{path.name} has {size / 2**20:,.0f} MiB; files of a round may have {MAX_MIB} MiB.",
            fix="Give a part of it: people rate hundreds of prompts, not millions.",
            field=field,
        )
    return path


ANSWERS_METRIC = "chrf"  # the cheapest metric that needs answers


class RoundName(Config):
    round: str = Field(min_length=1, max_length=120)


class RaterOfRound(RoundName):
    person: str = Field(min_length=1, max_length=200)


def find_round_subject(db: Queryable, body: RoundName, *_: Person) -> ActivitySubject:
    """Return the activity subject of a body that names a round."""
    round = rounds.get(db, body.round)
    return ActivitySubject("round", round.round_id, round.name)


def _find_rater_subject(db: Queryable, body: RaterOfRound, *_: Person) -> ActivitySubject:
    """Return the round as the activity subject, with the rater's name as detail."""
    subject = find_round_subject(db, body)
    tasks = ratings.dealt(db, subject.id, body.person)
    return subject._replace(detail=tasks[0].person_name if tasks else body.person)


class RoundCommands:
    """Commands to manage rating rounds."""

    def __init__(
        self,
        database: Database,
        launching: JobSubmission,
        evaluating: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.launching, self.evaluating, self.clock = database, launching, evaluating, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "start_round": Command(RoundConfig, self.start_round, CREATED, makes_work=True, by_person=True),
            "import_round": Command(ImportRound, self.import_round, CREATED, makes_work=True, by_person=True),
            "close_round": Command(RoundName, self.close_round, find_round_subject, by_person=True),
            "open_round": Command(RoundName, self.open_round, find_round_subject),
            "leave_rater_out": Command(
                RaterOfRound, self.leave_rater_out, _find_rater_subject, by_person=True
            ),
            "take_rater_in": Command(RaterOfRound, self.take_rater_in, _find_rater_subject),
            "let_rater_in": Command(RaterOfRound, self.let_rater_in, _find_rater_subject, by_person=True),
        }

    def start_round(self, config: RoundConfig, person: Person) -> RoundQueued:
        """Queue the round's job, after the jobs that generate missing answers.

        Raises ConfigError that names the field.
        """
        if config.requests:
            raise ConfigError(
                "start_round does not accept requests of an endpoint.",
                fix="Use round_of_requests, which draws them.",
                field="requests",
            )
        check_scales(config)
        round_id = job_queue.create_id("round", self.clock())
        with hold_files(self.launching.home, config, round_id), self.database.transaction() as tx:
            if config.prompts_file:
                config, answering = self._of_file(tx, config, round_id)
                check_name(tx, config)
                return self._queue(
                    tx, round_id, config, [each for each in answering if each], person, answering
                )
            asked = config
            config, made = self._of_dataset(tx, asked)
            check_name(tx, asked)
            return self._queue(tx, round_id, config, made, person)

    def _of_dataset(self, tx: Transaction, config: RoundConfig) -> tuple[RoundConfig, list[str]]:
        """Return the round with an evaluation for each model, and the ids of those queued here."""
        made: list[str] = []
        models: list[RoundModel] = []
        present = [self._evaluation(tx, config, place) for place, _ in enumerate(config.models)]
        of = [evaluation for evaluation in present if evaluation]
        dataset = self._dataset(tx, config, of)
        for place, model in enumerate(config.models):
            evaluation = present[place]
            if evaluation is None:
                made.append(self._evaluate(tx, config, place, model, dataset, of))
            models.append(RoundModel(evaluation=evaluation.evaluation_id if evaluation else made[-1]))
        return config.model_copy(update={"models": models, "dataset": dataset}), made

    def _of_file(self, tx: Transaction, config: RoundConfig, round_id: str) -> tuple[RoundConfig, list[str]]:
        """Return the round with run ids, and the id of each model's answering job; empty if the file has its
        answers.
        """
        models: list[RoundModel] = []
        answering: list[str] = []
        for place, model in enumerate(config.models):
            with _prefix_model_errors(place):
                if not model.answers:
                    name = registered_versions.pin_version(tx, self.launching.home, model.model)
                    model = model.model_copy(update={"model": name})
                run = self._run(tx, model)
                model = model.model_copy(update={"run": run.run_id}) if run else model
                models.append(model)
                answering.append("" if model.answers else self._answer(tx, config, model, run, round_id))
        return config.model_copy(update={"models": models}), answering

    def _run(self, tx: Transaction, model: RoundModel) -> Run | None:
        """Return the run that answers, or that wrote the answers in the file."""
        if not model.run:
            return None
        if not model.answers:
            return self.evaluating.checked_run(tx, ModelSelection(run=model.run, checkpoint=model.checkpoint))
        try:
            return runs.get_run(tx, model.run)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field="run") from error

    def _answer(
        self, tx: Transaction, config: RoundConfig, model: RoundModel, run: Run | None, round_id: str
    ) -> str:
        """Queue a model's answers to the prompts of the file; return the job id."""
        if run and run.config.get("task") == "classification" and model.checkpoint != "base":
            raise ConfigError(
                f"{run.name} is a classifier: it assigns classes and generates no text.",
                fix="Choose another run, or its base model.",
                field="run",
            )
        document = AnswerPrompts.parse(_build_answer_settings(config, model) | {"round": round_id})
        title = f"{run.name if run else model.model} answers for {config.name}"
        return self.launching.queue_job(tx, rounds.ANSWERING, title, document.model_dump())

    def _queue(
        self,
        tx: Transaction,
        round_id: str,
        config: RoundConfig,
        made: Sequence[str],
        person: Person,
        answering: Sequence[str] = (),
    ) -> RoundQueued:
        if config.gold_dataset:
            config = config.model_copy(update={"gold_dataset": _find_gold_dataset(tx, config)})
        config = config.model_copy(update={"raters": workload.resolve_people(tx, config.raters)})
        work: dict[str, Any] = {"round": config.document(), "created_by": vars(person)}
        if answering:
            work["answering"] = list(answering)
        job_queue.insert(
            tx,
            job_queue.NewJob(
                job_id=round_id,
                kind="round",
                title=f"Round {config.name}",
                config=work,
                at=self.clock(),
                after_jobs=list(made),
            ),
        )
        return {"round_id": round_id, "job_ids": list(made)}

    def _evaluation(self, tx: Transaction, config: RoundConfig, place: int) -> Evaluation | None:
        """Return the evaluation that a model of the round names; None for a run or a model."""
        name = config.models[place].evaluation
        if not name:
            return None
        return get_answered_evaluation(tx, name, f"models.{place}.evaluation")

    def _dataset(self, tx: Transaction, config: RoundConfig, of: Sequence[Evaluation]) -> str:
        """Return the id of the data set with the prompts. Raises ConfigError if evaluations use different
        rows.
        """
        if not config.dataset and not of:
            raise ConfigError(
                "The round has no data set with prompts.", fix="Choose a data set.", field="dataset"
            )
        named = config.dataset or of[0].dataset_id
        dataset = datasets.get_dataset(tx, named)
        for evaluation in of:
            if evaluation.data_fingerprint != dataset.fingerprint:
                raise ConfigError(
                    f"{evaluation.name} uses other rows than {dataset.name}.",
                    fix="Choose evaluations of the same data set.",
                    field="models",
                )
        return dataset.dataset_id

    def _evaluate(
        self,
        tx: Transaction,
        config: RoundConfig,
        place: int,
        model: RoundModel,
        dataset: str,
        of: Sequence[Evaluation],
    ) -> str:
        """Queue a model's answers, to the same prompts as an existing evaluation if there is one."""
        rows = {"rows_of": of[0].evaluation_id} if of else {"part": config.part, "where": config.where}
        document = {
            **_build_answer_settings(config, model),
            **rows,
            "dataset": dataset,
            "max_rows": config.items,
            "metrics": [ANSWERS_METRIC],
        }
        with _prefix_model_errors(place):
            return self.evaluating.queue(tx, EvaluateConfig.parse(document))

    def import_round(self, config: ImportRound, person: Person) -> JobQueued:
        """Queue the import of a round that was rated elsewhere."""
        if not config.name:
            config = config.model_copy(update={"name": suggest_name({"path": config.path or config.upload})})
        work = {"round": config.model_dump(exclude_none=True), "created_by": vars(person)}
        with self.database.transaction() as tx:
            return {"job_id": self.launching.queue_job(tx, "import_round", f"Import {config.name}", work)}

    def close_round(self, body: RoundName, person: Person) -> EmptyAnswer:
        """Close a round, which ends rating and shows the results."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if round.state == "closed":
                raise StateError(f"{round.name} is closed already.")
            at = job_queue.to_utc(self.clock())
            rounds.update(tx, round.round_id, state="closed", closed_at=at, closed_by_name=person.name)
            tasks.release_holds(tx, round.round_id)
        return {}

    def open_round(self, body: RoundName) -> EmptyAnswer:
        """Reopen a closed round for rating."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if round.state == "open":
                raise StateError(f"{round.name} is open already.")
            if is_imported_round(round):
                raise StateError(f"{round.name} was rated elsewhere.", fix="Create a round of your own.")
            rounds.update(tx, round.round_id, state="open", closed_at=None, closed_by_name=None)
        return {}

    def leave_rater_out(self, body: RaterOfRound, person: Person) -> EmptyAnswer:
        """Exclude a rater's ratings from the results; they stay in the store, marked as excluded."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if not ratings.dealt(tx, round.round_id, body.person):
                raise NotFoundError(f"{body.person!r} has no task in {round.name}.")
            ratings.exclude_rater(tx, round.round_id, body.person, person, job_queue.to_utc(self.clock()))
        return {}

    def take_rater_in(self, body: RaterOfRound) -> EmptyAnswer:
        """Include an excluded rater's ratings again."""
        with self.database.transaction() as tx:
            ratings.include_rater(tx, rounds.get(tx, body.round).round_id, body.person)
        return {}

    def let_rater_in(self, body: RaterOfRound, person: Person) -> EmptyAnswer:
        """Let a rater who failed the qualification continue; who allowed it is recorded."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if not ratings.dealt(tx, round.round_id, body.person):
                raise NotFoundError(f"{body.person!r} has no task in {round.name}.")
            ratings.insert_qualification_override(
                tx, round.round_id, body.person, person, job_queue.to_utc(self.clock())
            )
        return {}


def check_name(tx: Transaction, config: RoundConfig) -> None:
    """Raise ConfigError (name) if the round's name, which raters see, contains one of its models."""
    names: list[str] = []
    for model in config.models:
        run_id = model.run
        names += [model.answers.removeprefix(SERVED), model.model]
        if model.evaluation:
            evaluation = evaluations.get(tx, model.evaluation)
            names.append(evaluation.model)
            run_id = evaluation.run_id or ""
        if run_id:
            run = runs.get_run(tx, run_id)
            names += [run.name, run.model]
    if named := find_named_model(config.name, names):
        raise ConfigError(
            f"The round's name contains {named}, one of its models, and raters see the name.",
            fix="Choose a name that does not reveal the models.",
            field="name",
        )


def check_scales(config: RatingSettings) -> None:
    """Raise ConfigError (criteria) if an end of a scale has no description; points in between don't
    need one.
    """
    for place, criterion in enumerate(config.criteria):
        for end, words in ((0, criterion.anchors[0]), (criterion.points - 1, criterion.anchors[-1])):
            if not words.strip():
                raise ConfigError(
                    f"Point {end + 1} of {criterion.points} of {criterion.name} has no description.",
                    fix="Describe the worst and the best point; those between are optional.",
                    field=f"criteria.{place}.anchors.{end}",
                )


@contextmanager
def _prefix_model_errors(place: int) -> Iterator[None]:
    """Prefix the field of errors about a model with its index."""
    try:
        yield
    except (ConfigError, StateError) as error:
        if error.field in ("run", "model", "checkpoint"):
            error.field = f"models.{place}.{error.field}"
        raise


def _build_answer_settings(config: RoundConfig, model: RoundModel) -> dict[str, object]:
    """Return the settings of the model and of its generation."""
    document: dict[str, Any] = {
        **({"run": model.run, "checkpoint": model.checkpoint} if model.run else {"model": model.model}),
        "seed": config.seed,
        "max_new_tokens": config.max_new_tokens,
        "do_sample": config.do_sample,
    }
    if config.do_sample:
        document |= {"temperature": config.temperature, "top_p": config.top_p}
    return document


def _find_gold_dataset(tx: Transaction, config: RoundConfig) -> str:
    """Return the id of the data set of known answers. Raises ConfigError if it doesn't fit the protocol."""
    dataset = datasets.get_dataset(tx, config.gold_dataset)
    if config.protocol == "label":
        if not dataset.stats.get("labels"):
            raise ConfigError(
                f"{dataset.name} has no labels.", fix="Choose labelled texts.", field="gold_dataset"
            )
    elif dataset.kind != "preference":
        raise ConfigError(
            f"{dataset.name} has no pairs of answers.",
            fix="Choose preference pairs.",
            field="gold_dataset",
        )
    return dataset.dataset_id
