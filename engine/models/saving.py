"""The tuned model as files: an adapter or whole weights as safetensors, the tokenizer, a note of the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import load_file, save_file

from engine.models import bottleneck, initial_weights
from store.catalog.methods import METHODS
from store.config.train_config import TrainConfig
from store.contract.jobdir import read_json, write_json
from store.documents.runs.saved_model import ModelNote, ModelOrigin


def save(
    model: Any, tokenizer: Any, config: TrainConfig, folder: Path, origin: ModelOrigin | None = None
) -> None:
    """Write the model into `folder`, in place of what is there; origin: what the note says beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(model, PeftModel):
        _save_adapter(model, config, folder)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    method = METHODS[config.method]
    note: ModelNote = {
        "base_model": config.model,
        "method": config.method,
        "adapter": method.adapter,
        "held": config.held,
        "merges": method.merges,
        **(origin or {}),
    }
    write_json(folder / "tunebench.json", {**note})


def load(folder: Path, base: Any, name: str = "default") -> Any:
    """The tuned model: the adapter in `folder` on its base model, which `base` is, loaded as it was held; or
    on a model that has other adapters, beside these and by its own name.

    Not for a folder of whole weights, which is a model like any other.
    """
    bottleneck.register()
    if isinstance(base, PeftModel):
        base.load_adapter(str(folder), name, autocast_adapter_dtype=False)
        return base
    return PeftModel.from_pretrained(base, str(folder), name, autocast_adapter_dtype=False)


def _save_adapter(model: PeftModel, config: TrainConfig, folder: Path) -> None:
    model.save_pretrained(str(folder), selected_adapters=["default"])
    settings = folder / "adapter_config.json"
    changes: initial_weights.AdapterChanges = {}
    if initial_weights.TWIN in model.peft_config:
        tensors, changes = initial_weights.joined(model)
        file = folder / "adapter_model.safetensors"
        save_file(load_file(file) | tensors, file, metadata={"format": "pt"})
    if METHODS[config.method].allocates:
        changes = {"rank_pattern": None}  # ranks that are gone are zeros in the file: nothing to cut
    if changes:
        write_json(settings, (read_json(settings) or {}) | {**changes})
