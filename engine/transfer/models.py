"""Models and held-out rows of a transfer matrix.

One model is in memory at a time: a base model, and adapters that are swapped on top of it. The base model
is loaded once for all runs that start from it in the same precision. An adapter is added and removed
again, which leaves the base model's own modules in place; if a method can't be removed, the base model is
reloaded. Contents are named by a hash of every weight file, so that measurements of a model are found
again, and never for another one.

Held-out rows are sampled once for each data set, so that every model of a column sees the same rows in the
same batches. Rows that a run was trained on, validated on (they selected its best step), or that repeat a
training question, are removed from its cells afterwards, including those of the runs it continued from and
of replayed data; near duplicates are kept and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError

from engine.data import training_rows
from engine.data.split import dataset_split, leakage
from engine.evaluation import evaluated_model
from engine.models import loading, saved_models
from engine.models.bundled import ensure_bundled_model
from engine.models.hardware import choose_dtype, get_dtype_name
from engine.models.saved_models import EarlierRun
from engine.models.tokenization.tokenized_rows import read_rows
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, ModelError, NotFoundError, TunebenchError
from store.core.home import Home
from store.core.job_folder import read_json, write_json
from store.data import dataset_files
from store.jobs.schemas import TransferDatasetSpec
from store.training.split import Split
from store.transfer.config import TransferConfig
from store.transfer.schemas import OverlappingRows, TransferDataset

HEADED = "Models with a classification head have no response loss to compare with the base model."


@dataclass(frozen=True)
class Subject:
    """A run of the matrix; `reason`: why it can't be measured, in which case `run` may be None."""

    run_id: str
    name: str
    run: EarlierRun | None
    reason: str = ""


def find_subject(job: WorkerJob, run_id: str) -> Subject:
    """Find the run by its folder; the reason is set if there is nothing to measure."""
    try:
        run = evaluated_model.find_run(job, run_id)
    except NotFoundError:
        return Subject(run_id, run_id, None, "Its folder no longer exists: the run was deleted.")
    name, reason = run.config.name, ""
    if run.config.task == "classification":
        reason = HEADED
    elif not (run.folder.model / "tunebench.json").exists():
        status = (read_json(run.folder.result) or {}).get("status", "not finished")
        reason = f"It has no model: the run is {status}."
    elif not any(run.folder.model.glob("*.safetensors")):
        reason = "The weights of its model are missing from its folder."
    return Subject(run_id, name, run, reason)


