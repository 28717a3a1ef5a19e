"""The folder of a job, which is the whole contract between engine and worker: its paths, how its
documents are written whole or not at all, and how `events.jsonl` is read without ever taking half a line.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from store.core.documents import as_json

# A job's folder is the whole contract between engine and worker; every path in it is named here.
#
# config.json      in: what to do (`WorkOrder`)
# worker.json      pid and start time of the worker that took it, written first
# lock             flock held by that worker: one folder is never worked on twice
# events.jsonl     out, append only: one JSON object a line (`store.core.job_folder`)
# result.json      out, last, by atomic rename: it decides the status
# log.txt          the worker's stdout and stderr
# aside/           what is half-made; gone once the job has ended
# published.json   the fingerprint of the data set that is about to get its place
# *.parquet        bulk rows
# checkpoints/     what a resumed run starts from
# held/            a file that the job reads, kept until its result is in the store
# version/         the files of a registered version, until it has its number
# model/           the adapter or the weights that a finished run ends with


@contextmanager
def write_atomically(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Where the block is to write the file: a reader sees the old one or the new one, never half of one.

    flush: it is on the disk before it gets its name. Where the block raises, nothing is left of it.
    """
    # of this thread alone: a judge that is asked the same twice is answered by two of them
    aside = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}")  # see Home.remove_stale
    try:
        yield aside
        if flush:
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write JSON whole."""
    with write_atomically(path) as aside, open(aside, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False, indent=1, default=as_json)


def read_json(path: Path) -> Any:
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
    def temporary(self) -> Path:
        return self.path / "aside"

    @property
    def published(self) -> Path:
        return self.path / "published.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def held(self) -> Path:
        return self.path / "held"

    @property
    def version(self) -> Path:
        return self.path / "version"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def base(self) -> Path:
        """The model under the adapter, where that is an earlier run's and not one that has a name."""
        return self.path / "base"

    @property
    def loaded_base(self) -> Path:
        """Which commit of a hub's model was loaded when the run began."""
        return self.path / "loaded_base.json"

    @property
    def predictions(self) -> Path:
        """Of a run row_id, split, prompt, reference, base, tuned: held-out prompts answered before and after.
        Of an evaluation row_id, prompt, prediction, reference, label, loss_sum (nats), tokens, bytes, group,
        probability (of a head's answer): what the model made of each row, null where a row has none."""
        return self.path / "predictions.parquet"

    @property
    def scores(self) -> Path:
        """row_id, metric, score, reason, statistics: `engine.evaluation.comparison.row_scores`."""
        return self.path / "scores.parquet"

    @property
    def row_losses(self) -> Path:
        """split, row_id, tokens, base_loss, tuned_loss (summed nats): the evidence of the verdict."""
        return self.path / "row_losses.parquet"

    @property
    def class_predictions(self) -> Path:
        """split, row_id, label, predicted, probability, label_probability (null where training doesn't know
        the label), top (list of label and probability), prompted, prompted_probability (the untuned model
        asked for the label; null where it was not): each held-out row as it was classified."""
        return self.path / "class_predictions.parquet"

    @property
    def validations(self) -> Path:
        """step, row_id, loss_sum (nats), tokens, correct: every validation row at every validation."""
        return self.path / "eval_rows.parquet"

    @property
    def live_probes(self) -> Path:
        """Items of the probes that were measured while it trained; columns as of `probes`."""
        return self.path / "live_probes.parquet"

    @property
    def live_answers(self) -> Path:
        """step, row_id, prompt, reference, prediction, metric, score (null where there is none), reason:
        answers to some validation rows while it trained."""
        return self.path / "live_answers.parquet"

    @property
    def requests(self) -> Path:
        """pair, category, harmful, text, base, tuned, base_refused, tuned_refused: requests that a model
        should refuse and harmless ones like them, with what base and tuned model said."""
        return self.path / "requests.parquet"

    @property
    def probes(self) -> Path:
        """model (base or tuned), probe, item, category, loss_sum (nats), tokens, correct, options, chosen:
        what was known before and after."""
        return self.path / "probes.parquet"

    @property
    def probe_items(self) -> Path:
        """probe, item, category, text, options (list, empty for a text), right (index): what was asked."""
        return self.path / "probe_items.parquet"

    @property
    def extraction(self) -> Path:
        """part (train or held_out), row_id, prompt, prefix, reference, tokens; of base and tuned model
        what it wrote, MODEL_same (tokens before its first slip), MODEL_whole, MODEL_similarity: rows asked
        from memory."""
        return self.path / "recalled.parquet"

    @property
    def weights(self) -> Path:
        """name, layer, module, shape, weight_norm, delta_norm, relative, stable_rank, effective_rank,
        intruders, strongest: how far each matrix moved."""
        return self.path / "weights.parquet"

    @property
    def split(self) -> Path:
        """row_id, split: which row of the data set served for what."""
        return self.path / "split.parquet"

    @property
    def references(self) -> Path:
        """row_id, chosen, rejected: log-probabilities of both answers (nats) before preference tuning."""
        return self.path / "references.parquet"

    @property
    def interpolation(self) -> Path:
        """alpha, and the columns of `probes`; the probe `held_out` has the rows that judged the run."""
        return self.path / "interpolation.parquet"

    @property
    def cells(self) -> Path:
        """Of a matrix of transfer KEY.parquet, each a model on rows: row_id, loss_sum (nats), tokens,
        correct; and change-KEY.parquet, the weight change of a model: name, layer, norm, values. The key is
        the content."""
        return self.path / "cells"

    @property
    def replay(self) -> Path:
        """The general rows that a run replays, tokenised: a resumed run takes the same."""
        return self.path / "replay.safetensors"


