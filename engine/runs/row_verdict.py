"""The verdict of a run that was trained on answers, from what base and tuned model made of held-out rows."""

from __future__ import annotations

from dataclasses import replace

from engine.diagnostics.course.run_course import RowMemory
from engine.diagnostics.forgetting import earlier_stop
from engine.diagnostics.forgetting.earlier_stop import ProseCourse
from engine.diagnostics.verdicts import verdict
from engine.diagnostics.verdicts.held_out import HeldOut, ModelRows
from engine.evidence.evidence import Evidence, judged_config
from engine.evidence.membership_evidence import membership_of
from engine.probes.general import PROSE
from engine.runs.extraction_run import ExtractionRun
from engine.runs.judged_run import JudgedRun
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.classification import JudgingSplit
from store.documents.verdicts.forgetting import AdvicePiece
from store.documents.verdicts.verdict import Verdict


def judge(config: TrainConfig, run: JudgedRun, extraction: ExtractionRun | None) -> Verdict:
    """What the evidence says: whether it learned, where it ended, and what it kept word for word."""
    course, base, tuned = run.course, run.base, run.tuned
    memory = RowMemory(
        membership_of(base, tuned, course.train_probe or (), course.validations),
        extraction.judge(base, tuned) if extraction else None,
    )
    rows = replace(
        held_out(run.split, base, tuned),
        population=run.training.train.trained_counts,
        other_prompts=run.other_prompts,
    )
    read = judged_config(config, run.training.parameters)
    judged = verdict.judge(rows, course, read, memory)
    return {**judged, "membership": memory.membership, "extraction": memory.extraction}


def held_out(split: JudgingSplit, base: Evidence, tuned: Evidence) -> HeldOut:
    """The losses of both models on the rows that judge them."""
    return HeldOut(
        split=split,
        row_ids=base.losses.row_ids,
        tokens=base.losses.tokens,
        base=ModelRows(base.losses.loss_sum, base.losses.correct),
        tuned=ModelRows(tuned.losses.loss_sum, tuned.losses.correct),
    )


def earlier_step(config: TrainConfig, run: JudgedRun) -> AdvicePiece | None:
    """The advice to stop at a step that gained as much and forgot less, where the course shows one."""
    kept = next((measured.table() for measured in run.tuned.probes if measured.probe == PROSE), None)
    if kept is None:
        return None
    prose = ProseCourse(run.training.probing.course(PROSE), kept)
    validations = run.training.validations.for_verdict()
    return earlier_stop.advise(validations, prose, run.stopped, judged_config(config))
