"""Start of a retraining, by a person or by a schedule.

Names in the config are resolved to ids, and invalid configs are rejected. The responsible person needs the
right whenever something is done, not only at the start. What it depends on can't be deleted while it is in
progress.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.monitoring.alerts import AlertDetails, raise_alert
from engine.retraining import gate, job_spec
from engine.server.evaluation_commands import NEED
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, StateError, TunebenchError
from store.core.metric_table import METRICS, MULTIPLE_CHOICE, SHARE
from store.core.processes import is_recent
from store.core.rights import OWNER, check_right
from store.core.schemas import Person
from store.core.version_folders import is_reference
from store.data import datasets
from store.data.config import find_free_name
from store.data.schemas import Dataset
from store.db.database import Database, Queryable, Transaction
from store.jobs import job_queue
from store.monitoring import feedback
from store.people import accounts
from store.rating import rounds
from store.registry import model_versions
from store.retraining import improvements
from store.retraining.config import (
    MAX_MARGIN,
    DatasetRowSource,
    FeedbackRowSource,
    ImproveConfig,
    ImproveSchedule,
    ImproveSettings,
    RoundRowSource,
    RowSource,
)
from store.retraining.schemas import AT_WORK, Improvement, ImprovementSchedule
from store.runs import runs
from store.runs.schemas import Run
from store.serving import endpoints
from store.serving.config import EndpointSettings
from store.serving.schemas import EndpointRow


def find_actor(improvement: Improvement) -> tuple[str, str]:
    """Return the id and name of the person on whose behalf the improvement acts."""
    facts = improvement.facts
    began = improvement.begun_by, improvement.begun_by_name
    return facts.get("resumed_by", began[0]), facts.get("resumed_by_name", began[1])


def check_actor(db: Queryable, person_id: str, name: str) -> Person:
    """Return the person with their current role.

    Raises ForbiddenError if they can no longer sign in or lack the right to work. The owner of the home
    folder has no account and always may.
    """
    if person_id == OWNER.person_id:
        return OWNER
    try:
        account = accounts.get_account(db, person_id)
    except NotFoundError:
        raise ForbiddenError(
            f"{name} is no longer a member, so nothing runs on their behalf.", fix=_TAKE_OVER_NOTE
        ) from None
    person = Person(person_id=person_id, name=account.name, role=account.role)
    if not account.active:
        raise ForbiddenError(
            f"{person.name} is deactivated, so nothing runs on their behalf.", fix=_TAKE_OVER_NOTE
        )
    try:
        check_right(person, "work")
    except ForbiddenError as error:
        raise ForbiddenError(
            f"{person.name} is now a {person.role}, so nothing runs on their behalf. {error.message}",
            fix=_TAKE_OVER_NOTE,
        ) from error
    return person


_TAKE_OVER_NOTE = "A member or an admin can take it over: resume the improvement or save the schedule."


NAME_LENGTH = 80


class ImprovementStarter:
    """Starter of improvements in the caller's transaction."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock

    def begin(
        self, tx: Transaction, config: ImproveConfig, by: tuple[str, str], *, scheduled: bool = False
    ) -> Improvement:
        """Begin an improvement; `by` is a person's id and name.

        Raises ConfigError, NotFoundError and StateError, with the field.
        """
        at = job_queue.to_utc(self.clock())
        model = model_versions.get_model(tx, config.model)
        for other in improvements.of_model(tx, model.model_id):
            if other.state in AT_WORK and other.alias == config.alias:
                raise StateError(
                    f"{other.name} is already in progress for {model.name}@{config.alias}.",
                    fix="Promote, decline or stop it first.",
                )
        run, dataset = find_run_and_dataset(tx, model.model_id, config)
        config = config.model_copy(
            update={
                "model": model.name,
                "run": run.run_id,
                "rows": resolve_sources(tx, config, dataset),
            }
        )
        wanted = config.name or f"{model.name[:55]} improved {at:%d %b %Y}"
        taken = improvements.list_names(tx)
        if config.name and config.name in taken:
            raise ConfigError(
                f"An improvement named {config.name!r} already exists.",
                fix="Choose another name.",
                field="name",
            )
        name = find_free_name(wanted, taken)
        waits = any(
            isinstance(source, RoundRowSource) and rounds.get(tx, source.round).state == "open"
            for source in config.rows
        )
        improvement = Improvement(
            improvement_id=job_queue.create_id("improvement", self.clock()),
            model_id=model.model_id,
            alias=config.alias,
            name=name,
            config=config.model_copy(update={"name": name}),
            state="labelling" if waits else "gathering",
            failed_at=None,
            facts={"old_dataset_id": dataset.dataset_id},
            trouble=None,
            scheduled=scheduled,
            begun_by=by[0],
            begun_by_name=by[1],
            begun_at=at,
            changed_at=at,
            ended_at=None,
            ended_by_name=None,
            note="",
        )
        improvements.insert(tx, improvement)
        return improvement


