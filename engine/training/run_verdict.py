"""The verdict of a trained run and its parts.

These are held-out losses, extraction of training rows, canaries, the effect of duplicates, and the change
of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data import canaries
from engine.data.split import leakage
from engine.evaluation import derived_prompts, row_questions
from engine.evaluation import weight_change as weights
from engine.evaluation.derived_prompts import Continuation, MemoryPassage, SwappedPrompts
from engine.evaluation.run_evaluation import (
    EvaluationPace,
    ModelEvaluation,
    build_verdict_config,
    infer_membership,
)
from engine.evaluation.training_curve.run_curve import RowMemorisation, RunCurves
from engine.evaluation.verdicts import duplicates, extraction, forgetting_tradeoff, verdict
from engine.evaluation.verdicts import extraction as judged
from engine.evaluation.verdicts.duplicates import MeasuredTraining, RowLossPair
from engine.evaluation.verdicts.extraction import NEAR_VERBATIM, compute_similarity
from engine.evaluation.verdicts.forgetting_tradeoff import ProseCurve
from engine.evaluation.verdicts.paired_measurements import PROSE, HeldOut, ModelRows, SwappedPromptLosses
from engine.models import hardware, loading
from engine.models.losses import RowLosses, compute_row_losses
from engine.models.tokenization.rendering import Load, TokenRows
from engine.worker.job import WorkerJob
from store.core.figure_schemas import JudgingSplit
from store.evaluation.forgetting_schemas import (
    AdviceItem,
    CanaryEvaluation,
    DuplicateEffect,
    DuplicateTraining,
    Extraction,
    PlantedCanary,
    RowPart,
    WeightChange,
)
from store.evaluation.verdict_schemas import ExtractionRow, TrainingStop, Verdict
from store.training.methods import METHODS
from store.training.train_config import TrainConfig

if TYPE_CHECKING:
    from engine.training.training_loop import TrainingLoop


@dataclass(frozen=True)
class RunEvaluation:
    """Evaluation of base and tuned model on the held-out rows of `split`, on the probes, and on `swapped`."""

    training: TrainingLoop
    stopped: TrainingStop
    split: JudgingSplit
    base: ModelEvaluation
    tuned: ModelEvaluation
    swapped: SwappedPrompts

    @property
    def course(self) -> RunCurves:
        """Return the curves of its validations, and of training rows under the models measured with them."""
        training, kept = self.training, self.stopped.restored_step or 0
        return RunCurves(
            validations=training.validations.for_verdict(),
            train_curve=training.state.curve,
            train_probe=training.probing.seen(self.base.seen, self.tuned.seen, kept) or None,
            metric=training.metric.course(training.validations),
            stopped=self.stopped,
        )

    @property
    def other_prompts(self) -> SwappedPromptLosses | str:
        """Return both models' losses of responses after prompts of other rows, or why there are none."""
        return self.swapped.losses(self.base.swapped, self.tuned.swapped)


class ExtractionRun:
    """Extraction test of one run.

    seen: training rows measured as a probe; held: held-out rows; load: loads conversations or texts by row
    id.
    """

    def __init__(self, job: WorkerJob, tokenizer: Any, seen: TokenRows, held: TokenRows, load: Load) -> None:
        self.job, self.tokenizer, self.load = job, tokenizer, load
        self.chosen = [
            derived_prompts.choose_passages(tokenizer, seen, "train"),
            derived_prompts.choose_passages(tokenizer, held, "held_out"),
        ]
        if not self.chosen[0].passages:  # no training passages to compare with
            self.chosen[1] = derived_prompts.choose_passages(tokenizer, held, "held_out", 0)

    @property
    def passages(self) -> list[MemoryPassage]:
        """Return the passages of training rows, then those of held-out rows."""
        return [passage for chosen in self.chosen for passage in chosen.passages]

    def ask(
        self, model: Any, seen: RowLosses, held: RowLosses, on_token: derived_prompts.OnToken
    ) -> list[Continuation]:
        """Return the continuations that `model` writes; seen, held: its losses of the rows."""
        measured = {"train": seen, "held_out": held}
        return derived_prompts.write_passages(
            model, self.tokenizer, self.passages, measured, device=self.job.device, on_token=on_token
        )

    def judge(self, base: ModelEvaluation, tuned: ModelEvaluation) -> Extraction:
        """Return the `extraction` part of the verdict, and write `recalled.parquet`."""
        rows = self._rows(base.written, tuned.written)
        if rows:
            pq.write_table(pa.Table.from_pylist([vars(row) for row in rows]), self.job.dir.extraction)
        train, held = (
            [_to_continued_row(row) for row in rows if row.part == part.part] for part in self.chosen
        )
        counted: dict[RowPart, judged.PassageCounts] = {
            part.part: {"rows": part.rows, "short": part.short, "passed": part.passed} for part in self.chosen
        }
        return judged.assess_verbatim(train, held, counted, derived_prompts.MIN_TOKENS)

    def _rows(self, base: Sequence[Continuation], tuned: Sequence[Continuation]) -> list[ExtractionRow]:
        return [
            self._row(passage, before, after)
            for passage, before, after in zip(self.passages, base, tuned, strict=True)
        ]

    def _row(self, passage: MemoryPassage, before: Continuation, after: Continuation) -> ExtractionRow:
        reference = passage.text.strip()
        return ExtractionRow(
            part=passage.part,
            row_id=passage.row_id,
            prompt=self._prompt(passage),
            prefix=passage.prefix,
            reference=passage.text,
            tokens=len(passage.wanted),
            base=before.text,
            base_same=before.same,
            base_whole=before.whole,
            base_similarity=compute_similarity(reference, before.text.strip()),
            tuned=after.text,
            tuned_same=after.same,
            tuned_whole=after.whole,
            tuned_similarity=compute_similarity(reference, after.text.strip()),
        )

    def _prompt(self, passage: MemoryPassage) -> str:
        content = self.load(np.asarray([passage.row_id]))[0]
        if isinstance(content, str):
            return ""
        prompt = row_questions.build_chat_prompt(self.tokenizer, passage.row_id, content)
        return prompt.readable if prompt else ""


