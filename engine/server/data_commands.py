"""Commands for data quality: measure, clean, export, and saved recipes and slices."""

from __future__ import annotations

from collections.abc import Callable

from engine.server import audit_log
from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.job_handling import JobHandlers
from engine.server.job_submission import JobSubmission
from engine.server.profiling import queue_profile
from store.core.config import Config, Line
from store.core.errors import ConfigError, StateError
from store.core.job_kinds import ALIVE
from store.core.schemas import Person
from store.data import datasets, saved_recipes
from store.data.cleaning import Recipe
from store.data.config import CleanConfig, ExportConfig, ProfileConfig
from store.data.filters import Filter
from store.data.schemas import SliceRow
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import EmptyAnswer, JobQueued, RecipeSaved, SliceSaved
from store.jobs import job_queue


class SavedRecipe(Recipe):
    """Body of `save_recipe`.

    shared: visible to everybody, otherwise to the owner only. seen: revision that the person last read, 0 for
    none; if omitted, one's own recipe of that name is overwritten.
    """

    name: Line
    shared: bool = True
    seen: int | None = None


class RecipeName(Config):
    """Reference to one's own recipe of that name, or else the shared one.

    recipe_id: required if several share the name.
    """

    name: Line
    recipe_id: str = ""


class SliceName(Config):
    """Reference to a slice of a data set; otherwise as RecipeName."""

    dataset: str
    name: Line
    slice_id: str = ""


class NewSlice(Config):
    """Body of `save_slice`; otherwise as SavedRecipe, for a data set."""

    dataset: str
    name: Line
    where: Filter
    shared: bool = True
    seen: int | None = None


class DataCommands:
    """Data commands of one store; `launching` queues light jobs and checks names."""

    def __init__(self, database: Database, launching: JobSubmission, clock: Callable[[], float]) -> None:
        self.database, self.launching, self.clock = database, launching, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "profile": Command(ProfileConfig, self.profile, audit_log.find_profile_subject, makes_work=True),
            "clean": Command(CleanConfig, self.clean, CREATED, makes_work=True),
            "export": Command(
                ExportConfig, self.export, audit_log.find_dataset_export_subject, makes_work=True
            ),
            "save_recipe": Command(SavedRecipe, self.save_recipe, CREATED, by_person=True),
            "delete_recipe": Command(
                RecipeName, self.delete_recipe, _find_deleted_recipe_subject, by_person=True
            ),
            "save_slice": Command(NewSlice, self.save_slice, CREATED, by_person=True),
            "delete_slice": Command(
                SliceName, self.delete_slice, _find_deleted_slice_subject, by_person=True
            ),
        }

    def profile(self, config: ProfileConfig) -> JobQueued:
        """Queue the measurement of one group of signals; return the existing job if there is one."""
        with self.database.transaction() as tx:
            return {"job_id": queue_profile(tx, config, self.clock())}

    def clean(self, config: CleanConfig) -> JobQueued:
        """Queue the creation of a new version. Raises ConfigError for a name in use."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, config.dataset)
            name = config.name or self.launching.next_name(tx, dataset.name)
            self.launching.check_name(tx, name)
            changed = config.model_copy(update={"dataset": dataset.dataset_id, "name": name})
            document = changed.model_dump(exclude_none=True)
            datasets.work_order(tx, document)  # NotFoundError if a data set to mix in doesn't exist
            return {"job_id": self.launching.queue_job(tx, "clean", f"Clean {dataset.name}", document)}

    def export(self, config: ExportConfig) -> JobQueued:
        """Queue the export to a file, which the job's result names."""
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, config.dataset)
            config = config.model_copy(update={"dataset": dataset.dataset_id})
            document = config.model_dump(exclude_none=True)
            return {"job_id": self.launching.queue_job(tx, "export", f"Export {dataset.name}", document)}

    def save_recipe(self, body: SavedRecipe, person: Person) -> RecipeSaved:
        """Save a recipe under a name."""
        at = self.clock()
        saving = saved_recipes.SaveRequest(body.name, person, job_queue.to_utc(at), body.shared, body.seen)
        with self.database.transaction() as tx:
            new_id = job_queue.create_id("recipe", at)
            return {"recipe_id": saved_recipes.save_recipe(tx, new_id, Recipe(steps=body.steps), saving)}

    def delete_recipe(self, body: RecipeName, person: Person) -> EmptyAnswer:
        """Delete a saved recipe."""
        with self.database.transaction() as tx:
            saved_recipes.delete_recipe(
                tx, saved_recipes.find_recipe(tx, body.name, person, body.recipe_id), person
            )
        return {}

    def save_slice(self, body: NewSlice, person: Person) -> SliceSaved:
        """Save a slice of a data set under a name."""
        if not body.where:
            raise ConfigError("The filter is empty: a slice of all rows is the data set.", field="where")
        at = self.clock()
        saving = saved_recipes.SaveRequest(body.name, person, job_queue.to_utc(at), body.shared, body.seen)
        with self.database.transaction() as tx:
            dataset_id = datasets.get_dataset(tx, body.dataset).dataset_id
            new_id = job_queue.create_id("slice", at)
            return {"slice_id": saved_recipes.save_slice(tx, new_id, dataset_id, body.where, saving)}

    def delete_slice(self, body: SliceName, person: Person) -> EmptyAnswer:
        """Delete a slice."""
        with self.database.transaction() as tx:
            saved_recipes.delete_slice(tx, _find_slice(tx, body, person), person)
        return {}


def _find_slice(db: Queryable, body: SliceName, person: Person) -> SliceRow:
    dataset_id = datasets.get_dataset(db, body.dataset).dataset_id
    return saved_recipes.find_slice(db, dataset_id, body.name, person, body.slice_id)


def _find_deleted_recipe_subject(db: Queryable, body: RecipeName, person: Person) -> ActivitySubject | None:
    """Return the subject; None for a recipe that only its owner could see."""
    recipe = saved_recipes.find_recipe(db, body.name, person, body.recipe_id)
    return ActivitySubject("recipe", recipe.recipe_id, recipe.name) if recipe.shared else None


def _find_deleted_slice_subject(db: Queryable, body: SliceName, person: Person) -> ActivitySubject | None:
    """Return the subject; None for a slice that only its owner could see."""
    named_slice = _find_slice(db, body, person)
    if not named_slice.shared:
        return None
    return ActivitySubject("slice", named_slice.slice_id, named_slice.name)


def check_unused(tx: Transaction, dataset_id: str, handlers: JobHandlers) -> None:
    """Raise StateError if an unfinished job reads the data set or creates a version of it."""
    for job in job_queue.with_status(tx, ALIVE):
        if dataset_id in handlers.list_datasets(tx, job):
            raise StateError(f"{job.title} is not over.", fix="Let it finish, or cancel it.")
