"""The query `rendering`: how a model sees the rows of a data set under a chat template, one row and all.

Body: {"fingerprint", "kind", "model", "chat_template", "completion_only_loss", "max_length" (null: the 99th
percentile), "row": row_id}. Of a large data set a sample is counted, given as `counted` of `of`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.data import training_rows
from engine.models import loading
from engine.models.bundled import ensure_bundled_model
from engine.models.tokenization import tokenized_rows
from engine.models.tokenization.rendering import TokenRows, compute_fitting_length, render
from engine.models.tokenization.tokenized_rows import (
    WHOLE,
    TokenisationRequest,
    build_row_tokens,
    tokenise_rows,
)
from engine.worker.job import WorkerJob
from store.core.errors import NotFoundError
from store.core.training_schemas import LengthHistogram, RenderedRow, RenderedSet, Rendering
from store.data import dataset_files
from store.data.config import RenderingQuery

BINS = 40


def run(job: WorkerJob) -> Rendering:
    """Return the rendering. Raises NotFoundError if the data set has no such row."""
    asked = RenderingQuery.parse(job.config)
    if asked.model in loading.BUNDLED:
        ensure_bundled_model(asked.model, job.home)
    source = loading.resolve_model(asked.model, job.home)
    tokenizer = loading.load_tokenizer(source, chat_template=asked.chat_template)
    positions = getattr(loading.load_config(source).get_text_config(), "max_position_embeddings", None)
    total = dataset_files.open_rows(job.home, asked.fingerprint).metadata.num_rows
    row_id = asked.row
    if row_id >= total:
        raise NotFoundError(f"There is no row {row_id:,}; the data set has {total:,}.", field="row")
    rows = _read_rows(job, asked, tokenizer, total, row_id)
    limit = asked.max_length or compute_fitting_length(rows.lengths, positions)
    checks = None
    if asked.kind != "text":
        checked = rows.take(np.arange(min(tokenized_rows.MAX_CHECKED_ROWS, len(rows))))
        load = training_rows.make_loader(job.home, asked.fingerprint, asked.kind)
        checks = tokenized_rows.check_masks(tokenizer, load(checked.row_ids), checked).document()
    tokens = build_row_tokens(tokenizer, rows, limit, int(np.flatnonzero(rows.row_ids == row_id)[0]))
    row: RenderedRow = {**tokens}
    if asked.kind == "preference":
        ids = np.array([asked.row])
        pair_messages = training_rows.make_rejected_loader(job.home, asked.fingerprint)(ids)
        row["rejected"] = build_row_tokens(tokenizer, render(tokenizer, ids, pair_messages), limit, 0)
    return Rendering(
        row=row,
        set=_summarise_rows(rows, limit, total, positions),
        checks=checks,
        template=str(tokenizer.chat_template),
        own_template=bool(tokenizer.has_own_template),
    )


def _read_rows(job: WorkerJob, asked: RenderingQuery, tokenizer: Any, total: int, row_id: int) -> TokenRows:
    """Read all rows, or a sample of a large data set that includes the row to show."""
    ids = np.arange(total)
    if total > WHOLE:
        drawn = np.random.default_rng(0).choice(total, WHOLE // 4, replace=False)
        ids = np.unique(np.append(drawn, row_id))
    return tokenise_rows(
        job.home,
        tokenizer,
        TokenisationRequest(
            fingerprint=asked.fingerprint,
            row_count=total,
            row_ids=ids,
            completion_only=asked.completion_only_loss,
            load=training_rows.make_loader(job.home, asked.fingerprint, asked.kind),
        ),
    )


def _summarise_rows(rows: TokenRows, limit: int, total: int, positions: int | None) -> RenderedSet:
    """Summarise the rows: tokens, trained tokens, and what `limit` truncates."""
    part = training_rows.truncate_rows(rows, limit)
    before, after = rows.trained_counts, part.whole.trained_counts
    shortened = (after < before) & (before > 0)
    lost = (before - after)[shortened] / before[shortened]
    counts, edges = np.histogram(rows.lengths, BINS)
    return RenderedSet(
        counted=len(rows),
        of=total,
        tokens=int(rows.lengths.sum()),
        trained_tokens=int(before.sum()),
        max_length=limit,
        longest=int(rows.lengths.max()),
        cut_rows=part.truncated,
        shortened_answers=int(shortened.sum()),
        lost_tokens=part.lost_tokens,
        median_lost_share=float(np.median(lost)) if len(lost) else 0.0,
        untrained=part.whole.reason_counts,
        keeping_all=training_rows.compute_lossless_length(rows, limit, positions),
        lengths=LengthHistogram(counts=counts.tolist(), edges=edges.tolist()),
    )