def find_run_and_dataset(db: Queryable, model_id: str, config: ImproveSettings) -> tuple[Run, Dataset]:
    """Return the run whose config is launched, by default that of the version in use, and its data set.

    Raises ConfigError (run) if there is none that can be launched again.
    """
    run_id = config.run
    if not run_id:
        number = model_versions.alias_standing(db, model_id, config.alias)
        version = None if number is None else model_versions.find_version(db, model_id, number)
        if version is None:
            raise ConfigError(
                f"No version of {config.model} has the alias {config.alias}, so there is nothing to improve.",
                fix="Promote one first, or name a run.",
                field="run",
            )
        run_id = version.run_id or ""
        if not run_id:
            raise ConfigError(
                f"{config.model}@{number} was imported from a folder, not trained by a run here.",
                fix="Name the run whose config to launch.",
                field="run",
            )
    try:
        run = runs.get_run(db, run_id)
        job = job_queue.get_job(db, run.run_id)
        dataset = datasets.get_dataset(db, run.dataset_id)
    except NotFoundError as error:
        raise ConfigError(error.message, fix="Name an existing run.", field="run") from error
    if job.kind != "train":
        raise ConfigError(
            f"{run.name} was mixed, not trained, so it can't be launched again.",
            fix="Name the run that it was mixed from.",
            field="run",
        )
    if run.status != "finished":
        raise ConfigError(f"{run.name} is {run.status}.", fix="Name a finished run.", field="run")
    _check_metric(config.metric, run, dataset)
    _check_margin(config.margin, gate.resolve_metric(config.metric, run, dataset))
    return run, dataset


def resolve_sources(db: Queryable, config: ImproveSettings, dataset: Dataset) -> list[RowSource]:
    """Return the sources with ids instead of names. Raises ConfigError for an unusable one."""
    own = [
        source.model_copy(update={"model": config.model}) if isinstance(source, FeedbackRowSource) else source
        for source in config.rows
    ]
    return [_resolve_source(db, source, dataset, f"rows.{place}") for place, source in enumerate(own)]


def _check_answers(db: Queryable, endpoint: EndpointRow, model: str, field: str) -> None:
    """Raise ConfigError if the endpoint neither serves the model nor ever answered as it.

    Its feedback would be about other models' answers.
    """
    choices = EndpointSettings.parse(endpoint.settings).models
    subjects = list(dict.fromkeys(route.subject for choice in choices for route in choice.routes))
    own = model_versions.map_run_names(db, model)
    if any(
        (is_reference(subject) and subject.rpartition("@")[0] == model) or subject in own
        for subject in subjects
    ):
        return
    if not feedback.has_answered(db, endpoint.endpoint_id, model):
        raise ConfigError(
            f"{endpoint.name} serves {', '.join(subjects)} and its log has no answers of {model}, so its "
            "feedback is about another model.",
            fix=f"Choose an endpoint that serves {model}.",
            field=field,
        )


def _resolve_source(db: Queryable, source: RowSource, dataset: Dataset, field: str) -> RowSource:
    try:
        if isinstance(source, FeedbackRowSource):
            _check_kind(dataset, "written feedback", field)
            endpoint = endpoints.get(db, source.endpoint)
            own = source.model_copy(update={"endpoint": endpoint.endpoint_id})
            job_spec.resolve_feedback(db, own)
            _check_answers(db, endpoint, source.model, field)
            return own
        if isinstance(source, RoundRowSource):
            _check_kind(dataset, "the ratings of a round", field)
            round = rounds.get(db, source.round)
            if round.protocol in ("pairwise", "rank") and dataset.kind != "preference":
                raise ConfigError(
                    f"{round.name} gives preferences, but the run was trained on {dataset.name}, which "
                    "has no answer pairs.",
                    fix="Choose a round in which answers are corrected or labelled.",
                    field=field,
                )
            return source.model_copy(update={"round": round.round_id})
        return _resolve_dataset_source(db, source, dataset, field)
    except (NotFoundError, StateError) as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error


