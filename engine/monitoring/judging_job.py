"""The job `judge_requests`: an LLM judge grades logged responses as pass or fail.

Its input is `requests.parquet` in its folder. Unreadable verdicts are counted by reason and never guessed. It
writes `judgements.parquet`, without texts.
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
    """Judge. Raises DataError if there is nothing to judge, or no verdict at all."""
    config, began = RequestJudgingConfig.parse(job.config), time.perf_counter()
    rows = pq.read_table(job.dir.path / "requests.parquet")
    if not len(rows):
        raise DataError(
            "No response in this window has its text stored.",
            fix="Select a longer window, or turn on text storage for the endpoint.",
            field="hours",
        )
    tell = RowProgressReporter(job, len(rows), "responses", "Running judge")

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
            f"The judge returned no verdict for any of {plural(len(rows), 'response')}: {why}.",
            fix="Test the judge on a small sample (rows 20), then run it again.",
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
    """The prompt as the judge reads it: a single message, or all messages with their roles."""
    turns = [turn for turn in json.loads(messages) if isinstance(turn, dict)]
    texts = [(str(turn.get("role", "user")), _extract_text(turn.get("content"))) for turn in turns]
    return texts[0][1] if len(texts) == 1 else "\n\n".join(f"{role}: {text}" for role, text in texts)


def _extract_text(content: Any) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
