"""A job that counts instead of training, so that a whole life of a run takes a second.

It reports as the train job does: a metric a step, a checkpoint now and then, a rewind when it is resumed.
"""

from __future__ import annotations

import time

from engine.worker.job import ONE_PHASE, WorkerJob
from store.core.job_folder import read_json, write_json
from store.evaluation.verdict_schemas import LossFigures, TrainingStop, Verdict

STEPS = 150
EVERY = 20  # steps between two checkpoints
SECONDS = 0.01  # a step


def value(step: int) -> float:
    """The metric at a step, so that a doubled or misplaced point shows."""
    return step * 1.5


phases = ONE_PHASE


def run(job: WorkerJob) -> dict[str, Verdict]:
    """Count to STEPS from the last checkpoint."""
    checkpoint = job.dir.checkpoints / "step.json"
    begin = (read_json(checkpoint) or 0) if job.resume else 0
    job.dir.checkpoints.mkdir(exist_ok=True)
    job.status("training")
    job.rewind(step=begin)
    for step in range(begin + 1, STEPS + 1):
        job.check_cancelled()
        time.sleep(SECONDS)
        job.metrics(step, {"train/loss": value(step)})
        if step % EVERY == 0:
            write_json(checkpoint, step)
            job.progress(step, STEPS, "steps", "Training")
    job.status("evaluating")
    return {"verdict": _build_verdict()}


def _build_verdict() -> Verdict:
    figures = LossFigures(loss=1.0, perplexity=None, token_accuracy=None, n=1, tokens=1)
    return Verdict(
        state="learned",
        headline="Counted.",
        sentences=[],
        advice=[],
        gain=None,
        base=figures,
        tuned=figures,
        overfitting=None,
        stopped=TrainingStop(reason="max_steps", step=STEPS, restored_step=None),
    )
