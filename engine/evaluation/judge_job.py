"""Judge job: a language model decides for each row which of two evaluations' answers is better.

Every pair is judged in both orders. What could not be judged is counted by reason.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.judge import score_preferences
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.job_folder import JobDir, write_atomically
from store.core.metric_options import JudgePairs
from store.evaluation.schemas import JudgingResult, PairCounts

phases = ONE_PHASE


def run(job: WorkerJob) -> JudgingResult:
    """Judge according to `job.config`; return the document described in docs/results.md."""
    config, began = JudgePairs.parse(job.config), time.perf_counter()
    first, second = (_read_answers(job, name) for name in (config.first, config.second))
    ids = np.intersect1d(first.row_ids, second.row_ids)
    if not len(ids):
        raise DataError(
            "The two evaluations have no rows in common.",
            fix="Evaluate both on the same rows.",
            field="second",
        )
    notices = []
    if config.max_rows is not None and len(ids) > config.max_rows:
        notices.append(f"A random {config.max_rows:,} of {plural(len(ids), 'pair')}.")
        ids = np.sort(np.random.default_rng([config.seed, 12]).choice(ids, config.max_rows, replace=False))
    first_rows, second_rows = (each.take(_find_positions(each, ids)) for each in (first, second))
    tell = RowProgressReporter(job, len(ids), "pairs", "Running the judge")

    def check(done: int) -> None:
        job.check_cancelled()
        tell(done)

    scored = score_preferences(config.judge, first_rows, second_rows, job.home, job.policy, check=check)
    orders = scored.details.pop("orders", [[None, None]] * len(ids))
    _write_judgements(job, ids, scored, orders)
    reasons = dict(Counter(scored.reasons.values()).most_common())
    if not np.isfinite(scored.scores).any():
        raise _build_nothing_judged_error(len(ids), reasons, scored.failed)
    figure = aggregate_scores(scored)
    return JudgingResult(
        first=config.first,
        second=config.second,
        n=len(ids),
        figure=figure,
        pairs=_count_outcomes(scored.scores, orders),
        reasons=reasons,
        notices=notices,
        seconds=time.perf_counter() - began,
    )


def _build_nothing_judged_error(pairs: int, reasons: dict[str, int], failed: str) -> DataError:
    why = "; ".join(f"{reason} ({count:,})" for reason, count in list(reasons.items())[:3])
    return DataError(
        f"None of {plural(pairs, 'pair')} could be judged: {why or failed}",
        fix="Try the judge on one pair (max_rows 1), then run it again.",
    )


def _read_answers(job: WorkerJob, evaluation_id: str) -> Answers:
    path = JobDir(job.home.jobs / evaluation_id).predictions
    if path.parent.parent != job.home.jobs or not path.exists():
        raise DataError(
            f"The rows of the evaluation {evaluation_id} no longer exist.", fix="Evaluate it again."
        )
    return Answers.of_table(pq.read_table(path))


def _find_positions(answers: Answers, ids: np.ndarray) -> np.ndarray:
    order = np.argsort(answers.row_ids, kind="stable")
    return order[np.searchsorted(answers.row_ids, ids, sorter=order)]


def _count_outcomes(scores: np.ndarray, orders: list[list[float | None]]) -> PairCounts:
    """Count the pairs won and lost in both orders, ties, and pairs decided by the order."""
    split = sum(None not in (a, b) and a != b for a, b in orders)
    return PairCounts(
        first=int((scores == 1).sum()),
        second=int((scores == 0).sum()),
        ties=int((scores == 0.5).sum()) - split,
        split=split,
        unjudged=int(np.isnan(scores).sum()),
    )


def _write_judgements(
    job: WorkerJob, ids: np.ndarray, scored: RowScores, orders: list[list[float | None]]
) -> None:
    """Write `judgements.parquet`: row_id, score (of the first), forth and back (in each order), reason."""
    table = pa.table(
        {
            "row_id": pa.array(ids, pa.int64()),
            "score": pa.array(scored.scores, pa.float64(), from_pandas=True),
            "forth": pa.array([forth for forth, _ in orders], pa.float64()),
            "back": pa.array([back for _, back in orders], pa.float64()),
            "reason": pa.array([scored.reasons.get(place) for place in range(len(ids))], pa.string()),
        }
    )
    with write_atomically(job.dir.path / "judgements.parquet") as unfinished:
        pq.write_table(table, unfinished)
