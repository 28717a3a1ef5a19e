"""The training loop, the same for every method: [steps → validate → checkpoint] … → best weights restored.

The base model is validated too, as step 0. The loop can be interrupted anywhere: a checkpoint holds a
completed step with its random states, and the order of batches is a function of (seed, epoch), so that a
resumed run continues bit for bit (on one CPU). `TrainingState` decides about early stopping from validation
losses alone; each kind of alarm is raised once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from engine.evaluation.training_curve.run_curve import LossCurves
from engine.evaluation.verdicts import live_alarms
from engine.evaluation.verdicts.classifier_verdict import drop_untrained_step
from engine.evaluation.verdicts.live_alarms import Alarm
from engine.models import hardware, training_state
from engine.models.batching import (
    Replay,
    StepRows,
    build_epoch_steps,
    compute_batch_shape,
    count_steps_per_epoch,
    count_total_steps,
)
from engine.models.losses import Objective, RowLosses, TokenObjective
from engine.models.saved_models import starts_at_base
from engine.models.tokenization.rendering import TokenRows
from engine.models.training_state import CheckpointDocument
from engine.models.tuning_methods import count_parameters, list_trainable, use_base_model
from engine.training.optimizer_step import Gradients, OptimizerStepper, TrainingRows
from engine.training.validation import TaskMetric, TrainingProbes, ValidationHistory
from engine.worker.job import JobCancelled, WorkerJob
from engine.worker.progress import JobProgressReporter, StepClock
from store.core.model_schemas import StopReason
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.training.train_config import TrainConfig


@dataclass
class TrainingState:
    """State of training at a step beyond its tensors: position, history, best step, and whether to stop.

    `curve`: (step, train loss); `validations`: (step, validation loss), where step 0 is the base model. Plain
    data that round-trips through JSON in a checkpoint.
    """

    step: int = 0
    tokens_seen: int = 0
    train_seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    best_loss = float("inf")
    reference_loss = float("inf")  # loss that the next validation must undercut by the threshold
    probe_seconds: list[float] = field(default_factory=list)  # for each kind of probe
    waited: int = 0  # validations since the reference loss was last improved
    reason: StopReason | Literal[""] = ""  # why training ended; empty while it goes on

    def validated(self, step: int) -> bool:
        """Whether the validation at `step` is in the history."""
        return any(done == step for done, _ in self.validations)

    def record(self, step: int, loss: float, config: TrainConfig) -> bool:
        """Record a validation loss; return True if it is the best of the trained steps so far."""
        self.validations.append((step, loss))
        if step == 0:
            return False
        best = loss < self.best_loss
        if best:
            self.best_step, self.best_loss = step, loss
        if self.waited == 0 and self.reference_loss == float("inf"):
            self.reference_loss = loss
        elif loss < self.reference_loss * (1 - config.early_stopping_threshold):
            self.reference_loss, self.waited = loss, 0
        else:
            self.waited += 1
            if config.early_stopping and self.waited >= config.early_stopping_patience:
                self.reason = "early_stopping"
        return best

    def to_dict(self) -> dict[str, object]:
        """Return the state as a JSON-compatible dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> TrainingState:
        """Create the state from the result of `to_dict`."""
        pairs = {key: [(int(s), v) for s, v in document[key]] for key in ("curve", "validations")}
        return cls(**(document | pairs))


