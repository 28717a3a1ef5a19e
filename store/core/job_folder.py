"""The folder of a job, which is the entire interface between engine and worker: its paths, atomic writes of
its documents, and reading `events.jsonl` without ever taking a partial line.
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

# Every path in a job's folder:
#
#   config.json      in: what to do (`WorkOrder`)
#   worker.json      pid and start time of the worker that took it, written first
#   lock             flock held by that worker, so that no folder is worked on twice
#   events.jsonl     out, append-only: one JSON object per line
#   result.json      out, written last by atomic rename: it decides the status
#   log.txt          stdout and stderr of the worker
#   aside/           unfinished files; removed when the job ends
#   published.json   the fingerprint of the data set that is about to be moved into place
#   *.parquet        bulk rows
#   checkpoints/     what a resumed run starts from
#   held/            a file that the job reads, kept until its result is in the store
#   version/         the files of a registered version, until it has its number
#   model/           the final adapter or weights of a finished run


@contextmanager
def write_atomically(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write; on exit it replaces `path`, so that readers see the old file or the
    new one, never a part.

    flush: sync to disk before renaming. If the block raises, the temporary file is removed.
    """
    # unique per thread: two threads may write the same judge response at once
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
    """Write JSON atomically."""
    with write_atomically(path) as aside, open(aside, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=False, indent=1, default=as_json)


def read_json(path: Path) -> Any:
    """Return the document, or None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


class JobDir:
    """Paths in the folder of a job."""

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
        """The base model of the adapter, if it is an earlier run's model rather than a named one."""
        return self.path / "base"

    @property
    def loaded_base(self) -> Path:
        """The commit of the hub model that was loaded when the run began."""
        return self.path / "loaded_base.json"

    @property
    def predictions(self) -> Path:
        """For a run: row_id, split, prompt, reference, base, tuned, with the responses to held-out prompts
        before and after training. For an evaluation: row_id, prompt, prediction, reference, label,
        loss_sum (nats), tokens, bytes, group, probability (of a classification head's answer), with the
        model's output for each row; null where a row has none.
        """
        return self.path / "predictions.parquet"

    @property
    def scores(self) -> Path:
        """row_id, metric, score, reason, statistics: see `engine.evaluation.comparison.row_scores`."""
        return self.path / "scores.parquet"

    @property
    def row_losses(self) -> Path:
        """split, row_id, tokens, base_loss, tuned_loss (summed nats): the evidence for the verdict."""
        return self.path / "row_losses.parquet"

    @property
    def class_predictions(self) -> Path:
        """split, row_id, label, predicted, probability, label_probability (null if the label does not occur
        in training), top (list of label and probability), prompted, prompted_probability (the untuned
        model prompted for the label; null if it was not): the classification of each held-out row.
        """
        return self.path / "class_predictions.parquet"

    @property
    def validations(self) -> Path:
        """step, row_id, loss_sum (nats), tokens, correct: every validation row at every validation."""
        return self.path / "eval_rows.parquet"

    @property
    def live_probes(self) -> Path:
        """Items of the probes measured during training; columns as in `probes`."""
        return self.path / "live_probes.parquet"

    @property
    def live_answers(self) -> Path:
        """step, row_id, prompt, reference, prediction, metric, score (null if there is none), reason:
        responses to some validation rows during training.
        """
        return self.path / "live_answers.parquet"

    @property
    def requests(self) -> Path:
        """pair, category, harmful, text, base, tuned, base_refused, tuned_refused: requests that a model
        should refuse and similar harmless ones, with the responses of the base and the tuned model.
        """
        return self.path / "requests.parquet"

    @property
    def probes(self) -> Path:
        """model (base or tuned), probe, item, category, loss_sum (nats), tokens, correct, options, chosen:
        knowledge before and after training.
        """
        return self.path / "probes.parquet"

    @property
    def probe_items(self) -> Path:
        """probe, item, category, text, options (list, empty for a text), right (index): the items of the
        probes.
        """
        return self.path / "probe_items.parquet"

    @property
    def extraction(self) -> Path:
        """part (train or held_out), row_id, prompt, prefix, reference, tokens; for base and tuned model: the
        continuation, MODEL_same (tokens before its first deviation), MODEL_whole, MODEL_similarity. Rows
        tested for memorization.
        """
        return self.path / "recalled.parquet"

    @property
    def weights(self) -> Path:
        """name, layer, module, shape, weight_norm, delta_norm, relative, stable_rank, effective_rank,
        intruders, strongest: the change of each weight matrix.
        """
        return self.path / "weights.parquet"

    @property
    def split(self) -> Path:
        """row_id, split: the split of each row of the data set."""
        return self.path / "split.parquet"

    @property
    def references(self) -> Path:
        """row_id, chosen, rejected: log-probabilities of both responses (nats) before preference tuning."""
        return self.path / "references.parquet"

    @property
    def interpolation(self) -> Path:
        """alpha, and the columns of `probes`; the probe `held_out` has the rows that decided the verdict of
        the run.
        """
        return self.path / "interpolation.parquet"

    @property
    def cells(self) -> Path:
        """For a transfer matrix: KEY.parquet, one per model and set of rows, with row_id, loss_sum (nats),
        tokens, correct; and change-KEY.parquet, the weight change of a model, with name, layer, norm,
        values. The key is derived from the content.
        """
        return self.path / "cells"

    @property
    def replay(self) -> Path:
        """The tokenized general rows that a run replays; a resumed run uses the same."""
        return self.path / "replay.safetensors"


# What a worker appends to `events.jsonl`: one JSON object per line (`store.jobs.schemas.Event`). `at` is
# seconds since the epoch (UTC). NaN and Infinity are written as Python's json module writes them, and
# preserved. Events are not validated when read.
#
#   {"type": "status",   "at", "status"}                    preparing | training | evaluating
#   {"type": "progress", "at", "done", "total", "unit", "message", "eta_seconds"}
#   {"type": "metrics",  "at", "step", "values": {name: number}}
#   {"type": "rewind",   "at", "step", "prefix"}            metrics after this step are void (a resume);
#                                                           with a prefix, only names that start with it
#   {"type": "facts",    "at", "facts": {...}}              merged into run.facts
#   {"type": "alert",    "at", "level", "message"}          info | warning
#                                                           with a verdict also "kind" and "step"; one
#                                                           alert of each kind is kept per job

# Bytes read from one file at a time, so that no job starves others and the engine responds within
# milliseconds during a flush (bench/load/engine.py).
MAX_READ = 512 * 1024
MAX_LINE = 16 * 2**20  # of one event; our workers write less than a tenth of it


def read_events(path: Path, offset: int, limit: int = MAX_READ) -> tuple[list[Mapping[str, object]], int]:
    """Return the events from byte `offset` up to the last newline, and the offset after it.

    A line that is not a JSON object (a write torn by a crash and continued) is returned as {"type": "torn",
    "text": …}, so that it is counted and not dropped silently; so is each piece of a line that is longer than
    any event.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            chunk = file.read(limit)
            if len(chunk) == limit and b"\n" not in chunk:  # a line longer than the limit
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


_decode = json.JSONDecoder().raw_decode  # one C call per line, so that other threads can run in between


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
