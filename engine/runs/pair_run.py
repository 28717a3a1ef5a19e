"""A run of preference tuning: the train job with pairs of answers, held against the base model's own view."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from engine.diagnostics.course.run_course import RowMemory
from engine.diagnostics.verdicts import preference_verdict
from engine.diagnostics.verdicts.held_out import HeldOutPairs
from engine.evidence.evidence import judged_config
from engine.evidence.membership_evidence import membership_of
from engine.models.apply_method import base_model
from engine.models.continued import starts_at_base
from engine.models.initial_weights import Sources
from engine.objectives.objectives import Objective
from engine.objectives.preference import PairLosses, PreferenceObjective
from engine.objectives.references import pairs, references_of
from engine.rows.render import Load, TokenRows
from engine.runs.extraction_run import ExtractionRun
from engine.runs.judged_run import JudgedRun
from engine.runs.training_run import TrainingRun
from store.documents.verdicts.verdict import Verdict


class PairRun(TrainingRun):
    """`prepare` → `build` → training → `judge`, of pairs."""

    def start(self, rows: TokenRows) -> Sources:
        """As of every run, from both answers of the pairs."""
        return super().start(pairs(rows).sequences)

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> Objective:
        """The loss of pairs; the untouched model is asked for all of them first."""
        untouched = base_model(model) if starts_at_base(self.config) else nullcontext(model)
        with untouched as reference:
            return PreferenceObjective(self.config, references_of(self.job, self.config, reference, parts))

    def extraction(self, rows: TokenRows, load: Load) -> None:
        """Pairs are not asked for."""

    def verdict(self, run: JudgedRun, extraction: ExtractionRun | None) -> Verdict:
        """Whether the chosen answers are preferred, and what became of them."""
        base, tuned, course = run.base, run.tuned, run.course
        assert isinstance(base.losses, PairLosses)
        assert isinstance(tuned.losses, PairLosses)
        return preference_verdict.judge(
            HeldOutPairs(run.split, base.losses.evidence, tuned.losses.evidence, run.other_prompts),
            course,
            judged_config(self.config, run.training.parameters),
            RowMemory(membership_of(base, tuned, course.train_probe or (), course.validations)),
        )