def _to_continued_row(row: ExtractionRow) -> judged.ContinuedRow:
    return {
        "row_id": row.row_id,
        "reference": row.reference,
        "base": row.base,
        "tuned": row.tuned,
        "tokens": row.tokens,
        "base_same": row.base_same,
        "tuned_same": row.tuned_same,
    }


def judge_run(config: TrainConfig, run: RunEvaluation, extraction: ExtractionRun | None) -> Verdict:
    """Return the verdict: whether the model learned, where training stopped, and what it recites verbatim."""
    course, base, tuned = run.course, run.base, run.tuned
    memory = RowMemorisation(
        infer_membership(base, tuned, course.train_probe or (), course.validations),
        extraction.judge(base, tuned) if extraction else None,
    )
    rows = replace(
        build_held_out_losses(run.split, base, tuned),
        population=run.training.train.trained_counts,
        other_prompts=run.other_prompts,
    )
    read = build_verdict_config(config, run.training.parameters)
    judged = verdict.judge_held_out(rows, course, read, memory)
    return replace(judged, membership=memory.membership, extraction=memory.extraction)


def build_held_out_losses(split: JudgingSplit, base: ModelEvaluation, tuned: ModelEvaluation) -> HeldOut:
    """Return the losses of both models on the held-out rows."""
    return HeldOut(
        split=split,
        row_ids=base.losses.row_ids,
        tokens=base.losses.tokens,
        base=ModelRows(base.losses.loss_sum, base.losses.correct),
        tuned=ModelRows(tuned.losses.loss_sum, tuned.losses.correct),
    )


def advise_earlier_step(config: TrainConfig, run: RunEvaluation) -> AdviceItem | None:
    """Return the advice to stop at a step with the same gain and less forgetting, or None."""
    kept = next((measured.table() for measured in run.tuned.probes if measured.probe == PROSE), None)
    if kept is None:
        return None
    prose = ProseCurve(run.training.probing.course(PROSE), kept)
    validations = run.training.validations.for_verdict()
    return forgetting_tradeoff.advise_earlier_stop(
        validations, prose, run.stopped, build_verdict_config(config)
    )


def report_canaries(job: WorkerJob, config: TrainConfig) -> None:
    """Record the planted canaries in the facts, with an alert."""
    if not config.canaries:
        return
    often = canaries.list_repeats(config)
    listed = [
        {"times": n, "question": question, "answer": answer}
        for n, (question, answer) in zip(often, canaries.generate_canaries(config), strict=True)
        if n
    ]
    job.facts(canaries={"rows": canaries.count_canaries(config), "planted": listed})
    job.alert(
        f"{canaries.count_canaries(config):,} training rows are canaries, {len(listed):,} made-up"
        " secrets: the"
        " model is for looking at, not for use.",
        "info",
    )


