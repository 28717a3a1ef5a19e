"""The commands that make versions of registered models and delete them."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from engine.server.acts.command import MADE, ActivitySubject, Command
from engine.server.endpoints.endpoint_folders import check_not_served
from engine.server.scheduling import registered
from engine.server.scheduling.improvement_needs import check_not_improving
from engine.server.scheduling.launching import Launching
from engine.server.scheduling.removing import remove_noted
from engine.server.topics.evaluation_commands import EvaluationCommands
from store.config.judging.answering import ChosenModel
from store.config.shipping.registry_config import KIND, DescribeModel, RegisterConfig
from store.contract.document import Config, Line
from store.contract.errors import ConflictError, StateError
from store.contract.version_folders import VersionDir
from store.db.database import Database, Queryable, Transaction
from store.documents.tables.command_answers import Done, JobQueued
from store.documents.tables.person import Person
from store.queries import removals
from store.queries.shipping import versions


class VersionName(Config):
    """`version`: NAME@NUMBER or NAME@ALIAS."""

    version: Line = Field(min_length=1, max_length=200)


class RegisterCommands:
    """The commands over one store; `launching` queues jobs."""

    def __init__(
        self,
        database: Database,
        launching: Launching,
        evaluating: EvaluationCommands,
        clock: Callable[[], float],
    ) -> None:
        self.database, self.launching, self.evaluating, self.clock = database, launching, evaluating, clock
        self.home = launching.home

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "register_model": Command(RegisterConfig, self.register, MADE, makes_work=True, by_person=True),
            "describe_model": Command(DescribeModel, self.describe, _described),
            "delete_version": Command(VersionName, self.delete, by_version),
        }

    def register(self, config: RegisterConfig, person: Person) -> JobQueued:
        """Queue the copying of what a run left, or of a folder. Raises ConfigError and StateError that name
        the field."""
        with self.database.transaction() as tx:
            return {"job_id": self.queue(tx, config, person)}

    def queue(self, tx: Transaction, config: RegisterConfig, person: Person) -> str:
        """The same within a transaction that does more; the id of the job."""
        if config.run:
            chosen = ChosenModel(run=config.run, checkpoint=config.checkpoint)
            run = self.evaluating.checked_run(tx, chosen)
            assert run is not None  # a name was given
            config = config.model_copy(update={"run": run["run_id"]})
        if config.base:
            base = registered.fixed(tx, self.home, config.base, "base")
            config = config.model_copy(update={"base": base})
        document = {"register": config.model_dump(), "created_by": dict(person)}
        return self.launching.queue_job(tx, KIND, f"Register {config.name}", document)

    def describe(self, body: DescribeModel) -> Done:
        """Say what a model is meant for. Raises ConflictError where somebody else has said so meanwhile."""
        with self.database.transaction() as tx:
            model = versions.get_model(tx, body.model)
            if body.seen is not None and model["description"] not in (body.seen, body.description):
                raise ConflictError(
                    f"What {model['name']} is meant for was changed meanwhile.",
                    fix="Look at what it says now, then save again.",
                    field="description",
                )
            versions.describe(tx, model["model_id"], body.description)
        return {}

    def delete(self, body: VersionName) -> Done:
        """Forget a version and its files. Raises StateError where an alias, another version or an endpoint
        needs it."""
        with self.database.transaction() as tx:
            version = versions.get_version(tx, body.version)
            reference = registered.reference_of(version)
            held = [
                line["alias"]
                for line in versions.aliases(tx, version["model_id"])
                if line["version"] == version["version"]
            ]
            if held:
                raise StateError(
                    f"{reference} is {' and '.join(held)}, and can't be deleted.",
                    fix="Move the alias to another version first.",
                )
            check_not_improving(tx, reference, reference)
            if others := versions.on_base(tx, reference):
                raise StateError(
                    f"{others[0]} belongs to {reference}, and can't be loaded without it.",
                    fix=f"Delete {others[0]} first.",
                )
            folder = VersionDir(self.home.path / version["folder"])
            check_not_served(tx, self.home, folder.path, reference)
            versions.delete(tx, version["model_id"], version["version"])
            removals.note(tx, self.home, [folder.path, folder.seal])
        remove_noted(self.database, self.home)
        return {}


def _described(db: Queryable, body: DescribeModel) -> ActivitySubject:
    model = versions.get_model(db, body.model)
    return ActivitySubject("model", model["model_id"], model["name"], "what it is meant for")


def by_version(db: Queryable, body: VersionName, *_: Person) -> ActivitySubject:
    """Of a body that names a version."""
    version = versions.get_version(db, body.version)
    return ActivitySubject("model", version["model_id"], version["name"], f"version {version['version']}")
