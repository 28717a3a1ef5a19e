"""Cache of loaded models: one base model for all its adapters, each adapter activated when it is needed.

LoRA adapters share their base model, which itself answers with all of them off. Everything else (other
kinds of adapters, full weights, checkpoints) is loaded separately. A scaled adapter (alpha) is a further
copy of that adapter, of a few megabytes. The least recently used model is dropped first if memory is
short.
"""

from __future__ import annotations

import gc
import json
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from engine.data import training_rows
from engine.evaluation import evaluated_model, interpolated_model
from engine.evaluation.evaluated_model import EvaluatedModel
from engine.models import loading
from engine.models.adapter_weights import AdapterSwitch
from engine.models.hardware import choose_dtype
from engine.models.saved_models import EarlierRun
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError, StateError
from store.core.job_folder import read_json
from store.core.version_folders import is_reference
from store.evaluation.config import ModelSelection
from store.playground.config import MEMORY_SHORT, ChatModel, drop_defaults
from store.runs.config import explain_refusal
from store.training.train_config import TrainConfig

MAX_HELD = 4  # loaded sets of weights
SHARED_KIND = "LORA"  # peft type of which one model can have several adapters


@dataclass(eq=False)
class CachedWeights:
    """A model in memory.

    switch: of its adapters, if it may have several. active: the adapter in use.
    """

    model: Any
    switch: AdapterSwitch | None = None
    active: str = ""
    used_at: float = 0.0


@dataclass(frozen=True)
class ReadyModel:
    """A model that is ready to answer. `adapter`: its name in `weights`; "" for the base model."""

    weights: CachedWeights
    adapter: str
    tokenizer: Any
    positions: int | None
    label: str = ""

    def activate(self) -> Any:
        """Return the model with its adapter activated.

        No other answer on the same weights may continue before it activates its own adapter again.
        """
        weights = self.weights
        weights.used_at = time.monotonic()
        if weights.switch and weights.active != self.adapter:
            weights.switch.to(self.adapter)
            weights.active = self.adapter
        return weights.model


