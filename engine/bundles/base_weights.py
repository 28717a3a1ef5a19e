"""What the weights of a base model are, and whether those that lie here are the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from engine.bundles import archive
from engine.models import base_names, models
from engine.models.bundled import ensure
from engine.worker.job import WorkerJob
from store.config.training.bundle_config import ReadBase
from store.contract.errors import ModelError
from store.documents.runs.bundle import BaseHere, BaseWeights

TOKENIZER = "tokenizer.json"


def of_source(job: WorkerJob, source: str) -> BaseWeights:
    """Of a folder or a hub id. Without a fingerprint where the hub's files are not on this machine."""
    try:
        folder = models.weights_folder(source)
    except OSError:
        return {**base_names.reference(source), "fingerprint": None, "tokenizer": None, "files": []}
    files, names = [], sorted(folder.glob("*.safetensors"))
    for number, name in enumerate(names):
        job.check_cancelled()
        job.progress(number, len(names), "files", "Taking the checksum of the base model")
        files.append(archive.checksum(name))
    sums = [[file["path"], file["sha256"]] for file in files]
    fingerprint = hashlib.sha256(json.dumps(sums).encode()).hexdigest() if files else None
    tokenizer = folder / TOKENIZER
    named = base_names.reference(str(folder) if not Path(source).is_dir() else source)
    sha256 = archive.checksum(tokenizer)["sha256"] if tokenizer.exists() else None
    return {**named, "fingerprint": fingerprint, "tokenizer": sha256, "files": files}


def _is_hub_id(base: ReadBase) -> bool:
    """Whether the bundle's base model is one of a hub, and its name not that of a folder of this machine."""
    plain = base.hub_id == base.name and base_names.HUB_ID.fullmatch(base.name)
    return bool(plain) and not Path(base.name).exists()


def here(job: WorkerJob, base: ReadBase, model: str) -> tuple[str, BaseHere, BaseWeights | None]:
    """How the bundle's base model is called here, whether it is the same, and what it is. model: where it
    lies, as the user says; empty for by its name."""
    name = model or base.name
    if name in models.BUNDLED:
        ensure(name, job.home)
    own = (job.home.models / name).is_dir() and "/" not in name
    if not (model or own or _is_hub_id(base)):
        return name, "missing", None
    try:
        weights = of_source(job, models.resolve(name, job.home))
    except ModelError:
        if model:
            raise
        return name, "missing", None
    if weights["fingerprint"] is None or base.fingerprint is None:
        return name, "unchecked", weights
    return name, "same" if weights["fingerprint"] == base.fingerprint else "other", weights
