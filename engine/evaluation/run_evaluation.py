"""Evaluate a run's base and tuned model the same way: held-out losses, answers, probes, memorized rows.

The results are written item by item, and become the forgetting and membership parts of the verdict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.evaluation.derived_prompts import Continuation, OnToken, SwappedPrompts
from engine.evaluation.probes import base_samples, suite_probes
from engine.evaluation.probes.configured_probes import TaskProbes
from engine.evaluation.probes.probe_sets import TRAINED_ROWS, Probe, ProbeMeasurement
from engine.evaluation.row_questions import Prompt
from engine.evaluation.training_curve.run_curve import Validation, VerdictConfig
from engine.evaluation.verdicts import forgetting, forgetting_text, membership_inference
from engine.evaluation.verdicts.paired_measurements import TASK
from engine.models import hardware
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.losses import Objective, RowLosses
from engine.models.tokenization.rendering import TokenRows
from engine.worker.job import WorkerJob
from engine.worker.progress import JobProgressReporter
from store.evaluation.forgetting_schemas import AdviceItem, Membership
from store.evaluation.verdict_schemas import Verdict
from store.runs import config as interpolate_config
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import TrainConfig


@dataclass
class ModelEvaluation:
    """One model's results on held-out rows and probes: row losses, answers to the prompts, text generated
    from memory, and losses on answers after the prompts of other rows.
    """

    losses: RowLosses
    answers: list[str]
    probes: list[ProbeMeasurement]
    written: list[Continuation] = field(default_factory=list)
    swapped: ProbeMeasurement | None = None

    @property
    def seen(self) -> ProbeMeasurement | None:
        """Measurement of trained rows."""
        return next((measured for measured in self.probes if measured.probe == TRAINED_ROWS), None)

    def probe_table(self, **same: Any) -> pa.Table:
        """Return a table with a row for each item of all probes."""
        return pa.concat_tables([measured.table(**same) for measured in self.probes])


def drop_unpaired(tasks: TaskProbes | None, base: ModelEvaluation, tuned: ModelEvaluation) -> None:
    """Drop tasks that could not be run on one of the models from both, and report them."""
    if not tasks:
        return
    paired = {probe.name for probe in tasks.probes}
    for each in (base, tuned):
        each.probes = [m for m in each.probes if not m.probe.startswith(TASK) or m.probe in paired]
    tasks.tell()


def write_evaluations(
    job: WorkerJob, split: str, base: ModelEvaluation, tuned: ModelEvaluation, prompts: list[Prompt]
) -> None:
    """Write the job's `row_losses.parquet`, `predictions.parquet` and `probes.parquet`."""
    pq.write_table(
        pa.table(
            {
                "split": [split] * len(base.losses.row_ids),
                "row_id": base.losses.row_ids,
                "tokens": base.losses.tokens,
                "base_loss": base.losses.loss_sum,
                "tuned_loss": tuned.losses.loss_sum,
                "base_correct": base.losses.correct,
                "tuned_correct": tuned.losses.correct,
            }
        ),
        job.dir.row_losses,
    )
    strings = {
        "split": [split] * len(prompts),
        "prompt": [p.readable for p in prompts],
        "reference": [p.reference for p in prompts],
        "base": base.answers,
        "tuned": tuned.answers,
    }
    columns = {"row_id": pa.array([p.row_id for p in prompts], pa.int64())}
    columns |= {name: pa.array(values, pa.string()) for name, values in strings.items()}
    pq.write_table(pa.table(columns), job.dir.predictions)
    if base.probes:
        both = [each.probe_table(model=which) for which, each in (("base", base), ("tuned", tuned))]
        pq.write_table(pa.concat_tables(both), job.dir.probes)
        suite_probes.write_requests(job, base.probes, tuned.probes)


def write_probe_items(job: WorkerJob, probes: Sequence[Probe]) -> None:
    """Write the job's `probe_items.parquet`, the listing of the probes' items."""
    if probes:
        pq.write_table(pa.concat_tables([probe.listing() for probe in probes]), job.dir.probe_items)


def build_verdict_config(config: TrainConfig, parameters: int | None = None) -> VerdictConfig:
    """Return the config fields that verdicts read. `parameters`: number in the base model, if known."""
    fields = config.model_dump() | {"default_learning_rate": config.default_learning_rate(parameters)}
    return cast(VerdictConfig, fields)  # a config's fields have these names and types


SHORTENING_FIELDS = {"num_train_epochs", "max_steps"}  # fields that make a run end earlier


