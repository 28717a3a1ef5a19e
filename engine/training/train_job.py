"""The train job: train and judge a run of any task, and the runs of classification and preference tasks.

Classification trains a new head and compares it with the most frequent class and the untuned causal model.
Preference trains on pairs of responses and compares with the base model's own log-probabilities.
"""

from __future__ import annotations

import gc
from contextlib import nullcontext
from copy import copy
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.data import training_rows
from engine.data.training_rows import ClassRows, SplitRows, TokenisedPart, load_class_rows
from engine.evaluation import classifier_evaluation
from engine.evaluation.classifier_evaluation import LabelEvaluation, LabelScores
from engine.evaluation.evaluated_model import LOADING_MESSAGE
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.evaluation.run_evaluation import (
    EVALUATION_MESSAGES,
    build_verdict_config,
    infer_membership,
    infer_membership_from_losses,
)
from engine.evaluation.training_curve.run_curve import RowMemorisation, RunCurves
from engine.evaluation.verdicts import classifier_verdict, preference_verdict
from engine.evaluation.verdicts.classifier_verdict import ClassHeldOut
from engine.evaluation.verdicts.paired_measurements import HeldOutPairs, ModelRows
from engine.models import hardware, loading
from engine.models.adapter_weights import InitSources
from engine.models.batching import count_total_steps
from engine.models.classification import ClassObjective, init_head, upcast_head
from engine.models.losses import Objective, RowLosses
from engine.models.saved_models import starts_at_base
from engine.models.tokenization.rendering import Load, TokenRows
from engine.models.tuning_methods import use_base_model
from engine.training.preference import PairLosses, PreferenceObjective, as_pairs, load_or_compute_references
from engine.training.reference_probes import ReferenceProbes
from engine.training.run_verdict import ExtractionRun, RunEvaluation
from engine.training.training_loop import TrainingLoop
from engine.training.training_run import TrainingRun
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from engine.worker.progress import RowProgressReporter
from store.core import formatting
from store.core.figure_schemas import JudgingSplit
from store.core.job_folder import read_json, write_json
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.runs.schemas import RunResult
from store.training.train_config import TrainConfig

# The time of a step is known only after the first one. From then on StepClock, and later EvaluationPace,
# estimate the remaining time of the whole run; before that there is no estimate.
phases = build_fixed_phases(
    LOADING_MESSAGE,
    Phase(("Base model generates ", "Base model scores both answers of each pair"), 0),
    Phase(("Training", "Measuring ", "Answering validation rows", "Classifying ", *EVALUATION_MESSAGES)),
)


def run(job: WorkerJob) -> RunResult:
    """Train as `job.config` says and return the verdict."""
    config = TrainConfig.parse(job.config)
    run = RUN_CLASSES[config.task](job, config)
    try:
        return {"verdict": run.run()}
    except Exception as error:
        if hardware.is_out_of_memory(error):
            raise hardware.make_out_of_memory_error(
                config, torch.device(job.device), dealt=run.packed
            ) from error
        raise


# The reference is the most frequent class rather than an untrained head, whose output is noise. In addition
# the untuned causal model scores the labels of the same rows; an encoder can't.

MAX_LABELS = 1_000  # maximum number of labels listed in the facts


