"""A trained run with what was measured of its models, as its verdict is passed on it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.diagnostics.course.run_course import RunCourse
from engine.evidence.evidence import Evidence
from engine.training.train import Training
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.verdict import Stopped


@dataclass(frozen=True)
class JudgedRun:
    """base and tuned: what either model made of the held-out rows, those of `split`, and of the probes."""

    training: Training
    stopped: Stopped
    split: JudgingSplit
    base: Evidence
    tuned: Evidence

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
