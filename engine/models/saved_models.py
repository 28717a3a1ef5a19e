"""Saving of tuned models, and continuing from the model of an earlier run.

A saved model has an adapter or full weights as safetensors, its tokenizer, and a note of its base.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from engine.models import adapter_weights, bottleneck, generation, loading, provenance
from engine.models.provenance import NOTE
from engine.models.tokenization.tokenizer_limits import MAX_MIB
from engine.models.tuning_methods import list_trainable
from store.core.errors import ConfigError, ModelError
from store.core.home import Home
from store.core.job_folder import JobDir, read_json, write_atomically, write_json
from store.core.model_schemas import BaseReference, ModelNote, ModelOrigin
from store.evaluation.verdict_schemas import RunReference, Verdict
from store.runs import card_text
from store.training.methods import METHODS, TAKEN_APART, WHOLE_METHOD
from store.training.train_config import TrainConfig

TOKENIZER = "tokenizer.json"
VOCABULARIES = (
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt",
)  # fmt: skip


def add_vocabulary(source: str, folder: Path) -> None:
    """Copy vocabulary files of `source`, a folder or hub id, that the tokenizer in `folder` lacks.

    Only if both have the same tokens. Of a hub model only files in the cache are used; if `source` is
    gone, nothing is added: no model needs these files.
    """
    try:
        loaded = loading.find_weights_folder(source) if source else None
    except (OSError, ValueError):  # the folder is gone, or nothing of the hub id is cached
        return
    if loaded is None or loaded == folder or not _has_same_tokens(loaded, folder):
        return
    for name in VOCABULARIES:
        if not (folder / name).exists() and (content := _read(loaded / name)) is not None:
            (folder / name).write_bytes(content)


def fetch_vocabulary(source: str) -> None:
    """Download the vocabulary files of a hub commit to the hub's cache, unless some are cached already.

    Does nothing if the hub is unreachable.
    """
    base = provenance.build_reference(source)
    if not base["revision"] or any((Path(source) / name).exists() for name in VOCABULARIES):
        return
    from huggingface_hub import snapshot_download

    with suppress(OSError, ValueError):
        snapshot_download(base["name"], revision=base["revision"], allow_patterns=list(VOCABULARIES))


def _has_same_tokens(source: Path, folder: Path) -> bool:
    theirs, own = _read(source / TOKENIZER), _read(folder / TOKENIZER)
    try:
        base, saved = json.loads(theirs or b"null"), json.loads(own or b"null")
    except ValueError:  # on a hub, and its tokenizer wasn't loaded
        return False
    if not isinstance(base, dict) or not isinstance(saved, dict):
        return False
    return all(base.get(part) == saved.get(part) for part in ("model", "added_tokens"))


def _read(file: Path) -> bytes | None:
    """Read the file; None if it is missing, unreadable, or larger than any tokenizer."""
    try:
        return file.read_bytes() if file.stat().st_size <= MAX_MIB[TOKENIZER] * 2**20 else None
    except OSError:
        return None


CARD = "README.md"
WEIGHTS = "adapter_model.safetensors"


def save_model(
    model: Any, tokenizer: Any, config: TrainConfig, folder: Path, origin: ModelOrigin | None = None
) -> None:
    """Write the model to `folder`, replacing its contents; `origin`: further fields of the note."""
    shutil.rmtree(folder, ignore_errors=True)
    base = (origin or {}).get("base") or provenance.build_model_reference(model)
    if isinstance(model, PeftModel):
        _save_adapter(model, config, folder, base)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    add_vocabulary(tokenizer.name_or_path, folder)
    method = METHODS[config.method]
    note: ModelNote = {
        "base_model": provenance.shorten_name(config.model),
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
    """Write the model card in `folder` from its note; `verdict`: the run's verdict, once known."""
    note = cast(ModelNote, read_json(folder / NOTE))
    text = card_text.format_card(card_text.ModelCardFacts(config, note, read_base(folder), verdict))
    with write_atomically(folder / CARD) as aside:
        aside.write_text(text, encoding="utf-8")


def read_base(folder: Path) -> BaseReference:
    """Return the base of the model in `folder` from its note; the name is empty without a note."""
    note = provenance.read_note(folder)
    unknown: BaseReference = {"name": note["base_model"] if note else "", "hub_id": None, "revision": None}
    return (note.get("base") or unknown) if note else unknown


def load_tuned_model(folder: Path, base: Any, name: str = "default") -> Any:
    """Load the adapter in `folder` onto `base`, its base model in the same precision, under the given name.

    `base` may already have other adapters, which stay. A folder of full weights is loaded as any other model
    instead.
    """
    bottleneck.register()
    check_adapter(folder)
    if isinstance(base, PeftModel):
        base.load_adapter(str(folder), name, autocast_adapter_dtype=False)
        return base
    return PeftModel.from_pretrained(base, str(folder), name, autocast_adapter_dtype=False)


def check_adapter(folder: Path) -> None:
    """Raise ModelError for an adapter that peft would read from pickle, or by importing a module."""
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
            f"The adapter in {folder} is a mixture (X-LoRA), whose parts are in folders that it names.",
            fix="Take one of its adapters.",
            field="model",
        )


