"""Queueing of jobs: imports, runs, and the sample experiment.

Queries about costs are completed here with what a worker can't look up: measured past runs, data sets for
replay or probes, and how old rows were imported. Screens, command line and the launch itself all go through
here, so that one config has one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.server import registered_versions
from engine.server.job_results import build_dataset_id
from engine.server.job_specs import build_named_dataset
from store.core import metrics_config
from store.core.config import split_commas
from store.core.documents import parse_document
from store.core.errors import ConfigError, NotFoundError
from store.core.home import Home
from store.core.job_kinds import ACTIVE, ALIVE, JOB_KINDS
from store.core.schemas import Job
from store.core.training_schemas import Preview
from store.core.version_folders import is_reference
from store.data import datasets
from store.data.config import ImportConfig, Source
from store.data.schemas import Dataset
from store.db.database import Database, Queryable, Transaction
from store.http.schemas import JobQueued, RunQueued, SampleQueued
from store.jobs import job_queue
from store.jobs.schemas import ImportReading, NamedDataset, RunHistory, SplitFields
from store.runs import runs
from store.runs.config import Interpolate, Variant, explain_refusal
from store.runs.schemas import Run, RunFacts
from store.training.run_switches import list_run_switches
from store.training.split import Split, get_split
from store.training.train_config import BUNDLED_MODEL, SAMPLE_DATASET, TrainConfig, build_sample_experiment

ON_DEVICES = [kind.name for kind in JOB_KINDS.values() if kind.lane == "device"]
READERS = ("csv", "tsv", "json", "jsonl", "parquet")  # readers of files with columns
Body = Mapping[str, object]  # unvalidated body of a query


def make_body_completer(database: Queryable, home: Home) -> Callable[[str, Body], Body]:
    """Return a function that completes the body of a query."""

    def complete(name: str, body: Body) -> Body:
        if not JOB_KINDS[name].needs_past:
            return body
        config = body.get("config") or {}
        if not isinstance(config, dict):
            raise ConfigError(f"config is {config!r}: give fields and values.", field="config")
        if isinstance(model := config.get("model"), str) and is_reference(model):
            body = {
                **body,
                "config": {**config, "model": registered_versions.pin_whole_model(database, home, model)},
            }
        added = RunHistory(
            past=runs.list_measured_runs(database),
            replay=find_replay_dataset(database, config),
            probes=find_probe_datasets(database, config),
            imported_as=find_import_settings(database, str(body.get("fingerprint") or "")),
            running=bool(job_queue.with_status(database, ACTIVE, kinds=ON_DEVICES)),
        )
        return {**body, **added}

    return complete


def find_import_settings(database: Queryable, fingerprint: str) -> ImportReading | None:
    """Return how rows were imported before imports asked for the meaning of columns.

    None for rows of later imports, and for rows that don't come from a file.
    """
    dataset = datasets.find_imported_dataset(database, fingerprint)
    stats = dataset.stats if dataset else None
    if not dataset or not stats or "left_out" in stats or stats.get("reader") not in READERS:
        return None
    if dataset.source.get("round"):  # its columns are Tunebench's own
        return None
    return {"format": dataset.format, "columns": dataset.columns, "answers": stats.get("answers")}


def find_replay_dataset(database: Queryable, config: Mapping[str, object]) -> NamedDataset | None:
    """Return the data set that a run replays, or None. Raises ConfigError if it doesn't exist."""
    name = config.get("replay_dataset") or ""
    return _get_dataset(database, name, "replay_dataset") if name and isinstance(name, str) else None


