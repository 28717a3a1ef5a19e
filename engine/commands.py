"""Every change that a user can request, as a function from a document to a document.

A body is validated first. A change of the store is one transaction, made of writes of the store's modules,
and folders are removed only after it is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from engine.data.split.partition import check_split_column
from engine.job_handlers import HANDLERS
from engine.server import audit_log
from engine.server.audit_log import ActivityEntry
from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.comment_commands import CommentCommands
from engine.server.comparison_commands import ComparisonCommands
from engine.server.data_commands import DataCommands, check_unused
from engine.server.evaluation_commands import EvaluationCommands, check_not_evaluated
from engine.server.features import CommandContext, load_engine_features
from engine.server.file_removal import remove_noted
from engine.server.job_outcomes import clear_logged_requests, is_from_request_log
from engine.server.job_specs import archive_attempt
from engine.server.job_submission import JobSubmission
from engine.server.machine_access import (
    NetworkCommands,
    check_addresses,
    check_keys_sent,
    check_named_sources,
)
from engine.server.optimistic_locking import check_unchanged
from engine.server.people_commands import PeopleCommands
from engine.server.profiling import cancel_profiles
from engine.server.run_commands import RunCommands
from store.core.config import Config, Line
from store.core.errors import StateError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.job_kinds import ALIVE, JOB_KINDS, RESUMABLE
from store.core.rights import COMMANDS, check_right
from store.core.schemas import Job, Person
from store.data import datasets
from store.data.config import ImportConfig
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import CommandAnswer, EmptyAnswer
from store.jobs import job_queue
from store.people import activity, settings
from store.runs import runs
from store.runs.config import Interpolate, Variant
from store.training.split import Split, get_split
from store.training.train_config import TrainConfig

QueryFunction = Callable[[str, Mapping[str, object]], Any]  # name and body -> result of that query


class EmptyBody(Config):
    """A body without fields."""


class DatasetName(Config):
    dataset: str


class DatasetRename(DatasetName):
    """Body of `rename_dataset`; seen: the field's value as the person read it, not checked if omitted."""

    name: Line = Field(min_length=1, max_length=80)
    seen: dict[str, object] | None = None


class DatasetSplit(Split):
    dataset: str
    seen: dict[str, object] | None = None


class JobName(Config):
    """Body with `job`: an id, or the name of a run."""

    job: str


