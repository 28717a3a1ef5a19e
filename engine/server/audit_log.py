"""Which thing a command is about, and the line of the activity that the command leaves.

The thing is looked up before the command acts, as a deleted one has no name afterwards; what a command
makes, in its transaction. Invariant: the line is written in the transaction of the change, so that there is
no change without its line and no line without its change, whatever is killed when.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from engine.server.command import MADE, PERSONAL, ActivitySubject, Command
from engine.server.job_results import dataset_id_of
from store.core.errors import NotFoundError
from store.core.formatting import plural
from store.core.job_kinds import JOB_KINDS
from store.core.schemas import Job, Person
from store.data import datasets
from store.data.config import ExportConfig, ProfileConfig
from store.data.signals import GROUPS
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.jobs import job_queue
from store.people import accounts, activity
from store.rating import ratings, rounds
from store.registry import config as registry_config
from store.registry.version_folders import model_id_of
from store.runs import runs
from store.serving import endpoints
from store.serving.schemas import EndpointRow
from store.training.methods import METHODS

SAVED: tuple[Literal["recipe", "slice"], ...] = ("recipe", "slice")


def find_job(db: Queryable, name: str) -> Job:
    """The job with this id, or that of the run with this name. Raises NotFoundError, and StateError where
    several runs have it."""
    try:
        return job_queue.get_job(db, name)
    except NotFoundError:
        return job_queue.get_job(db, runs.one_run(db, name)["run_id"])


def of_job(job: Job, detail: str = "") -> ActivitySubject:
    """What a job works for: a run, a data set that is to be, an evaluation, or the job itself."""
    kind = JOB_KINDS[job["kind"]]
    if kind.is_run:
        return ActivitySubject("run", job["job_id"], job["title"], detail)
    if kind.makes_dataset:
        return ActivitySubject("dataset", dataset_id_of(job["job_id"]), job["config"]["name"], detail)
    if job["kind"] == evaluations.KIND:
        return ActivitySubject("evaluation", job["job_id"], job["title"], detail)
    if job["kind"] == registry_config.KIND:
        name = job["config"]["register"]["name"]
        return ActivitySubject("model", model_id_of(name), name, detail)
    if job["kind"] in rounds.KINDS:
        return ActivitySubject("round", job["job_id"], job["config"]["round"]["name"], detail)
    if job["kind"] == "reproduction":
        return ActivitySubject("run", job["config"]["run"], job["config"]["name"], detail)
    return ActivitySubject("job", job["job_id"], job["title"], detail)


def of_made(tx: Transaction) -> ActivitySubject | None:
    """What a transaction has made: the last of its jobs, as those before are what that one waits for, or what
    somebody saved to share it. None where that is nothing."""
    for kind in SAVED:
        for saved_id in tx.made[kind]:
            rows = tx.query(f"SELECT name FROM {kind} WHERE {kind}_id = ? AND shared", [saved_id]).to_pylist()
            return ActivitySubject(kind, saved_id, rows[0]["name"]) if rows else None
    for endpoint_id in tx.made["endpoint"]:
        return _of_endpoint(endpoints.get(tx, endpoint_id))
    if not tx.made["job"]:
        return None
    job = job_queue.get_job(tx, tx.made["job"][-1])
    return of_job(job, _detail(job))


def _detail(job: Job) -> str:
    config = job["config"]
    if job["kind"] == "train":
        return f"{METHODS[config['method']].title} on {config['dataset']}"
    return ""


def by_job(db: Queryable, body: Any) -> ActivitySubject:
    """Of a body that names a job, or a run."""
    return of_job(find_job(db, body.job))


def by_job_that_goes(db: Queryable, body: Any) -> ActivitySubject:
    """And how many comments go with it."""
    job = find_job(db, body.job)
    return of_job(job, _with_comments(activity.count_comments_of_job(db, job["job_id"])))


def by_run(db: Queryable, body: Any) -> ActivitySubject:
    """Of a body that names a run."""
    run = runs.one_run(db, body.run)
    return ActivitySubject("run", run["run_id"], run["name"])


def by_dataset(db: Queryable, body: Any) -> ActivitySubject:
    """Of a body that names a data set."""
    dataset = datasets.get_dataset(db, body.dataset)
    return ActivitySubject("dataset", dataset["dataset_id"], dataset["name"])


def by_dataset_that_goes(db: Queryable, body: Any) -> ActivitySubject:
    """And how many comments on its rows go with it."""
    subject = by_dataset(db, body)
    return subject._replace(detail=_with_comments(activity.count_comments_of_dataset(db, subject.id)))


def by_round(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Of a body that names a round."""
    round = rounds.get(db, body.round)
    return ActivitySubject("round", round["round_id"], round["name"])