class ModelCache:
    """Loaded models by their selection."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self._ready: OrderedDict[str, ReadyModel] = OrderedDict()
        self._bases: dict[str, CachedWeights] = {}
        self._count = 0
        self._spare: int | None = None  # bytes available beside a run

    @property
    def labels(self) -> list[str]:
        """Labels of the loaded models."""
        return [ready.label for ready in self._ready.values()]

    def contains(self, choice: ChatModel) -> bool:
        """Return whether the model is loaded."""
        return self._build_key(choice) in self._ready

    def get(
        self,
        choice: ChatModel,
        in_use: Collection[CachedWeights] = (),
        label: str = "",
        spare: int | None = None,
    ) -> ReadyModel:
        """Return the model, loading it if necessary.

        spare: bytes that all loaded models may use beside a run. Raises the errors of loading,
        NotFoundError for a deleted run, and StateError (memory) if memory is short beside the weights
        `in_use`.
        """
        self._spare = spare
        key = self._build_key(choice)
        if key in self._ready:
            self._ready.move_to_end(key)
            return self._ready[key]
        ready = self._load_ready(choice, in_use)
        ready.weights.model.eval()
        ready = replace(
            ready, label=label or choice.get_label(), tokenizer=self._share_tokenizer(ready.tokenizer)
        )
        gc.collect()
        self._ready[key] = ready
        return ready

    def _build_key(self, choice: ChatModel) -> str:
        """Return a key of the model, which changes when its run is resumed."""
        identity: dict[str, object] = drop_defaults(choice)
        if choice.run:
            run = evaluated_model.find_run(self._job, choice.run)
            identity["changed"] = max(
                _get_modified_time(run.folder.model / "tunebench.json"),
                _get_modified_time(run.folder.checkpoints),
            )
        elif not is_reference(choice.model):  # a version never changes and is checked when it is loaded
            evaluated_model.resolve_source(self._job, choice.model)  # raises if it no longer exists
        return json.dumps(identity, sort_keys=True)

    def _load_ready(self, choice: ChatModel, in_use: Collection[CachedWeights]) -> ReadyModel:
        job = self._job
        version = is_reference(choice.model)
        if not choice.run and not version:
            return self._load_base(evaluated_model.build_default_config(choice.model), in_use)
        run = (
            evaluated_model.find_version(job, choice.model)
            if version
            else evaluated_model.find_run(job, choice.run)
        )
        if run.config.task == "classification":
            raise ConfigError(
                f"{choice.model or run.config.name!r} is a classifier: it gives each text a class and writes"
                " nothing.",
                fix="Look at its answers on the run's own page, or choose another run.",
                field="model" if version else "run",
            )
        if version:
            return self._load_tuned(choice, run, in_use)
        if choice.checkpoint == "base" and not run.config.init_from:
            return self._load_base(run.config, in_use, run)
        if choice.checkpoint != "tuned":
            self._make_room(evaluated_model.resolve_base_source(job, run), in_use)
            selection = ModelSelection(run=choice.run, checkpoint=choice.checkpoint)
            return self._wrap_unshared(evaluated_model.load_model(job, selection))
        evaluated_model.check_ended(run, ModelSelection(run=choice.run))
        reason = explain_refusal(run.config) if choice.alpha is not None else ""
        if reason:
            raise ConfigError(reason, fix="Choose the run as it ended.", field="alpha")
        return self._load_tuned(choice, run, in_use)

    def _load_base(
        self, config: TrainConfig, in_use: Collection[CachedWeights], run: EarlierRun | None = None
    ) -> ReadyModel:
        """Return an untrained base model."""
        job = self._job
        source = (
            evaluated_model.resolve_base_source(job, run)
            if run
            else evaluated_model.resolve_source(job, config.model)
        )
        key = self._build_weights_key(source, config)
        weights = self._bases.get(key)
        if weights is None:
            self._make_room(source, in_use)
            loaded = evaluated_model.load_untrained(job, config, source)
            weights = self._bases[key] = CachedWeights(loaded.model)
            return ReadyModel(weights, "", loaded.tokenizer, loaded.positions)
        tokenizer = loading.load_tokenizer(source, chat_template=config.chat_template)
        return ReadyModel(weights, "", tokenizer, training_rows.count_positions(weights.model.config, config))

    def _load_tuned(
        self, choice: ChatModel, run: EarlierRun, in_use: Collection[CachedWeights]
    ) -> ReadyModel:
        """Return the model of a run, or an interpolation towards it."""
        job = self._job
        source = evaluated_model.resolve_base_source(job, run) if run.adapter else str(run.folder.model)
        saved = read_json(run.folder.model / "adapter_config.json") if run.adapter else None
        # an adapter can share a base model if it replaces none of its modules
        shared = bool(saved and saved.get("peft_type") == SHARED_KIND and not saved.get("modules_to_save"))
        weights = self._bases.get(self._build_weights_key(source, run.config)) if shared else None
        if weights is None:
            self._make_room(source, in_use)
        self._count += 1
        name = f"adapter{self._count}"
        if weights and weights.switch:
            weights.switch.open()
        loaded = evaluated_model.load_tuned(job, run, weights and weights.model, name)
        if choice.alpha is not None:
            interpolated_model.build_weight_line(job, run, loaded.model, name if run.adapter else "").go(
                choice.alpha
            )
        if not shared:
            return self._wrap_unshared(loaded)
        if weights is None:
            weights = self._bases[self._build_weights_key(source, run.config)] = CachedWeights(loaded.model)
        weights.model, weights.switch = loaded.model, AdapterSwitch(loaded.model)
        weights.switch.to(name)
        weights.active = name
        return ReadyModel(weights, name, loaded.tokenizer, loaded.positions)

    def _wrap_unshared(self, loaded: EvaluatedModel) -> ReadyModel:
        return ReadyModel(CachedWeights(loaded.model), "", loaded.tokenizer, loaded.positions)

    def _build_weights_key(self, source: str, config: TrainConfig) -> str:
        """Return a key of weights in memory: their source, data type and quantization."""
        dtype = choose_dtype(config.dtype, torch.device(self._job.device))
        return json.dumps([source, str(dtype), config.held])

    def _share_tokenizer(self, tokenizer: Any) -> Any:
        """Return the tokenizer, or an equal one that is already loaded.

        Runs save copies of the tokenizer of their base model.
        """
        for ready in self._ready.values():
            if _get_tokenizer_key(ready.tokenizer) == _get_tokenizer_key(tokenizer):
                return ready.tokenizer
        return tokenizer

    def _make_room(self, source: str, in_use: Collection[CachedWeights]) -> None:
        """Drop the least recently used models until another one fits."""
        needed = _estimate_bytes(source)
        while True:
            idle = sorted(
                {id(loaded): loaded for loaded in self._list_weights() if loaded not in in_use}.values(),
                key=lambda weights: weights.used_at,
            )
            if len(self._list_weights()) < MAX_HELD and needed < self._count_available():
                return
            if not idle:
                break
            self._drop(idle[0])
        if needed >= (free := self._count_available()):
            raise StateError(
                f"The model needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free.",
                fix="Talk to fewer models at once, or end other programs.",
                field=MEMORY_SHORT,
            )

    def _count_available(self) -> int:
        """Return the bytes available for one more model: free memory, limited by what a run leaves."""
        free = _count_free_bytes(self._job.device)
        return (
            free
            if self._spare is None
            else min(free, max(0, self._spare - _count_used_bytes(self._job.device)))
        )

    def _list_weights(self) -> list[CachedWeights]:
        return list({id(ready.weights): ready.weights for ready in self._ready.values()}.values())

    def _drop(self, weights: CachedWeights) -> None:
        self._ready = OrderedDict(
            (key, ready) for key, ready in self._ready.items() if ready.weights is not weights
        )
        self._bases = {
            weights_key: cached for weights_key, cached in self._bases.items() if cached is not weights
        }
        weights.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _get_tokenizer_key(tokenizer: Any) -> tuple[str, str, str]:
    return (
        tokenizer.backend_tokenizer.to_str(),
        str(tokenizer.chat_template),
        str(tokenizer.special_tokens_map),
    )


def _get_modified_time(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _estimate_bytes(source: str) -> int:
    """Return the maximum memory of a model: its files, which may be loaded in twice their precision."""
    try:
        folder = loading.find_weights_folder(source)
    except OSError:  # not downloaded yet: size unknown
        return 0
    return 2 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _count_used_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def _count_free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