def add_forgetting(
    verdict: Verdict,
    base: ModelEvaluation,
    tuned: ModelEvaluation,
    config: TrainConfig,
    earlier: AdviceItem | None = None,
    unasked: Mapping[str, str] | None = None,
    parameters: int | None = None,
) -> None:
    """Add what the probes show about forgetting to the verdict, with advice.

    earlier: advice to stop at a step that was as good, replacing that of half the epochs. unasked: skipped
    tasks, with the reasons. parameters: number in the base model.
    """
    pairs = [(b, t) for b, t in zip(base.probes, tuned.probes, strict=True) if b.probe != TRAINED_ROWS]
    if not pairs:
        return
    tables = (pa.concat_tables([m.table() for m in some]) for some in zip(*pairs, strict=True))
    lost = forgetting.assess_forgetting(
        *tables, config=build_verdict_config(config, parameters), unasked=unasked
    )
    base_samples.add_top1_agreement(lost, base.probes, tuned.probes)
    shape = verdict.overfitting
    if verdict.state == "worse" or (shape and shape.state == "diverged"):
        # there is no gain that a remedy could preserve
        lost.advice = [piece for piece in lost.advice if piece.kind == "learning_rate"]
    elif earlier and lost.state in ("some", "much"):
        others = [piece for piece in lost.advice if piece.kind != "epochs"]
        lost.advice = [earlier, *others]
        # what the training curve shows takes precedence over a guess
        verdict.advice = [piece for piece in verdict.advice if not SHORTENING_FIELDS & set(piece.change)]
    else:
        lost.advice = forgetting_text.drop_incompatible_advice(lost.advice, verdict.stopped)
    if interpolate_config.explain_refusal(config):
        lost.advice = [piece for piece in lost.advice if piece.kind != "interpolation"]
    lost.advice = [
        piece for piece in lost.advice if not list_conflicts(config.model_copy(update=piece.change))
    ]
    advised = {field for piece in verdict.advice for field in piece.change}
    new = [piece for piece in lost.advice if not advised & set(piece.change)]
    verdict.forgetting = lost
    verdict.advice = [*verdict.advice, *new]


class ExtractionProbe(Protocol):
    """Protocol for probing a model for memorized rows, given its losses on training and held-out rows."""

    def ask(self, model: Any, seen: RowLosses, held: RowLosses, on_token: OnToken) -> list[Continuation]: ...


EVALUATION_MESSAGES = (
    "Evaluating ",
    "Generating ",
    "Running ",
    "Probing ",
)  # prefixes of the evaluation's messages
EVALUATION_PARTS = (
    "losses",
    "swapped",
    "answers",
    "probes",
    "tasks",
    "memory",
)  # parts of the evaluation, in order


class EvaluationPace(JobProgressReporter):
    """Time estimate of the evaluation, assuming that each model takes as long as the one before."""

    def __init__(self, job: WorkerJob, models: int = 2) -> None:
        super().__init__(job)
        self.models = models  # still to be measured, including the current one
        self.seconds: dict[str, float] = {}  # by part, for the last model
        self.probes: dict[str, float] = {}  # likewise by probe
        self.begin("losses")

    def begin(self, part: str) -> None:
        """Start timing the current model's next part."""
        self.part, self.began = part, time.perf_counter()

    def end(self) -> None:
        """Record the time of the current part."""
        self.seconds[self.part] = time.perf_counter() - self.began

    def between(self, share: float) -> float:
        """Return seconds until all models are measured, with this share (above 0) of the work between two
        models done.
        """
        taken = time.perf_counter() - self.began
        return taken / share * (1 - share) + self.models * sum(self.seconds.values())

    @property
    def passes(self) -> dict[str, float]:
        """Seconds of the last model's pass over the held-out rows, and over each probe."""
        return {"held_out": self.seconds["losses"], "other_prompts": self.seconds["swapped"]} | self.probes

    def left(self, share: float) -> float:
        """Return seconds until all models are measured, with this share (above 0) of the current
        part done.
        """
        taken = time.perf_counter() - self.began
        seconds = self.seconds | {self.part: taken / share}
        here = seconds[self.part] - taken
        # the time of the first model's later parts is not known yet
        here += sum(
            self.seconds.get(part, 0.0) for part in EVALUATION_PARTS[EVALUATION_PARTS.index(self.part) + 1 :]
        )
        return here + (self.models - 1) * sum(seconds.values())


