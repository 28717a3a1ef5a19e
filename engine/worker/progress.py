"""How far a job is, told once a second. How long the whole will still take is worked out of this in
`engine.worker.job`; the Clock is a run's own estimate."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.worker.job import WorkerJob

SMOOTHING = 0.1  # weight of the newest step in the mean
REPORT_SECONDS = 1.0

SecondsLeft = Callable[[], float | None]  # that the present phase will still take, where that can be said


class JobProgressReporter:
    """Tells how far a job is, at most once a second."""

    def __init__(self, job: WorkerJob) -> None:
        self.job = job
        self._told_at: float | None = None

    def report(
        self, done: float, total: float, unit: str, message: str, left: SecondsLeft | None = None
    ) -> None:
        """So much of the total is done; left: an estimate of the caller's own. Raises Cancelled when asked to
        stop."""
        self.job.check_cancelled()
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < REPORT_SECONDS:
            return
        self._told_at = now
        self.job.progress(done, total, unit, message, left() if left else None)


class RowProgressReporter(JobProgressReporter):
    """Tells how far one pass of a job over its rows is. total: of the pass, 0 where it is told with each
    call, or not known."""

    def __init__(self, job: WorkerJob, total: float, unit: str, message: str = "") -> None:
        super().__init__(job)
        self.total, self.unit, self.message = total, unit, message

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """So many of the total are done, of what `message` says. Raises Cancelled when asked to stop."""
        whole = self.total if total is None else total
        self.report(done, whole, self.unit, self.message if message is None else message)


class PhaseReporter(JobProgressReporter):
    """Tells how far a job of several phases is. Another unit, total or message is told at once."""

    def __init__(self, job: WorkerJob) -> None:
        super().__init__(job)
        self._phase: tuple[str, float, str] | None = None

    def __call__(self, done: float, total: float, unit: str = "rows", message: str = "") -> None:
        """So much of the phase's total is done. Raises Cancelled when asked to stop."""
        if (unit, total, message) != self._phase:
            self._phase, self._told_at = (unit, total, message), None
        self.report(done, total, unit, message)


class StepClock:
    """Times steps and validations; `judged` is how many validations' worth of held-out rows
    each of base and tuned model is judged on after training, answers to prompts left out.

    `validation_size`: rows of a validation over rows of a step. Until one was timed it is taken to be a
    third as dear as as many rows of a step, whose backward pass costs twice its forward pass.
    """

    def __init__(self, steps: int, evaluation_steps: set[int], validation_size: float) -> None:
        self.steps = steps
        self.evaluation_steps = evaluation_steps
        self.validation_size = validation_size
        self.step_seconds: float | None = None
        self.evaluation_seconds: float | None = None
        self.judged = 0.0

    def record_step(self, step: int, seconds: float) -> None:
        """A step took this long; the first one is dearer than the rest and counts until there is a second."""
        if self.step_seconds is None or step <= 2:
            self.step_seconds = seconds
        else:
            self.step_seconds += SMOOTHING * (seconds - self.step_seconds)

    def record_evaluation(self, seconds: float) -> None:
        """A validation took this long."""
        self.evaluation_seconds = seconds

    def eta(self, step: int) -> float | None:
        """Seconds from `step` to the end with the validations to come; None before the first step."""
        if self.step_seconds is None:
            return None
        coming = sum(1 for s in self.evaluation_steps if s > step) + 2 * self.judged
        validation = self.evaluation_seconds
        if validation is None:
            validation, coming = self.step_seconds * self.validation_size / 3, coming + 1  # the base model's
        return (self.steps - step) * self.step_seconds + coming * validation
