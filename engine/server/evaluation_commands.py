"""Commands that queue evaluations, and checks of data sets and runs that evaluations need."""

from __future__ import annotations

from engine.server import registered_versions
from engine.server.command import CREATED, Command
from engine.server.job_submission import JobSubmission
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.job_kinds import ALIVE
from store.core.metric_options import JudgePairs
from store.core.metric_table import METRICS, MULTIPLE_CHOICE, list_default_metrics
from store.core.metrics_config import CustomMetricChoice
from store.core.version_folders import is_reference
from store.data import datasets
from store.data.cleaning_text import describe_selected_rows
from store.data.filters import Filter
from store.data.schemas import Dataset
from store.db.database import Database, Transaction
from store.evaluation import evaluation_pairs, evaluations
from store.evaluation.config import CHECKPOINTS, EvaluateConfig, ModelSelection
from store.evaluation.schemas import Evaluation
from store.http.schemas import JobQueued
from store.runs import runs
from store.runs.schemas import Run
from store.training import setting_conflicts

MAX_TITLE_CHARACTERS = 120  # maximum characters for the rows in an evaluation's title
NEED = {
    "probabilities": "the probabilities of a classification head",
    "bytes": "the bytes of an answer",
    "choices": "multiple choice and a model that writes",
}


class EvaluationCommands:
    """Evaluation commands of one store; `launching` queues jobs."""

    def __init__(self, database: Database, home: Home, launching: JobSubmission) -> None:
        self.database, self.home, self.launching = database, home, launching

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {
            "evaluate": Command(EvaluateConfig, self.evaluate, CREATED, makes_work=True),
            "judge": Command(JudgePairs, self.judge, CREATED, makes_work=True),
        }

    def evaluate(self, config: EvaluateConfig) -> JobQueued:
        """Queue an evaluation. Raises ConfigError and StateError that name the invalid field."""
        with self.database.transaction() as tx:
            return {"job_id": self.queue(tx, config)}

    def queue(self, tx: Transaction, config: EvaluateConfig) -> str:
        """Do the same within an existing transaction; return the job's id."""
        config = config.model_copy(
            update={"model": registered_versions.pin_version(tx, self.home, config.model)}
        )
        run = self.checked_run(tx, config)
        _check_of_model(config)
        like = _find_source_evaluation(tx, config)
        owner = like or run
        assert owner or config.dataset  # the config requires a data set for a model by name
        named = config.dataset or (owner.dataset_id if owner else "")
        dataset = datasets.get_dataset(tx, named)
        changes: dict[str, object] = {"dataset": dataset.dataset_id, "run": run.run_id if run else ""}
        if like:
            _check_same_data(like, dataset)
            changes |= {"rows_of": like.evaluation_id, "part": like.part}
            changes |= {"max_rows": like.config["max_rows"], "where": _resolve_filter(config, like)}
        # the copy is not validated, but each of these fields was
        config = config.model_copy(update=changes)
        heads = self._heads(run, config)
        if not config.metrics:
            config = EvaluateConfig.parse(config.document() | {"metrics": _list_metrics(heads, dataset)})
        for place, choice in enumerate(config.metrics):
            if isinstance(choice, CustomMetricChoice):
                self.launching.check_own_metric(choice.file, f"metrics.{place}.file")
        _check_metrics(heads, dataset, config)
        _check_tasks(heads, config)
        title = config.name or _build_title(run, dataset, config)
        return self.launching.queue_job(tx, evaluations.KIND, title, config.document())

    def judge(self, body: JudgePairs) -> JobQueued:
        """Queue the pairwise judging of two evaluations' responses.

        Raises: ConfigError if they are of different rows, or have no responses.
        """
        with self.database.transaction() as tx:
            first, second = (
                get_answered_evaluation(tx, name, field)
                for name, field in ((body.first, "first"), (body.second, "second"))
            )
            if first.data_fingerprint != second.data_fingerprint:
                raise ConfigError(
                    f"{second.name} is of other rows than {first.name}.",
                    fix="Judge evaluations of the same data set.",
                    field="second",
                )
            ids = {"first": first.evaluation_id, "second": second.evaluation_id}
            document = JudgePairs.parse(body.model_dump() | ids).model_dump(exclude_none=True)
            title = f"{first.name} against {second.name}, judged"
            document |= {"max_rows": body.max_rows}
            return {"job_id": self.launching.queue_job(tx, evaluation_pairs.KIND, title, document)}

    def _heads(self, run: Run | None, config: EvaluateConfig) -> bool:
        """Whether the evaluated model has a classification head."""
        if is_reference(config.model):
            return registered_versions.read_training_config(self.home, config.model).task == "classification"
        return bool(run and run.config.get("task") == "classification" and config.checkpoint != "base")

    def checked_run(self, tx: Transaction, config: ModelSelection) -> Run | None:
        """Return the run to evaluate, checking that its model exists; None for a model by name.

        Raises: ConfigError and StateError that name the field.
        """
        if not config.run:
            return None
        try:
            run = runs.get_run(tx, config.run)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field="run") from error
        if run.status in ALIVE:
            raise StateError(
                f"The run {run.name!r} is {run.status}.",
                fix="Wait until it has ended, or cancel it.",
                field="run",
            )
        folder = JobDir(self.home.jobs / run.run_id)
        stopped = any(folder.checkpoints.glob("step-*")) if folder.checkpoints.exists() else False
        there = run.status == "finished" or config.checkpoint == "base"
        if not there and not (stopped and config.checkpoint in ("best", "newest")):
            left = "only checkpoints" if stopped else "no checkpoint"
            raise StateError(
                f"The run {run.name!r} is {run.status} and left {left}, not"
                f" {CHECKPOINTS[config.checkpoint]}.",
                fix="Set checkpoint to best or newest." if stopped else "Resume it, or choose another run.",
                field="checkpoint",
            )
        if not folder.config.exists():
            raise StateError(
                f"The folder of the run {run.name!r} is gone.", fix="Choose another run.", field="run"
            )
        return run


