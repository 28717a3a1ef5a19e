"""An adapter merged into its base, on full-precision weights: whatever precision it was trained beside.

It is done in fp32 and rounded once, when a form is written. The process has held no other model before: what
quantised layers change of the library is not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.models import models, saving
from engine.objectives.classification import widen_head
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.catalog.methods import METHODS, WHOLE_METHOD
from store.contract.errors import ConfigError
from store.contract.jobdir import read_json

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def check(subject: ExportSubject) -> None:
    """Raise ConfigError (form) for an adapter that is no change of weights."""
    if subject.merges:
        return
    method = METHODS[subject.config.method]
    raise ConfigError(
        f"{method.title} adds to the model and changes none of its weights: it can't be merged.",
        fix="Export it in the form adapter.",
        field="form",
    )


def whole(job: WorkerJob, subject: ExportSubject, dtype: torch.dtype = torch.float32) -> Any:
    """The model with the adapter in its weights. Raises ConfigError for one that doesn't merge."""
    check(subject)
    source = subject.base(job)
    plain = subject.config.model_copy(
        update={"method": WHOLE_METHOD, "load_in_4bit": False, "load_in_8bit": False}
    )
    headed = subject.labels is not None
    architecture = models.load_config(str(subject.folder)) if headed else None
    model = models.load_model(plain, source, "cpu", dtype, architecture)
    if subject.adapter:
        model = saving.load(subject.folder, model).merge_and_unload()
    if headed:
        widen_head(model)
    model.config.use_cache = True  # training switched it off
    return model


def stored_dtype(job: WorkerJob, subject: ExportSubject) -> torch.dtype:
    """In which the model that was tuned lies on the disk: whoever loads the export expects no other."""
    source = Path(subject.base(job))
    written = read_json(source / "config.json") if source.is_dir() else None
    if written is None:
        written = models.load_config(str(source)).to_dict()
    name = str(written.get("dtype") or written.get("torch_dtype") or "float32").removeprefix("torch.")
    return HALF.get(name, torch.float32)
