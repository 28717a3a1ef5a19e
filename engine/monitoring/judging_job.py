"""The job `judge_requests`: a language model says of logged answers whether each is good enough.

Its questions lie in `requests.parquet` of its folder. What it gave no readable verdict on is counted with the
reason, and guessed never. It leaves `judgements.parquet`, without a text.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.metrics.judge import grade_answers
from engine.evaluation.metrics.judge_client import JudgeClient
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.job_folder import write_atomically
from store.core.monitoring_schemas import RequestJudging
from store.monitoring.config import RequestJudgingConfig

COLUMNS = ["request_id", "asked_at", "version", "grouped_by", "at_random"]


phases = ONE_PHASE


def run(job: WorkerJob) -> RequestJudging:
    """Judge. Raises DataError where there is nothing to judge, or no verdict at all."""
    config, began = RequestJudgingConfig.parse(job.config), time.perf_counter()
    rows = pq.read_table(job.dir.path / "requests.parquet")
    if not len(rows):
        raise DataError(
            "No answer of the window has its text.",
            fix="Choose a longer window, or have the endpoint keep texts.",
            field="hours",
        )
    tell = RowProgressReporter(job, len(rows), "answers", "Asking the judge")

    def check(done: int) -> None:
        job.check_cancelled()
        tell(done)

    client = JudgeClient(config.judge, job.policy, job.home.judgements)
    try:
        prompts = [format_conversation(text) for text in rows["messages"].to_pylist()]
        outputs, nothing = rows["output"].to_pylist(), [None] * len(rows)
        scores, reasons, spent = grade_answers(client, config.judge, prompts, outputs, nothing, check)
    finally:
        client.close()
    if not np.isfinite(scores).any():
        why = "; ".join(f"{reason} ({n:,})" for reason, n in Counter(reasons.values()).most_common(3))
        raise DataError(
            f"Of {plural(len(rows), 'answer')} the judge gave no verdict: {why}.",
            fix="Try the judge on a few (rows 20), then ask again.",
        )
    passed = pa.array([None if np.isnan(score) else score >= 1 for score in scores], pa.bool_())
    with write_atomically(job.dir.path / "judgements.parquet") as unfinished:
        pq.write_table(rows.select(COLUMNS).append_column("passed", passed), unfinished)
    sample = int(np.sum(rows["at_random"].to_numpy(zero_copy_only=False)))
    return {
        "sample": sample,
        "rated": len(rows) - sample,
        "judged": int(np.isfinite(scores).sum()),
        "reasons": dict(Counter(reasons.values()).most_common()),
        **job.spec["judging"],
        **spent,
        "seconds": time.perf_counter() - began,
    }


def format_conversation(messages: str) -> str:
    """What was asked, as the judge reads it: the one message, or all of them with who said each."""
    turns = [turn for turn in json.loads(messages) if isinstance(turn, dict)]
    texts = [(str(turn.get("role", "user")), _extract_text(turn.get("content"))) for turn in turns]
    return texts[0][1] if len(texts) == 1 else "\n\n".join(f"{role}: {text}" for role, text in texts)


def _extract_text(content: Any) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