# What a worker appends to `events.jsonl`, and how it is read without ever taking half a line.
#
# One JSON object a line (`store.core.schemas.Event`); `at` is seconds since the epoch (UTC). NaN and
# Infinity are written as Python's json module writes them, and kept. What is read is not checked yet.
#
# {"type": "status",   "at", "status"}                    preparing | training | evaluating
# {"type": "progress", "at", "done", "total", "unit", "message", "eta_seconds"}
# {"type": "metrics",  "at", "step", "values": {name: number}}
# {"type": "rewind",   "at", "step", "prefix"}            metrics after this step are void (a resume);
# with a prefix, those alone whose name has it
# {"type": "facts",    "at", "facts": {...}}              merged into run.facts
# {"type": "alert",    "at", "level", "message"}          info | warning
# and, of a verdict, "kind" and "step": one of each kind is kept of a job

# Bytes taken from one file at a time: no job can starve others, and while a flush is under way the
# engine still answers within milliseconds (bench/load/engine.py).
MAX_READ = 512 * 1024
MAX_LINE = 16 * 2**20  # of one event; no worker of ours writes a tenth of it


def read_events(path: Path, offset: int, limit: int = MAX_READ) -> tuple[list[Mapping[str, object]], int]:
    """Events from byte `offset` up to the last newline, and the offset after it.

    A line that is not a JSON object (a write torn by a crash and continued) is returned as
    {"type": "torn", "text": …}, so that it is counted and not dropped without a word; of one that is longer
    than any event, so is each piece.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            chunk = file.read(limit)
            if len(chunk) == limit and b"\n" not in chunk:  # one line longer than the limit
                chunk += file.readline(MAX_LINE)
    except FileNotFoundError:
        return [], offset
    end = chunk.rfind(b"\n") + 1
    if not end and len(chunk) > MAX_LINE:
        return [_make_torn_event(chunk)], offset + len(chunk)
    if not end:
        return [], offset
    lines = chunk[: end - 1].split(b"\n")
    return [_parse_event(line) for line in lines if line.strip()], offset + end


_decode = json.JSONDecoder().raw_decode  # one C call a line, so that other threads get their turn between


def _parse_event(line: bytes) -> Mapping[str, object]:
    try:
        text = line.decode()
        event, end = _decode(text)
        if type(event) is dict and not text[end:].strip():
            return event
    except (ValueError, RecursionError):
        pass
    return _make_torn_event(line)


def _make_torn_event(line: bytes) -> Mapping[str, object]:
    return {"type": "torn", "text": line[:200].decode("utf-8", "replace")}
