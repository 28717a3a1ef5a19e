"""A home folder with runs that were evaluated: two evaluations of one on the same rows, one that failed, one
that works, and a run without any.

Answers are made up and measured by the real functions, so that what a page shows follows from rows that are
really there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.comparison import row_scores
from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from store.core.documents import as_json
from store.core.home import Home
from store.core.job_folder import JobDir
from store.core.schemas import ErrorDocument, Job
from store.data import datasets
from store.db.database import Database, Transaction, utc_now
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationCounts, EvaluationResult
from store.jobs import job_queue
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_runs import finished

ROWS = 40
RESULT = EvaluationResult(
    n=ROWS,
    figures=[],
    probes=[],
    counts=EvaluationCounts(rows=ROWS, empty=0, no_reference=0, no_prompt=0, no_loss=0, cut=0),
    reasons={},
    notices=["A random 40 of 60 rows."],
    seconds={"answers": 12.0},
    peak_memory_gib=0.5,
    device="cpu",
    device_name="A processor",
    dtype="float32",
    versions={},
)
METRICS: list[Any] = ["exact_match", "chrf", "perplexity", {"metric": "own", "file": "missing"}]


@made_once
def seed_evaluations(path: Path) -> Home:
    """The home folder; the evaluated run is "judged", the other "alone"."""
    home = seed(path, runs=0, sets=1)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            for run_id in ("judged", "alone"):
                finished(tx, home, run_id, f"Run {run_id}", gain=0.8, learning_rate=2e-4)
            tx.execute("UPDATE run SET dataset_id = 'd00000', dataset_name = 'Sums 0'")
            _finished(tx, home, "e-base", "Base", checkpoint="base", right=8)
            _finished(tx, home, "e-tuned", "<b>Tuned</b>", checkpoint="tuned", right=30)
            _job(tx, "e-broken", "Broken one")
            job_queue.claim(tx, "e-broken", "cpu", 2.0)
            error: ErrorDocument = {
                "error": "ModelError",
                "message": "The folder holds no model.",
                "fix": "Train again.",
            }
            job_queue.finish(tx, "e-broken", "failed", 3.0, error=error)
            _job(tx, "e-live", "At work")
            job_queue.claim(tx, "e-live", "cpu", utc_now().timestamp())
            progress = {"progress_done": 10, "progress_total": 40, "progress_unit": "tokens"}
            job_queue.update(
                tx, "e-live", progress_message="Answering the prompts", eta_seconds=65.0, **progress
            )
    finally:
        database.close()
    return home


def _job(tx: Transaction, job_id: str, title: str, **fields: Any) -> Job:
    asked = {"run": "judged", "dataset": "d00000", "metrics": METRICS} | fields
    config = EvaluateConfig.parse(asked).document()
    job_queue.insert(tx, job_queue.NewJob(job_id=job_id, kind="evaluate", title=title, config=config, at=1.0))
    return job_queue.get_job(tx, job_id)


def _finished(tx: Transaction, home: Home, job_id: str, title: str, *, checkpoint: str, right: int) -> None:
    job = _job(tx, job_id, title, checkpoint=checkpoint)
    config = EvaluateConfig.parse(job.config)
    references = [f"It is **{row}**." if row != 3 else None for row in range(ROWS)]
    predictions = [(references[row] or "?") if row < right else "" for row in range(ROWS)]
    table = pa.table(
        {
            "row_id": pa.array(range(ROWS), pa.int64()),
            "prompt": [f"What is 0 plus {row}, <b>please</b>?" for row in range(ROWS)],
            "prediction": predictions,
            "reference": pa.array(references, pa.string()),
            "label": pa.nulls(ROWS, pa.string()),
            "loss_sum": np.linspace(4, 9, ROWS) - right / 20,
            "tokens": pa.array([5] * ROWS, pa.int64()),
            "bytes": pa.array([10] * ROWS, pa.int64()),
            "probability": pa.nulls(ROWS, pa.float64()),
            "group": pa.nulls(ROWS, pa.int64()),
        }
    )
    all_scored = measure(config, Answers.of_table(table), home, log=lambda text: None)
    folder = JobDir(home.jobs / job_id)
    folder.path.mkdir(parents=True)
    pq.write_table(table, folder.predictions)
    pq.write_table(row_scores.build_scores_table(all_scored), folder.scores)
    result = replace(
        RESULT,
        figures=[aggregate_scores(scored) for scored in all_scored],
        counts=replace(RESULT.counts, empty=ROWS - right, no_reference=1),
    )
    job_queue.claim(tx, job_id, "cpu", 2.0)
    job_queue.finish(tx, job_id, "finished", 3.0, result=as_json(result))
    evaluations.insert(tx, job, result, datasets.get_dataset(tx, "d00000"), "m", 3.0 + right)
