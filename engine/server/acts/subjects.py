"""Which thing a command is about: by the body of the command where the thing is there before, and by what the
command made where it is new."""

from __future__ import annotations

from typing import Any, Literal

from engine.diagnostics.phrasing import plural
from engine.server.acts.command import ActivitySubject
from engine.server.scheduling.results import dataset_id_of
from store.catalog.job_kinds import JOB_KINDS
from store.catalog.methods import METHODS
from store.catalog.signals import GROUPS
from store.config.data.data_config import ExportConfig, ProfileConfig
from store.config.shipping import registry_config
from store.contract.errors import NotFoundError
from store.contract.version_folders import model_id_of
from store.db.database import Queryable, Transaction
from store.documents.serving.endpoint import EndpointRow
from store.documents.tables.job import Job
from store.documents.tables.person import Person
from store.queries import comments, jobs
from store.queries.data import datasets
from store.queries.evaluations import evaluations
from store.queries.people import accounts
from store.queries.rating import ratings, rounds
from store.queries.runs import runs
from store.queries.serving import endpoint_keys, endpoints

SAVED: tuple[Literal["recipe", "slice"], ...] = ("recipe", "slice")


def find_job(db: Queryable, name: str) -> Job:
    """The job with this id, or that of the run with this name. Raises NotFoundError, and StateError where
    several runs have it."""
    try:
        return jobs.get_job(db, name)
    except NotFoundError:
        return jobs.get_job(db, runs.one_run(db, name)["run_id"])


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
    job = jobs.get_job(tx, tx.made["job"][-1])
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
    return of_job(job, _with_comments(comments.count_of_job(db, job["job_id"])))


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
    return subject._replace(detail=_with_comments(comments.count_of_dataset(db, subject.id)))


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
    key = endpoint_keys.get(db, body.key)
    return _of_endpoint(endpoints.get(db, key["endpoint_id"]))._replace(detail=key["name"])


def by_measured(db: Queryable, body: ProfileConfig) -> ActivitySubject:
    """The data set, and what is measured of it."""
    return by_dataset(db, body)._replace(detail=GROUPS[body.group].title)


def by_exported(db: Queryable, body: ExportConfig) -> ActivitySubject:
    """The data set, and as what it is written."""
    return by_dataset(db, body)._replace(detail=f"as {body.format}")


def _with_comments(count: int) -> str:
    return f"{plural(count, 'comment')} went with it" if count else ""
