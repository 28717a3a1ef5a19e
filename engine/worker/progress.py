"""How long a run will still take, from how long its parts took so far."""

from __future__ import annotations

import time

from engine.worker.job import WorkerJob

SMOOTHING = 0.1  # weight of the newest step in the mean


class OnceASecond:
    """Keeps what is told to once a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def due(self) -> bool:
        """Whether a second has passed since this was last true."""
        now = time.perf_counter()
        if now - self._last < 1:
            return False
        self._last = now
        return True


class Clock(OnceASecond):
    """Times steps and validations; `judged` is how many validations' worth of held-out rows
    each of base and tuned model is judged on after training, answers to prompts left out.

    `validation_size`: rows of a validation over rows of a step. Until one was timed it is taken to be a
    third as dear as as many rows of a step, whose backward pass costs twice its forward pass.
    """

    def __init__(self, steps: int, evaluation_steps: set[int], validation_size: float) -> None:
        super().__init__()
        self.steps = steps
        self.evaluation_steps = evaluation_steps
        self.validation_size = validation_size
        self.step_seconds: float | None = None
        self.evaluation_seconds: float | None = None
        self.judged = 0.0

    def stepped(self, step: int, seconds: float) -> None:
        """A step took this long; the first one is dearer than the rest and counts until there is a second."""
        if self.step_seconds is None or step <= 2:
            self.step_seconds = seconds
        else:
            self.step_seconds += SMOOTHING * (seconds - self.step_seconds)

    def evaluated(self, seconds: float) -> None:
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


class ProgressReporter:
    """Tells once a second how far one pass of a job over its rows is, and how long it will still take.
    total: of the pass, 0 where it is told with each call; after: seconds that the job goes on afterwards."""

    def __init__(self, job: WorkerJob, total: int, unit: str, message: str, after: float = 0.0) -> None:
        self.job, self.total, self.unit, self.message, self.after = job, total, unit, message, after
        self.began, self._clock = time.perf_counter(), OnceASecond()

    def __call__(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """So many of the total are done, of what `message` says. Raises Cancelled when asked to stop."""
        self.job.check_cancelled()
        if not self._clock.due():
            return
        whole = self.total if total is None else total
        left = (time.perf_counter() - self.began) / done * (whole - done) + self.after if done else None
        self.job.progress(done, whole, self.unit, self.message if message is None else message, left)
