"""Commands that create, verify and delete exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine.export.job_handlers import build_export_order
from engine.server.command import CREATED, ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.file_removal import remove_noted
from engine.server.job_submission import JobSubmission
from engine.serving.endpoint_folders import check_not_served
from store.core.errors import ConfigError, NotFoundError
from store.core.export_schemas import ExportSpec
from store.core.home import Home
from store.data import datasets
from store.db.database import Database, Queryable, Transaction
from store.evaluation.config import ModelSelection
from store.export import exports
from store.export.config import ExportReference, ModelExport, ModelVerify, ParityTarget
from store.export.forms import FORMS
from store.http.schemas import EmptyAnswer, JobQueued
from store.jobs import job_queue
from store.runs import runs
from store.runs.schemas import Run
from store.training.methods import METHODS


class NamedSubject(NamedTuple):
    """Resolved subject of a request.

    fields: ids of subject and data set; name: of the run or version.
    """

    fields: dict[str, str]
    name: str


class ExportCommands:
    """Export commands of one store; `launching` queues jobs."""

    def __init__(
        self, database: Database, home: Home, launching: JobSubmission, evaluations: EvaluationCommands
    ) -> None:
        self.database, self.home, self.launching, self.evaluations = database, home, launching, evaluations

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "export_model": Command(ModelExport, self.export_model, CREATED, makes_work=True),
            "verify_model": Command(ModelVerify, self.verify_model, CREATED, makes_work=True),
            "delete_export": Command(ExportReference, self.delete_export, find_export_subject),
        }

    def export_model(self, config: ModelExport) -> JobQueued:
        """Queue an export. Raises ConfigError and StateError that name the invalid field."""
        with self.database.transaction() as tx:
            named = self._named(tx, config, config.form)
            config = config.model_copy(update=named.fields)
            title = f"{named.name} as {FORMS[config.form].title}"
            return {"job_id": self.launching.queue_job(tx, exports.KIND, title, config.document())}

    def verify_model(self, config: ModelVerify) -> JobQueued:
        """Queue the verification of a folder, a file or an existing export. Raises as `export_model` does."""
        with self.database.transaction() as tx:
            form = config.form
            if config.export:
                form, made = (
                    exports.get(tx, config.export).form,
                    job_queue.get_job(tx, config.export).config,
                )
                if not config.dataset:  # the rows of its own parity check
                    rows = {"dataset": made["dataset"], "part": made["part"]}
                    config = config.model_copy(update=rows)
            named = self._named(tx, config, form)
            config = config.model_copy(update={**named.fields, "form": form})
            what = FORMS[form].title if config.export else Path(config.path).name
            title = f"{what} compared with {named.name}"
            return {"job_id": self.launching.queue_job(tx, exports.VERIFY, title, config.document())}

    def _named(self, tx: Transaction, config: ParityTarget, form: str) -> NamedSubject:
        """Resolve the model and the data set, checking that the format supports the model.

        form: empty if it is detected from the files.
        """
        try:
            order = build_export_order(tx, config.subject, config.checkpoint)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field="subject") from error
        run = self._checked_run(tx, config, order, form)
        dataset = config.dataset or (run.dataset_id if run else "")
        if not dataset:
            raise ConfigError(
                f"{config.subject} has no data set.",
                fix="Give a data set for the comparison.",
                field="dataset",
            )
        version = order.version
        subject = f"{version.name}@{version.version}" if version else order.run_id or ""
        fields = {"dataset": datasets.get_dataset(tx, dataset).dataset_id, "subject": subject}
        return NamedSubject(fields, subject if version else order.run_name or subject)

    def _checked_run(self, tx: Transaction, config: ParityTarget, spec: ExportSpec, form: str) -> Run | None:
        """Return the run, if any, checking that its model exists and that the format supports it."""
        if spec.version:
            if config.checkpoint != "tuned":
                raise ConfigError(
                    "A model version has no checkpoints.",
                    fix="Omit checkpoint, or give the run instead.",
                    field="checkpoint",
                )
            run = runs.get_run(tx, spec.run_id) if spec.run_id else None
        else:
            chosen = ModelSelection.parse({"run": spec.run_id, "checkpoint": config.checkpoint})
            try:
                run = self.evaluations.checked_run(tx, chosen)
            except ConfigError as error:
                raise ConfigError(error.message, fix=error.fix, field="subject") from error
        if run and form:
            check_form(run, form)
        return run

    def delete_export(self, body: ExportReference) -> EmptyAnswer:
        """Delete an export and its files."""
        with self.database.transaction() as tx:
            export = exports.get(tx, body.export)
            check_not_served(tx, self.home, self.home.path / export.folder, "this export")
            exports.delete(tx, export.job_id)
            job_queue.delete(tx, export.job_id)
            gone = [self.home.path / export.folder, self.home.jobs / export.job_id]
            if export.zip:
                gone.append(self.home.exports / export.zip)
            job_queue.note_removals(tx, self.home, gone)
        remove_noted(self.database, self.home)
        return {}


def check_form(run: Run, name: str) -> None:
    """Raise ConfigError (form) for a format that doesn't support the run's model."""
    form, method = FORMS[name], METHODS[run.config["method"]]
    headed = run.config.get("task") == "classification"
    if headed and not form.headed:
        raise ConfigError(
            f"{run.name} has a classification head, which {form.title} does not support.",
            fix="Choose the form adapter or merged.",
            field="form",
        )
    if form.needs_merge and method.adapter and not method.merges:
        raise ConfigError(
            f"{method.title} can't be merged into the weights, which {form.title} requires.",
            fix="Choose the form adapter.",
            field="form",
        )
    if not form.needs_merge and not method.adapter:
        raise ConfigError(
            f"{run.name} trained full weights and has no adapter.",
            fix="Choose the form merged or a GGUF form.",
            field="form",
        )


def find_export_subject(db: Queryable, body: Any) -> ActivitySubject:
    """Return the run or job of an export for the activity log, with its format."""
    export = exports.get(db, body.export)
    detail = f"as {FORMS[export.form].title}" if export.form in FORMS else ""
    if export.subject == "run" and export.run_id:
        return ActivitySubject("run", export.run_id, export.name, detail)
    return ActivitySubject("job", export.job_id, export.name, detail)
