"""A run of preference tuning: the train job with pairs of answers, held against the base model's own view."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from engine.diagnostics.verdicts import preference_verdict
from engine.evidence.evidence import Evidence
from engine.evidence.membership_evidence import memorised
from engine.models.apply_method import base_model
from engine.models.continued import starts_at_base
from engine.models.initial_weights import Sources
from engine.objectives.objectives import Objective
from engine.objectives.preference import PairLosses, PreferenceObjective
from engine.objectives.references import pairs, references_of
from engine.rows.render import TokenRows
from engine.runs.extraction_run import Load, Recall
from engine.runs.training_run import Run
from engine.training.train import Training


class PairRun(Run):
    """`prepare` → `build` → training → `judge`, of pairs."""

    def start(self, rows: TokenRows) -> Sources:
        """As of every run, from both answers of the pairs."""
        return super().start(pairs(rows).sequences)

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> Objective:
        """The loss of pairs; the untouched model is asked for all of them first."""
        untouched = base_model(model) if starts_at_base(self.config) else nullcontext(model)
        with untouched as reference:
            return PreferenceObjective(self.config, references_of(self.job, self.config, reference, parts))

    def recall(self, rows: TokenRows, load: Load) -> None:
        """Pairs are not asked for."""

    def verdict(
        self,
        training: Training,
        stopped: dict[str, Any],
        split: str,
        base: Evidence,
        tuned: Evidence,
        recall: Recall | None,
    ) -> dict[str, Any]:
        """Whether the chosen answers are preferred, and what became of them."""
        assert isinstance(base.losses, PairLosses)
        assert isinstance(tuned.losses, PairLosses)
        seen = training.probing.seen(base.seen, tuned.seen, stopped["restored_step"])
        validations = training.validations.for_verdict()
        return preference_verdict.judge(
            split=split,
            base=base.losses.evidence,
            tuned=tuned.losses.evidence,
            eval_rows=validations,
            train_curve=training.state.curve,
            stopped=stopped,
            config=self.config.model_dump(),
            metric=training.metric.told(training.validations),
            train_probe=seen or None,
            membership=memorised(base, tuned, seen, validations),
        )