class ModelLoader:
    """Loader of the models of one job."""

    def __init__(self, job: WorkerJob) -> None:
        self.job = job
        self.device = torch.device(job.device)
        self._base: Any = None
        self._held: tuple[str, ...] = ()

    # -- identity -----------------------------------------------------------------------------------

    def tokenizer(self, run: EarlierRun) -> Any:
        """Return the run's own tokenizer; the base model gets the same tokens."""
        return loading.load_tokenizer(str(run.folder.model))

    def positions(self, run: EarlierRun) -> int | None:
        """Return the maximum number of tokens of a row for the run; its base model gets no more."""
        return training_rows.count_positions(loading.load_config(self.origin(run)), run.config)

    def origin(self, run: EarlierRun) -> str:
        """Return the base model of the run's family: a folder or a hub id."""
        if run.config.model in loading.BUNDLED:
            ensure_bundled_model(run.config.model, self.job.home)
        return loading.resolve_model(run.config.model, self.job.home)

    def _precision(self, run: EarlierRun) -> tuple[str, ...]:
        dtype = get_dtype_name(choose_dtype(run.config.dtype, self.device))
        return dtype, run.config.held or "", self.device.type

    def base_key(self, run: EarlierRun) -> str:
        """Return the key of the base model as measured for this run."""
        return _hash(["base", hash_content(self.job.home, self.origin(run)), *self._precision(run)])

    def tuned_key(self, run: EarlierRun) -> str:
        """Return the key of the run's weights and of the model they are based on."""
        stands_on = hash_content(self.job.home, run.base(self.job.home)) if run.adapter else ""
        own = hash_content(self.job.home, str(run.folder.model))
        return _hash(["tuned", own, stands_on, *self._precision(run)])

    # -- loading ------------------------------------------------------------------------------------

    def _loaded(self, run: EarlierRun, source: str) -> Any:
        wanted = (source, *self._precision(run))
        if self._base is None or self._held != wanted:
            self._base = None  # never two models in memory
            dtype = choose_dtype(run.config.dtype, self.device)
            self._base = loading.load_model(run.config, source, str(self.device), dtype)
            self._held = wanted
        return self._base

    def base(self, run: EarlierRun) -> Any:
        """Return the unmodified base model of the run's family."""
        return self._loaded(run, self.origin(run))

    @contextmanager
    def tuned(self, run: EarlierRun) -> Iterator[Any]:
        """Load the model of the run. Raises ModelError if its files can't be read."""
        dtype = choose_dtype(run.config.dtype, self.device)
        try:
            if run.adapter:
                model = saved_models.load_tuned_model(
                    run.folder.model, self._loaded(run, run.base(self.job.home))
                )
            else:
                self._base = None
                model = loading.load_model(run.config, str(run.folder.model), str(self.device), dtype)
        except TunebenchError:
            self._base = None
            raise
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            self._base = None
            message = " ".join(str(error).split())[:200]
            raise ModelError(f"Its model can't be loaded: {message}") from error
        if run.adapter:
            for parameter in model.parameters():  # dtype of the training; peft loads some in fp32
                if parameter.is_floating_point():
                    parameter.data = parameter.data.to(dtype)
            loading.keep_dtype(model, run.config, dtype)
        try:
            yield model
        finally:
            if run.adapter:
                self._base = _detach_adapter(model)


def _detach_adapter(model: PeftModel) -> Any:
    """Return the base model without the adapter, or None if it must be reloaded."""
    tuner: Any = model.base_model
    if model.active_peft_config.is_prompt_learning or not hasattr(tuner, "unload"):
        return None
    try:
        base = tuner.unload()
    except (NotImplementedError, AttributeError):  # a method over blocks has no weights to restore
        return None
    left = (BaseTunerLayer, ModulesToSaveWrapper)
    return None if any(isinstance(module, left) for module in base.modules()) else base


def hash_content(home: Home, source: str) -> str:
    """Return a hash of every weight file of a model's folder, and of an adapter's settings.

    Hashes of files are cached by name, size and modification time.
    """
    folder = loading.find_weights_folder(source)
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("adapter_config.json")])
    if not files:
        raise NotFoundError(f"No weights found in {folder}.", fix="The model may have been deleted.")
    return _hash([[file.name, _hash_file(home, file.resolve())] for file in files])


def _hash_file(home: Home, file: Path) -> str:
    state = file.stat()
    kept = home.cache / "contents" / f"{_hash([str(file), state.st_size, state.st_mtime_ns])}.json"
    if (before := read_json(kept)) is not None:
        return str(before)
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, digest)
    return digest


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


USED = ("train", "validation")


@dataclass(frozen=True)
class TransferColumn:
    """A data set of the matrix.

    row_ids: sorted. of: rows of the part before sampling. reason: why it has no rows.
    """

    data: TransferDatasetSpec
    row_ids: np.ndarray
    of: int
    reason: str = ""

    @property
    def fingerprint(self) -> str:
        return str(self.data["dataset"]["fingerprint"])

    @property
    def dataset_id(self) -> str:
        return str(self.data["dataset"]["dataset_id"])

    def document(self, part: str) -> TransferDataset:
        """Return the data set as in the result."""
        dataset = self.data["dataset"]
        return TransferDataset(
            dataset_id=dataset["dataset_id"],
            name=dataset["name"],
            kind=dataset["kind"],
            fingerprint=dataset["fingerprint"],
            part=part,
            rows=len(self.row_ids),
            of=self.of,
            split=self.data["split"],
            reason=self.reason,
        )


