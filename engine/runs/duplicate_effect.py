"""What duplicates did to a run: looked up in its rows as they were dealt, and judged by what was measured."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from engine.data.deal import leakage
from engine.diagnostics.memorisation import repeats
from engine.diagnostics.memorisation.extraction import NEAR
from engine.diagnostics.memorisation.repeats import MeasuredTraining, RowLossPair
from engine.evidence.evidence import Evidence
from engine.worker.job import WorkerJob
from store.documents.verdicts.memorisation import DuplicateEffect, RepeatedTraining


def judge(job: WorkerJob, fingerprint: str, base: Evidence, tuned: Evidence) -> DuplicateEffect:
    """The `duplicates` part of the verdict."""
    table = pq.read_table(job.dir.split)
    parts = table["split"].to_numpy(zero_copy_only=False)
    train = table["row_id"].to_numpy()[parts == "train"]
    held = base.losses.row_ids
    kinds, near = leakage.repeating(job.home, fingerprint, held, train)
    losses = RowLossPair(base.losses.loss_sum, tuned.losses.loss_sum, base.losses.tokens)
    return {
        "leaks": repeats.leaks(losses, kinds, near),
        "training": _training(job, fingerprint, train, base, tuned),
    }


def _training(
    job: WorkerJob, fingerprint: str, train: np.ndarray, base: Evidence, tuned: Evidence
) -> RepeatedTraining | None:
    before = base.seen.rows if base.seen else None
    after = tuned.seen.rows if tuned.seen else None
    if before is None or after is None:
        return None
    often = leakage.occurrences(job.home, fingerprint, train)
    times = dict(zip(train.tolist(), often.tolist(), strict=True))
    return repeats.training(
        MeasuredTraining(
            row_ids=before.row_ids,
            times=[times[row] for row in before.row_ids.tolist()],
            losses=RowLossPair(before.loss_sum, after.loss_sum, before.tokens),
            others=tuned.losses.loss_sum / tuned.losses.tokens,
            written=_written(job),
            all_rows=len(train),
            repeated_rows=int((often > 1).sum()),
        )
    )


def _written(job: WorkerJob) -> dict[int, bool]:
    """Of the training rows that were asked from memory, whether the tuned model wrote them."""
    if not job.dir.extraction.exists():
        return {}
    rows = pq.read_table(job.dir.extraction, columns=["part", "row_id", "tuned_similarity"]).to_pylist()
    return {row["row_id"]: row["tuned_similarity"] >= NEAR for row in rows if row["part"] == "train"}
