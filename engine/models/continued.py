"""Going on from the model of an earlier run of this home folder, in one of two ways.

stack: the same parameters are trained further, so that method and shape must be those of the earlier run.
merge: the earlier adapter is merged into its base first, and whatever the method trains comes on top. The
merged model is written once into the run's own folder (`base/`), from which the saved adapter names it: the
result outlives the earlier run, and loads with peft alone.

What is trained and judged against is in both cases the earlier run's model, not the base of that.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

from engine.forward import trained_prompts
from engine.models import base_names, models, saving
from engine.models.apply_method import trainable
from store.catalog.methods import METHODS, TAKEN_APART, WHOLE_METHOD
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError
from store.contract.home import Home
from store.contract.jobdir import JobDir, read_json
from store.documents.verdicts.verdict import RunName, Verdict

FREE = {"lora_dropout", "loraplus_lr_ratio", "init_lora_weights"}  # may differ where an adapter is trained on


@dataclass(frozen=True)
class EarlierRun:
    """A run that finished: its folder, and the config it was trained with."""

    folder: JobDir
    config: TrainConfig
    fingerprint: str

    @property
    def adapter(self) -> bool:
        """Whether it left an adapter, not a whole model."""
        return METHODS[self.config.method].adapter

    def base(self, home: Home) -> str:
        """The model that its adapter belongs to: a folder or a hub id. Of the hub's the commit that it was
        trained on. Raises ModelError where that is gone."""
        own = self.folder.base
        if own.exists():
            return str(own)
        source = models.resolve(self.config.model, home)
        return base_names.pinned(source, saving.base_of(self.folder.model))


def find(home: Home, config: TrainConfig) -> EarlierRun | None:
    """The run that `config` goes on from, None where it begins anew.

    Raises ConfigError for a run that left no model, one of another model, and, to be trained further, one of
    another method or shape.
    """
    if not config.init_from:
        return None
    folder = JobDir(home.jobs / config.init_from)
    order = read_json(folder.config) if folder.path.parent == home.jobs else None
    if not order or not (folder.model / "tunebench.json").exists():
        raise ConfigError(
            f"There is no trained model of a run {config.init_from!r} to continue from.",
            fix="Choose a run that finished and was not deleted.",
            field="init_from",
        )
    earlier = EarlierRun(folder, TrainConfig.parse(order["config"]), order["dataset"]["fingerprint"])
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
    shape = [field for field in METHODS[config.method].fields if field not in FREE]
    heads = (earlier.config.task == "classification", config.task == "classification")
    fields = ["method", *(["task"] if heads[0] != heads[1] else []), *(shape if earlier.adapter else [])]
    theirs, ours = _as_saved(earlier.config.resolved(1)), config.resolved(1)
    for field in fields:
        before, now = getattr(theirs, field), getattr(ours, field)
        if before != now:
            raise ConfigError(
                f"{field} is {now}, and the adapter of {earlier.config.name!r} was trained with {before}.",
                fix=f"Set {field} to {before}, or init_mode to merge.",
                field=field,
            )


def _as_saved(config: TrainConfig) -> TrainConfig:
    """The config that describes what a run left: a start that was taken apart is a LoRA of twice the rank."""
    if (
        config.init_lora_weights not in TAKEN_APART
        or "init_lora_weights" not in METHODS[config.method].fields
    ):
        return config
    return config.model_copy(update={"r": 2 * (config.r or 0), "lora_alpha": 2 * (config.lora_alpha or 0)})


def further(config: TrainConfig) -> bool:
    """Whether the parameters of an earlier run are trained on."""
    return bool(config.init_from) and config.init_mode == "stack"


def starts_at_base(config: TrainConfig) -> bool:
    """Whether what is judged against is the model with its adapter switched off: not where an adapter is
    trained further, whose beginning is a state of its own."""
    return METHODS[config.method].adapter and not further(config)


def source_of(
    home: Home, config: TrainConfig, earlier: EarlierRun, folder: JobDir, dtype: torch.dtype
) -> str:
    """The folder or id of the model that this run loads; written into its own folder where nothing else will
    keep it."""
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
    """`target`, whole or not at all: a run may be killed and resumed meanwhile."""
    unfinished = target.with_name("base.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    if config.init_mode == "stack":
        shutil.copytree(earlier.folder.base, unfinished, copy_function=linked)
    elif not earlier.adapter:
        shutil.copytree(earlier.folder.model, unfinished, copy_function=linked)
    else:
        _merge(home, config, earlier, unfinished, dtype)
    os.rename(unfinished, target)


def linked(source: str, target: str) -> str:
    """Nobody changes a saved model: a hard link keeps it for both runs at no cost."""
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
    return target


def _merge(home: Home, config: TrainConfig, earlier: EarlierRun, folder: Path, dtype: torch.dtype) -> None:
    """The earlier run's base with its adapter merged in; never in 4 bits. A head is not taken over: a causal
    model is loaded without, and of an encoder what is below it is kept."""
    plain = config.model_copy(update={"method": WHOLE_METHOD, "load_in_4bit": False, "load_in_8bit": False})
    source = earlier.base(home)
    encoder = models.is_encoder(models.load_config(source))
    headed = models.load_config(str(earlier.folder.model)) if encoder else None
    model = models.load_model(plain, source, "cpu", dtype, headed)
    merged = saving.load(earlier.folder.model, model).merge_and_unload()
    (merged.base_model if encoder else merged).save_pretrained(folder)
    models.load_tokenizer(source).save_pretrained(folder)


def load_into(model: Any, earlier: EarlierRun) -> None:
    """Give the adapter of `model` the earlier run's weights. Raises ConfigError where they don't fit."""
    saving.check_adapter(earlier.folder.model)
    weights = load_peft_weights(str(earlier.folder.model), device="cpu")
    try:
        outcome: Any = set_peft_model_state_dict(model, weights)
    except RuntimeError as error:  # shapes that differ
        raise _misfit(earlier) from error
    if trained_prompts.prompted(model):  # peft has put them in their place, and names them as if it hadn't
        return
    missing = {name for name, _ in trainable(model)} & set(outcome.missing_keys)
    if missing or outcome.unexpected_keys:
        raise _misfit(earlier)


def _misfit(earlier: EarlierRun) -> ConfigError:
    return ConfigError(
        f"The adapter of {earlier.config.name!r} does not fit the one that this config describes.",
        fix="Take the settings of its adapter, or set init_mode to merge.",
        field="init_from",
    )


def continued_verdict(verdict: Verdict, earlier: EarlierRun | None) -> Verdict:
    """The verdict, saying what "the base model" is in it where that is an earlier run's."""
    if earlier is None:
        return verdict
    name = earlier.config.name
    sentence = f"“Base model” is here the model of the run “{name}”, from which this one went on."
    run: RunName = {"run_id": earlier.folder.path.name, "name": name}
    return {**verdict, "sentences": [sentence, *verdict["sentences"]], "continued_from": run}


def trained_before(earlier: EarlierRun, fingerprint: str, dealt: dict[str, np.ndarray]) -> int:
    """How many held-out rows the earlier run was trained on."""
    if earlier.fingerprint != fingerprint or not earlier.folder.split.exists():
        return 0
    table = pq.read_table(earlier.folder.split)
    seen = table["row_id"].to_numpy()[table["split"].to_numpy(zero_copy_only=False) == "train"]
    return int(sum(np.isin(dealt[part], seen).sum() for part in ("validation", "test")))
