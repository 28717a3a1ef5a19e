"""The verdict of a run that was trained on answers, from what base and tuned model made of held-out rows."""

from __future__ import annotations

from typing import Any

from engine.diagnostics.forgetting import earlier_stop
from engine.diagnostics.verdicts import verdict
from engine.evidence.evidence import Evidence
from engine.evidence.membership_evidence import memorised
from engine.probes.general import PROSE
from engine.runs.extraction_run import ExtractionRun
from engine.training.train import Training
from store.config.train_config import TrainConfig


def judge(
    config: TrainConfig,
    training: Training,
    stopped: dict[str, Any],
    split: str,
    base: Evidence,
    tuned: Evidence,
    recall: ExtractionRun | None,
) -> dict[str, Any]:
    """What the evidence says: whether it learned, where it ended, and what it kept word for word."""
    seen = training.probing.seen(base.seen, tuned.seen, stopped["restored_step"])
    validations = training.validations.for_verdict()
    members = memorised(base, tuned, seen, validations)
    written = recall.judge(base, tuned) if recall else None
    document = verdict.judge(
        row_ids=base.losses.row_ids,
        split=split,
        base_loss_sum=base.losses.loss_sum,
        tuned_loss_sum=tuned.losses.loss_sum,
        tokens=base.losses.tokens,
        base_correct=base.losses.correct,
        tuned_correct=tuned.losses.correct,
        eval_rows=validations,
        train_curve=training.state.curve,
        stopped=stopped,
        config=config.model_dump(),
        train_probe=seen or None,
        membership=members,
        metric=training.metric.told(training.validations),
        extraction=written,
    )
    return document | {"membership": members, "extraction": written}


def earlier_step(
    config: TrainConfig, training: Training, stopped: dict[str, Any], tuned: Evidence
) -> dict[str, Any] | None:
    """The advice to stop at a step that gained as much and forgot less, where the course shows one."""
    prose = next((measured.table() for measured in tuned.probes if measured.probe == PROSE), None)
    if prose is None:
        return None
    validations, course = training.validations.for_verdict(), training.probing.course(PROSE)
    return earlier_stop.advise(validations, course, prose, stopped, config.model_dump())
