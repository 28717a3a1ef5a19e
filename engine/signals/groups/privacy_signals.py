"""The group `privacy`: how many of each kind of personal data, secrets and swear words a row holds.

The counts are those of `pii.find`, which redaction uses too. Nine rows of ten pass no gate of most finders:
each gate is asked of all texts at once, and Python reads only the rows that passed it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.signals.personal.pii import FINDERS
from engine.signals.personal.profanity import PROFANITY_GATE, count_profanity
from engine.signals.personal.spans import without_overlaps
from engine.worker.job import WorkerJob
from store.config.data.data_config import ProfileConfig
from store.documents.data.signal_figures import SignalOptions

READS = ("text",)


def prepare(job: WorkerJob, config: ProfileConfig, rows_path: Path) -> tuple[None, SignalOptions]:
    """Nothing is needed and nothing can be chosen."""
    return None, {}


def measure(batch: pa.RecordBatch, context: None) -> dict[str, np.ndarray]:
    """The columns of the group, int32."""
    texts = batch.column("text").fill_null("")
    counts = {kind: np.zeros(len(texts), np.int32) for kind in (*FINDERS, "profanity")}
    passed: dict[int, list[str]] = {}  # row -> finders whose gate it passed, in their order
    for kind, finder in FINDERS.items():
        for row in _matching(texts, finder.gate):
            passed.setdefault(row, []).append(kind)
    for row, kinds in passed.items():
        text = texts[row].as_py()
        for span in without_overlaps(span for kind in kinds for span in FINDERS[kind].find(text)):
            counts[span.kind][row] += 1
    for row in _matching(texts, PROFANITY_GATE):
        counts["profanity"][row] = count_profanity(texts[row].as_py())
    return counts


def _matching(texts: pa.Array, gate: str) -> list[int]:
    return np.flatnonzero(pc.match_substring_regex(texts, gate).to_numpy(zero_copy_only=False)).tolist()
