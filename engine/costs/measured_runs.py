"""Runs of the past, as what corrects an estimate of memory and time."""

from __future__ import annotations

from collections.abc import Sequence

from engine.diagnostics.launch.launch_time import TimedRun
from engine.diagnostics.statistics.correction import MeasuredPrediction
from engine.worker.other_work import BUSY
from store.documents.asks.advice import MeasuredRun
from store.documents.models.saved_model import STOPPED_EARLY


def kind_of(method: str, task: str) -> str:
    """Runs of one kind err alike."""
    return f"{task} {method}"


def memory_pairs(past: Sequence[MeasuredRun]) -> list[MeasuredPrediction]:
    """What was counted and measured beyond the process itself."""
    return [
        MeasuredPrediction(
            run["counted_memory_gib"] - run["process_memory_gib"],
            run["peak_memory_gib"] - run["process_memory_gib"],
            kind_of(run["method"], run["task"]),
        )
        for run in past
        if run["counted_memory_gib"] and run["peak_memory_gib"] and run["process_memory_gib"] is not None
    ]


def timed_runs(past: Sequence[MeasuredRun], *, steps_timed: bool = False) -> list[TimedRun]:
    """What was counted and measured of runs that went to their end, or of whose course it is known how much
    they took, in one go. steps_timed: of those of which steps were timed before, or of those of which none
    were. Runs beside other work say nothing of the next one."""
    return [
        TimedRun(
            run["counted_seconds"],
            run["run_seconds"],
            kind_of(run["method"], run["task"]),
            run["settings"],
            run["course"] or 1.0,
            (run["course_seconds"] or 0.0) / run["counted_seconds"],
        )
        for run in past
        if run["counted_seconds"]
        and run["run_seconds"]
        and (run["course"] or not _stopped_early(run))
        and run["steps_timed"] == steps_timed
        and (run["other_work"] or 0.0) < BUSY
    ]


def _stopped_early(run: MeasuredRun) -> bool:
    return run["stopped"] in STOPPED_EARLY