def get_answered_evaluation(tx: Transaction, name: str, field: str) -> Evaluation:
    """Return the evaluation with that id or name, with responses. Raises ConfigError at `field`."""
    try:
        evaluation = evaluations.get(tx, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
    if not EvaluateConfig.of_past(evaluation.config).generates:
        raise ConfigError(
            f"{evaluation.name} has no answers, because none of its metrics uses them.",
            fix="Evaluate it with a metric of answers, such as chrf.",
            field=field,
        )
    return evaluation


def _check_of_model(config: EvaluateConfig) -> None:
    """Raise ConfigError for settings that the run determines.

    Parsing doesn't check this, as stored configs may have them.
    """
    if (config.run or is_reference(config.model)) and config.chat_template:
        raise ConfigError(
            "chat_template applies only to a model given by name: runs and registered models use the"
            " template of their training.",
            fix="Remove it.",
            field="chat_template",
        )


def _find_source_evaluation(tx: Transaction, config: EvaluateConfig) -> Evaluation | None:
    """Return the evaluation whose rows are to be used, if any. Raises ConfigError (rows_of)."""
    if not config.rows_of:
        return None
    try:
        return evaluations.get(tx, config.rows_of)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field="rows_of") from error


def _check_same_data(like: Evaluation, dataset: Dataset) -> None:
    """Raise ConfigError if that evaluation is of a different data set."""
    if like.data_fingerprint != dataset.fingerprint:
        raise ConfigError(
            f"{like.name} uses rows of {like.dataset_name}, which {dataset.name} does not contain.",
            fix="Leave dataset out, or name an evaluation of this data set.",
            field="rows_of",
        )


def _resolve_filter(config: EvaluateConfig, like: Evaluation) -> Filter | None:
    """Return the filter of that evaluation's rows. Raises ConfigError (where) for a different one."""
    its = EvaluateConfig.of_past(like.config).where
    if config.where and config.where != its:
        raise ConfigError(
            f"rows_of asks for the very rows of {like.name}, and where for some of them.",
            fix="Remove one of the two.",
            field="where",
        )
    return its


def _list_metrics(heads: bool, dataset: Dataset) -> list[str]:
    """Return the default metrics of the task and the rows."""
    return list_default_metrics(
        head=heads,
        labelled=bool(dataset.stats.get("label_count")),
        choosing=dataset.format == MULTIPLE_CHOICE,
    )


def _check_metrics(heads: bool, dataset: Dataset, config: EvaluateConfig) -> None:
    """Raise ConfigError for a metric that does not apply to this kind of model, or to these rows."""
    lacking = {"bytes", "choices"} if heads else {"probabilities"}
    if dataset.format != MULTIPLE_CHOICE:
        lacking.add("choices")
    for place, choice in enumerate(config.metrics):
        missing = sorted(lacking & set(METRICS[choice.metric].needs))
        if missing:
            raise ConfigError(
                f"{choice.metric} needs {NEED[missing[0]]}, which there is not.",
                fix="Remove it.",
                field=f"metrics.{place}.metric",
            )


def _check_tasks(heads: bool, config: EvaluateConfig) -> None:
    """Raise ConfigError if tasks can't be run: lm-evaluation-harness is optional."""
    if not config.tasks:
        return
    if not setting_conflicts.has_harness():
        raise ConfigError(setting_conflicts.MISSING, fix=setting_conflicts.INSTALL, field="tasks")
    if heads:
        raise ConfigError(
            "A model with a classification head can't be asked tasks.", fix="Leave them out.", field="tasks"
        )


def _build_title(run: Run | None, dataset: Dataset, config: EvaluateConfig) -> str:
    what = run.name if run else config.model
    if run and config.checkpoint != "tuned":
        what = f"{CHECKPOINTS[config.checkpoint].removeprefix('the ').capitalize()} of {what}"
    where = config.where.model_dump() if config.where else None
    rows = describe_selected_rows(config.part, where)
    return (
        f"{what} on {dataset.name},"
        f" {rows if len(rows) <= MAX_TITLE_CHARACTERS else rows[: MAX_TITLE_CHARACTERS - 1] + '…'}"
    )


def check_not_evaluated(tx: Transaction, column: str, value: str, name: str) -> None:
    """Raise StateError if an evaluation uses the data set (`dataset_id`) or the run (`run_id`)."""
    titles = evaluations.list_dependent_titles(tx, column, value)
    if titles:
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        raise StateError(
            f"{name} is used by the evaluation “{titles[0]}”{more}.", fix="Delete that evaluation first."
        )
