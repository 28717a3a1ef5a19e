"""A job's folder is the whole contract between engine and worker; every path in it is named here.

config.json      in: what to do (`WorkOrder`)
worker.json      pid and start time of the worker that took it, written first
lock             flock held by that worker: one folder is never worked on twice
events.jsonl     out, append only: one JSON object a line (`store.events`)
result.json      out, last, by atomic rename: it decides the status
log.txt          the worker's stdout and stderr
*.parquet        bulk rows
checkpoints/     what a resumed run starts from
model/           the adapter or the weights that a finished run ends with
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, document: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any | None:
    """The document, or None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


class JobDir:
    """Paths in one job's folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def worker(self) -> Path:
        return self.path / "worker.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        """row_id, split, prompt, reference, base, tuned: held-out prompts answered before and after."""
        return self.path / "predictions.parquet"

    @property
    def row_losses(self) -> Path:
        """split, row_id, tokens, base_loss, tuned_loss (summed nats): the evidence of the verdict."""
        return self.path / "row_losses.parquet"

    @property
    def validations(self) -> Path:
        """step, row_id, loss_sum (nats), tokens, correct: every validation row at every validation."""
        return self.path / "eval_rows.parquet"

    @property
    def split(self) -> Path:
        """row_id, split: which row of the data set served for what."""
        return self.path / "split.parquet"