def by_rater(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """The round, and which rater of it."""
    subject = by_round(db, body)
    tasks = ratings.dealt(db, subject.id, body.person)
    return subject._replace(detail=tasks[0]["person_name"] if tasks else body.person)


def by_beginning(db: Queryable, body: Any, person: Person) -> ActivitySubject | None:
    """The round with a person's first rating: a line for each would hide all others."""
    if ratings.has_rated(db, body.round, person["person_id"]):
        return None
    return by_round(db, body)


def of_team(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """The team as a whole, and in a few words what of it."""
    words = {"role": "as {}", "on": "sign-in {}"}
    details = [words[name].format(_plain(getattr(body, name))) for name in words if hasattr(body, name)]
    return ActivitySubject("setting", "team", "the team", ", ".join(details))


def by_person(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Of a body that names a person."""
    account = accounts.account(db, body.person)
    details = [f"{name} {_plain(getattr(body, name))}" for name in ("role", "active") if hasattr(body, name)]
    return ActivitySubject("person", body.person, account["name"], ", ".join(details))


def _plain(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def by_endpoint(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Of a body that names an endpoint."""
    return _of_endpoint(endpoints.get(db, body.endpoint))


def _of_endpoint(endpoint: EndpointRow) -> ActivitySubject:
    return ActivitySubject("endpoint", endpoint["endpoint_id"], endpoint["name"])


def by_endpoint_key(db: Queryable, body: Any, *_: Person) -> ActivitySubject:
    """Of a body that names a key: the endpoint, and what the key was for."""
    key = endpoints.get_key(db, body.key)
    return _of_endpoint(endpoints.get(db, key["endpoint_id"]))._replace(detail=key["name"])


def by_measured(db: Queryable, body: ProfileConfig) -> ActivitySubject:
    """The data set, and what is measured of it."""
    return by_dataset(db, body)._replace(detail=GROUPS[body.group].title)


def by_exported(db: Queryable, body: ExportConfig) -> ActivitySubject:
    """The data set, and as what it is written."""
    return by_dataset(db, body)._replace(detail=f"as {body.format}")


def _with_comments(count: int) -> str:
    return f"{plural(count, 'comment')} went with it" if count else ""


# The line of the activity that a command leaves, written in the transaction of its change.
#
# So there is no change without its line, and no line without its change, whatever is killed when. The thing
# is looked up before the command acts, as a deleted one has no name afterwards; what the command makes, in
# its transaction, before that is committed. A command whose change is not in the store leaves its line
# after it.


class Note:
    """The line of one command. `write` is called with each of its transactions and writes once."""

    def __init__(self, name: str, command: Command, person: Person, at: datetime) -> None:
        self._name, self._command, self._person, self._at = name, command, person, at
        self._before: ActivitySubject | None = None
        self._due = command.subject is not PERSONAL

    def look(self, database: Database, *body: Any) -> None:
        """Before the command acts: which thing it is about."""
        if callable(self._command.subject):
            self._before = self._command.subject(database, *body)
            self._due = self._before is not None

    def write(self, tx: Transaction) -> None:
        """Add the line to the change, once there is one."""
        if not self._due:
            return
        subject = of_made(tx) if self._command.subject is MADE else self._before
        if subject is None:
            return
        self._due = False
        activity.add(
            tx,
            {
                "done_at": self._at,
                "person_id": self._person["person_id"],
                "person_name": self._person["name"],
                "command": self._name,
                "subject_kind": subject.kind,
                "subject_id": subject.id,
                "subject_name": subject.name,
                "detail": subject.detail,
                "comment_id": next(iter(tx.made["comment"]), subject.comment_id),
            },
        )

    def finish(self, database: Database) -> None:
        """After the command: its line, where it opened no transaction that could hold it."""
        if self._due and self._before is not None:
            with database.transaction() as tx:
                self.write(tx)
