"""The group `tokens`: a row's tokens as the chosen model sees it, its trained tokens, and what is cut.

Rows are rendered as in training (`engine.models.tokenization.rendering`). The default `max_length` is that
of training: the 99th percentile of the rows' tokens, over at most `SAMPLE` rows drawn with seed 0. The
options record the length and whether it was set by the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.data.signals.protocol import PART_COLUMNS
from engine.models.tokenization.rendering import TokenRows, compute_fitting_length, render
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError
from store.core.row_schemas import SignalOptions
from store.data import dataset_files
from store.data.config import ProfileConfig

READS = PART_COLUMNS
PARALLEL = False  # the tokenizer has its own threads
SAMPLE = 10_000
CHUNK = 1_000  # rows rendered between checks for cancellation


@dataclass
class TokenContext:
    """The tokenizer, and the length to which rows are cut."""

    tokenizer: Any
    max_length: int


def prepare(job: WorkerJob, config: ProfileConfig, rows_path: Path) -> tuple[TokenContext, SignalOptions]:
    """Load the tokenizer and choose the length.

    Raises ModelError, and ConfigError for a length beyond the model's positions.
    """
    from engine.models.bundled import ensure_bundled_model
    from engine.models.loading import BUNDLED, load_config, load_tokenizer, resolve_model  # imports torch

    if config.model in BUNDLED:
        ensure_bundled_model(config.model, job.home)
    source = resolve_model(config.model, job.home)
    tokenizer = load_tokenizer(source)
    positions = getattr(load_config(source).get_text_config(), "max_position_embeddings", None)
    length = config.max_length
    if length and positions and length > positions:
        raise ConfigError(
            f"max_length is {length}, and {config.model} has {positions} positions.",
            fix=f"Set max_length to {positions} or less, or leave it out.",
            field="max_length",
        )
    if length is None:
        length = compute_fitting_length(_sample_lengths(job, tokenizer), positions)
    options: SignalOptions = {
        "model": config.model,
        "max_length": length,
        "chosen": config.max_length is not None,
    }
    return TokenContext(tokenizer, length), options


def _sample_lengths(job: WorkerJob, tokenizer: Any) -> np.ndarray:
    """Return the number of tokens of at most `SAMPLE` rows."""
    fingerprint = job.spec["dataset"]["fingerprint"]
    count = dataset_files.open_rows(job.home, fingerprint).metadata.num_rows
    ids = np.arange(count)
    if count > SAMPLE:
        ids = np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
    table = dataset_files.load_rows(job.home, fingerprint, columns=["row_id", *READS], row_ids=ids)
    lengths = []
    for batch in table.to_batches(CHUNK):
        job.check_cancelled()
        lengths.append(_render(tokenizer, batch).lengths)
    return np.concatenate([np.zeros(0, np.int64), *lengths])


def _render(tokenizer: Any, batch: pa.RecordBatch) -> TokenRows:
    messages = batch.column("messages")
    plain = messages.null_count == len(messages)
    rows = pc.fill_null(batch.column("text"), "").to_pylist() if plain else messages.to_pylist()
    return render(tokenizer, batch.column("row_id").to_numpy(), rows)


def measure(batch: pa.RecordBatch, context: TokenContext) -> dict[str, np.ndarray]:
    """Compute the columns of the group."""
    rows = _render(context.tokenizer, batch)
    shorter, _, _ = rows.truncated(context.max_length)
    return {
        "tokens": rows.lengths.astype(np.int32),
        "trained_tokens": rows.trained_counts.astype(np.int32),
        "cut": rows.lengths > context.max_length,
        "lost_tokens": (rows.trained_counts - shorter.trained_counts).astype(np.int32),
    }