def _save_adapter(model: PeftModel, config: TrainConfig, folder: Path, base: BaseReference) -> None:
    # peft compares the vocabulary with that of the model of this name, which it looks up on the hub if it
    # isn't local: for a model loaded with its adapter, the name lacks the path
    base_model: Any = model.get_base_model()
    model.peft_config["default"].base_model_name_or_path = base_model.config._name_or_path
    model.save_pretrained(str(folder), selected_adapters=["default"])
    settings = folder / "adapter_config.json"
    changes: adapter_weights.AdapterChanges = {}
    if adapter_weights.TWIN in model.peft_config:
        tensors, changes = adapter_weights.join_adapter(model)
        file = folder / WEIGHTS
        save_file(load_file(file) | tensors, file, metadata={"format": "pt"})
    if METHODS[config.method].allocates:
        changes = {"rank_pattern": None}  # pruned ranks are zeros in the file: nothing to cut
    names = {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    write_json(settings, (read_json(settings) or {}) | {**changes} | names)


# Continuing from the model of an earlier run of this home folder, in one of two modes.
#
# stack: the same parameters are trained further, so that method and shape must match those of the earlier
# run.
#
# merge: the earlier adapter is first merged into its base, and the method's own parameters are added on top.
# The merged model is written once to the run's own folder (`base/`), which the saved adapter refers to: the
# result outlives the earlier run, and loads with peft alone.
#
# In both modes, the model that is trained and that serves as the baseline is the earlier run's, not its base.

FREE_FIELDS = {
    "lora_dropout",
    "loraplus_lr_ratio",
    "init_lora_weights",
}  # may differ if an adapter is trained further


@dataclass(frozen=True)
class EarlierRun:
    """A finished run: its folder, and its training config."""

    folder: JobDir
    config: TrainConfig
    fingerprint: str

    @property
    def adapter(self) -> bool:
        """Whether it saved an adapter rather than a full model."""
        return METHODS[self.config.method].adapter

    def base(self, home: Home) -> str:
        """Return its adapter's base model: a folder or a hub id.

        For a hub model it is the commit used in training. Raises ModelError if that is no longer available.
        """
        own = self.folder.base
        if own.exists():
            return str(own)
        source = loading.resolve_model(self.config.model, home)
        return provenance.find_pinned_folder(source, read_base(self.folder.model))


def find_earlier_run(home: Home, config: TrainConfig) -> EarlierRun | None:
    """Return the run that `config` continues from; None if it starts afresh.

    Raises ConfigError for a run without a model, one on another base model, and, if its parameters are to be
    trained further, one of another method or shape.
    """
    if not config.init_from:
        return None
    folder = JobDir(home.jobs / config.init_from)
    spec = read_json(folder.config) if folder.path.parent == home.jobs else None
    if not spec or not (folder.model / "tunebench.json").exists():
        raise ConfigError(
            f"There is no trained model of a run {config.init_from!r} to continue from.",
            fix="Choose a run that finished and was not deleted.",
            field="init_from",
        )
    earlier = EarlierRun(folder, TrainConfig.parse(spec["config"]), spec["dataset"]["fingerprint"])
    if earlier.config.model != config.model:
        raise ConfigError(
            f"The run {earlier.config.name!r} was trained on another base: it belongs to"
            f" {earlier.config.model}, and this run is on {config.model}.",
            fix=f"Set model to {earlier.config.model}, or continue from another run.",
            field="init_from",
        )
    if config.init_mode == "stack":
        _check_shape(earlier, config)
    elif earlier.adapter and not METHODS[earlier.config.method].merges:
        raise ConfigError(
            f"The run {earlier.config.name!r} trained {METHODS[earlier.config.method].title}, which can't be"
            " merged into a model.",
            fix="Set init_mode to stack, or continue from another run.",
            field="init_mode",
        )
    return earlier


def _check_shape(earlier: EarlierRun, config: TrainConfig) -> None:
    method = METHODS[earlier.config.method]
    if not method.further:
        raise ConfigError(
            f"{method.title} can't be trained further: {earlier.config.name!r} left what answers need alone.",
            fix="Begin a new run, or continue from one of another method.",
            field="init_mode",
        )
    shape = [field for field in METHODS[config.method].fields if field not in FREE_FIELDS]
    heads = (earlier.config.task == "classification", config.task == "classification")
    fields = ["method", *(["task"] if heads[0] != heads[1] else []), *(shape if earlier.adapter else [])]
    theirs, ours = _describe_saved_config(earlier.config.resolved(1)), config.resolved(1)
    for field in fields:
        before, now = getattr(theirs, field), getattr(ours, field)
        if before != now:
            raise ConfigError(
                f"{field} is {now}, and the adapter of {earlier.config.name!r} was trained with {before}.",
                fix=f"Set {field} to {before}, or init_mode to merge.",
                field=field,
            )


def _describe_saved_config(config: TrainConfig) -> TrainConfig:
    """Return the config of what a run saved: with pissa and olora it is a LoRA of twice the rank."""
    if (
        config.init_lora_weights not in TAKEN_APART
        or "init_lora_weights" not in METHODS[config.method].fields
    ):
        return config
    return config.model_copy(update={"r": 2 * (config.r or 0), "lora_alpha": 2 * (config.lora_alpha or 0)})


def continues_training(config: TrainConfig) -> bool:
    """Return whether an earlier run's parameters are trained further."""
    return bool(config.init_from) and config.init_mode == "stack"


def starts_at_base(config: TrainConfig) -> bool:
    """Return whether the baseline is the model with its adapter disabled.

    It isn't if an adapter is trained further, as its initial weights are already tuned.
    """
    return METHODS[config.method].adapter and not continues_training(config)


def resolve_source(
    home: Home, config: TrainConfig, earlier: EarlierRun, folder: JobDir, dtype: torch.dtype
) -> str:
    """Return the folder or id of the model that this run loads.

    It is written to the run's own folder if nothing else would preserve it.
    """
    if not earlier.adapter and not METHODS[config.method].adapter:
        return str(earlier.folder.model)  # all weights are saved again
    if config.init_mode == "merge" or earlier.folder.base.exists():
        if not folder.base.exists():
            _write_base(home, config, earlier, folder.base, dtype)
        return str(folder.base)
    return earlier.base(home)


def _write_base(
    home: Home, config: TrainConfig, earlier: EarlierRun, target: Path, dtype: torch.dtype
) -> None:
    """Write `target` completely or not at all, as the run may be killed and resumed meanwhile."""
    unfinished = target.with_name("base.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    if config.init_mode == "stack":
        shutil.copytree(earlier.folder.base, unfinished, copy_function=link_or_copy)
    elif not earlier.adapter:
        shutil.copytree(earlier.folder.model, unfinished, copy_function=link_or_copy)
    else:
        _merge(home, config, earlier, unfinished, dtype)
    os.rename(unfinished, target)


def link_or_copy(source: str, target: str) -> str:
    """Hard-link the file, or copy it if that fails. Saved models never change, so a link is enough."""
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
    return target


def _merge(home: Home, config: TrainConfig, earlier: EarlierRun, folder: Path, dtype: torch.dtype) -> None:
    """Merge the earlier run's adapter into its base, never in 4 bits.

    A classification head is not included: a causal model is loaded without, and of an encoder only the body
    is saved.
    """
    plain = config.model_copy(update={"method": WHOLE_METHOD, "load_in_4bit": False, "load_in_8bit": False})
    source = earlier.base(home)
    encoder = loading.is_encoder(loading.load_config(source))
    headed = loading.load_config(str(earlier.folder.model)) if encoder else None
    model = loading.load_model(plain, source, "cpu", dtype, headed)
    merged = load_tuned_model(earlier.folder.model, model).merge_and_unload()
    (merged.base_model if encoder else merged).save_pretrained(folder)
    loading.load_tokenizer(source).save_pretrained(folder)


def load_adapter_weights(model: Any, earlier: EarlierRun) -> None:
    """Load the earlier run's weights into the adapter of `model`. Raises ConfigError if they don't fit."""
    check_adapter(earlier.folder.model)
    weights = load_peft_weights(str(earlier.folder.model), device="cpu")
    try:
        outcome: Any = set_peft_model_state_dict(model, weights)
    except RuntimeError as error:  # different shapes
        raise _make_misfit_error(earlier) from error
    if generation.has_prompt_tokens(model):  # peft has loaded them, yet reports them as missing
        return
    missing = {name for name, _ in list_trainable(model)} & set(outcome.missing_keys)
    if missing or outcome.unexpected_keys:
        raise _make_misfit_error(earlier)


def _make_misfit_error(earlier: EarlierRun) -> ConfigError:
    return ConfigError(
        f"The adapter of {earlier.config.name!r} does not match this config.",
        fix="Take the settings of its adapter, or set init_mode to merge.",
        field="init_from",
    )


def describe_continued_verdict(verdict: Verdict, earlier: EarlierRun | None) -> Verdict:
    """Add to the verdict what "the base model" means, if it is an earlier run's model."""
    if earlier is None:
        return verdict
    name = earlier.config.name
    sentence = f"“Base model” is here the model of the run “{name}”, from which this one went on."
    run = RunReference(run_id=earlier.folder.path.name, name=name)
    return replace(verdict, sentences=[sentence, *verdict.sentences], continued_from=run)


def count_previously_trained(earlier: EarlierRun, fingerprint: str, dealt: dict[str, np.ndarray]) -> int:
    """Count the held-out rows that the earlier run was trained on."""
    if earlier.fingerprint != fingerprint or not earlier.folder.split.exists():
        return 0
    table = pq.read_table(earlier.folder.split)
    seen = table["row_id"].to_numpy()[table["split"].to_numpy(zero_copy_only=False) == "train"]
    return int(sum(np.isin(dealt[part], seen).sum() for part in ("validation", "test")))