def _check_metric(metric: str, run: Run, dataset: Dataset) -> None:
    """Raise ConfigError (metric) if the model can't be evaluated by it, before any training is done."""
    heads = run.config.get("task") == "classification"
    lacking = {"bytes", "choices"} if heads else {"probabilities"}
    if dataset.format != MULTIPLE_CHOICE:
        lacking.add("choices")
    if metric and (missing := sorted(lacking & set(METRICS[metric].needs))):
        raise ConfigError(
            f"{metric} needs {NEED[missing[0]]}, which is not available.",
            fix="Remove it, or choose another metric.",
            field="metric",
        )


def _check_margin(margin: float, metric: str) -> None:
    """Raise ConfigError (margin) if a share may drop so much that the check is meaningless."""
    if METRICS[metric].bounds == SHARE and margin > MAX_MARGIN:
        raise ConfigError(
            f"The margin {margin:g} lets a version pass that is {100 * margin:g} points of"
            f" {METRICS[metric].title} worse.",
            fix=f"Set at most {MAX_MARGIN:g}; 0.02 is typical.",
            field="margin",
        )


def _check_kind(dataset: Dataset, what: str, field: str) -> None:
    if dataset.kind == "text":
        raise ConfigError(
            f"The run was trained on the plain texts of {dataset.name}, and {what} can't be turned into "
            "such rows.",
            fix="Choose a data set of plain texts.",
            field=field,
        )


def _resolve_dataset_source(
    db: Queryable, source: DatasetRowSource, dataset: Dataset, field: str
) -> DatasetRowSource:
    other = datasets.get_dataset(db, source.dataset)
    if other.kind != dataset.kind:
        raise ConfigError(
            f"{other.name} has rows of the kind {other.kind}, but the run was trained on {dataset.kind}.",
            fix="Choose rows of the same kind.",
            field=field,
        )
    return source.model_copy(update={"dataset": other.dataset_id})


ALERT_SUBJECT = "improvement"  # subject of the alert that an improvement could not begin


def begin_when_due(
    database: Database, beginning: ImprovementStarter, schedule: ImprovementSchedule, at: float
) -> None:
    """If due, count the feedback since the last improvement began, and begin the next one."""
    last = schedule.last_at
    config = ImproveSchedule.parse(schedule.config)
    if last is not None and is_recent(job_queue.to_epoch(last), at, config.every_hours * 3_600):
        return
    model_id, by = schedule.model_id, (schedule.set_by, schedule.set_by_name)
    if any(each.state in AT_WORK for each in improvements.of_model(database, model_id)):
        return
    rows: int | None = None
    try:
        check_actor(database, *by)
        rows = count_new_rows(database, model_id, config)
        with database.acting(by[0], lambda tx: None), database.transaction() as tx:
            if improvements.schedule(tx, model_id) != schedule:
                return  # changed by someone in the meantime
            if rows >= config.least_rows:
                asked = {name: getattr(config, name) for name in ImproveSettings.model_fields}
                beginning.begin(tx, ImproveConfig.model_validate(asked), by, scheduled=True)
            improvements.record_look(tx, model_id, job_queue.to_utc(at), rows, None)
    except TunebenchError as error:
        with database.transaction() as tx:
            improvements.record_look(tx, model_id, job_queue.to_utc(at), rows, error.to_dict())
            _warn(tx, config, error, at)


def count_new_rows(db: Queryable, model_id: str, config: ImproveSettings) -> int:
    """Return the number of requests with feedback since the model's last improvement began.

    Raises NotFoundError if an endpoint was deleted.
    """
    since, count = improvements.find_last_start(db, model_id), 0
    for source in config.rows:
        if isinstance(source, FeedbackRowSource):
            which = job_spec.resolve_feedback(db, source)
            starts = [moment for moment in (which.start, since) if moment is not None]
            count += feedback.count_entries(db, which._replace(start=max(starts, default=None)))
    return count


def _warn(tx: Transaction, config: ImproveSchedule, error: TunebenchError, at: float) -> None:
    """Raise an alert on the endpoints whose feedback was to be used, if they still exist."""
    for source in config.rows:
        if isinstance(source, FeedbackRowSource):
            reason = f"The scheduled improvement of {config.model} can't start. {error.message}"
            advice = error.fix or "Change the schedule on the Models page."
            try:
                endpoint_id = job_spec.resolve_feedback(tx, source).endpoint_id
            except TunebenchError:
                continue  # reported in the schedule's own error
            raise_alert(tx, endpoint_id, AlertDetails("quality", ALERT_SUBJECT, reason, advice, at), at)