class ClassificationRun(TrainingRun):
    """Run of a classification head: `prepare` → `build` → training → `judge`."""

    rows: ClassRows

    def prepare(self) -> tuple[TokenRows, TokenRows, TokenRows]:
        """Return texts with labels, truncated to length; counts go into the facts."""
        job, config, fingerprint = self.job, self.config, self.data["fingerprint"]
        dealt = training_rows.load_split_rows(job, fingerprint, self.split, config)
        on_rows = RowProgressReporter(job, 0, "rows", "Tokenizing")
        rows = SplitRows(fingerprint, self.data["kind"], dealt)
        self.rows = load_class_rows(job.home, config, self.tokenizer, rows, on_rows=on_rows)
        limit = training_rows.resolve_max_length(config, self.rows.whole["train"], self.positions)
        parts = self.rows.cut(self.tokenizer, limit)
        self.report_classes(parts, limit)
        return parts["train"].rows, parts["validation"].rows, parts["test"].rows

    def report_classes(self, parts: dict[str, TokenisedPart], limit: int) -> None:
        """Record facts and alerts about rows and classes."""
        train, labels, unseen = parts["train"], self.rows.labels, self.rows.unseen()
        if self.rows.unlabelled:
            self.job.alert(f"{formatting.plural(self.rows.unlabelled, 'row')} without a label left out.")
        if unseen:
            self.job.alert(
                f"{sum(unseen.values()):,} held-out rows have a label that no training row has"
                f" ({', '.join(list(unseen)[:5])}): they count as wrong, and have no loss."
            )
        if train.truncated:
            self.job.alert(
                f"{train.truncated:,} of {len(train.whole):,} training rows were cut at {limit} tokens.",
                "info",
            )
        self.job.facts(
            rows={name: len(part.rows) for name, part in parts.items()},
            tokens_per_epoch=len(train.rows.ids),
            truncated_rows=train.truncated,
            untrained_rows=train.untrained,
            max_length=limit,
            steps=count_total_steps(self.config, len(train.rows)),
            data_fingerprint=self.data["fingerprint"],
            split=self.split.model_dump(),
            labels=labels.names[:MAX_LABELS],
            label_rows=labels.counts[:MAX_LABELS].tolist(),
            label_count=len(labels.names),
            unlabelled_rows=self.rows.unlabelled,
            unseen_labels=unseen,
        )

    def load(self, rows: TokenRows) -> Any:
        """Return the model with a new head, initialized from the seed."""
        names, config = self.rows.labels.names, self.config
        architecture = loading.name_labels(self.architecture, names, self.tokenizer.pad_token_id)
        if (before := loading.count_labels(self.source)) not in (None, len(names)):
            self.job.alert(
                f"{config.model} is a classifier for {before:,} labels; a new head for these {len(names):,}"
                " replaces its own.",
                "info",
            )
        model = loading.load_model(config, self.source, str(self.device), self.dtype, architecture)
        init_head(model, config.seed)
        return upcast_head(self.tunable(model, rows))

    def choose_questions(self) -> ReferenceProbes:
        """Return probes for a model that can't be asked, as its head generates no text."""
        args = (self.job, self.config, self.tokenizer, self.source, self.positions)
        return ReferenceProbes(*args, speaks=False)

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> ClassObjective:
        return ClassObjective(self.rows.labels, self.tokenizer.pad_token_id)

    def save(self, model: Any) -> None:
        """Save the model as every run does, and the full model's config.

        An adapter alone doesn't include the labels.
        """
        super().save(model)
        folder = self.job.dir.model
        whole = copy(model.config)
        if hasattr(whole, "quantization_config"):  # the head doesn't require the quantization
            del whole.quantization_config
        whole.save_pretrained(folder)
        note = read_json(folder / "tunebench.json") or {}
        write_json(folder / "tunebench.json", note | {"labels": self.rows.labels.names})

    def judge(
        self, training: TrainingLoop, stopped: TrainingStop, rows: TokenRows, split: JudgingSplit
    ) -> Verdict:
        """Save the model and return the verdict.

        The held-out rows are classified, and scored with the untuned model.
        """
        objective = self.choose_objective(None, [rows])
        model = training.release()
        self.save(model)
        tuned = LabelScores(rows.row_ids, self.classify(objective, model, rows))
        before, after = self.seen(objective, model) if self.config.probes else (None, None)
        del model  # memory for one model at a time
        gc.collect()
        prompted = self.ask_untuned(rows)
        classifier_evaluation.write_class_predictions(self.job, split, objective.labels, tuned, prompted)
        base, own = objective.baseline(rows), objective.judged(rows, tuned.logs)
        held_out = ClassHeldOut(
            split=split,
            row_ids=rows.row_ids,
            tokens=own.tokens,
            base=ModelRows(base.loss_sum, base.correct),
            tuned=ModelRows(own.loss_sum, own.correct),
            classification=classifier_evaluation.build_classification(
                split, objective.labels, tuned, prompted
            ),
        )
        self.write_losses(split, base, own)
        probe = training.probing.seen(before, after, stopped.restored_step or 0)
        course = RunCurves(
            validations=training.validations.for_verdict(),
            train_curve=training.state.curve,
            train_probe=probe or None,
            metric=training.metric.course(training.validations),
            stopped=stopped,
        )
        membership = infer_membership_from_losses(
            (before.rows if before else None, base), (after.rows if after else None, own),
            probe, course.validations,
        )  # fmt: skip
        read = build_verdict_config(self.config, training.parameters)
        return classifier_verdict.judge_classifier(held_out, course, read, RowMemorisation(membership))

    def write_losses(self, split: JudgingSplit, base: RowLosses, tuned: RowLosses) -> None:
        """Write the job's `row_losses.parquet`."""
        losses = {
            "split": [split] * len(tuned.row_ids),
            "row_id": tuned.row_ids,
            "tokens": tuned.tokens,
            "base_loss": base.loss_sum,
            "tuned_loss": tuned.loss_sum,
            "base_correct": base.correct,
            "tuned_correct": tuned.correct,
        }
        pq.write_table(pa.table(losses), self.job.dir.row_losses)

    def seen(self, objective: ClassObjective, model: Any) -> tuple[ProbeMeasurement, ProbeMeasurement]:
        """Measure the training rows of the probe, under the most frequent class and the trained head."""
        probe = self.questions.seen
        logs = self.classify(objective, model, probe.rows, "Classifying rows that it trained on")
        return (
            probe.as_measured(objective.baseline(probe.rows)),
            probe.as_measured(objective.judged(probe.rows, logs)),
        )

    def classify(
        self,
        objective: ClassObjective,
        model: Any,
        rows: TokenRows,
        message: str = "Classifying held-out rows",
    ) -> np.ndarray:
        """Return the log-probabilities [rows, classes] of the trained head, reporting progress."""

        tell = RowProgressReporter(self.job, len(rows), "rows", message)

        def on_batch(done: int) -> None:
            hardware.guard_memory(self.config, self.device)
            tell(done)

        return objective.predict(model, rows, self.config.per_device_eval_batch_size, self.device, on_batch)

    def ask_untuned(self, rows: TokenRows) -> LabelScores | None:
        """Score the labels with the untuned base model; return None where it can't be asked."""
        if loading.is_encoder(self.architecture):
            self.job.alert(
                "The model is an encoder, which can't write: the untuned model was not asked for the labels,"
                " and the tuned one is held against the most frequent class alone.",
                "info",
            )
            return None
        questions = LabelEvaluation.of(
            self.job, self.config, self.tokenizer, self.rows.labels, rows.row_ids, self.positions
        )
        if questions is None:
            return None
        torch.manual_seed(self.config.seed)
        model = loading.load_model(self.config, self.source, str(self.device), self.dtype)
        return questions.score(model, "the untuned model")


