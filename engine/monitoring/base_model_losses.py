"""Losses of responses under the base model of the version that gave them, computed as in evaluations.

Loads models, so it is imported only if perplexity is monitored.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from engine.data import training_rows
from engine.evaluation import evaluated_model
from engine.models import hardware
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import REASONS, TokenRows, render
from engine.monitoring.measured_requests import ScoredAnswers
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import ModelError, NotFoundError
from store.core.job_folder import read_json
from store.core.monitoring_schemas import ServedBase
from store.core.row_schemas import Message
from store.core.version_folders import is_reference
from store.training.train_config import TrainConfig

BATCH = 8  # rows at most; fewer if their logits need too much memory


class VersionBases:
    """Base models by location (`measured_requests.BaseModels`). One is loaded at a time."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self._bases: dict[str, tuple[str, TrainConfig]] = {}  # folder or hub id, and how it is loaded

    def find(self, base: ServedBase) -> str:
        """The key of a base: its location and how it is loaded. Raises NotFoundError or ModelError if there
        is none."""
        if base["why"]:
            raise NotFoundError(base["why"])
        source, config = self._source(base)
        held = (config.dtype, config.held, config.chat_template)
        key = "\0".join((source, *held))
        self._bases.setdefault(key, (source, config))
        return key

    def _source(self, base: ServedBase) -> tuple[str, TrainConfig]:
        """For a trained version, the model it was trained on; otherwise the model itself."""
        job, model = self._job, base["model"]
        if not base["run"] and not is_reference(model):
            name = _find_base(Path(model).expanduser()) or model
            return evaluated_model.resolve_source(job, name), evaluated_model.build_default_config(name)
        run = (
            evaluated_model.find_run(job, base["run"])
            if base["run"]
            else evaluated_model.find_version(job, model)
        )
        imported = not run.fingerprint and not run.adapter  # a full model that was not trained here
        return str(run.folder.model) if imported else evaluated_model.resolve_base_source(
            job, run
        ), run.config

    def score(self, key: str, conversations: Sequence[list[Message]]) -> ScoredAnswers:
        """Raises ModelError if a base cannot be loaded, and Cancelled or OutOfMemory on the way."""
        began = time.perf_counter()
        self._job.progress(0, len(conversations), "responses", "Loading the base model")
        source, config = self._bases[key]
        _check_room(source)
        subject = evaluated_model.load_untrained(self._job, config, source)
        loading = time.perf_counter() - began
        rows = keep_last_answers(render(subject.tokenizer, np.arange(len(conversations)), conversations))
        longest = int(rows.lengths.max(initial=1))
        part = training_rows.truncate_rows(rows, min(longest, subject.positions or longest))
        device = torch.device(self._job.device)
        tell = RowProgressReporter(self._job, len(part.rows), "responses", "Scoring responses")

        def on_batch(done: int) -> None:
            hardware.guard_memory(subject.config, device)
            tell(done)

        nats: list[float | None] = [None] * len(conversations)
        if len(part.rows):
            losses = compute_row_losses(
                subject.model, part.rows, batch_size=BATCH, device=device, on_batch=on_batch
            )
            means = losses.loss_sum / losses.tokens
            for place, mean in zip(losses.row_ids.tolist(), means.tolist(), strict=True):
                nats[place] = mean
        subject.model = None
        gc.collect()  # before the next base model is loaded
        lacking = [REASONS[code] for code in part.whole.reasons.tolist()]
        cut = int(((rows.lengths > part.whole.lengths) & (part.whole.reasons == 0)).sum())
        return ScoredAnswers(nats, lacking, cut, loading, time.perf_counter() - began - loading)


def _check_room(source: str) -> None:
    """Raise ModelError if the weights don't fit into free memory: a check that is killed would be retried
    forever. Models that still have to be downloaded are not checked."""
    needed = sum(path.stat().st_size for path in Path(source).glob("*.safetensors")) / hardware.GIB
    free, _ = hardware.measure_available_gib(torch.device("cpu"))
    if needed > free:
        raise ModelError(
            f"The base model needs {needed:.1f} GiB of memory; {free:.1f} GiB are free.",
            fix="Free memory by closing other programs.",
        )


def keep_last_answers(rows: TokenRows) -> TokenRows:
    """Mark only the tokens of the last response as trained: earlier responses are part of the prompt."""
    trained = rows.trained.copy()
    for first, end in zip(rows.starts[:-1], rows.starts[1:], strict=True):
        own = trained[first:end]
        other = np.flatnonzero(~own[: int(np.flatnonzero(own)[-1]) + 1]) if own.any() else np.zeros(0, int)
        own[: int(other[-1]) + 1 if len(other) else 0] = False
    return TokenRows(rows.row_ids, rows.starts, rows.ids, trained, rows.reasons)


def _find_base(folder: Path) -> str:
    """The base model named in an adapter folder; empty for a full model or a missing folder."""
    settings = read_json(folder / "adapter_config.json") if folder.is_dir() else None
    note = read_json(folder / "tunebench.json") if settings else None
    named = (note or {}).get("base_model") or (settings or {}).get("base_model_name_or_path")
    return str(named or "")