class Commands:
    """All commands of one store.

    run_query: answers a preview. people: adds the commands about accounts. wake: wakes the scheduler.
    """

    def __init__(
        self,
        database: Database,
        home: Home,
        run_query: QueryFunction,
        *,
        people: PeopleCommands | None = None,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.home = home
        self.wake = wake
        self.clock = clock
        self.launching = JobSubmission(database, home, run_query, clock)
        self.data = DataCommands(database, self.launching, clock)
        self.evaluations = EvaluationCommands(database, home, self.launching)
        self.features = load_engine_features().values()
        self.context = CommandContext(
            database, home, self.launching, self.evaluations, clock, self._requeue, wake
        )
        self.comments = CommentCommands(database, clock)
        self.comparisons = ComparisonCommands(database, clock)
        self.runs = RunCommands(database)
        self.people = people
        self.networks = NetworkCommands(database)

    def table(self) -> dict[str, Callable[[Mapping[str, object], Person], CommandAnswer]]:
        """Return name -> function of an unvalidated body, as the server expects."""
        return {name: self._checked(name, command) for name, command in self.commands().items()}

    def commands(self) -> dict[str, Command]:
        """Return all commands by name."""
        launching = self.launching
        return {
            "import_dataset": Command(ImportConfig, launching.import_dataset, CREATED, makes_work=True),
            "rename_dataset": Command(DatasetRename, self.rename_dataset, _find_renamed_subject),
            "set_split": Command(DatasetSplit, self.set_split, _find_split_subject),
            "delete_dataset": Command(
                DatasetName, self.delete_dataset, audit_log.find_deleted_dataset_subject
            ),
            "launch": Command(TrainConfig, launching.launch, CREATED, makes_work=True),
            "launch_sample": Command(EmptyBody, launching.launch_sample, CREATED, makes_work=True),
            "prepare_sample": Command(EmptyBody, launching.prepare_sample, CREATED, makes_work=True),
            "cancel": Command(JobName, self.cancel, audit_log.find_job_subject),
            "resume": Command(JobName, self.resume, audit_log.find_job_subject, makes_work=True),
            "delete": Command(JobName, self.delete, audit_log.find_deleted_job_subject),
            "interpolate": Command(
                Interpolate, launching.interpolate, audit_log.find_run_subject, makes_work=True
            ),
            "keep_variant": Command(Variant, launching.keep_variant, CREATED, makes_work=True),
            "set_price": Command(settings.Price, self.set_price, _find_price_subject),
            **{
                name: command
                for feature in self.features
                for name, command in feature.build_commands(self.context).items()
            },
            **self.data.table(),
            **self.evaluations.table(),
            **self.comments.table(),
            **self.comparisons.table(),
            **self.runs.table(),
            **(self.people.table() if self.people else {}),
            **self.networks.table(),
        }

    def _checked(
        self, name: str, command: Command
    ) -> Callable[[Mapping[str, object], Person], CommandAnswer]:
        def act(body: Mapping[str, object], person: Person) -> CommandAnswer:
            check_right(person, COMMANDS.get(name))
            valid = command.body.parse(body)
            check_addresses(self.database, self.home, valid)
            check_named_sources(valid, person, self.home)
            check_keys_sent(self.database, valid, person)
            if command.makes_work:
                self.home.check_space()
            arguments = (valid, person) if command.by_person else (valid,)
            entry = ActivityEntry(name, command, person, job_queue.to_utc(self.clock()))
            entry.look(self.database, *arguments)
            with self.database.acting(person.person_id, entry.write):
                answer = command.act(*arguments)
            entry.finish(self.database)
            self.wake()
            return answer

        return act

    # -- data sets ----------------------------------------------------------------------------------

    def rename_dataset(self, body: DatasetRename) -> EmptyAnswer:
        """Rename a data set; existing runs keep its earlier name."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, body.dataset)
            check_unchanged(
                tx, audit_log.find_dataset_subject(tx, body), body.seen, dataset, {"name": body.name}
            )
            self.launching.check_name(tx, body.name)
            datasets.rename_dataset(tx, body.dataset, body.name)
        return {}

    def set_split(self, body: DatasetSplit) -> EmptyAnswer:
        """Change the split for future runs; omitted fields are not changed."""
        asked = body.model_dump(exclude={"dataset", "seen"}, exclude_unset=True)
        own = datasets.get_dataset(self.database, body.dataset)
        split = Split.parse(
            get_split(asked, datasets.get_split_fields(own)) | asked
        )  # a column set to null removes it
        if (split.split_by, split.split_column) != (own.split_by, own.split_column):
            check_split_column(self.home.rows(own.fingerprint).parent, split)
        with self.database.transaction() as tx:
            present = datasets.get_dataset(tx, own.dataset_id)
            check_unchanged(tx, audit_log.find_dataset_subject(tx, body), body.seen, present, asked)
            for feature in self.features:
                feature.check_split_unchanged(tx, own.dataset_id, present.name)
            datasets.set_split(tx, own.dataset_id, split)
        return {}

    def delete_dataset(self, body: DatasetName) -> EmptyAnswer:
        """Delete a data set that no run needs, and its rows unless another data set has the same."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, body.dataset)
            dataset_id = dataset.dataset_id
            check_unused(tx, dataset_id, HANDLERS)
            for feature in self.features:
                feature.check_dataset_unused(tx, dataset_id, dataset.name)
            check_not_evaluated(tx, "dataset_id", dataset_id, dataset.name)
            cancel_profiles(tx, dataset_id, self.clock())
            fingerprint = datasets.delete_dataset(tx, body.dataset)
            activity.forget_comments_of_dataset(tx, dataset_id)
            if fingerprint:
                datasets.forget_signals(tx, fingerprint)
                job_queue.note_removals(tx, self.home, [self.home.datasets / fingerprint])
        remove_noted(self.database, self.home)
        return {}

    # -- jobs ---------------------------------------------------------------------------------------

    def cancel(self, body: JobName) -> EmptyAnswer:
        """Cancel a job: a queued one ends at once, the worker of an active one is stopped by the
        scheduler.
        """
        at = self.clock()
        with self.database.transaction() as tx:
            job = audit_log.find_job(tx, body.job)
            if job.status not in ALIVE:
                raise StateError(f"{job.title} is {job.status} already.", fix="There is nothing to cancel.")
            job_queue.stop(tx, job, at)
            for own in job_queue.statuses(tx, self._list_dependent_jobs(job)):
                job_queue.stop(tx, job_queue.get_job(tx, own), at)
        if job.status == "queued":  # the scheduler ends the others
            clear_logged_requests(self.home, job)
        return {}

    def resume(self, body: JobName) -> EmptyAnswer:
        """Queue another attempt in the same folder; ended jobs that it depends on are resumed with it."""
        with self.database.transaction() as tx:
            job = audit_log.find_job(tx, body.job)
            if job.status not in RESUMABLE:
                raise StateError(
                    f"{job.title} is {job.status} and can't be resumed.",
                    fix=f"Only jobs that are {', '.join(sorted(RESUMABLE))} can be resumed.",
                )
            if is_from_request_log(job):
                raise StateError(
                    f"The requests of {job.title} were removed when it ended.", fix="Start the round again."
                )
            self._requeue(tx, job)
        return {}

    def _requeue(self, tx: Transaction, job: Job) -> None:
        kind = JOB_KINDS[job.kind]
        if kind.is_run:
            self._check_data(tx, job)
        elif kind.makes_dataset:
            self.launching.check_name(tx, job.config["name"])
        for before in job_queue.statuses(tx, job.after_jobs).values():
            if before.status in RESUMABLE:
                self._requeue(tx, job_queue.get_job(tx, before.job_id))
        archive_attempt(JobDir(self.home.jobs / job.job_id), job.attempt)
        job_queue.requeue(tx, job.job_id)

    def _check_data(self, tx: Transaction, job: Job) -> None:
        run = runs.get_run(tx, job.job_id)
        if run.data_fingerprint is not None:
            datasets.get_dataset(tx, run.dataset_id)  # NotFoundError if it was deleted

    def delete(self, body: JobName) -> EmptyAnswer:
        """Delete an ended job and everything that belongs to it: first the rows, then its folder."""
        with self.database.transaction() as tx:
            job = audit_log.find_job(tx, body.job)
            if job.status in ALIVE:
                raise StateError(f"{job.title} is {job.status} and can't be deleted.", fix="Cancel it first.")
            if other := job_queue.find_waiting_title(tx, job.job_id):
                raise StateError(f"{other} waits for {job.title}.", fix=f"Cancel {other} first.")
            check_not_evaluated(tx, "run_id", job.job_id, job.title)
            for feature in self.features:
                feature.check_job_unused(tx, self.home, job)
            activity.forget_comments_of_job(tx, job.job_id)
            gone = [job.job_id, *self._list_dependent_jobs(job)]
            for own in job_queue.statuses(tx, gone).values():
                if own.status in ALIVE:
                    raise StateError(f"{own.title} is {own.status}.", fix="Cancel it first.")
            for job_id in gone:
                job_queue.delete(tx, job_id)
            job_queue.note_removals(tx, self.home, [self.home.jobs / job_id for job_id in gone])
        remove_noted(self.database, self.home)
        return {}

    def _list_dependent_jobs(self, job: Job) -> list[str]:
        return [job_id for feature in self.features for job_id in feature.list_dependent_jobs(job)]

    def set_price(self, body: settings.Price) -> EmptyAnswer:
        """Set the price of an hour of this machine, for the costs shown with the advice."""
        with self.database.transaction() as tx:
            settings.set_price(tx, body)
        return {}


# -- subjects, with the change ----------------------------------------------------------------------


def _find_renamed_subject(db: Queryable, body: DatasetRename) -> ActivitySubject:
    return audit_log.find_dataset_subject(db, body)._replace(detail=f"now {body.name}")


def _find_split_subject(db: Queryable, body: DatasetSplit) -> ActivitySubject:
    asked = body.model_dump(exclude={"dataset", "seen"}, exclude_unset=True)
    detail = ", ".join(f"{field.replace('_', ' ')} {value}" for field, value in asked.items())
    return audit_log.find_dataset_subject(db, body)._replace(detail=detail)


def _find_price_subject(_: Queryable, body: settings.Price) -> ActivitySubject:
    detail = "unknown" if body.per_hour is None else f"{body.per_hour:g} {body.currency}"
    return ActivitySubject("setting", settings.PRICE, "the price of an hour", detail)
