"""Progress reports of a job, once a second.

`engine.worker.job` estimates the remaining time of the whole job from these; StepClock is a run's own
estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.worker.job import WorkerJob

SMOOTHING = 0.1  # weight of the newest step in the mean
REPORT_SECONDS = 1.0

SecondsLeft = Callable[[], float | None]  # seconds left of the current phase, if known


class JobProgressReporter:
    """Report the progress of a job, at most once a second."""

    def __init__(self, job: WorkerJob) -> None:
        self.job = job
        self._told_at: float | None = None

    def report(
        self, done: float, total: float, unit: str, message: str, left: SecondsLeft | None = None
    ) -> None:
        """Report the amount done of the total; left: the caller's own estimate.

        Raises: JobCancelled on a request to stop.
        """
        self.job.check_cancelled()
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < REPORT_SECONDS:
            return
        self._told_at = now
        self.job.progress(done, total, unit, message, left() if left else None)


class RowProgressReporter(JobProgressReporter):
    """Report the progress of one pass of a job over its rows.

    total: of the pass; 0 if given with each call, or unknown.
    """

    def __init__(self, job: WorkerJob, total: float, unit: str, message: str = "") -> None:
        super().__init__(job)
        self.total, self.unit, self.message = total, unit, message

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report the amount done, with `message`. Raises JobCancelled on a request to stop."""
        whole = self.total if total is None else total
        self.report(done, whole, self.unit, self.message if message is None else message)


class PhaseReporter(JobProgressReporter):
    """Report the progress of a job of several phases. A new unit, total or message is reported at once."""

    def __init__(self, job: WorkerJob) -> None:
        super().__init__(job)
        self._phase: tuple[str, float, str] | None = None

    def __call__(self, done: float, total: float, unit: str = "rows", message: str = "") -> None:
        """Report the amount done of the phase's total. Raises JobCancelled on a request to stop."""
        if (unit, total, message) != self._phase:
            self._phase, self._told_at = (unit, total, message), None
        self.report(done, total, unit, message)


class StepClock:
    """Times of steps and validations, and the estimate of the remaining time.

    validation_size: rows of a validation divided by rows of a step. Until one is timed, it is assumed to
    cost a third of as many rows of a step, whose backward pass costs twice its forward pass. judged:
    held-out rows that each of base and tuned model is judged on after training, in validations; responses
    to prompts not included.
    """

    def __init__(self, steps: int, evaluation_steps: set[int], validation_size: float) -> None:
        self.steps = steps
        self.evaluation_steps = evaluation_steps
        self.validation_size = validation_size
        self.step_seconds: float | None = None
        self.evaluation_seconds: float | None = None
        self.judged = 0.0

    def record_step(self, step: int, seconds: float) -> None:
        """Record the time of a step; the first one is slower and only counts until there is a second."""
        if self.step_seconds is None or step <= 2:
            self.step_seconds = seconds
        else:
            self.step_seconds += SMOOTHING * (seconds - self.step_seconds)

    def record_evaluation(self, seconds: float) -> None:
        """Record the time of a validation."""
        self.evaluation_seconds = seconds

    def eta(self, step: int) -> float | None:
        """Return the seconds from `step` to the end including validations; None before the first step."""
        if self.step_seconds is None:
            return None
        coming = sum(1 for s in self.evaluation_steps if s > step) + 2 * self.judged
        validation = self.evaluation_seconds
        if validation is None:
            validation, coming = self.step_seconds * self.validation_size / 3, coming + 1  # the base model's
        return (self.steps - step) * self.step_seconds + coming * validation
