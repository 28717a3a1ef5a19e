"""The training loop, the same for every method.

    [steps → validate → checkpoint] … → best weights restored

The base model is validated too, as step 0: for full fine-tuning before the first step, for an adapter, whose
base stays in reach, right after it, so that nobody waits for the first loss. A step is one effective batch:
the summed loss of its micro-batches over the number of its trained tokens (or other units of the objective),
as transformers and TRL compute it. The loop can be cut anywhere: a checkpoint holds a completed step, the
order of batches is a function of (seed, epoch), random states are those of the step's end, so that a run
resumed from it continues bit for bit as if nothing had happened (on one CPU).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.forward.batches import StepRows, batch_shape, epoch_steps, steps_per_epoch, total_steps
from engine.forward.losses import RowLosses
from engine.models import memory
from engine.models.apply_method import base_model, count_parameters, trainable
from engine.models.continued import starts_at_base
from engine.objectives.objectives import Objective, TrainedTokens
from engine.objectives.replay import Replay
from engine.rows.render import TokenRows
from engine.training import checkpoint
from engine.training.alarms import Alarms
from engine.training.checkpoint import CheckpointDocument
from engine.training.probing import Probing
from engine.training.state import State, evaluation_steps
from engine.training.step import Gradients, Stepper, TrainingRows
from engine.training.task_metric import TaskMetric
from engine.training.validations import Validations
from engine.worker.job import Cancelled, WorkerJob
from engine.worker.progress import Clock, ProgressTeller
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.verdict import Stopped

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_SHARE = 0.05  # of the time at most that may go into writing checkpoints


@dataclass(frozen=True)
class TrainingSetup:
    """What is made smaller, what is measured between steps, what is trained beside the rows of the data set,
    and what counts beside the loss; None is the plainest of each, or nothing."""

    objective: Objective | None = None
    probing: Probing | None = None
    replay: Replay | None = None
    metric: TaskMetric | None = None


PLAIN = TrainingSetup()


class Training:
    """One run's training. `model` has its trainable parameters chosen; `train` and `validation` are cut to
    length and every row of them has something to train on under `objective`."""

    def __init__(
        self,
        job: WorkerJob,
        config: TrainConfig,
        model: Any,
        train: TokenRows,
        validation: TokenRows,
        setup: TrainingSetup = PLAIN,
    ) -> None:
        self.job, self.config, self.train, self.validation = job, config, train, validation
        self.objective = setup.objective or TrainedTokens()
        self.device = torch.device(job.device)
        self.steps = total_steps(config, len(train))
        self.adapter = starts_at_base(config)
        self.parameters = count_parameters(model)[1]
        self.evaluation_steps = evaluation_steps(self.steps, config.evaluations)
        rows = TrainingRows(train, setup.replay)
        self.stepper = Stepper(job, config, model, rows, self.objective, self.steps)
        self.state = State()
        self.validations = Validations(job.dir.validations)
        self.probing = setup.probing or Probing(job, config, [])
        self.metric = setup.metric or TaskMetric()
        self.alarms = Alarms(job, config, self.steps, len(self.evaluation_steps))
        batches = len(validation) / math.prod(batch_shape(config))
        self.clock, self.teller = Clock(self.steps, self.evaluation_steps, batches), ProgressTeller(job)
        self.random = checkpoint.random_states()
        self.saved_at, self.save_seconds = time.monotonic(), 0.0

    def run(self) -> Stopped:
        """Train to the end and restore the best weights; how it stopped: {reason, step, restored_step}.

        Raises Cancelled after a checkpoint of the last completed step was left.
        """
        try:
            self.resume()
            self.job.status("training")
            self.say_forward()
            if self.state.step or not self.adapter:  # a full first step changes the base model itself
                self.validate_base_if_due()
            self.validate_if_due()  # of the checkpoint's step
            for rows in self.remaining_steps():
                self.one_step(rows)
                self.validate_base_if_due()
                self.validate_if_due()
                if self.state.reason:
                    break
                self.save_if_due()
        except Cancelled:
            if self.state.step:
                self.save()
            raise
        if not self.state.reason:
            per_epoch = steps_per_epoch(len(self.train), *batch_shape(self.config))
            whole = per_epoch * (self.config.num_train_epochs or 1)
            self.state.reason = "max_steps" if self.steps < math.ceil(whole) else "epochs"
        self.save()
        return self.finish()

    def say_forward(self) -> None:
        """Write down, in the log too, whether rows are packed or why they are not."""
        why = self.stepper.unpacked
        forward = f"padded: {why}" if why else "packed"
        self.job.facts(forward=forward)
        print(f"Rows are {forward}.", flush=True)

    def resume(self) -> None:
        """Go back to the newest checkpoint, if this is a resume; without one, start over."""
        if not self.job.resume:
            return
        newest = checkpoint.newest(self.job.dir.checkpoints)
        if newest is None:
            self.job.rewind(step=-1)
            self.job.alert("There was no checkpoint: training starts from the beginning.", "info")
            self.report_best()
            return
        tensors, document = newest
        self.state = State.from_dict(document["state"])
        self.job.rewind(step=self.state.step)
        validated = max((step for step, _ in self.state.validations), default=-1)
        for prefix in ("eval/", "probe/"):  # measured after the checkpoint was written
            self.job.rewind(step=validated, prefix=prefix)
        self.report_best()
        self.stepper.restore(tensors, document)
        checkpoint.load_random_states(tensors)
        self.random = checkpoint.random_states()
        self.validations.rewind({step for step, _ in self.state.validations})
        self.probing.rewind(validated, self.state.probe_seconds)

    def remaining_steps(self) -> Iterator[StepRows]:
        """The steps after `state.step`, epoch by epoch."""
        batch_size, accumulation = batch_shape(self.config)
        per_epoch = steps_per_epoch(len(self.train), batch_size, accumulation)
        lengths = self.train.lengths if self.objective.grouped else np.ones(len(self.train), np.int64)
        while self.state.step < self.steps and not self.state.reason:
            epoch, done = divmod(self.state.step, per_epoch)
            steps = epoch_steps(
                lengths,
                seed=self.config.seed,
                epoch=epoch,
                batch_size=batch_size,
                accumulation=accumulation,
            )
            yield from steps[done : done + self.steps - self.state.step]

    def one_step(self, rows: StepRows) -> None:
        """One optimiser step on one effective batch."""
        started = time.perf_counter()
        gradients = self.stepper.gradients(rows, self.state.step)
        self.check_finite(gradients)
        self.stepper.update(self.state.step + 1)
        self.random = checkpoint.random_states()
        self.report(gradients, time.perf_counter() - started)

    def check_finite(self, gradients: Gradients) -> None:
        """Stop before a broken step spoils the weights."""
        if gradients.finite:
            return
        self.stepper.drop()
        if self.state.step:  # the last good weights stay
            self.save()
        step = self.state.step + 1
        self.job.metrics(step, gradients.metrics)
        raise gradients.diverged(step, self.config)

    def report(self, gradients: Gradients, seconds: float) -> None:
        """Count the step and write down its metrics."""
        state = self.state
        state.step += 1
        state.tokens_seen += gradients.tokens
        state.train_seconds += seconds
        state.curve.append((state.step, gradients.loss))
        per_epoch = steps_per_epoch(len(self.train), *batch_shape(self.config))
        self.job.metrics(
            state.step,
            {
                **gradients.metrics,
                "train/tokens_per_second": gradients.tokens / seconds,
                "train/tokens_seen": state.tokens_seen,
                "train/epoch": state.step / per_epoch,
                "system/memory_gib": memory.peak_gib(self.device),
                **self.objective.step_metrics(),
            },
        )
        self.clock.stepped(state.step, seconds)
        self.teller.tell(state.step, self.steps, "steps", "Training", lambda: self.clock.eta(state.step))

    def validate_base_if_due(self) -> None:
        """Evaluate the validation rows under the base model, once, as step 0."""
        if self.state.validated(0):
            return
        if (losses := self.objective.baseline(self.validation)) is not None:
            self.record(0, losses)
            return
        model = self.stepper.model
        with base_model(model) if self.adapter else nullcontext(model) as base:
            self.validate(0, "Evaluating the base model", base)
            self.probing.start(base, self.tell)

    def validate_if_due(self) -> None:
        """Evaluate the validation rows where this step asks for it, and keep the weights that are best."""
        step = self.state.step
        if step not in self.evaluation_steps or self.state.validated(step):
            return
        if self.validate(step, "Evaluating"):
            weights = {name: p.detach() for name, p in trainable(self.stepper.model)}
            checkpoint.save_best(self.job.dir.checkpoints, step, weights)
            self.report_best()
        self.probe(step)
        self.alarms.look(step, self.state, self.validations, self.metric, self.probing)
        self.save_if_due(evaluated=True)

    def probe(self, step: int) -> None:
        """Measure those probes that the time of training so far pays for."""
        pace = (self.clock.evaluation_seconds or 0.0) / len(self.validation.ids)
        measured = self.probing.measure(step, self.stepper.model, self.state.train_seconds, pace, self.tell)
        self.state.probe_seconds = self.probing.seconds
        if self.probing.forgot(measured):
            self.state.reason = self.state.reason or "forgetting"

    def validate(self, step: int, message: str, model: Any = None) -> bool:
        """Measure the validation rows under the present weights, or `model`, as of `step`; whether it is the
        best."""
        started = time.perf_counter()
        losses = self.measure(model or self.stepper.model, self.validation, message)
        self.clock.evaluated(time.perf_counter() - started)
        return self.record(step, losses)

    def record(self, step: int, losses: RowLosses) -> bool:
        """Write down a validation; whether it is the best."""
        self.job.metrics(step, losses.metrics | self.metric.metrics(losses))
        self.validations.add(step, losses)
        return self.state.record(step, losses.loss, self.config)

    def report_best(self) -> None:
        """Write down the best validation of the trained steps: the base model's is not among them."""
        best = self.state.best_step
        self.job.facts(best_step=best, best_eval_loss=None if best is None else self.state.best_loss)

    def measure(self, model: Any, rows: TokenRows, message: str) -> RowLosses:
        """Losses of `rows` under the present weights of `model`, with progress."""
        return self.objective.measure(
            model,
            rows,
            batch_size=self.config.per_device_eval_batch_size,
            device=self.device,
            on_batch=lambda done: self.tell(f"{message} ({done} of {len(rows)} rows)"),
        )

    def tell(self, message: str) -> None:
        """Say what goes on between steps. Raises Cancelled when asked to stop."""
        memory.guard(self.config, self.device)
        step = self.state.step
        self.teller.tell(step, self.steps, "steps", message, lambda: self.clock.eta(step))

    def save_if_due(self, *, evaluated: bool = False) -> None:
        """Write a checkpoint after a validation or a minute, unless writing them takes too much time."""
        since = time.monotonic() - self.saved_at
        if since * CHECKPOINT_SHARE >= self.save_seconds and (evaluated or since > CHECKPOINT_SECONDS):
            self.save()

    def save(self) -> None:
        """Write a checkpoint of the last completed step."""
        started = time.monotonic()
        tensors, step = self.stepper.kept()
        document: CheckpointDocument = {**step, "state": self.state.to_dict()}
        self.validations.write()
        self.probing.write()
        checkpoint.save(
            self.job.dir.checkpoints, self.state.step, tensors | self.random, document, self.state.best_step
        )
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - started

    def finish(self) -> Stopped:
        """Restore the best weights where the config asks for it."""
        restored = self.state.step
        best = self.state.best_step
        if self.config.load_best_model_at_end and best is not None and best != self.state.step:
            self.stepper.masters.load(checkpoint.load_best(self.job.dir.checkpoints, best))
            restored = best
        reason = self.state.reason or "epochs"  # it was decided before this
        return {"reason": reason, "step": self.state.step, "restored_step": restored}

    def release(self) -> Any:
        """Hand the model out and let go of everything else that takes memory."""
        model = self.stepper.release()
        del self.stepper
        return model