@dataclass(frozen=True)
class ExcludedRows:
    """Rows of a column on which a run must not be judged, with the number of rows for each reason."""

    rows: np.ndarray
    trained: int = 0
    asked: int = 0
    near: int = 0

    def document(self) -> OverlappingRows:
        """Return the counts as in the result."""
        return {"trained": self.trained, "asked": self.asked, "near": self.near}


def build_column(
    job: WorkerJob, config: TransferConfig, matrix_dataset: TransferDatasetSpec
) -> TransferColumn:
    """Return the rows of one requested data set, or the reason why there are none."""
    none, fingerprint = np.zeros(0, np.int64), matrix_dataset["dataset"]["fingerprint"]
    try:
        dealt = dataset_split.assign_rows_unchecked(
            job.home, fingerprint, Split.parse(matrix_dataset["split"])
        )
    except (ConfigError, NotFoundError) as error:
        return TransferColumn(matrix_dataset, none, 0, error.message)
    ids = dealt.ids()[config.part]
    if not len(ids):
        return TransferColumn(matrix_dataset, none, 0, f"Its split has no {config.part} rows.")
    of = len(ids)
    if config.max_rows is not None and of > config.max_rows:
        ids = np.random.default_rng([config.seed, 13]).choice(ids, config.max_rows, replace=False)
    return TransferColumn(matrix_dataset, np.sort(ids).astype(np.int64), of)


def find_lineage(job: WorkerJob, run: EarlierRun) -> list[EarlierRun]:
    """Return the run and the runs it continued from, as far as they exist."""
    runs = [run]
    while (name := runs[-1].config.init_from) and len(runs) < 50:
        try:
            runs.append(evaluated_model.find_run(job, name))
        except NotFoundError:
            break
    return runs


def list_used_rows(runs: Sequence[EarlierRun]) -> list[tuple[str, np.ndarray]]:
    """Return (fingerprint, row ids) of all rows used in the training of these runs."""
    rows_used = []
    for run in runs:
        if run.folder.split.exists():
            table = pq.read_table(run.folder.split)
            names = table["split"].to_numpy(zero_copy_only=False)
            rows_used.append((run.fingerprint, table["row_id"].to_numpy()[np.isin(names, USED)]))
        replayed = (read_json(run.folder.config) or {}).get("replay")
        rows = read_rows(run.folder.replay) if replayed else None
        if replayed and rows is not None:
            rows_used.append((replayed["fingerprint"], np.unique(rows.row_ids)))
    return rows_used


def find_excluded_rows(
    job: WorkerJob, of: Sequence[tuple[str, np.ndarray]], to: TransferColumn
) -> ExcludedRows:
    """Find the rows of a column that the rows `of` give away; deleted data sets can't be checked."""
    texts = np.zeros(len(to.row_ids), bool)
    asked, close = texts.copy(), 0
    for fingerprint, row_ids in of:
        if not len(row_ids) or not _has_rows(job.home, fingerprint):
            continue
        pair = (job.home, fingerprint, row_ids, to.fingerprint, to.row_ids)
        same, ask = leakage.find_repeated_rows(*pair)
        if fingerprint == to.fingerprint:
            same |= np.isin(to.row_ids, row_ids)
        texts, asked = texts | same, asked | ask
        close = max(close, leakage.count_near_duplicates(*pair, job.dir.path))
    asked &= ~texts
    return ExcludedRows(texts | asked, int(texts.sum()), int(asked.sum()), close)


def _has_rows(home: Home, fingerprint: str) -> bool:
    try:
        dataset_files.open_rows(home, fingerprint)
    except NotFoundError:
        return False
    return True
