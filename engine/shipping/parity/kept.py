"""What models said to the rows of parity checks, kept in the cache: each form of a model is held against it.

A folder is named by all that its content depends on: files of the model and of its base, config, rows,
precision, device and library versions. It is written aside and renamed; the oldest go when there are more
than KEPT.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from engine.models.precision import versions
from engine.shipping.parity.asked import LIKELIEST, ParityFolder
from engine.shipping.parity.reference import Reference, ReferenceAnswers
from engine.shipping.parity.rows import ParityRows
from engine.shipping.publish import digest
from engine.shipping.subject import ExportSubject
from engine.worker.job import WorkerJob
from store.config.shipping.model_export_config import ModelExport

VERSION = 5  # of what is kept: another number, another name
KEPT = 6
SMALL = 64 * 2**20  # bytes of a file whose content is read; of larger ones size and time are looked at
MODEL_FIELDS = ("model", "method", "load_in_4bit", "load_in_8bit", "dtype", "chat_template", "task")


def answers(
    job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows, folder: ParityFolder
) -> ReferenceAnswers:
    """What the model says to these rows, with all that the other process reads in `folder`."""
    kept = job.home.cache / "parity" / _name(job, subject, config, rows)
    if (kept / folder.reference.name).exists():
        shutil.copytree(kept, folder.path, dirs_exist_ok=True)
        os.utime(kept)
        return ReferenceAnswers.read(folder.reference)
    job.progress(0, 1, "model", "Loading the model as it was evaluated")
    made = Reference(job, subject, config).ask(folder, rows)
    _keep(folder.path, kept)
    return made


def _name(job: WorkerJob, subject: ExportSubject, config: ModelExport, rows: ParityRows) -> str:
    base = Path(subject.base(job))
    facts = {
        "version": VERSION,
        "likeliest": LIKELIEST,
        "model": _files(subject.folder),
        "base": _files(base) if base.is_dir() else str(base),
        "config": {field: getattr(subject.config, field) for field in MODEL_FIELDS},
        "data": job.order["dataset"]["fingerprint"],
        "rows": hashlib.sha256(np.concatenate([rows.drawn, rows.longest]).tobytes()).hexdigest(),
        "drawn": len(rows.drawn),
        "max_new_tokens": config.max_new_tokens,
        "device": job.device,
        "versions": {**versions()},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _files(folder: Path) -> list[list[object]]:
    """Of each file its name and what tells it from another."""
    facts: list[list[object]] = []
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        state = path.stat()
        small = state.st_size <= SMALL
        facts.append([path.name, digest(path) if small else [state.st_size, state.st_mtime_ns]])
    return facts


def _keep(made: Path, kept: Path) -> None:
    """Copy it under its name; a cache without room is no reason to end a job."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        shutil.copytree(made, aside)
        os.rename(aside, kept)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
    others = sorted(
        (path for path in kept.parent.iterdir() if path.is_dir()), key=lambda p: p.stat().st_mtime
    )
    for old in others[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
