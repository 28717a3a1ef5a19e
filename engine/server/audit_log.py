"""Subjects of commands, and the activity entry that each command writes.

The subject is looked up before the command runs, as a deleted one has no name afterwards; a created one is
looked up in its transaction. Invariant: the entry is written in the transaction of the change, so that
neither exists without the other, even after a crash. A command without a change in the store writes its entry
afterwards.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from engine.server.command import CREATED, PERSONAL, ActivitySubject, Command
from engine.server.features import load_engine_features
from engine.server.job_results import build_dataset_id
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.job_kinds import JOB_KINDS
from store.core.schemas import Job, NewActivity, Person
from store.data import datasets
from store.data.config import ExportConfig, ProfileConfig
from store.data.signals import GROUPS
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.jobs import job_queue
from store.people import accounts, activity
from store.runs import runs
from store.training.methods import METHODS

SAVED: tuple[Literal["recipe", "slice"], ...] = ("recipe", "slice")


def find_job(db: Queryable, name: str) -> Job:
    """Return the job with this id, or of the run with this name.

    Raises: NotFoundError, or StateError if several runs have that name.
    """
    try:
        return job_queue.get_job(db, name)
    except NotFoundError:
        return job_queue.get_job(db, runs.get_only_run(db, name).run_id)


def build_job_subject(job: Job, detail: str = "") -> ActivitySubject:
    """Return the subject of a job: a run, a data set to be created, an evaluation, or the job itself."""
    kind = JOB_KINDS[job.kind]
    if kind.is_run:
        return ActivitySubject("run", job.job_id, job.title, detail)
    if kind.makes_dataset:
        return ActivitySubject("dataset", build_dataset_id(job.job_id), job.config["name"], detail)
    if job.kind == evaluations.KIND:
        return ActivitySubject("evaluation", job.job_id, job.title, detail)
    if kind.find_subject:
        return ActivitySubject(*kind.find_subject(job), detail)
    return ActivitySubject("job", job.job_id, job.title, detail)


def find_created_subject(tx: Transaction) -> ActivitySubject | None:
    """Return what a transaction created, or None.

    This is its last job, which may wait for those before, or a saved recipe or slice if it is shared.
    """
    for kind in SAVED:
        for saved_id in tx.made[kind]:
            rows = tx.query(f"SELECT name FROM {kind} WHERE {kind}_id = ? AND shared", [saved_id]).to_pylist()
            return ActivitySubject(kind, saved_id, rows[0]["name"]) if rows else None
    for feature in load_engine_features().values():
        if subject := feature.find_created_subject(tx):
            return subject
    if not tx.made["job"]:
        return None
    job = job_queue.get_job(tx, tx.made["job"][-1])
    config, is_training = job.config, job.kind == "train"
    detail = f"{METHODS[config['method']].title} on {config['dataset']}" if is_training else ""
    return build_job_subject(job, detail)


def find_job_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the subject of a body that names a job or a run."""
    return build_job_subject(find_job(db, body.job))


def find_deleted_job_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the same with the number of comments deleted with it."""
    job = find_job(db, body.job)
    return build_job_subject(job, _format_comment_count(activity.count_comments_of_job(db, job.job_id)))


def find_run_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the subject of a body that names a run."""
    run = runs.get_only_run(db, body.run)
    return ActivitySubject("run", run.run_id, run.name)


def find_dataset_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the subject of a body that names a data set."""
    dataset = datasets.get_dataset(db, body.dataset)
    return ActivitySubject("dataset", dataset.dataset_id, dataset.name)


def find_deleted_dataset_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the same with the number of comments on its rows deleted with it."""
    subject = find_dataset_subject(db, body)
    return subject._replace(detail=_format_comment_count(activity.count_comments_of_dataset(db, subject.id)))


def build_team_subject(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Return the team as the subject, with the change in a few words."""
    words = {"role": "as {}", "on": "sign-in {}"}
    details = [
        words[name].format(_format_value(getattr(body, name))) for name in words if hasattr(body, name)
    ]
    return ActivitySubject("setting", "team", "the team", ", ".join(details))


def find_person_subject(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Return the subject of a body that names a person."""
    account = accounts.get_account(db, body.person)
    details = [
        f"{name} {_format_value(getattr(body, name))}" for name in ("role", "active") if hasattr(body, name)
    ]
    return ActivitySubject("person", body.person, account.name, ", ".join(details))


def _format_value(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def find_profile_subject(db: Queryable, body: ProfileConfig) -> ActivitySubject:
    """Return the data set, with the measured group of signals."""
    return find_dataset_subject(db, body)._replace(detail=GROUPS[body.group].title)


def find_dataset_export_subject(db: Queryable, body: ExportConfig) -> ActivitySubject:
    """Return the data set, with the format of the export."""
    return find_dataset_subject(db, body)._replace(detail=f"as {body.format}")


def _format_comment_count(count: int) -> str:
    return f"{plural(count, 'comment')} went with it" if count else ""


class ActivityEntry:
    """Activity entry of one command. `write` is called with each of its transactions and writes once."""

    def __init__(self, name: str, command: Command, person: Person, at: datetime) -> None:
        self._name, self._command, self._person, self._at = name, command, person, at
        self._before: ActivitySubject | None = None
        self._due = command.subject is not PERSONAL

    def look(self, database: Database, *body: Any) -> None:
        """Look up the subject before the command runs."""
        if callable(self._command.subject):
            self._before = self._command.subject(database, *body)
            self._due = self._before is not None

    def write(self, tx: Transaction) -> None:
        """Add the entry to the transaction, once its subject is known."""
        if not self._due:
            return
        subject = find_created_subject(tx) if self._command.subject is CREATED else self._before
        if subject is None:
            return
        self._due = False
        activity.add(
            tx,
            NewActivity(
                done_at=self._at,
                person_id=self._person.person_id,
                person_name=self._person.name,
                command=self._name,
                subject_kind=subject.kind,
                subject_id=subject.id,
                subject_name=subject.name,
                detail=subject.detail,
                comment_id=next(iter(tx.made["comment"]), subject.comment_id),
            ),
        )

    def finish(self, database: Database) -> None:
        """Write the entry after a command that opened no transaction."""
        if self._due and self._before is not None:
            with database.transaction() as tx:
                self.write(tx)
