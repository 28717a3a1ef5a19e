"""The task's metric of a run while it trains: from each validation, and from answers where there are some."""

from __future__ import annotations

from engine.diagnostics.course import task_metric_course
from engine.diagnostics.course.run_course import MetricCourse
from engine.diagnostics.course.task_metric_course import MetricKind
from engine.evidence.live_answers import LiveAnswers
from engine.forward.losses import RowLosses
from engine.training.validations import Validations


class TaskMetric:
    """`kind` is one of `engine.diagnostics.course.task_metric_course`."""

    def __init__(self, kind: MetricKind = "tokens", answers: LiveAnswers | None = None) -> None:
        self.kind, self.answers = kind, answers

    def metrics(self, losses: RowLosses) -> dict[str, float]:
        """What a validation says of it and of nothing else, for the store."""
        if self.kind != "label":
            return {}
        return {"eval/label_accuracy": float((losses.correct == losses.tokens).mean())}

    def course(self, validations: Validations) -> MetricCourse:
        """What it is called, and its values by step: those of answers where they were given at the last
        validation and before, as somebody reads answers."""
        last = validations.done[-1][0] if validations.done else 0
        answered = self.answers.values_by_step() if self.answers else []
        if self.answers and len(answered) > 1 and answered[-1]["step"] == last:
            return MetricCourse(f"{self.answers.words} of answers", answered)
        values = [
            task_metric_course.of_rows(self.kind, step, rows.row_ids, rows.correct, rows.tokens)
            for step, rows in validations.done
            if step or self.kind != "pairs"  # before training every pair is a tie
        ]
        return MetricCourse(task_metric_course.WORDS[self.kind], values)
