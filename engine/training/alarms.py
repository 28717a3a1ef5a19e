"""Warnings that a run raises while it trains and at its end, each kind once."""

from __future__ import annotations

from typing import Any

from engine.diagnostics.verdicts import live_alarms
from engine.diagnostics.verdicts.class_verdict import of_the_head
from engine.diagnostics.verdicts.live_alarms import Alarm
from engine.training.probing import Probing
from engine.training.state import State
from engine.training.task_metric import TaskMetric
from engine.training.validations import Validations
from engine.worker.job import Job
from store.config.train_config import TrainConfig

UNITS = {"classification": "nats a row", "dpo": "of the preference loss"}


class Alarms:
    """Of one run. looks: how often it is looked at, which widens what counts as sure."""

    def __init__(self, job: Job, config: TrainConfig, looks: int) -> None:
        self.job, self.config, self.looks = job, config, looks
        self.raised: set[str] = set()

    def look(
        self, step: int, state: State, validations: Validations, metric: TaskMetric, probing: Probing
    ) -> None:
        """Raise what became sure by this validation."""
        name, told = metric.told(validations)
        done = validations.for_verdict()
        found = live_alarms.overfits(
            of_the_head(done) if self.config.task == "classification" else done,
            state.curve,
            unit=UNITS.get(self.config.task, "nats a token"),
            looks=self.looks,
            metric=told,
            metric_name=name,
        )
        if prose := probing.prose_at(step):
            base, tuned = prose
            found += live_alarms.forgets(step, base.loss_sum, tuned.loss_sum, base.tokens, looks=self.looks)
        if state.reason == "forgetting":
            found.append(Alarm("stopped", step, self._stopped(step)))
        self.say(found)

    def conclude(self, verdict: dict[str, Any]) -> None:
        """Raise what the verdict says and was not said before."""
        self.say(live_alarms.of_verdict(verdict))

    def say(self, found: list[Alarm]) -> None:
        """Raise those of a kind that was not raised yet."""
        for alarm in found:
            if alarm.kind not in self.raised:
                self.raised.add(alarm.kind)
                self.job.alert(alarm.message, kind=alarm.kind, step=alarm.step)

    def _stopped(self, step: int) -> str:
        return (
            f"It was stopped at step {step:,}: general prose has surely (95%) lost more than"
            f" {self.config.max_forgetting:g} nats a token, the most that max_forgetting allows."
        )
