"""The model to evaluate: one given by name, or a run's final, checkpointed or base model.

A run's model is loaded with the settings it was trained with: 4 or 8 bits, template, trust, and the precision
unless another one is requested. A checkpoint is not a model but what a resume starts from, so it is loaded
into the model as a resume does.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.data import training_rows
from engine.models import loading, saved_models, training_state
from engine.models.bundled import ensure_bundled_model
from engine.models.classification import upcast_head
from engine.models.hardware import choose_dtype
from engine.models.saved_models import EarlierRun
from engine.models.training_state import MasterWeights
from engine.models.tuning_methods import list_trainable
from engine.worker.job import Phase, WorkerJob
from store.core.documents import parse_document
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.job_folder import JobDir, read_json
from store.core.job_kinds import JOB_KINDS
from store.core.model_schemas import TrainingSummary
from store.core.version_folders import is_reference, open_sealed_folder
from store.evaluation.config import CHECKPOINTS, ModelSelection
from store.jobs.schemas import JobSpec
from store.runs import card_text
from store.training.methods import WHOLE_METHOD
from store.training.train_config import TrainConfig

# Progress messages while a model is loaded; loading a checkpoint also shows those of its run's preparation.
LOADING_MESSAGE = Phase(
    (
        "Loading the model",
        "Loading the tokenizer",
        "Loading the model of the earlier run",
        "Tokenizing",
    ),
    0,
)


@dataclass
class EvaluatedModel:
    """A loaded model. `labels`: the classes of its head, None for a model that generates text. `positions`:
    the maximum number of tokens of a row that it can see. `config`: how it was loaded and is held.
    """

    model: Any
    tokenizer: Any
    config: TrainConfig
    positions: int | None
    labels: list[str] | None = None
    course: TrainingSummary | None = None  # for a checkpoint: training up to it


def load_model(job: WorkerJob, config: ModelSelection) -> EvaluatedModel:
    """Load the model that `config` names. Raises StateError for a checkpoint that doesn't exist."""
    job.progress(0, 1, "run", "Loading the model")
    if is_reference(config.model):
        return load_tuned(job, _replace_dtype(find_version(job, config.model), config.dtype))
    if not config.run:
        plain = build_default_config(config.model, dtype=config.dtype, chat_template=config.chat_template)
        return load_untrained(job, plain, resolve_source(job, plain.model))
    run = _replace_dtype(find_run(job, config.run), config.dtype)
    if config.checkpoint == "base":
        return _load_base(job, run)
    if (
        config.checkpoint != "tuned"
        and training_state.load_newest_checkpoint(run.folder.checkpoints) is not None
    ):
        return _load_checkpoint(job, run, best=config.checkpoint == "best")
    check_ended(run, config)
    return load_tuned(job, run)


def build_default_config(model: str, **changes: Any) -> TrainConfig:
    """Build the config for loading a model that doesn't come from a run."""
    return TrainConfig(model=model, dataset="none", method=WHOLE_METHOD, **changes)


def _replace_dtype(run: EarlierRun, dtype: str) -> EarlierRun:
    """Return the run with its precision replaced; "auto" keeps the run's own."""
    if dtype == "auto":
        return run
    return replace(run, config=run.config.model_copy(update={"dtype": dtype}))


def find_run(job: WorkerJob, run_id: str) -> EarlierRun:
    """Find the run by its folder. Raises NotFoundError."""
    folder = JobDir(job.home.jobs / run_id)
    spec = read_json(folder.config) if folder.path.parent == job.home.jobs else None
    if not spec:
        raise NotFoundError(
            f"The folder of the run {run_id} does not exist.", fix="It may have been deleted."
        )
    return EarlierRun(folder, TrainConfig.parse(spec["config"]), spec["dataset"]["fingerprint"])


def find_version(job: WorkerJob, reference: str) -> EarlierRun:
    """Find the registered version NAME@3, whose folder is like that of a run. Raises ModelError if its files
    differ from those registered.
    """
    folder = open_sealed_folder(job.home, reference)
    spec = read_json(folder.config)
    return EarlierRun(folder, TrainConfig.parse(spec["config"]), spec["dataset"]["fingerprint"])


def find_trained_model(job: WorkerJob, config: ModelSelection) -> EarlierRun | None:
    """Return the run or version that `config` names; None for a model that was not trained here."""
    if is_reference(config.model):
        return find_version(job, config.model)
    return find_run(job, config.run) if config.run else None


def check_ended(run: EarlierRun, config: ModelSelection) -> None:
    """Raise StateError unless the model that the run left is the requested checkpoint."""
    name, wanted = run.config.name, config.checkpoint
    if not (run.folder.model / "tunebench.json").exists():
        raise StateError(
            f"{name!r} has no saved model, and {CHECKPOINTS[wanted]} was requested.",
            fix="Resume the run, or set checkpoint to best, newest or base.",
            field="checkpoint",
        )
    stopped = ((read_json(run.folder.result) or {}).get("result") or {}).get("verdict", {}).get("stopped", {})
    restored, last = stopped.get("restored_step"), stopped.get("step")
    gone = {"best": not run.config.load_best_model_at_end, "newest": restored != last}
    if gone.get(wanted):
        raise StateError(
            f"{name!r} has finished with the weights of step {restored} of {last}; its checkpoints were"
            " deleted.",
            fix="Set checkpoint to tuned.",
            field="checkpoint",
        )


