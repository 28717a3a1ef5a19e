"""The commands about the quality of data: measure, clean, export, and what people save of their work."""

from __future__ import annotations

from collections.abc import Callable

from engine.server.command import Command
from engine.server.job_handlers import HANDLERS
from engine.server.launching import Launching
from engine.server.profiling import queue_profile
from store.config.data_config import CleanConfig, ExportConfig, ProfileConfig
from store.config.filters import Filter
from store.config.recipe import Recipe
from store.contract.document import Config, Line
from store.contract.errors import ConfigError, StateError
from store.contract.states import ALIVE
from store.db.database import Database, Transaction
from store.documents.tables.job import Done, JobQueued, RecipeSaved
from store.queries import jobs
from store.queries.data import datasets, quality


class SavedRecipe(Recipe):
    name: Line


class RecipeName(Config):
    name: Line


class SliceName(Config):
    dataset: str
    name: Line


class NewSlice(SliceName):
    where: Filter


class DataCommands:
    """The commands over one store; `launching` queues light jobs and knows which names are taken."""

    def __init__(self, database: Database, launching: Launching, clock: Callable[[], float]) -> None:
        self.database, self.launching, self.clock = database, launching, clock

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "profile": Command(ProfileConfig, self.profile, makes_work=True),
            "clean": Command(CleanConfig, self.clean, makes_work=True),
            "export": Command(ExportConfig, self.export, makes_work=True),
            "save_recipe": Command(SavedRecipe, self.save_recipe),
            "delete_recipe": Command(RecipeName, self.delete_recipe),
            "save_slice": Command(NewSlice, self.save_slice),
            "delete_slice": Command(SliceName, self.delete_slice),
        }

    def profile(self, config: ProfileConfig) -> JobQueued:
        """Queue the measuring of one group of signals; the job that does so already where there is one."""
        with self.database.transaction() as tx:
            return {"job_id": queue_profile(tx, config, self.clock())}

    def clean(self, config: CleanConfig) -> JobQueued:
        """Queue the making of a new version. Raises ConfigError for a name that is taken."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, config.dataset)
            name = config.name or self.launching.next_name(tx, dataset["name"])
            self.launching.check_name(tx, name)
            changed = config.model_copy(update={"dataset": dataset["dataset_id"], "name": name})
            document = changed.model_dump(exclude_none=True)
            quality.work_order(tx, document)  # NotFoundError where a data set to mix in is not there
            return {"job_id": self.launching.queue_job(tx, "clean", f"Clean {dataset['name']}", document)}

    def export(self, config: ExportConfig) -> JobQueued:
        """Queue the writing of a file; the job's result names it."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, config.dataset)
            config = config.model_copy(update={"dataset": dataset["dataset_id"]})
            document = config.model_dump(exclude_none=True)
            return {"job_id": self.launching.queue_job(tx, "export", f"Export {dataset['name']}", document)}

    def save_recipe(self, body: SavedRecipe) -> RecipeSaved:
        """Keep a recipe under a name."""
        at = self.clock()
        recipe_id = jobs.new_id("recipe", at)
        with self.database.transaction() as tx:
            quality.save_recipe(tx, recipe_id, body.name, Recipe(steps=body.steps), jobs.utc(at))
        return {"recipe_id": recipe_id}

    def delete_recipe(self, body: RecipeName) -> Done:
        """Forget a saved recipe."""
        with self.database.transaction() as tx:
            quality.delete_recipe(tx, body.name)
        return {}

    def save_slice(self, body: NewSlice) -> Done:
        """Name rows of a data set."""
        if not body.where:
            raise ConfigError("The filter is empty: a slice of all rows is the data set.", field="where")
        with self.database.transaction() as tx:
            dataset_id = datasets.get_dataset(tx, body.dataset)["dataset_id"]
            quality.save_slice(tx, dataset_id, body.name, body.where, jobs.utc(self.clock()))
        return {}

    def delete_slice(self, body: SliceName) -> Done:
        """Forget a slice."""
        with self.database.transaction() as tx:
            quality.delete_slice(tx, datasets.get_dataset(tx, body.dataset)["dataset_id"], body.name)
        return {}


def check_unused(tx: Transaction, dataset_id: str) -> None:
    """Raise StateError where a job that is not over reads or makes a version of the data set."""
    for job in jobs.with_status(tx, ALIVE):
        if dataset_id in HANDLERS[job["kind"]].reads(tx, job):
            raise StateError(f"{job['title']} is not over.", fix="Let it finish, or cancel it.")