@dataclass(frozen=True)
class ModelEvaluator:
    """Evaluator of one run's models: losses of `rows` under the objective, answers to `prompts`, `probes`,
    `tasks` if any, memorized rows if `extraction` is given, and answers after the prompts of other rows.
    """

    job: WorkerJob
    config: TrainConfig
    tokenizer: Any
    objective: Objective
    rows: TokenRows
    prompts: list[Prompt]
    probes: Sequence[Probe]
    pace: EvaluationPace
    extraction: ExtractionProbe | None = None
    tasks: TaskProbes | None = None
    swapped: SwappedPrompts = field(default_factory=SwappedPrompts)

    def as_base(self, probes: Sequence[Probe], folder: Path) -> ModelEvaluator:
        """Return the same evaluator for the base model with weights in `folder`: `probes` cache its results,
        and so do tasks and answers after other prompts.
        """
        swapped = self.swapped.as_base(self.job.home, self.tokenizer, folder)
        return replace(self, probes=probes, tasks=self.tasks and self.tasks.of_base(folder), swapped=swapped)

    def of(self, model: Any, which: str) -> ModelEvaluation:
        """Evaluate `model`, called `which` in the progress. Raises JobCancelled."""
        pace, config, count = self.pace, self.config, len(self.rows)

        def on_batch(done: int) -> None:
            self._guard()
            self._tell(done, count, "rows", f"Evaluating {which} on held-out rows", done / count)

        def on_token(done: int, most: int) -> None:
            asked = "training rows" if pace.part == "memory" else "held-out prompts"
            self._tell(done, most, "tokens", f"Generating answers of {which}: {asked}", done / most)

        pace.begin("losses")
        size, device = config.per_device_eval_batch_size, torch.device(self.job.device)
        losses = self.objective.measure(model, self.rows, batch_size=size, device=device, on_batch=on_batch)
        pace.end()
        swapped = self.under_other_prompts(model, which)
        pace.begin("answers")
        texts = generate_answers(
            model,
            self.tokenizer,
            [prompt.rendered for prompt in self.prompts],
            GenerationOptions(config.max_new_tokens, self.job.device),
            on_token,
        )
        pace.end()
        pace.begin("probes")
        evidence = ModelEvaluation(losses, texts, list(self._probed(model, which)), swapped=swapped)
        pace.end()
        pace.begin("tasks")
        evidence.probes += self.tasks.ask(model, which) if self.tasks else []
        pace.end()
        pace.begin("memory")
        if self.extraction and evidence.seen and evidence.seen.rows:
            evidence.written = self.extraction.ask(model, evidence.seen.rows, losses, on_token)
        pace.end()
        pace.models -= 1
        return evidence

    def under_other_prompts(self, model: Any, which: str) -> ProbeMeasurement | None:
        """Measure the losses of `model` on answers after the prompts of other rows; None if there
        are none.
        """
        self.pace.begin("swapped")
        probe = self.swapped.probe
        if probe is None:
            self.pace.end()
            return None

        def on_items(done: int) -> None:
            self._guard()
            message = f"Evaluating {which} with prompts of other rows"
            self._tell(done, len(probe), "answers", message, done / len(probe))

        size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        measured = probe.measure(model, batch_size=size, device=device, on_items=on_items)
        self.pace.end()
        return measured

    def _probed(self, model: Any, which: str) -> Iterator[ProbeMeasurement]:
        whole, before = sum(probe.tokens for probe in self.probes), 0
        batch_size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        for probe in self.probes:
            name = probe.name.replace("_", " ")

            def on_items(done: int, probe: Probe = probe, name: str = name, before: int = before) -> None:
                self._guard()
                share = (before + probe.tokens * done / len(probe)) / whole
                self._tell(done, len(probe), "items", f"Probing {which}: {name}", share)

            began = time.perf_counter()
            yield probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)
            self.pace.probes[probe.name] = time.perf_counter() - began
            before += probe.tokens

    def _guard(self) -> None:
        hardware.guard_memory(self.config, torch.device(self.job.device))

    def _tell(self, done: int, total: int, unit: str, message: str, share: float) -> None:
        """Report progress with a time estimate; `share` of the current part is done. Raises JobCancelled."""
        self.pace.report(done, total, unit, message, lambda: self.pace.left(share))


def infer_membership(
    base: ModelEvaluation,
    tuned: ModelEvaluation,
    seen: Sequence[Validation],
    validations: Sequence[Validation],
) -> Membership | None:
    """Assess whether training rows can be told from held-out ones; None if no training rows were measured."""
    if base.seen is None or tuned.seen is None:
        return None
    return infer_membership_from_losses(
        (base.seen.rows, base.losses), (tuned.seen.rows, tuned.losses), seen, validations
    )


def infer_membership_from_losses(
    base: tuple[RowLosses | None, RowLosses],
    tuned: tuple[RowLosses | None, RowLosses],
    seen: Sequence[Validation],
    validations: Sequence[Validation],
) -> Membership | None:
    """Call `assess_membership` with (training rows, held-out rows) under both models, and add the `path` over
    the steps at which training and validation rows were measured; None if no training rows were.
    """
    if base[0] is None or tuned[0] is None:
        return None
    members: membership_inference.PairedScores = {"base": base[0].scores, "tuned": tuned[0].scores}
    others: membership_inference.PairedScores = {"base": base[1].scores, "tuned": tuned[1].scores}
    points = membership_inference.compute_path(seen, validations)
    assessed = membership_inference.assess_membership(members, others)
    return replace(assessed, path=points, path_sentence=membership_inference.describe_path(points))