def measure_canaries(
    job: WorkerJob, config: TrainConfig, tokenizer: Any, kind: str, model: Any, pace: EvaluationPace
) -> CanaryEvaluation | None:
    """Return the `canaries` part of the verdict; None if none were planted."""
    if not config.canaries:
        return None
    rows = canaries.tokenise_canaries(tokenizer, config, kind)
    pace.begin("canaries")

    def on_batch(done: int) -> None:
        hardware.guard_memory(config, torch.device(job.device))
        pace.report(done, len(rows), "rows", "Measuring the canaries", lambda: pace.between(done / len(rows)))

    device = torch.device(job.device)
    losses = compute_row_losses(
        model, rows, batch_size=config.per_device_eval_batch_size, device=device, on_batch=on_batch
    ).loss_sum
    return compute_canary_exposure(config, losses)


def compute_canary_exposure(config: TrainConfig, losses: np.ndarray) -> CanaryEvaluation:
    """Return the exposure by repeats and of each canary; losses as of `canaries.tokenise_canaries`."""
    often = np.array(canaries.list_repeats(config))
    others, asked = losses[-canaries.REFERENCE :], len(losses) - canaries.REFERENCE
    groups = {
        n: [(float(loss), others) for loss in losses[:asked][often[:asked] == n]]
        for n in (0, *canaries.REPEATS)
    }
    listed: list[PlantedCanary] = [
        PlantedCanary(times=int(often[i]), question=question, answer=answer,
         exposure=extraction.compute_exposure(float(losses[i]), others))
        for i, (question, answer) in enumerate(canaries.generate_canaries(config)[:asked])
    ]  # fmt: skip
    return CanaryEvaluation(
        **vars(extraction.assess_canaries(groups)), reference=canaries.REFERENCE, listed=listed
    )


def judge_duplicates(
    job: WorkerJob, fingerprint: str, base: ModelEvaluation, tuned: ModelEvaluation
) -> DuplicateEffect:
    """Return the `duplicates` part of the verdict."""
    table = pq.read_table(job.dir.split)
    parts = table["split"].to_numpy(zero_copy_only=False)
    train = table["row_id"].to_numpy()[parts == "train"]
    held = base.losses.row_ids
    kinds, near = leakage.find_repeats(job.home, fingerprint, held, train)
    losses = RowLossPair(base.losses.loss_sum, tuned.losses.loss_sum, base.losses.tokens)
    return DuplicateEffect(
        leaks=duplicates.assess_leaks(losses, kinds, near),
        training=_judge_training_duplicates(job, fingerprint, train, base, tuned),
    )


def _judge_training_duplicates(
    job: WorkerJob, fingerprint: str, train: np.ndarray, base: ModelEvaluation, tuned: ModelEvaluation
) -> DuplicateTraining | None:
    before = base.seen.rows if base.seen else None
    after = tuned.seen.rows if tuned.seen else None
    if before is None or after is None:
        return None
    often = leakage.count_occurrences(job.home, fingerprint, train)
    times = dict(zip(train.tolist(), often.tolist(), strict=True))
    return duplicates.assess_training_repeats(
        MeasuredTraining(
            row_ids=before.row_ids,
            times=[times[row] for row in before.row_ids.tolist()],
            losses=RowLossPair(before.loss_sum, after.loss_sum, before.tokens),
            others=tuned.losses.loss_sum / tuned.losses.tokens,
            written=_find_extracted_rows(job),
            all_rows=len(train),
            repeated_rows=int((often > 1).sum()),
        )
    )


def _find_extracted_rows(job: WorkerJob) -> dict[int, bool]:
    """Return, by row id, whether the tuned model reproduced each training row of the extraction test."""
    if not job.dir.extraction.exists():
        return {}
    rows = pq.read_table(job.dir.extraction, columns=["part", "row_id", "tuned_similarity"]).to_pylist()
    return {row["row_id"]: row["tuned_similarity"] >= NEAR_VERBATIM for row in rows if row["part"] == "train"}


def measure_weight_change(job: WorkerJob, config: TrainConfig, source: str, model: Any) -> WeightChange:
    """Return the result of `weights.measure_…` without its rows, which are written to `weights.parquet`.

    `model` has the adapter; full weights are read from the job's folder. source: of the base model.
    """
    job.progress(0, 1, "run", "Measuring how far the weights moved", weights.MAX_SECONDS)
    base = loading.find_weights_folder(source)
    if METHODS[config.method].adapter:
        measured = weights.measure_adapter(model, base)
    else:
        measured = weights.measure_weights(base, job.dir.model)
    if measured.rows:
        rows = [vars(row) for row in measured.rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=weights.MATRIX_SCHEMA), job.dir.weights)
    return WeightChange(
        relative=measured.relative,
        delta_norm=measured.delta_norm,
        intruders=measured.intruders,
        strongest=measured.strongest,
        matrices=measured.matrices,
        spectra=measured.spectra,
        seconds=measured.seconds,
        notes=measured.notes,
    )
