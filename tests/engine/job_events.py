"""What a train job left: its events, series, facts and weights; and a way to cancel it in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from engine.worker.job import WorkerJob

QUICK = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "evaluations": 3,
    "max_new_tokens": 4,
}


def events(job: WorkerJob, *kinds: str) -> list[dict[str, Any]]:
    lines = job.dir.events.read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] in kinds]


def series(job: WorkerJob, name: str) -> list[tuple[int, float]]:
    return [(e["step"], e["values"][name]) for e in events(job, "metrics") if name in e["values"]]


def facts(job: WorkerJob) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for event in events(job, "facts"):
        merged |= event["facts"]
    return merged


def weights(job: WorkerJob) -> bytes:
    return (job.dir.model / "adapter_model.safetensors").read_bytes()


def cancel_when(job: WorkerJob, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Ask the job to stop as soon as it emits an event for which the condition holds."""
    append = job._append

    def append_and_cancel(event: Any) -> None:
        append(event)
        if condition(event):
            job.cancel_requested.set()

    job._append = append_and_cancel  # type: ignore[method-assign]