def find_probe_datasets(database: Queryable, config: Mapping[str, object]) -> list[NamedDataset]:
    """Return the data sets used as probes of a run, each once. Raises ConfigError for an unknown one."""
    names = split_commas(config.get("probe_datasets") or [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"probe_datasets is {names!r}: give names of data sets.", field="probe_datasets")
    probes = [_get_dataset(database, name, "probe_datasets") for name in names]
    return list({probe["dataset_id"]: probe for probe in probes}.values())


def _get_dataset(database: Queryable, name: str, field: str) -> NamedDataset:
    try:
        return build_named_dataset(datasets.get_dataset(database, name))
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error


# A run is either refused or queued here: its config is resolved, its preview had no error, and job and run
# are inserted in one transaction.

RunSaver = Callable[[Transaction, str], RunFacts]


class RunRows(NamedTuple):
    """Data set of a run under its current name; fingerprint: None until its import has finished."""

    dataset_id: str
    name: str
    fingerprint: str | None


class JobSubmission:
    """Queue jobs of one store. `run_query` answers a preview."""

    def __init__(
        self,
        database: Database,
        home: Home,
        run_query: Callable[[str, Mapping[str, object]], Any],
        clock: Callable[[], float],
    ) -> None:
        self.database = database
        self.home = home
        self.run_query = run_query
        self.clock = clock

    # -- data sets and models -----------------------------------------------------------------------

    def import_dataset(self, config: ImportConfig) -> JobQueued:
        """Queue an import. Raises ConfigError if the name is in use."""
        with self.database.transaction() as tx:
            return {"job_id": self.queue_import(tx, config)}

    def check_name(self, tx: Transaction, name: str) -> None:
        """Raise ConfigError if a data set has this name, or an import will create one with it."""
        if name in self.taken_names(tx):
            raise ConfigError(
                f"There is a data set named {name!r} already.", fix="Choose another name.", field="name"
            )

    def taken_names(self, tx: Transaction) -> set[str]:
        """Return the names of data sets, including those being created."""
        kinds = [kind.name for kind in JOB_KINDS.values() if kind.makes_dataset]
        making = {job.config["name"] for job in job_queue.with_status(tx, ALIVE, kinds=kinds)}
        return making | {row.name for row in datasets.list_datasets(tx)}

    def next_name(self, tx: Transaction, name: str) -> str:
        """Return the name of the next version: "Sums" gives "Sums v2", which gives "Sums v3"."""
        stem, _, number = name.rpartition(" v")
        stem, count = (stem, int(number)) if stem and number.isdecimal() else (name, 1)
        while True:
            count += 1
            new = f"{stem[: 80 - len(f' v{count}')]} v{count}"
            try:
                self.check_name(tx, new)
                return new
            except ConfigError:
                continue

    def queue_import(self, tx: Transaction, config: ImportConfig) -> str:
        """Queue an import and return its id. Raises ConfigError if the name is in use."""
        self.check_name(tx, config.name)
        document = config.model_dump(exclude_none=True)
        return self.queue_job(tx, "import", f"Import {config.name}", document)

    def queue_job(self, tx: Transaction, kind: str, title: str, config: dict[str, Any]) -> str:
        """Queue a job other than a run and return its id."""
        at = self.clock()
        job_id = job_queue.create_id("job", at)
        job_queue.insert(tx, job_queue.NewJob(job_id=job_id, kind=kind, title=title, config=config, at=at))
        return job_id

    # -- runs ---------------------------------------------------------------------------------------

    def launch(self, config: TrainConfig, add_facts: RunSaver = lambda tx, run_id: {}) -> RunQueued:
        """Queue a run.

        add_facts: writes more within the transaction and returns facts of the run. Raises ConfigError with
        the first error of the preview.
        """
        dataset = self._dataset(config.dataset)
        earlier = {
            "model": registered_versions.pin_whole_model(self.database, self.home, config.model),
            "init_from": self._earlier(config.init_from),
            "parent": self._parent(config.parent),
        }
        config = config.model_copy(update=earlier)
        config = _fill_split(config, datasets.get_split_fields(dataset))
        if config.live_metric.startswith(metrics_config.LIVE_OWN):
            self.check_own_metric(config.live_metric.removeprefix(metrics_config.LIVE_OWN), "live_metric")
        replay = find_replay_dataset(self.database, config.model_dump())
        if replay:  # by id, as a data set may be renamed while the run waits
            config = config.model_copy(update={"replay_dataset": replay["dataset_id"]})
        probes = find_probe_datasets(self.database, config.model_dump())
        config = config.model_copy(update={"probe_datasets": [probe["dataset_id"] for probe in probes]})
        question = {
            "config": config.model_dump(),
            "fingerprint": dataset.fingerprint,
            "split": Split.parse({name: getattr(config, name) for name in Split.model_fields}).fields(),
            "row": 0,
            "launch": True,  # allows more time for checking the weights
        }
        answer = parse_document(Preview, self.run_query("preview", question))
        for problem in answer.problems:
            if problem.level == "error":
                raise ConfigError(
                    problem.message,
                    fix=problem.fix or "",
                    field=problem.field or "config",
                )
        resolved = TrainConfig.parse(answer.config)
        with self.database.transaction() as tx:
            dataset = datasets.get_dataset(tx, dataset.dataset_id)  # may have been deleted
            rows = RunRows(dataset.dataset_id, dataset.name, dataset.fingerprint)
            run_id = self._queue_run(tx, resolved, rows)
            estimates = _build_estimates(answer)  # compared with the measured costs later
            runs.update(tx, run_id, facts={**estimates, **add_facts(tx, run_id)})
        return {"run_id": run_id}

    def check_own_metric(self, file: str, field: str) -> None:
        """Raise ConfigError at `field` if the home folder has no such metric."""
        files = sorted(path.stem for path in self.home.metrics.glob("*.py"))
        if file not in files:
            there = f"There are {', '.join(files)}." if files else "There is none yet."
            raise ConfigError(
                f"There is no metric {file}.py in {self.home.metrics}.",
                fix=f"Add the file. {there}",
                field=field,
            )

    def interpolate(self, body: Interpolate) -> JobQueued:
        """Queue the scoring of a finished run's model at several interpolation weights α from its base."""
        run, _ = self._mixable(body.run)
        with self.database.transaction() as tx:
            document = {"run_id": run.run_id, "alphas": body.alphas}
            title = f"Between {run.name} and its base"
            return {"job_id": self.queue_job(tx, "interpolate", title, document)}

    def keep_variant(self, body: Variant) -> RunQueued:
        """Queue a run whose model is interpolated between a finished run's base and its tuned model."""
        run, config = self._mixable(body.run)
        name = body.name or f"{run.name[:105]} at α {body.alpha:g}"
        off = {switch.name: False for switch in list_run_switches()}
        config = config.model_copy(update={"name": name, "notes": "", "parent": run.run_id} | off)
        rows = RunRows(run.dataset_id, run.dataset_name, run.data_fingerprint)
        with self.database.transaction() as tx:
            datasets.get_dataset(tx, run.dataset_id)  # NotFoundError if it was deleted
            run_id = self._queue_run(tx, config, rows, kind="variant")
            runs.update(tx, run_id, facts={"mixed_from": run.run_id, "alpha": body.alpha})
        return {"run_id": run_id}

    def _mixable(self, name: str) -> tuple[Run, TrainConfig]:
        """Return a finished run that can be interpolated with its base. Raises ConfigError."""
        run = self._finished(name, "run")
        config = TrainConfig.parse(run.config)
        if why := explain_refusal(config, run.facts):
            raise ConfigError(why, fix="Choose another run, or replay general rows.", field="run")
        return run, config

    def _dataset(self, name: str) -> Dataset:
        try:
            return datasets.get_dataset(self.database, name)
        except NotFoundError as error:
            if any(job.config["name"] == name for job in _list_alive(self.database, "import")):
                raise ConfigError(
                    f"The data set {name!r} is still being imported.",
                    fix="Launch once its import has finished.",
                    field="dataset",
                ) from error
            raise

    def _earlier(self, name: str) -> str:
        """Return the id of the finished run to continue from; empty for none."""
        if is_reference(name):
            raise ConfigError(
                f"A run can't continue from the registered model {name}.",
                fix="Name the run that it came from, or give a whole registered model as model.",
                field="init_from",
            )
        return str(self._finished(name, "init_from").run_id) if name else ""

    def _parent(self, name: str) -> str:
        """Return the id of the run that this run is a change of; empty for none."""
        if not name:
            return ""
        try:
            return str(runs.get_run(self.database, name).run_id)
        except NotFoundError as error:
            fix = "Leave parent out, or name a run that is still there."
            raise ConfigError(error.message, fix=fix, field="parent") from error

    def _finished(self, name: str, field: str) -> Run:
        """Return the finished run with that id or name. Raises ConfigError at `field`."""
        try:
            run = runs.get_run(self.database, name)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field=field) from error
        if run.status != "finished":
            raise ConfigError(
                f"The run {run.name!r} is {run.status}: there is no model to continue from.",
                fix="Wait until it has finished, or choose another run.",
                field=field,
            )
        return run

    def _queue_run(
        self,
        tx: Transaction,
        config: TrainConfig,
        rows: RunRows,
        after_jobs: Sequence[str] = (),
        kind: str = "train",
    ) -> str:
        at = self.clock()
        run_id = job_queue.create_id("run", at)
        job_queue.insert(
            tx,
            job_queue.NewJob(
                job_id=run_id,
                kind=kind,
                title=config.name,
                config=config.model_dump(),
                at=at,
                after_jobs=after_jobs,
            ),
        )
        runs.insert(
            tx,
            runs.NewRun(
                run_id=run_id,
                config=config,
                dataset_id=rows.dataset_id,
                dataset_name=rows.name,
                fingerprint=rows.fingerprint,
                at=at,
            ),
        )
        return run_id

    # -- the sample ---------------------------------------------------------------------------------

    def prepare_sample(self, _: object = None) -> SampleQueued:
        """Queue the creation of the bundled model and the sample data set if missing; return the jobs."""
        with self.database.transaction() as tx:
            model, rows = self._prepare(tx)
        return {"job_ids": [job_id for job_id in (model, rows) if job_id]}

    def _prepare(self, tx: Transaction) -> tuple[str | None, str | None]:
        """Return the jobs that create the bundled model and the sample data set; None for existing ones."""
        model = rows = None
        if not (self.home.models / BUNDLED_MODEL / "config.json").exists():
            model = _find_first_id(
                job for job in _list_alive(tx, "convert") if job.config["model"] == BUNDLED_MODEL
            )
            if model is None:
                title = f"Prepare {BUNDLED_MODEL}"
                model = self.queue_job(tx, "convert", title, {"model": BUNDLED_MODEL})
        if SAMPLE_DATASET not in {row.name for row in datasets.list_datasets(tx)}:
            rows = _find_first_id(
                job for job in _list_alive(tx, "import") if job.config["name"] == SAMPLE_DATASET
            )
            if rows is None:
                source = Source(builtin="python")
                rows = self.queue_import(tx, ImportConfig(name=SAMPLE_DATASET, source=source))
        return model, rows

    def launch_sample(self, _: object = None) -> RunQueued:
        """Queue the sample experiment, which waits for model and rows if they are being created."""
        config = build_sample_experiment()
        with self.database.transaction() as tx:
            model, rows = self._prepare(tx)
            if model or rows:
                return {"run_id": self._queue_sample(tx, config, [id for id in (model, rows) if id], rows)}
        return self.launch(config)

    def _queue_sample(
        self, tx: Transaction, config: TrainConfig, after_jobs: list[str], importing: str | None
    ) -> str:
        train_rows = config.max_train_rows
        assert train_rows is not None  # known before its data set exists
        if importing is None:
            dataset = datasets.get_dataset(tx, SAMPLE_DATASET)
            config = _fill_split(config, datasets.get_split_fields(dataset))
            rows = RunRows(dataset.dataset_id, SAMPLE_DATASET, dataset.fingerprint)
        else:
            config = _fill_split(config, Split().fields())  # defaults, with which its import is queued
            rows = RunRows(build_dataset_id(importing), SAMPLE_DATASET, None)
        return self._queue_run(tx, config.resolved(train_rows), rows, after_jobs)


def _list_alive(db: Queryable, kind: str) -> list[Job]:
    return job_queue.with_status(db, ALIVE, kinds=[kind])


def _find_first_id(candidates: Iterator[Job]) -> str | None:
    job = next(candidates, None)
    return job.job_id if job else None


def _fill_split(config: TrainConfig, of: SplitFields) -> TrainConfig:
    """Return the config with unset split fields taken from `of`."""
    return config.model_copy(update={**get_split(config.model_dump(), of)})


def _build_estimates(preview: Preview) -> RunFacts:
    """Return the preview's cost estimates as facts of the run."""
    memory, time = preview.memory, preview.time
    return {
        "estimated_memory_gib": memory.peak_gib,
        "estimated_memory_low_gib": memory.low_gib,
        "estimated_memory_high_gib": memory.high_gib,
        "counted_memory_gib": memory.counted_gib,  # before the correction from past runs
        "process_memory_gib": memory.process_gib,
        "estimated_seconds": time.seconds,
        "estimated_low_seconds": time.low_seconds,
        "estimated_high_seconds": time.high_seconds,
        "counted_seconds": time.counted_seconds,
        "steps_timed": time.steps_timed,
        "course_seconds": time.course_seconds,
        "estimated_steps": preview.steps,
    }
