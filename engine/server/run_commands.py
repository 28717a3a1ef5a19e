"""Commands that change how runs are found: their names and notes, their tags, and the archive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from engine.server import audit_log
from engine.server.command import ActivitySubject, Command
from engine.server.optimistic_locking import check_unchanged
from store.core.config import Config, Line
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.db.database import Database, Queryable
from store.http.schemas import EmptyAnswer
from store.jobs import job_queue
from store.runs import runs

MAX_RUNS, MAX_TAGS = 1_000, 20  # runs of a command, tags of a run


def _check_tag(tag: str) -> str:
    if "," in tag:
        raise ValueError(f"the tag {tag!r} contains a comma, which separates tags")
    return tag


Tag = Annotated[Line, Field(min_length=1, max_length=40), AfterValidator(_check_tag)]
RunName = Annotated[str, Field(min_length=1, max_length=200)]


class RunEdit(Config):
    """Body of `edit_run`; omitted fields are not changed."""

    run: str
    name: Line | None = Field(None, max_length=120)
    notes: str | None = Field(None, max_length=10_000)
    seen: dict[str, object] | None = None


class RunsOrganization(Config):
    """Body of `organize_runs`: ids or names of runs, and what changes for all of them.

    archived: None leaves it as it is.
    """

    runs: list[RunName] = Field(min_length=1, max_length=MAX_RUNS)
    add_tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    remove_tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    archived: bool | None = None


class RunCommands:
    """Commands about the runs of one store."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "edit_run": Command(RunEdit, self.edit_run, _find_edited_subject),
            "organize_runs": Command(RunsOrganization, self.organize_runs, _find_organized_subject),
        }

    def edit_run(self, body: RunEdit) -> EmptyAnswer:
        """Change a run's name or notes."""
        changes = body.model_dump(include={"name", "notes"}, exclude_none=True)
        if changes.get("name") == "":
            raise ConfigError("A run needs a name.", field="name")
        with self.database.transaction() as tx:
            run = runs.get_only_run(tx, body.run)
            run_id = run.run_id
            check_unchanged(tx, audit_log.find_run_subject(tx, body), body.seen, run, changes)
            if changes:
                runs.update(tx, run_id, **changes)
            if "name" in changes:
                job_queue.update(tx, run_id, title=changes["name"])
        return {}

    def organize_runs(self, body: RunsOrganization) -> EmptyAnswer:
        """Add and remove tags of runs, and move them to the archive or back; all of it, or nothing.

        Raises NotFoundError and StateError for a run that is not there or whose name others have, and
        ConfigError for a run that would have more than MAX_TAGS tags.
        """
        with self.database.transaction() as tx:
            run_ids = _find_run_ids(tx, body.runs)
            runs.change_tags(tx, run_ids, add=body.add_tags, remove=body.remove_tags)
            if name := runs.find_run_above_tags(tx, run_ids, MAX_TAGS):
                raise ConfigError(
                    f"{name} would have more than {MAX_TAGS} tags.",
                    fix="Remove some of its tags first.",
                    field="add_tags",
                )
            if body.archived is not None:
                runs.set_archived(tx, run_ids, body.archived)
        return {}


def _find_run_ids(db: Queryable, names: Iterable[str]) -> list[str]:
    """Return the ids of runs named by id or name, each once, in order."""
    asked = list(dict.fromkeys(names))
    known_ids = runs.select_existing_ids(db, asked)
    return list(
        dict.fromkeys(name if name in known_ids else runs.get_only_run(db, name).run_id for name in asked)
    )


def _find_edited_subject(db: Queryable, body: RunEdit) -> ActivitySubject | None:
    """Return the run with its changes; None if nothing changes."""
    run = runs.get_only_run(db, body.run)
    parts = [f"now {body.name}"] if body.name and body.name != run.name else []
    parts += ["notes"] if body.notes is not None and body.notes != run.notes else []
    return ActivitySubject("run", run.run_id, run.name, ", ".join(parts)) if parts else None


def _find_organized_subject(db: Queryable, body: RunsOrganization) -> ActivitySubject | None:
    """Return the run, or the number of runs, with what changes; None if nothing is to change."""
    parts = [f"tag {tag}" for tag in body.add_tags] + [f"without tag {tag}" for tag in body.remove_tags]
    if body.archived is not None:
        parts.append("archived" if body.archived else "out of the archive")
    if not parts:
        return None
    run_ids = _find_run_ids(db, body.runs)
    if len(run_ids) == 1:
        run = runs.get_run(db, run_ids[0])
        return ActivitySubject("run", run.run_id, run.name, ", ".join(parts))
    return ActivitySubject("setting", "runs", plural(len(run_ids), "run"), ", ".join(parts))