def resolve_source(job: WorkerJob, name: str) -> str:
    """Return a model's folder or hub ID; a bundled model is created if it doesn't exist yet. Raises
    ModelError.
    """
    if name in loading.BUNDLED:
        ensure_bundled_model(name, job.home)
    return loading.resolve_model(name, job.home)


def load_untrained(job: WorkerJob, config: TrainConfig, folder: str) -> EvaluatedModel:
    """Load a causal model unchanged from its folder or hub ID."""
    dtype = choose_dtype(config.dtype, torch.device(job.device))
    model = loading.load_model(config, folder, job.device, dtype)
    tokenizer = loading.load_tokenizer(folder, chat_template=config.chat_template)
    return EvaluatedModel(model, tokenizer, config, training_rows.count_positions(model.config, config))


def _load_base(job: WorkerJob, run: EarlierRun) -> EvaluatedModel:
    """Load the model that the run began with; for a run that continued another, that run's model."""
    config = run.config
    if config.init_from and (saved_models.continues_training(config) or not run.folder.base.exists()):
        return load_tuned(job, _replace_dtype(find_run(job, config.init_from), config.dtype))
    return load_untrained(job, config, resolve_base_source(job, run))


def resolve_base_source(job: WorkerJob, run: EarlierRun) -> str:
    """Return the folder or hub ID of the model that the run's adapter, or its training, started from."""
    if run.folder.base.exists():
        return str(run.folder.base)
    return resolve_source(job, run.config.model)


def load_tuned(job: WorkerJob, run: EarlierRun, on: Any = None, name: str = "default") -> EvaluatedModel:
    """Load the model that the run left. on: the adapter's base model if it is already in memory, possibly
    with other adapters; `name` is this adapter's name among them.
    """
    config, folder = run.config, str(run.folder.model)
    if config.model in loading.BUNDLED:
        ensure_bundled_model(config.model, job.home)
    dtype = choose_dtype(config.dtype, torch.device(job.device))
    below = run.base(job.home) if run.adapter else folder
    tokenizer = loading.load_tokenizer(folder, model=below)
    headed = config.task == "classification"
    architecture = loading.load_config(folder) if headed else None
    model = on if on is not None else loading.load_model(config, below, job.device, dtype, architecture)
    positions = training_rows.count_positions(model.config, config)
    if run.adapter:
        model = saved_models.load_tuned_model(run.folder.model, model, name)
        for parameter in model.parameters():  # as in training; peft loads some in fp32
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        loading.keep_dtype(model, config, dtype)
    if not headed:
        return EvaluatedModel(model, tokenizer, config, positions)
    upcast_head(model)
    note = read_json(run.folder.model / "tunebench.json") or {}
    if not note.get("labels"):
        raise ConfigError(f"{config.name!r} has no saved list of labels.", fix="Run it again.", field="run")
    return EvaluatedModel(model, tokenizer, config, positions, note["labels"])


class _ResumedJob(WorkerJob):
    """The run's job as a resume would see it, with the device, progress and cancellation of the
    current job.
    """

    def __init__(self, job: WorkerJob, run: EarlierRun) -> None:
        vars(self).update(vars(job))
        self.dir, self.resume = run.folder, True
        self.spec = parse_document(JobSpec, read_json(run.folder.config))
        self.config = self.spec["config"]

    def facts(self, **facts: Any) -> None:
        """Do nothing: there are no new facts about the run."""

    def alert(self, message: str, level: str = "warning", **about: Any) -> None:
        """Do nothing: the run raised its alerts when it began."""


def _load_checkpoint(job: WorkerJob, run: EarlierRun, *, best: bool) -> EvaluatedModel:
    """Load the weights at which the run was stopped, or its best ones up to then."""
    config = run.config.model_copy(update={"probes": False})
    # Training is a layer above evaluation, so it is imported by name, as a worker does.
    training = importlib.import_module(JOB_KINDS["train"].module)
    began = training.RUN_CLASSES[config.task](_ResumedJob(job, run), config)
    began.open()
    train, _, _ = began.prepare()
    model = began.build(train)
    newest = training_state.load_newest_checkpoint(run.folder.checkpoints)
    assert newest is not None
    tensors, document = newest
    step = document["state"]["best_step"]
    if best and step is None:
        raise StateError(
            f"{config.name!r} was stopped before its first validation, so it has no best checkpoint.",
            fix="Set checkpoint to newest.",
            field="checkpoint",
        )
    weights = {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
    if best and step != document["state"]["step"]:
        weights = training_state.load_best(run.folder.checkpoints, step)
    MasterWeights(list_trainable(model)).load(weights)
    labels = getattr(getattr(began, "rows", None), "labels", None)
    last = document["state"]["step"]
    attempts = read_json(run.folder.config).get("attempt", 1)
    course = card_text.summarise_checkpoint(config, len(train), step if best else last, last, attempts)
    names = labels.names if labels else None
    return EvaluatedModel(model, began.tokenizer, config, began.positions, names, course)
