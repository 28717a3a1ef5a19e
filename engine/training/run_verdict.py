"""The verdict of a trained run, from what base and tuned model made of held-out rows, and its parts: what
they can be made to write of the run's rows, its canaries, the effect of duplicates, and how far weights
moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data import canaries
from engine.data.split import leakage
from engine.evaluation import derived_prompts, row_questions
from engine.evaluation import weight_change as weights
from engine.evaluation.derived_prompts import MemoryPassage, SwappedPrompts, Written
from engine.evaluation.probes.suite_probes import PROSE
from engine.evaluation.run_evaluation import Evidence, JudgingPace, judged_config, membership_of
from engine.evaluation.training_curve.run_curve import RowMemory, RunCourse
from engine.evaluation.verdicts import duplicates, extraction, forgetting_tradeoff, verdict
from engine.evaluation.verdicts import extraction as judged
from engine.evaluation.verdicts.duplicates import MeasuredTraining, RowLossPair
from engine.evaluation.verdicts.extraction import NEAR, similarity
from engine.evaluation.verdicts.forgetting_tradeoff import ProseCourse
from engine.evaluation.verdicts.paired_measurements import HeldOut, ModelRows, OtherPrompts
from engine.models import hardware, loading
from engine.models.losses import RowLosses, row_losses
from engine.models.tokenization.rendering import Load, TokenRows
from engine.training.training_loop import Training
from engine.worker.job import WorkerJob
from store.evaluation.forgetting_schemas import (
    AdvicePiece,
    CanaryEvidence,
    DuplicateEffect,
    Extraction,
    PlantedCanary,
    RepeatedTraining,
    RowPart,
    WeightChange,
)
from store.evaluation.schemas import JudgingSplit
from store.evaluation.verdict_schemas import Stopped, Verdict, WrittenRow
from store.training.methods import METHODS
from store.training.train_config import TrainConfig


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


class ExtractionRun:
    """Of one run. seen: training rows that are measured as a probe; held: the rows that judge it; load: row
    ids to conversations or texts."""

    def __init__(self, job: WorkerJob, tokenizer: Any, seen: TokenRows, held: TokenRows, load: Load) -> None:
        self.job, self.tokenizer, self.load = job, tokenizer, load
        self.chosen = [
            derived_prompts.choose_passages(tokenizer, seen, "train"),
            derived_prompts.choose_passages(tokenizer, held, "held_out"),
        ]
        if not self.chosen[0].passages:  # there is nothing to control
            self.chosen[1] = derived_prompts.choose_passages(tokenizer, held, "held_out", 0)

    @property
    def passages(self) -> list[MemoryPassage]:
        """Of training rows, then of held-out ones."""
        return [passage for chosen in self.chosen for passage in chosen.passages]

    def ask(
        self, model: Any, seen: RowLosses, held: RowLosses, on_token: derived_prompts.OnToken
    ) -> list[Written]:
        """What `model` goes on with; seen, held: its losses of the rows."""
        measured = {"train": seen, "held_out": held}
        return derived_prompts.write_passages(
            model, self.tokenizer, self.passages, measured, device=self.job.device, on_token=on_token
        )

    def judge(self, base: Evidence, tuned: Evidence) -> Extraction:
        """The `extraction` part of the verdict; `recalled.parquet` is left beside it."""
        rows = self._rows(base.written, tuned.written)
        if rows:
            pq.write_table(pa.Table.from_pylist(rows), self.job.dir.extraction)
        train, held = ([_row(row) for row in rows if row["part"] == part.part] for part in self.chosen)
        counted: dict[RowPart, judged.AskedCounts] = {
            part.part: {"rows": part.rows, "short": part.short, "passed": part.passed} for part in self.chosen
        }
        return judged.assess_verbatim(train, held, counted, derived_prompts.LEAST)

    def _rows(self, base: Sequence[Written], tuned: Sequence[Written]) -> list[WrittenRow]:
        return [
            self._row(passage, before, after)
            for passage, before, after in zip(self.passages, base, tuned, strict=True)
        ]

    def _row(self, passage: MemoryPassage, before: Written, after: Written) -> WrittenRow:
        reference = passage.text.strip()
        return {
            "part": passage.part,
            "row_id": passage.row_id,
            "prompt": self._prompt(passage),
            "prefix": passage.prefix,
            "reference": passage.text,
            "tokens": len(passage.wanted),
            "base": before.text,
            "base_same": before.same,
            "base_whole": before.whole,
            "base_similarity": similarity(reference, before.text.strip()),
            "tuned": after.text,
            "tuned_same": after.same,
            "tuned_whole": after.whole,
            "tuned_similarity": similarity(reference, after.text.strip()),
        }

    def _prompt(self, passage: MemoryPassage) -> str:
        content = self.load(np.asarray([passage.row_id]))[0]
        if isinstance(content, str):
            return ""
        prompt = row_questions.prompt_of_chat(self.tokenizer, passage.row_id, content)
        return prompt.readable if prompt else ""


def _row(row: WrittenRow) -> judged.ContinuedRow:
    return {
        "row_id": row["row_id"],
        "reference": row["reference"],
        "base": row["base"],
        "tuned": row["tuned"],
        "tokens": row["tokens"],
        "base_same": row["base_same"],
        "tuned_same": row["tuned_same"],
    }


def judge_answers(config: TrainConfig, run: JudgedRun, extraction: ExtractionRun | None) -> Verdict:
    """What the evidence says: whether it learned, where it ended, and what it kept word for word."""
    course, base, tuned = run.course, run.base, run.tuned
    memory = RowMemory(
        membership_of(base, tuned, course.train_probe or (), course.validations),
        extraction.judge(base, tuned) if extraction else None,
    )
    rows = replace(
        held_out_losses(run.split, base, tuned),
        population=run.training.train.trained_counts,
        other_prompts=run.other_prompts,
    )
    read = judged_config(config, run.training.parameters)
    judged = verdict.judge(rows, course, read, memory)
    return {**judged, "membership": memory.membership, "extraction": memory.extraction}


def held_out_losses(split: JudgingSplit, base: Evidence, tuned: Evidence) -> HeldOut:
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
    return forgetting_tradeoff.advise_earlier_stop(validations, prose, run.stopped, judged_config(config))


def report_canaries(job: WorkerJob, config: TrainConfig) -> None:
    """Say in the facts which secrets are planted."""
    if not config.canaries:
        return
    often = canaries.times(config)
    listed = [
        {"times": n, "question": question, "answer": answer}
        for n, (question, answer) in zip(often, canaries.texts(config), strict=True)
        if n
    ]
    job.facts(canaries={"rows": canaries.canary_count(config), "planted": listed})
    job.alert(
        f"{canaries.canary_count(config):,} training rows are canaries, {len(listed):,} made-up secrets: the"
        " model is for looking at, not for use.",
        "info",
    )


def measure_canaries(
    job: WorkerJob, config: TrainConfig, tokenizer: Any, kind: str, model: Any, pace: JudgingPace
) -> CanaryEvidence | None:
    """The `canaries` part of the verdict; None where none were planted."""
    if not config.canaries:
        return None
    rows = canaries.drawn(tokenizer, config, kind)
    pace.begin("canaries")

    def on_batch(done: int) -> None:
        hardware.guard_memory(config, torch.device(job.device))
        pace.tell(done, len(rows), "rows", "Asking for the canaries", lambda: pace.between(done / len(rows)))

    device = torch.device(job.device)
    losses = row_losses(
        model, rows, batch_size=config.per_device_eval_batch_size, device=device, on_batch=on_batch
    ).loss_sum
    return canary_evidence(config, losses)


def canary_evidence(config: TrainConfig, losses: np.ndarray) -> CanaryEvidence:
    """Exposure by repetitions, and of each canary; losses as of `canaries.drawn`."""
    often = np.array(canaries.times(config))
    others, asked = losses[-canaries.REFERENCE :], len(losses) - canaries.REFERENCE
    groups = {
        n: [(float(loss), others) for loss in losses[:asked][often[:asked] == n]]
        for n in (0, *canaries.REPEATS)
    }
    listed: list[PlantedCanary] = [
        {"times": int(often[i]), "question": question, "answer": answer,
         "exposure": extraction.exposure(float(losses[i]), others)}
        for i, (question, answer) in enumerate(canaries.texts(config)[:asked])
    ]  # fmt: skip
    return {**extraction.canaries(groups), "reference": canaries.REFERENCE, "listed": listed}


def judge_duplicates(job: WorkerJob, fingerprint: str, base: Evidence, tuned: Evidence) -> DuplicateEffect:
    """The `duplicates` part of the verdict."""
    table = pq.read_table(job.dir.split)
    parts = table["split"].to_numpy(zero_copy_only=False)
    train = table["row_id"].to_numpy()[parts == "train"]
    held = base.losses.row_ids
    kinds, near = leakage.repeating(job.home, fingerprint, held, train)
    losses = RowLossPair(base.losses.loss_sum, tuned.losses.loss_sum, base.losses.tokens)
    return {
        "leaks": duplicates.leaks(losses, kinds, near),
        "training": _training(job, fingerprint, train, base, tuned),
    }


def _training(
    job: WorkerJob, fingerprint: str, train: np.ndarray, base: Evidence, tuned: Evidence
) -> RepeatedTraining | None:
    before = base.seen.rows if base.seen else None
    after = tuned.seen.rows if tuned.seen else None
    if before is None or after is None:
        return None
    often = leakage.occurrences(job.home, fingerprint, train)
    times = dict(zip(train.tolist(), often.tolist(), strict=True))
    return duplicates.training(
        MeasuredTraining(
            row_ids=before.row_ids,
            times=[times[row] for row in before.row_ids.tolist()],
            losses=RowLossPair(before.loss_sum, after.loss_sum, before.tokens),
            others=tuned.losses.loss_sum / tuned.losses.tokens,
            written=_written(job),
            all_rows=len(train),
            repeated_rows=int((often > 1).sum()),
        )
    )


def _written(job: WorkerJob) -> dict[int, bool]:
    """Of the training rows that were asked from memory, whether the tuned model wrote them."""
    if not job.dir.extraction.exists():
        return {}
    rows = pq.read_table(job.dir.extraction, columns=["part", "row_id", "tuned_similarity"]).to_pylist()
    return {row["row_id"]: row["tuned_similarity"] >= NEAR for row in rows if row["part"] == "train"}


def weight_change(job: WorkerJob, config: TrainConfig, source: str, model: Any) -> WeightChange:
    """`weights.measure` without its rows, which go into `weights.parquet`. `model` has the adapter; whole
    weights are read from the job's folder. source: of the base model."""
    job.progress(0, 1, "run", "Measuring how far the weights moved", weights.SECONDS)
    base = loading.weights_folder(source)
    if METHODS[config.method].adapter:
        measured = weights.of_adapter(model, base)
    else:
        measured = weights.of_weights(base, job.dir.model)
    if measured["rows"]:
        pq.write_table(pa.Table.from_pylist(measured["rows"], schema=weights.ROWS), job.dir.weights)
    return {
        "relative": measured["relative"],
        "delta_norm": measured["delta_norm"],
        "intruders": measured["intruders"],
        "strongest": measured["strongest"],
        "matrices": measured["matrices"],
        "spectra": measured["spectra"],
        "seconds": measured["seconds"],
        "notes": measured["notes"],
    }