def choose_evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return `evaluations` evenly spaced steps, including the last."""
    return {max(1, round(steps * k / evaluations)) for k in range(1, evaluations + 1)}


UNITS = {"classification": "nats a row", "dpo": "of the preference loss"}


class AlarmMonitor:
    """Raise the alarms of one run during training, each kind once.

    looks: number of checks during the run; more checks widen the confidence intervals.
    """

    def __init__(self, job: WorkerJob, config: TrainConfig, steps: int, looks: int) -> None:
        self.job, self.config, self.steps, self.looks = job, config, steps, looks
        self.raised: set[str] = set()

    def look(
        self,
        step: int,
        state: TrainingState,
        validations: ValidationHistory,
        metric: TaskMetric,
        probing: TrainingProbes,
    ) -> None:
        """Raise the alarms that are significant as of this validation."""
        done = validations.for_verdict()
        course = LossCurves(
            validations=drop_untrained_step(done) if self.config.task == "classification" else done,
            train_curve=state.curve,
            metric=metric.course(validations),
        )
        unit = UNITS.get(self.config.task, "nats a token")
        raised = live_alarms.check_divergence(state.curve, planned_steps=self.steps, looks=self.looks)
        if not raised:
            raised = live_alarms.check_overfitting(course, unit=unit, looks=self.looks)
        if prose := probing.prose_at(step):
            base, tuned = prose
            raised += live_alarms.check_forgetting(
                step, base.loss_sum, tuned.loss_sum, base.tokens, looks=self.looks
            )
        if state.reason == "forgetting":
            raised.append(Alarm("stopped", step, self._stopped(step)))
        self.say(raised)

    def conclude(self, verdict: Verdict) -> None:
        """Raise the alarms of the verdict that were not raised before."""
        self.say(live_alarms.list_verdict_alarms(verdict))

    def say(self, alarms: list[Alarm]) -> None:
        """Raise the alarms whose kind was not raised yet."""
        for alarm in alarms:
            if alarm.kind not in self.raised:
                self.raised.add(alarm.kind)
                self.job.alert(alarm.message, kind=alarm.kind, step=alarm.step)

    def _stopped(self, step: int) -> str:
        return (
            f"Stopped at step {step:,}: the loss on general prose rose significantly (95%) by more than"
            f" {self.config.max_forgetting:g} nats a token, the limit set by max_forgetting."
        )


# A step is one effective batch: the summed loss of its micro-batches divided by the number of its trained
# tokens (or other units of the objective), as transformers and TRL compute it.

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_SHARE = 0.05  # maximum share of the time spent writing checkpoints


@dataclass(frozen=True)
class TrainingSetup:
    """Objective, probes between steps, replayed general rows, and task metric of a loop.

    None stands for the default objective and metric, for no probes, and for no replay.
    """

    objective: Objective | None = None
    probing: TrainingProbes | None = None
    replay: Replay | None = None
    metric: TaskMetric | None = None


DEFAULT_SETUP = TrainingSetup()


class TrainingLoop:
    """Training of one run.

    The trainable parameters of `model` are already selected; `train` and `validation` are truncated to
    length, and each of their rows has trained tokens under `objective`.
    """

    def __init__(
        self,
        job: WorkerJob,
        config: TrainConfig,
        model: Any,
        train: TokenRows,
        validation: TokenRows,
        setup: TrainingSetup = DEFAULT_SETUP,
    ) -> None:
        self.job, self.config, self.train, self.validation = job, config, train, validation
        self.objective = setup.objective or TokenObjective()
        self.device = torch.device(job.device)
        self.steps = count_total_steps(config, len(train))
        self.adapter = starts_at_base(config)
        self.parameters = count_parameters(model)[1]
        self.evaluation_steps = choose_evaluation_steps(self.steps, config.evaluations)
        rows = TrainingRows(train, setup.replay)
        self.stepper = OptimizerStepper(job, config, model, rows, self.objective, self.steps)
        self.state = TrainingState()
        self.validations = ValidationHistory(job.dir.validations)
        self.probing = setup.probing or TrainingProbes(job, config, [])
        self.metric = setup.metric or TaskMetric()
        self.alarms = AlarmMonitor(job, config, self.steps, len(self.evaluation_steps))
        batches = len(validation) / math.prod(compute_batch_shape(config))
        self.clock, self.reporter = (
            StepClock(self.steps, self.evaluation_steps, batches),
            JobProgressReporter(job),
        )
        self.random = training_state.collect_random_states()
        self.saved_at, self.save_seconds = time.monotonic(), 0.0

    def run(self) -> TrainingStop:
        """Train to the end, restore the best weights, and return {reason, step, restored_step}.

        Raises JobCancelled after writing a checkpoint of the last completed step.
        """
        try:
            self.resume()
            self.job.status("training")
            self.say_forward()
            if self.state.step or not self.adapter:  # full fine-tuning changes the base model itself
                self.validate_base_if_due()
            self.validate_if_due()  # for the checkpoint's step
            for rows in self.remaining_steps():
                self.one_step(rows)
                self.validate_base_if_due()
                self.validate_if_due()
                if self.state.reason:
                    break
                self.save_if_due()
        except JobCancelled:
            if self.state.step:
                self.save()
            raise
        if not self.state.reason:
            per_epoch = count_steps_per_epoch(len(self.train), *compute_batch_shape(self.config))
            whole = per_epoch * (self.config.num_train_epochs or 1)
            self.state.reason = "max_steps" if self.steps < math.ceil(whole) else "epochs"
        self.save()
        return self.finish()

    def say_forward(self) -> None:
        """Record in the facts and in the log whether rows are packed, or why they are not."""
        why = self.stepper.unpacked
        forward = f"padded: {why}" if why else "packed"
        self.job.facts(forward=forward)
        print(f"Rows are {forward}.", flush=True)

    def resume(self) -> None:
        """Restore the newest checkpoint if this is a resume; without one, start over."""
        if not self.job.resume:
            return
        newest = training_state.load_newest_checkpoint(self.job.dir.checkpoints)
        if newest is None:
            self.job.rewind(step=-1)
            self.job.alert("There was no checkpoint: training starts from the beginning.", "info")
            self.report_best()
            return
        tensors, document = newest
        self.state = TrainingState.from_dict(document["state"])
        self.job.rewind(step=self.state.step)
        validated = max((step for step, _ in self.state.validations), default=-1)
        for prefix in ("eval/", "probe/"):  # measured after the checkpoint was written
            self.job.rewind(step=validated, prefix=prefix)
        self.report_best()
        self.stepper.restore(tensors, document)
        training_state.load_random_states(tensors)
        self.random = training_state.collect_random_states()
        self.validations.rewind({step for step, _ in self.state.validations})
        self.probing.rewind(validated, self.state.probe_seconds)

    def remaining_steps(self) -> Iterator[StepRows]:
        """Yield the steps after `state.step`, epoch by epoch."""
        batch_size, accumulation = compute_batch_shape(self.config)
        per_epoch = count_steps_per_epoch(len(self.train), batch_size, accumulation)
        lengths = self.train.lengths if self.objective.grouped else np.ones(len(self.train), np.int64)
        while self.state.step < self.steps and not self.state.reason:
            epoch, done = divmod(self.state.step, per_epoch)
            steps = build_epoch_steps(
                lengths,
                seed=self.config.seed,
                epoch=epoch,
                batch_size=batch_size,
                accumulation=accumulation,
            )
            yield from steps[done : done + self.steps - self.state.step]

    def one_step(self, rows: StepRows) -> None:
        """Run one optimiser step on one effective batch."""
        started = time.perf_counter()
        gradients = self.stepper.gradients(rows, self.state.step)
        self.check_finite(gradients)
        self.stepper.update(self.state.step + 1)
        self.random = training_state.collect_random_states()
        self.report(gradients, time.perf_counter() - started)

    def check_finite(self, gradients: Gradients) -> None:
        """Raise before an update with a loss or gradients that aren't finite."""
        if gradients.finite:
            return
        self.stepper.drop()
        if self.state.step:  # keep the last good weights
            self.save()
        step = self.state.step + 1
        self.job.metrics(step, gradients.metrics)
        raise gradients.diverged(step, self.config)

    def report(self, gradients: Gradients, seconds: float) -> None:
        """Count the step and record its metrics."""
        state = self.state
        state.step += 1
        state.tokens_seen += gradients.tokens
        state.train_seconds += seconds
        state.curve.append((state.step, gradients.loss))
        per_epoch = count_steps_per_epoch(len(self.train), *compute_batch_shape(self.config))
        self.job.metrics(
            state.step,
            {
                **gradients.metrics,
                "train/tokens_per_second": gradients.tokens / seconds,
                "train/tokens_seen": state.tokens_seen,
                "train/epoch": state.step / per_epoch,
                "system/memory_gib": hardware.measure_peak_gib(self.device),
                **self.objective.step_metrics(),
            },
        )
        self.clock.record_step(state.step, seconds)
        self.reporter.report(state.step, self.steps, "steps", "Training", lambda: self.clock.eta(state.step))

    def validate_base_if_due(self) -> None:
        """Evaluate the validation rows under the base model, once, as step 0.

        Full fine-tuning does so before the first step; an adapter, whose base model stays available, right
        after it, so that the first loss appears sooner.
        """
        if self.state.validated(0):
            return
        if (losses := self.objective.baseline(self.validation)) is not None:
            self.record(0, losses)
            return
        model = self.stepper.model
        with use_base_model(model) if self.adapter else nullcontext(model) as base:
            self.validate(0, "Evaluating the base model", base)
            self.probing.start(base, self.tell)

    def validate_if_due(self) -> None:
        """Evaluate the validation rows if this is an evaluation step, and save the best weights."""
        step = self.state.step
        if step not in self.evaluation_steps or self.state.validated(step):
            return
        if self.validate(step, "Evaluating"):
            weights = {name: p.detach() for name, p in list_trainable(self.stepper.model)}
            training_state.save_best(self.job.dir.checkpoints, step, weights)
            self.report_best()
        self.probe(step)
        self.alarms.look(step, self.state, self.validations, self.metric, self.probing)
        self.save_if_due(evaluated=True)

    def probe(self, step: int) -> None:
        """Measure the probes that fit into their share of the training time so far."""
        pace = (self.clock.evaluation_seconds or 0.0) / len(self.validation.ids)
        measured = self.probing.measure(step, self.stepper.model, self.state.train_seconds, pace, self.tell)
        self.state.probe_seconds = self.probing.seconds
        if self.probing.forgot(measured):
            self.state.reason = self.state.reason or "forgetting"

    def validate(self, step: int, message: str, model: Any = None) -> bool:
        """Measure the validation rows as of `step`; return whether it is the best.

        model: by default the model with its current weights.
        """
        started = time.perf_counter()
        losses = self.measure(model or self.stepper.model, self.validation, message)
        self.clock.record_evaluation(time.perf_counter() - started)
        return self.record(step, losses)

    def record(self, step: int, losses: RowLosses) -> bool:
        """Record a validation; return whether it is the best."""
        self.job.metrics(step, losses.metrics | self.metric.metrics(losses))
        self.validations.add(step, losses)
        return self.state.record(step, losses.loss, self.config)

    def report_best(self) -> None:
        """Record the best validation of the trained steps, excluding the base model's."""
        best = self.state.best_step
        self.job.facts(best_step=best, best_eval_loss=None if best is None else self.state.best_loss)

    def measure(self, model: Any, rows: TokenRows, message: str) -> RowLosses:
        """Return the losses of `rows` under the current weights of `model`, reporting progress."""
        return self.objective.measure(
            model,
            rows,
            batch_size=self.config.per_device_eval_batch_size,
            device=self.device,
            on_batch=lambda done: self.tell(f"{message} ({done} of {len(rows)} rows)"),
        )

    def tell(self, message: str) -> None:
        """Report the current activity between steps. Raises JobCancelled on a request to stop."""
        hardware.guard_memory(self.config, self.device)
        step = self.state.step
        self.reporter.report(step, self.steps, "steps", message, lambda: self.clock.eta(step))

    def save_if_due(self, *, evaluated: bool = False) -> None:
        """Write a checkpoint after a validation or a minute, unless writing takes too much of the time."""
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
        training_state.save_checkpoint(
            self.job.dir.checkpoints, self.state.step, tensors | self.random, document, self.state.best_step
        )
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - started

    def finish(self) -> TrainingStop:
        """Restore the best weights if the config asks for it."""
        restored = self.state.step
        best = self.state.best_step
        if self.config.load_best_model_at_end and best is not None and best != self.state.step:
            self.stepper.masters.load(training_state.load_best(self.job.dir.checkpoints, best))
            restored = best
        reason = self.state.reason or "epochs"  # already set at this point
        return TrainingStop(reason=reason, step=self.state.step, restored_step=restored)

    def release(self) -> Any:
        """Return the model and free all other memory."""
        model = self.stepper.release()
        del self.stepper
        return model