class PreferenceRun(TrainingRun):
    """Run of preference tuning: `prepare` → `build` → training → `judge`."""

    def start(self, rows: TokenRows) -> InitSources:
        """Return the initialization sources as for every run, from both responses of the pairs."""
        return super().start(as_pairs(rows).sequences)

    def choose_objective(self, model: Any, parts: list[TokenRows]) -> Objective:
        """Return the preference loss, after computing the reference's log-probabilities of all pairs."""
        untouched = use_base_model(model) if starts_at_base(self.config) else nullcontext(model)
        with untouched as reference:
            return PreferenceObjective(
                self.config, load_or_compute_references(self.job, self.config, reference, parts)
            )

    def extraction(self, rows: TokenRows, load: Load) -> None:
        """Return None: pairs are not tested for extraction."""

    def verdict(self, run: RunEvaluation, extraction: ExtractionRun | None) -> Verdict:
        """Return the verdict: whether chosen responses are preferred, and how their likelihood changed."""
        base, tuned, course = run.base, run.tuned, run.course
        assert isinstance(base.losses, PairLosses)
        assert isinstance(tuned.losses, PairLosses)
        return preference_verdict.judge_preference(
            HeldOutPairs(run.split, base.losses.evidence, tuned.losses.evidence, run.other_prompts),
            course,
            build_verdict_config(self.config, run.training.parameters),
            RowMemorisation(infer_membership(base, tuned, course.train_probe or (), course.validations)),
        )


RUN_CLASSES: dict[str, type[TrainingRun]] = {
    "sft": TrainingRun,
    "classification": ClassificationRun,
    "dpo": PreferenceRun,
}
