"""Command that queues a bias check: a run against its base, a model against another, or groups only."""

from __future__ import annotations

from pathlib import Path

from engine.server import registered_versions
from engine.server.command import ActivitySubject, Command
from engine.server.evaluation_commands import EvaluationCommands
from engine.server.job_submission import JobSubmission
from store.bias.config import CLASSIFIER_FIELD, KIND, WRITES, BiasConfig, BiasContinuations, BiasGroups
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.job_folder import JobDir
from store.core.model_folders import ModelHead, read_head
from store.core.version_folders import is_reference, open_sealed_folder
from store.db.database import Database, Queryable, Transaction
from store.evaluation import evaluations
from store.evaluation.config import ModelSelection
from store.evaluation.schemas import Evaluation
from store.http.schemas import JobQueued
from store.jobs import job_queue
from store.registry.model_versions import get_version
from store.runs import runs
from store.runs.schemas import Run

HEADED = "Bias probes are not available for the run {name!r}, which has a classification head."


class BiasCommands:
    """Command that queues bias checks; `of_models` resolves runs and models."""

    def __init__(self, database: Database, launching: JobSubmission, of_models: EvaluationCommands) -> None:
        self.database, self.launching, self.of_models = database, launching, of_models

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {"check_bias": Command(BiasConfig, self.check_bias, _find_check_subject, makes_work=True)}

    def check_bias(self, config: BiasConfig) -> JobQueued:
        """Queue a check. Raises ConfigError and StateError that name the invalid field."""
        with self.database.transaction() as tx:
            return {"job_id": self.queue(tx, config)}

    def queue(self, tx: Transaction, config: BiasConfig) -> str:
        """Queue a check within the caller's transaction; return the job id."""
        run = self._run(tx, config)
        changes: dict[str, object] = {"run": run.run_id if run else ""}
        for field in ("model", "against"):
            changes[field] = _pin_version(tx, getattr(config, field), field)
        groups = [_check_groups(tx, asked) for asked in config.groups]
        changes["groups"] = [asked.model_dump() for asked in groups]
        if config.continuations:
            changes["continuations"] = self._continuations(tx, config, run).model_dump(exclude_none=True)
        checked = BiasConfig.parse(config.document() | changes)
        name = run.name if run else config.model or evaluations.get(tx, groups[0].evaluation).name
        return self.launching.queue_job(tx, KIND, f"Bias check of {name}", checked.document())

    def _run(self, tx: Transaction, config: BiasConfig) -> Run | None:
        if not config.run:
            return None
        run = self.of_models.checked_run(tx, ModelSelection(run=config.run))
        assert run is not None
        if run.config.get("task") == "classification" and config.asks:
            raise StateError(
                HEADED.format(name=run.name),
                fix="Disable the built-in pairs and files, and give groups of evaluated rows.",
                field="run",
            )
        return run

    def _continuations(self, tx: Transaction, config: BiasConfig, run: Run | None) -> BiasContinuations:
        """Return the settings with the classifier pinned to a run id or version.

        Raises ConfigError and StateError that name it.
        """
        asked = config.continuations
        assert asked is not None
        home = self.of_models.home
        name = registered_versions.pin_version(tx, home, asked.classifier, CLASSIFIER_FIELD)
        judging = None if is_reference(name) else _find_run(tx, name)
        chosen = judging.run_id if judging else name
        if chosen in {run.run_id if run else "", _pin_version(tx, config.model, "model"),
                      _pin_version(tx, config.against, "against")} - {""}:  # fmt: skip
            raise ConfigError(
                f"{asked.classifier} is the model being checked and can't be its own classifier.",
                fix="Choose another classifier.",
                field=CLASSIFIER_FIELD,
            )
        if judging:
            _check_ended(judging)
        if judging or is_reference(name):
            whole = not judging and not get_version(tx, name).adapter
            folder = JobDir(home.jobs / chosen).model if judging else open_sealed_folder(home, name).model
            head = _read_head(folder, asked.classifier, whole=whole)
            asked.check_labels(judging.name if judging else name, head.labels, several=head.several)
        return asked.model_copy(update={"classifier": chosen})


def _find_run(tx: Transaction, name: str) -> Run | None:
    """Return the run of that id or name, or None for a model's name.

    Raises ConfigError for the id of a deleted run.
    """
    try:
        return runs.get_run(tx, name)
    except NotFoundError as error:
        if not job_queue.is_id("run", name):
            return None
        raise ConfigError(
            error.message, fix="It may have been deleted. Choose another classifier.", field=CLASSIFIER_FIELD
        ) from error


def _check_ended(run: Run) -> None:
    if run.status != "finished":
        raise StateError(
            f"The classifier run {run.name!r} is {run.status}.",
            fix="Wait until it has finished, or choose another classifier.",
            field=CLASSIFIER_FIELD,
        )


def _read_head(folder: Path, classifier: str, *, whole: bool) -> ModelHead:
    """Read the classification head as the worker will. Raises ConfigError if there is none."""
    head = read_head(folder, whole=whole)
    if not head.labels:
        raise ConfigError(
            f"{classifier} {WRITES}", fix="Choose a run or model with a classification head.",
            field=CLASSIFIER_FIELD,
        )  # fmt: skip
    return head


def _pin_version(tx: Transaction, name: str, field: str) -> str:
    """Return the name, with the version number for a registered model, as aliases can move.

    Raises ConfigError for an unknown version.
    """
    if not is_reference(name):
        return name
    try:
        version = get_version(tx, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    return f"{version.name}@{version.version}"


def _check_groups(tx: Transaction, asked: BiasGroups) -> BiasGroups:
    """Return the settings with evaluation ids. Raises ConfigError (groups)."""
    first = _get_evaluation(tx, asked.evaluation)
    second = _get_evaluation(tx, asked.against) if asked.against else None
    if second and second.data_fingerprint != first.data_fingerprint:
        raise ConfigError(
            f"{second.name} and {first.name} are on different rows.",
            fix="Choose evaluations on the same data set.",
            field="groups",
        )
    ids = {"evaluation": first.evaluation_id, "against": second.evaluation_id if second else ""}
    return asked.model_copy(update=ids)


def _get_evaluation(tx: Transaction, name: str) -> Evaluation:
    try:
        return evaluations.get(tx, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field="groups") from error


def _find_check_subject(db: Queryable, body: BiasConfig) -> ActivitySubject:
    """Return the activity subject: the run, the evaluation whose groups are compared, or the model."""
    if body.run:
        run = runs.get_only_run(db, body.run)
        return ActivitySubject("run", run.run_id, run.name)
    if body.groups and not body.model:
        evaluation = evaluations.get(db, body.groups[0].evaluation)
        return ActivitySubject("evaluation", evaluation.evaluation_id, evaluation.name)
    return ActivitySubject("setting", "bias", body.model, f"against {body.against}")
