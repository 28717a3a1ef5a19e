"""A metric of the user's, asked in a process of its own (`isolated_process.py`).

Whatever it does, it ends alone: a crash, `os._exit`, an endless loop, memory without end. Its processes end
when it has answered, when it passes a limit, when the job is cancelled, and when this process dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from engine.metrics.answer_rows import MetricInput, MetricScores, Texts
from engine.metrics.own import OwnMetricError
from store.config.measuring.metrics_config import OwnChoice
from store.documents.evaluations.metric_details import IsolatedAnswer, IsolatedQuestion

ROOT = Path(__file__).resolve().parents[2]
MODULE = "engine.metrics.isolated_process"
PAUSE = 0.05  # seconds between two looks at whether it has answered and whether the job is cancelled
GRACE = 10.0  # seconds that the process has to end all that the metric started


def ask_apart(choice: OwnChoice, asked: MetricInput) -> MetricScores:
    """What the metric says of the rows. Raises OwnMetricError where it failed, and what `check` raises."""
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as answer:
        question.write(json.dumps(_question(choice, asked)).encode())
        question.seek(0)
        process = _started(choice, question, answer)
        try:
            while not _ended(process):
                asked.check()
        finally:
            _end(process)
        answer.seek(0)
        return _read(choice, answer.read().decode("utf-8", "replace"), asked)


def _question(choice: OwnChoice, asked: MetricInput) -> IsolatedQuestion:
    rows = asked.rows
    return {
        "choice": choice.model_dump(mode="json"),
        "home": str(asked.home.path),
        "confidence": asked.confidence,
        "row_ids": rows.row_ids.tolist(),
        "predictions": _texts(rows.predictions),
        "references": _texts(rows.references),
        "prompts": _texts(rows.prompts),
        "groups": None if rows.groups is None else [None if g is None else str(g) for g in rows.groups],
    }


def _texts(column: Texts | None) -> list[str | None] | None:
    return None if column is None else list(column)


def _started(choice: OwnChoice, question: IO[bytes], answer: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    limits = [str(choice.max_seconds), str(choice.max_memory_gib)]
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, str(answer.fileno()), str(os.getpid()), *limits],
        stdin=question,
        pass_fds=[answer.fileno()],
        env=environment,
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(PAUSE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM has it end all that the metric started; it alone knows what that is."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(choice: OwnChoice, text: str, asked: MetricInput) -> MetricScores:
    """The answer: a line break for each row that it came to, then a document of one line."""
    begun = text.count("\n")
    try:
        document: IsolatedAnswer = json.loads(text)
    except ValueError:
        document = {"failed": "its process was ended before it could answer"}
    if "failed" in document:
        at_row = f" in row {asked.rows.row_ids[begun - 1]}" if 0 < begun <= len(asked.rows) else ""
        raise OwnMetricError(f"{choice.file}.py: {document['failed']}{at_row}.")
    if "error" in document:
        raise OwnMetricError(document["error"], document["traceback"])
    scores = np.array([np.nan if score is None else score for score in document["scores"]], np.float64)
    scores_of_rows = MetricScores(scores, estimator=document["estimator"], whole=document["whole"])
    scores_of_rows.reasons = {int(place): reason for place, reason in document["reasons"]}
    scores_of_rows.traceback = document["traceback"]
    return scores_of_rows
