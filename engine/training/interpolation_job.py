"""The interpolate job: score a run's model at several interpolation weights α for gain and forgetting.

α goes from the base model (0) to the tuned model (1). Nothing is trained, and only the scores are stored:
`interpolation.parquet` has every row and item at every α. An α worth keeping becomes a run of its own
(`engine.training.variant_job`).
"""

from __future__ import annotations

import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.evaluation.interpolated_model import ModelInterpolation
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.evaluation.verdicts import forgetting_tradeoff
from engine.evaluation.verdicts.forgetting_tradeoff import ShareGain, ShareRows
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.evaluation.verdict_schemas import Interpolation, SharePoint
from store.runs.config import Interpolate

phases = build_fixed_phases(LOADING_MESSAGE, Phase("Scoring α"))


def run(job: WorkerJob) -> Interpolation:
    """Score the model of `config` {run_id, alphas} at every α; return the document of docs/results.md."""
    asked = Interpolate.parse({"run": job.config["run_id"], "alphas": job.config["alphas"]})
    job.status("preparing")
    job.progress(0, 1, "run", "Loading the model")
    mixing = ModelInterpolation(job, asked.run)
    job.status("evaluating")
    measured_ends = {alpha: mixing.measured_end(alpha) for alpha in asked.alphas}
    pace = mixing.pace([alpha for alpha, end in measured_ends.items() if end is None])
    points: list[SharePoint] = []
    tables: list[pa.Table] = []
    first: list[ProbeMeasurement] = []
    for alpha, end in measured_ends.items():
        began = time.perf_counter()
        measured = end or mixing.measure(alpha, pace(alpha))
        seconds = None if end else time.perf_counter() - began
        first = first or measured
        tables += [each.table(alpha=alpha) for each in measured]
        points.append(replace(_build_point(alpha, first, measured), seconds=seconds))
    pq.write_table(pa.concat_tables(tables), job.dir.interpolation)
    recommended = forgetting_tradeoff.recommend_share([ShareGain.of(point) for point in points])
    return Interpolation(run_id=asked.run, split=mixing.split, points=points, **vars(recommended))


def _build_point(alpha: float, first: list[ProbeMeasurement], measured: list[ProbeMeasurement]) -> SharePoint:
    """Compare one α with the first, which is 0."""
    base, now = first[0], measured[0]
    before, after = (pa.concat_tables([m.table() for m in some[1:]]) for some in (first, measured))
    return forgetting_tradeoff.build_share_point(
        alpha, now.tokens, ShareRows(base.loss_sum, before), ShareRows(now.loss_sum, after)
    )
