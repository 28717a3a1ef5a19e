"""How an improvement begins: what it names is looked up and kept by ids, and what can't work is refused."""

from __future__ import annotations

from collections.abc import Callable

from engine.server.improving import improvement_gate
from engine.server.scheduling import gather_orders
from engine.server.topics.evaluation_commands import NEED
from store.catalog.metric_table import METRICS, MULTIPLE_CHOICE, SHARE
from store.config.data.import_config import free_name
from store.config.serving.endpoint_config import EndpointSettings
from store.config.shipping.improve_config import (
    MOST_MARGIN,
    ImproveConfig,
    ImproveSettings,
    RowsOfDataset,
    RowsOfFeedback,
    RowsOfRound,
    RowSource,
)
from store.contract.errors import ConfigError, NotFoundError, StateError
from store.contract.version_folders import is_reference
from store.db.database import Queryable, Transaction
from store.documents.serving.endpoint import EndpointRow
from store.documents.tables.dataset import Dataset
from store.documents.tables.improvement import AT_WORK, Improvement
from store.documents.tables.run import Run
from store.queries import jobs
from store.queries.data import datasets
from store.queries.monitoring import feedback
from store.queries.rating import rounds
from store.queries.runs import runs
from store.queries.serving import endpoints
from store.queries.shipping import aliases, improvements, versions

NAME_LENGTH = 80


class Beginning:
    """Begins improvements in a transaction of the caller."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock

    def begin(
        self, tx: Transaction, config: ImproveConfig, by: tuple[str, str], *, scheduled: bool = False
    ) -> Improvement:
        """by: a person's id and name. Raises ConfigError, NotFoundError and StateError, with the field."""
        at = jobs.utc(self.clock())
        model = versions.get_model(tx, config.model)
        for other in improvements.of_model(tx, model["model_id"]):
            if other["state"] in AT_WORK and other["alias"] == config.alias:
                raise StateError(
                    f"{other['name']} is under way for {model['name']}@{config.alias}.",
                    fix="Decide on it or stop it first.",
                )
        run, dataset = run_of(tx, model["model_id"], config)
        config = config.model_copy(
            update={"model": model["name"], "run": run["run_id"], "rows": with_ids(tx, config, dataset)}
        )
        wanted = config.name or f"{model['name'][:55]} improved {at:%d %b %Y}"
        taken = improvements.names(tx)
        if config.name and config.name in taken:
            raise ConfigError(
                f"There is an improvement {config.name!r} already.", fix="Choose another name.", field="name"
            )
        name = free_name(wanted, taken)
        waits = any(
            isinstance(source, RowsOfRound) and rounds.get(tx, source.round)["state"] == "open"
            for source in config.rows
        )
        improvement: Improvement = {
            "improvement_id": jobs.new_id("improvement", self.clock()),
            "model_id": model["model_id"],
            "alias": config.alias,
            "name": name,
            "config": config.model_copy(update={"name": name}).document(),
            "state": "labelling" if waits else "gathering",
            "failed_at": None,
            "facts": {"old_dataset_id": dataset["dataset_id"]},
            "trouble": None,
            "scheduled": scheduled,
            "begun_by": by[0],
            "begun_by_name": by[1],
            "begun_at": at,
            "changed_at": at,
            "ended_at": None,
            "ended_by_name": None,
            "note": "",
        }
        improvements.insert(tx, improvement)
        return improvement


def run_of(db: Queryable, model_id: str, config: ImproveSettings) -> tuple[Run, Dataset]:
    """The run whose config is launched, and its data set: that of the version in use, or the one named.
    Raises ConfigError (run) where there is none that can be launched again."""
    run_id = config.run
    if not run_id:
        number = aliases.standing(db, model_id, config.alias)
        version = None if number is None else versions.find_version(db, model_id, number)
        if version is None:
            raise ConfigError(
                f"No version of {config.model} is {config.alias}, so there is none to improve.",
                fix="Promote one first, or name a run.",
                field="run",
            )
        run_id = version["run_id"] or ""
        if not run_id:
            raise ConfigError(
                f"{config.model}@{number} is an imported folder: no run of this house made it.",
                fix="Name the run whose config is to be launched.",
                field="run",
            )
    try:
        run = runs.get_run(db, run_id)
        job = jobs.get_job(db, run["run_id"])
        dataset = datasets.get_dataset(db, run["dataset_id"])
    except NotFoundError as error:
        raise ConfigError(error.message, fix="Name a run that is there.", field="run") from error
    if job["kind"] != "train":
        raise ConfigError(
            f"{run['name']} was mixed and not trained, so it can't be launched again.",
            fix="Name the run that it was mixed from.",
            field="run",
        )
    if run["status"] != "finished":
        raise ConfigError(f"{run['name']} is {run['status']}.", fix="Name a finished run.", field="run")
    _check_metric(config.metric, run, dataset)
    _check_margin(config.margin, improvement_gate.metric_of(config.metric, run, dataset))
    return run, dataset


