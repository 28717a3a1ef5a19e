"""Which rows an evaluation is of: of the run's own split, of the data set's, or those of another evaluation.

Where there are more than are asked for, each row has its place by a seeded hash of itself, and the first
ones are taken: what is drawn hangs on the rows and never on how many others there were to draw from. So a
model by name and a run that trained on the same split answer the same rows, whatever the run's own evidence
was cut to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from engine.data import dataset, dealing, split
from engine.diagnostics.phrasing import plural
from engine.job import Job
from engine.jobs import evaluated
from store.config import Split
from store.errors import DataError
from store.evaluate_config import EvaluateConfig
from store.jobdir import JobDir, read_json

ALL = 2**31  # beyond every seed of a deal


@dataclass(frozen=True)
class Drawn:
    """`row_ids`: int64, sorted. notices: what a reader should know of them."""

    row_ids: np.ndarray
    notices: list[str]


def draw(job: Job, config: EvaluateConfig) -> Drawn:
    """The rows. Raises DataError for a part without rows, or where the other evaluation's are gone."""
    fingerprint = job.order["dataset"]["fingerprint"]
    own = _own_split(job, config, fingerprint)
    if config.rows_of:
        ids = _of_evaluation(job, config.rows_of)
        return Drawn(ids, _told(ids, own))
    ids = _pool(job, config, fingerprint, own)
    if not len(ids):
        raise DataError(
            f"The data set has no {config.part} rows.",
            fix="Set part to all, or to another part.",
            field="part",
        )
    notices = _told(ids, own) if config.part == "all" else []
    if config.max_rows is not None and len(ids) > config.max_rows:
        notices.append(f"A random {config.max_rows:,} of {plural(len(ids), 'row')}.")
        digests = dataset.load(job.home, fingerprint, columns=["digest"])["digest"].to_numpy()
        # over all rows the hash of the deal would put the test rows first
        seed = config.seed + (ALL if config.part == "all" else 0)
        ids = split.first_by_hash(digests, ids, config.max_rows, seed)
    return Drawn(np.sort(ids).astype(np.int64), notices)


def _told(ids: np.ndarray, own: dict[str, np.ndarray] | None) -> list[str]:
    count = int(np.isin(ids, own["train"]).sum()) if own else 0
    return [f"{plural(count, 'row')} of these were trained on."] if count else []


def _pool(
    job: Job, config: EvaluateConfig, fingerprint: str, own: dict[str, np.ndarray] | None
) -> np.ndarray:
    """The rows that there are to draw from."""
    if config.part == "all":
        return np.arange(dataset.open_rows(job.home, fingerprint).metadata.num_rows)
    if own is None:
        parts = Split.parse(job.order["split"])
        return dealing.deal_rows(job.home, fingerprint, parts).ids()[config.part]
    if config.part == "train":
        return own["train"]
    # a run's `max_eval_rows` says how many its own evidence took of them: the others were held out as well
    order = read_json(evaluated.of_run(job, config.run).folder.config) or {}
    dealt = dealing.deal_rows(job.home, fingerprint, Split.parse(order["split"])).ids()[config.part]
    others = np.concatenate([own[part] for part in split.PARTS if part != config.part])
    return np.union1d(own[config.part], np.setdiff1d(dealt, others))  # duplicates may be known by now


def _own_split(job: Job, config: EvaluateConfig, fingerprint: str) -> dict[str, np.ndarray] | None:
    """Which rows the run had for what, where it was trained on this very data; else None."""
    if not config.run:
        return None
    run = evaluated.of_run(job, config.run)
    if run.fingerprint != fingerprint or not run.folder.split.exists():
        return None
    table = pq.read_table(run.folder.split)
    names, ids = table["split"].to_numpy(zero_copy_only=False), table["row_id"].to_numpy()
    return {part: ids[names == part] for part in split.PARTS}


def _of_evaluation(job: Job, evaluation_id: str) -> np.ndarray:
    path = JobDir(job.home.jobs / evaluation_id).predictions
    if not path.exists():
        raise DataError(
            f"The rows of the evaluation {evaluation_id} are gone.",
            fix="Choose another evaluation, or a part.",
            field="rows_of",
        )
    return np.sort(pq.read_table(path, columns=["row_id"])["row_id"].to_numpy())
