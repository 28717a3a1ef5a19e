"""A trained run with what was measured of its models, as its verdict is passed on it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.diagnostics.course.run_course import RunCourse
from engine.diagnostics.verdicts.held_out import OtherPrompts
from engine.evidence.evidence import Evidence
from engine.evidence.swapped_prompts import SwappedPrompts
from engine.training.train import Training
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.verdict import Stopped


@dataclass(frozen=True)
class JudgedRun:
    """base and tuned: what either model made of the held-out rows, those of `split`, of the probes, and of
    `swapped`."""

    training: Training
    stopped: Stopped
    split: JudgingSplit
    base: Evidence
    tuned: Evidence
    swapped: SwappedPrompts

    @property
    def course(self) -> RunCourse:
        """Its validations, and training rows under the models that were measured beside them."""
        training, kept = self.training, self.stopped["restored_step"] or 0
        return RunCourse(
            validations=training.validations.for_verdict(),
            train_curve=training.state.curve,
            train_probe=training.probing.seen(self.base.seen, self.tuned.seen, kept) or None,
            metric=training.metric.course(training.validations),
            stopped=self.stopped,
        )

    @property
    def other_prompts(self) -> OtherPrompts | str:
        """What both models lose on answers after prompts of other rows; else why that was not measured."""
        return self.swapped.losses(self.base.swapped, self.tuned.swapped)
