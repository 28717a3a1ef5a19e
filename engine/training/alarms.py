"""Warnings that a run raises while it trains and at its end, each kind once."""

from __future__ import annotations

from engine.diagnostics.course.run_course import LossCourse
from engine.diagnostics.verdicts import live_alarms
from engine.diagnostics.verdicts.class_verdict import of_the_head
from engine.diagnostics.verdicts.live_alarms import Alarm
from engine.training.probing import Probing
from engine.training.state import State
from engine.training.task_metric import TaskMetric
from engine.training.validations import Validations
from engine.worker.job import WorkerJob
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.verdict import Verdict

UNITS = {"classification": "nats a row", "dpo": "of the preference loss"}


class Alarms:
    """Of one run of so many steps. looks: how often it is looked at, which widens what counts as sure."""

    def __init__(self, job: WorkerJob, config: TrainConfig, steps: int, looks: int) -> None:
        self.job, self.config, self.steps, self.looks = job, config, steps, looks
        self.raised: set[str] = set()

    def look(
        self, step: int, state: State, validations: Validations, metric: TaskMetric, probing: Probing
    ) -> None:
        """Raise what became sure by this validation."""
        done = validations.for_verdict()
        course = LossCourse(
            validations=of_the_head(done) if self.config.task == "classification" else done,
            train_curve=state.curve,
            metric=metric.course(validations),
        )
        unit = UNITS.get(self.config.task, "nats a token")
        raised = live_alarms.diverges(state.curve, planned_steps=self.steps, looks=self.looks)
        if not raised:
            raised = live_alarms.overfits(course, unit=unit, looks=self.looks)
        if prose := probing.prose_at(step):
            base, tuned = prose
            raised += live_alarms.forgets(step, base.loss_sum, tuned.loss_sum, base.tokens, looks=self.looks)
        if state.reason == "forgetting":
            raised.append(Alarm("stopped", step, self._stopped(step)))
        self.say(raised)

    def conclude(self, verdict: Verdict) -> None:
        """Raise what the verdict says and was not said before."""
        self.say(live_alarms.of_verdict(verdict))

    def say(self, alarms: list[Alarm]) -> None:
        """Raise those of a kind that was not raised yet."""
        for alarm in alarms:
            if alarm.kind not in self.raised:
                self.raised.add(alarm.kind)
                self.job.alert(alarm.message, kind=alarm.kind, step=alarm.step)

    def _stopped(self, step: int) -> str:
        return (
            f"It was stopped at step {step:,}: general prose has surely (95%) lost more than"
            f" {self.config.max_forgetting:g} nats a token, the most that max_forgetting allows."
        )
