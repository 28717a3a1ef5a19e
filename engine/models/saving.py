"""The tuned model as files: an adapter or whole weights as safetensors, the tokenizer, a note of the base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from safetensors.torch import load_file, save_file

from engine.models import base_names, bottleneck, initial_weights, model_note, vocabularies
from engine.models.model_note import NOTE
from store.catalog.methods import METHODS
from store.config.training.train_config import TrainConfig
from store.contract.errors import ModelError
from store.contract.jobdir import read_json, write_json, written_aside
from store.documents.models.saved_model import BaseReference, ModelNote, ModelOrigin
from store.documents.verdicts.verdict import Verdict
from store.words import adapter_card

CARD = "README.md"
WEIGHTS = "adapter_model.safetensors"


def save(
    model: Any, tokenizer: Any, config: TrainConfig, folder: Path, origin: ModelOrigin | None = None
) -> None:
    """Write the model into `folder`, in place of what is there; origin: what the note says beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    base = (origin or {}).get("base") or base_names.of_model(model)
    if isinstance(model, PeftModel):
        _save_adapter(model, config, folder, base)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    vocabularies.add(tokenizer.name_or_path, folder)
    method = METHODS[config.method]
    note: ModelNote = {
        "base_model": base_names.plain_name(config.model),
        "base": base,
        "method": config.method,
        "adapter": method.adapter,
        "held": config.held,
        "merges": method.merges,
        **(origin or {}),
    }
    write_json(folder / NOTE, {**note})
    write_card(folder, config)


def write_card(folder: Path, config: TrainConfig, verdict: Verdict | None = None) -> None:
    """The card of the model in `folder`, from its note; verdict: what the run came to, once that is known."""
    note = cast(ModelNote, read_json(folder / NOTE))
    text = adapter_card.write(adapter_card.ModelCardFacts(config, note, base_of(folder), verdict))
    with written_aside(folder / CARD) as aside:
        aside.write_text(text, encoding="utf-8")


def base_of(folder: Path) -> BaseReference:
    """What the model in `folder` belongs to, as its note has it; without a name where it has no note."""
    note = model_note.read(folder)
    unknown: BaseReference = {"name": note["base_model"] if note else "", "hub_id": None, "revision": None}
    return (note.get("base") or unknown) if note else unknown


def load(folder: Path, base: Any, name: str = "default") -> Any:
    """The tuned model: the adapter in `folder` on its base model, which `base` is, loaded as it was held; or
    on a model that has other adapters, beside these and by its own name.

    Not for a folder of whole weights, which is a model like any other.
    """
    bottleneck.register()
    check_adapter(folder)
    if isinstance(base, PeftModel):
        base.load_adapter(str(folder), name, autocast_adapter_dtype=False)
        return base
    return PeftModel.from_pretrained(base, str(folder), name, autocast_adapter_dtype=False)


def check_adapter(folder: Path) -> None:
    """Raise ModelError for an adapter that peft would read from pickle, or by importing what it names."""
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter in {folder} has no {WEIGHTS}; other forms can run code when they are read.",
            fix="Save it again with save_pretrained(), which writes safetensors.",
            field="model",
        )
    settings = read_json(folder / "adapter_config.json") or {}
    if settings.get("megatron_config"):
        raise ModelError(
            f"adapter_config.json of {folder} names a module to import (megatron_core).",
            fix="Set megatron_config to null: nothing else of the adapter depends on it.",
            field="model",
        )
    if settings.get("peft_type") == "XLORA":
        raise ModelError(
            f"The adapter in {folder} is a mixture (X-LoRA), whose parts lie in folders that it names.",
            fix="Take one of its adapters.",
            field="model",
        )


def _save_adapter(model: PeftModel, config: TrainConfig, folder: Path, base: BaseReference) -> None:
    # peft compares the vocabulary with that of the model which it finds by this name, on a hub where it isn't
    # here: of a model that was loaded with its adapter, the name is the one without a path
    base_model: Any = model.get_base_model()
    model.peft_config["default"].base_model_name_or_path = base_model.config._name_or_path
    model.save_pretrained(str(folder), selected_adapters=["default"])
    settings = folder / "adapter_config.json"
    changes: initial_weights.AdapterChanges = {}
    if initial_weights.TWIN in model.peft_config:
        tensors, changes = initial_weights.joined(model)
        file = folder / WEIGHTS
        save_file(load_file(file) | tensors, file, metadata={"format": "pt"})
    if METHODS[config.method].allocates:
        changes = {"rank_pattern": None}  # ranks that are gone are zeros in the file: nothing to cut
    names = {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    write_json(settings, (read_json(settings) or {}) | {**changes} | names)
