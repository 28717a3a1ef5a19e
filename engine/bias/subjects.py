"""The two models of a bias check: what a run left and began with, or models by name, folder or NAME@3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engine.bias.asking import ProbedModel
from engine.evaluation import evaluated
from engine.models import models, saving
from engine.models.precision import choose_dtype
from engine.worker.job import WorkerJob
from store.config.judging.answering import ChosenModel
from store.config.judging.bias_config import BiasConfig
from store.contract.errors import ConfigError, ModelError
from store.documents.shipping.version import ModelVersion

HEADED = (
    "It has a classification head: it gives classes and writes nothing, so it can't be asked these probes."
)


@dataclass(frozen=True)
class BiasSubject:
    """One of the two. which: base or tuned; field: of the config, that named it."""

    which: str
    field: str
    chosen: ChosenModel
    version: ModelVersion | None = None


def subjects(job: WorkerJob, config: BiasConfig) -> tuple[BiasSubject, BiasSubject]:
    """Base and tuned."""
    if config.run:
        return (
            BiasSubject("base", "run", ChosenModel(run=config.run, checkpoint="base")),
            BiasSubject("tuned", "run", ChosenModel(run=config.run)),
        )
    versions: dict[str, ModelVersion] = job.order.get("compared_versions") or {}
    return (
        BiasSubject("base", "against", ChosenModel(model=config.against), versions.get(config.against)),
        BiasSubject("tuned", "model", ChosenModel(model=config.model), versions.get(config.model)),
    )


def load(job: WorkerJob, subject: BiasSubject, batch_size: int) -> ProbedModel:
    """The model. Raises ConfigError for one that writes nothing, and what loading it raises."""
    version = subject.version
    loaded = _of_version(job, version) if version else evaluated.load(job, subject.chosen)
    if loaded.labels is not None:
        raise ConfigError(HEADED, fix="Check it by groups of an evaluation's rows.", field=subject.field)
    return ProbedModel(loaded.model, loaded.tokenizer, loaded.positions, torch.device(job.device), batch_size)


def _of_version(job: WorkerJob, version: ModelVersion) -> evaluated.Evaluated:
    """A registered model: its own weights, or its adapter on the base that it names."""
    folder = job.home.path / version["folder"]
    reference = f"{version['name']}@{version['version']}"
    if not folder.is_dir():
        raise ModelError(
            f"The folder of {reference} is gone: {folder}.", fix="Register it again.", field="model"
        )
    if not version["adapter"]:
        return evaluated.untouched(job, evaluated.plain_config(str(folder)), str(folder))
    if not version["base_model"]:
        raise ModelError(
            f"{reference} is an adapter, and names no base.", fix="Register it again.", field="model"
        )
    config = evaluated.plain_config(version["base_model"])
    source = evaluated.source(job, version["base_model"])
    below = evaluated.untouched(job, config, source)
    model: Any = saving.load(folder, below.model)
    dtype = choose_dtype(config.dtype, torch.device(job.device))
    for parameter in model.parameters():  # peft reads some in fp32
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    tokenizer = (
        models.load_tokenizer(str(folder), model=source)
        if (folder / "tokenizer.json").exists()
        else below.tokenizer
    )
    return evaluated.Evaluated(model, tokenizer, config, below.positions)