def with_ids(db: Queryable, config: ImproveSettings, dataset: Dataset) -> list[RowSource]:
    """The sources with ids in place of names. Raises ConfigError at the one that can't be used."""
    return [
        _with_id(db, _of_model(source, config.model), dataset, f"rows.{place}")
        for place, source in enumerate(config.rows)
    ]


def _of_model(source: RowSource, model: str) -> RowSource:
    return source.model_copy(update={"model": model}) if isinstance(source, RowsOfFeedback) else source


def _check_answers(db: Queryable, endpoint: EndpointRow, model: str, field: str) -> None:
    """Raise ConfigError for an endpoint that neither serves the model nor has ever answered as it: what was
    said there is of other models' answers."""
    choices = EndpointSettings.parse(endpoint["settings"]).models
    subjects = list(dict.fromkeys(route.subject for choice in choices for route in choice.routes))
    own = versions.run_names(db, model)
    if any(_is_of(subject, model) or subject in own for subject in subjects):
        return
    if not feedback.was_answered(db, endpoint["endpoint_id"], model):
        raise ConfigError(
            f"{endpoint['name']} serves {', '.join(subjects)} and has never answered as {model}, as far as"
            " its log goes back: what was said there is of other answers.",
            fix=f"Take an endpoint that serves {model}.",
            field=field,
        )


def _is_of(subject: str, model: str) -> bool:
    return is_reference(subject) and subject.rpartition("@")[0] == model


def _with_id(db: Queryable, source: RowSource, dataset: Dataset, field: str) -> RowSource:
    try:
        if isinstance(source, RowsOfFeedback):
            _check_kind(dataset, "what people wrote of answers", field)
            endpoint = endpoints.get(db, source.endpoint)
            own = source.model_copy(update={"endpoint": endpoint["endpoint_id"]})
            gather_orders.chosen_feedback(db, own)
            _check_answers(db, endpoint, source.model, field)
            return own
        if isinstance(source, RowsOfRound):
            _check_kind(dataset, "what people said in a round", field)
            round = rounds.get(db, source.round)
            if round["protocol"] in ("pairwise", "rank") and dataset["kind"] != "preference":
                raise ConfigError(
                    f"{round['name']} gives preferences, and the run was trained on {dataset['name']}, which"
                    " has no pairs of answers.",
                    fix="Take a round in which answers are corrected or labelled.",
                    field=field,
                )
            return source.model_copy(update={"round": round["round_id"]})
        return _of_dataset(db, source, dataset, field)
    except (NotFoundError, StateError) as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error


def _check_metric(metric: str, run: Run, dataset: Dataset) -> None:
    """Raise ConfigError (metric) for one by which such a model can't be measured: it would be refused only
    once all is trained."""
    heads = run["config"].get("task") == "classification"
    lacking = {"bytes", "choices"} if heads else {"probabilities"}
    if dataset["format"] != MULTIPLE_CHOICE:
        lacking.add("choices")
    if metric and (missing := sorted(lacking & set(METRICS[metric].needs))):
        raise ConfigError(
            f"{metric} needs {NEED[missing[0]]}, which there is not.",
            fix="Leave it out, or choose another.",
            field="metric",
        )


def _check_margin(margin: float, metric: str) -> None:
    """Raise ConfigError (margin) for a share of which so much may be lost that a check says nothing."""
    if METRICS[metric].bounds == SHARE and margin > MOST_MARGIN:
        raise ConfigError(
            f"The margin {margin:g} lets a version pass that is {100 * margin:g} points of"
            f" {METRICS[metric].title} worse.",
            fix=f"Take {MOST_MARGIN:g} at most; 0.02 is usual.",
            field="margin",
        )


def _check_kind(dataset: Dataset, what: str, field: str) -> None:
    if dataset["kind"] == "text":
        raise ConfigError(
            f"The run was trained on the plain texts of {dataset['name']}: {what} is no row of that kind.",
            fix="Take rows of a data set of plain texts.",
            field=field,
        )


def _of_dataset(db: Queryable, source: RowsOfDataset, dataset: Dataset, field: str) -> RowsOfDataset:
    other = datasets.get_dataset(db, source.dataset)
    if other["kind"] != dataset["kind"]:
        raise ConfigError(
            f"{other['name']} has rows of the kind {other['kind']}, and the run was trained on"
            f" {dataset['kind']}.",
            fix="Take rows of the same kind.",
            field=field,
        )
    return source.model_copy(update={"dataset": other["dataset_id"]})
