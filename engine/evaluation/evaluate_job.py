"""Evaluate job: answers and losses of any model on any rows, and the metrics computed from them.

Rows come first (what can be rejected cheaply), then the model, losses, answers, metrics and probes of general
knowledge. Every requested row has a line in `predictions.parquet`, with nulls where the model gives nothing;
what could not be scored is counted by reason. A failing metric never stops the others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.evaluation import evaluated_model, row_selection
from engine.evaluation.comparison import row_scores
from engine.evaluation.evaluated_model import EvaluatedModel
from engine.evaluation.live_answers import TOKEN_COST
from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.model_answers import evaluate_causal, evaluate_classifier
from engine.evaluation.probes import harness, suite_probes
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.evaluation.row_selection import read_groups
from engine.evaluation.statistics.intervals import ratio_interval, wilson_interval
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from engine.evaluation.verdicts import paired_measurements
from engine.models import hardware
from engine.models.hardware import get_device_name, get_dtype_name, read_versions
from engine.worker.job import Phase, Phases, WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.figure_schemas import Figure
from store.core.job_folder import write_atomically
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationCounts, EvaluationResult, GeneralFigure
from store.jobs.schemas import JobSpec, OrderDataset
from store.training.split import DEFAULT_SHARE


def measure_general(
    job: WorkerJob,
    subject: EvaluatedModel,
    *,
    batch_size: int,
    confidence: float,
    beside: tuple[Sequence[ProbeMeasurement], Sequence[pa.Table]] = ((), ()),
) -> list[GeneralFigure]:
    """Measure each probe and return a document for it; write its items, together with those in `beside`, to
    `probes.parquet` and `probe_items.parquet`.
    """
    probes = [
        make(subject.tokenizer, subject.positions)
        for make in (suite_probes.build_prose_probe, suite_probes.build_choice_probe)
    ]
    measurements = []
    for probe in probes:
        tell = RowProgressReporter(job, len(probe), "items", f"Probing: {probe.name}")
        device = torch.device(job.device)
        measurements.append(probe.measure(subject.model, batch_size=batch_size, device=device, on_items=tell))
    write_general_measurements(
        job, [*measurements, *beside[0]], [*(probe.listing() for probe in probes), *beside[1]]
    )
    return [_build_document(measured, confidence) for measured in measurements]


def write_general_measurements(
    job: WorkerJob, measured: Sequence[ProbeMeasurement], listed: Sequence[pa.Table]
) -> None:
    """Write the job's `probes.parquet` and `probe_items.parquet`, if there is anything to write."""
    if not measured:
        return
    tables = {
        job.dir.probes: [each.table(model="evaluated") for each in measured],
        job.dir.probe_items: list(listed),
    }
    for path, parts in tables.items():
        with write_atomically(path) as unfinished:
            pq.write_table(pa.concat_tables(parts), unfinished)


def _build_document(measured: ProbeMeasurement, confidence: float) -> GeneralFigure:
    loss = ratio_interval(measured.loss_sum, measured.tokens, confidence=confidence)
    document = GeneralFigure(
        probe=measured.probe,
        suite=suite_probes.compute_suite_fingerprint(),
        n=len(measured),
        loss=loss.to_estimate(),
    )
    if measured.options.any():
        right = int(measured.correct.sum())
        document.accuracy = wilson_interval(right, len(measured), confidence=confidence).to_estimate()
    return document


ROW_TOKENS = 200  # approximate tokens of a row or a task's item
TYPICAL_ROWS = 1_000  # if the number is unknown
SUITE_TOKENS = 16_000  # approximate tokens of the suite's prose, and of its questions
JUDGED_TOKENS = 2_000  # approximate tokens read in the time of one judge request


def phases(spec: JobSpec) -> Phases:
    """Return the phases: rows, tasks, metrics, probes. Shares are roughly the tokens that the model could
    read in the same time.
    """
    config = EvaluateConfig.parse(spec["config"])
    present = spec["dataset"].get("row_count", TYPICAL_ROWS)
    if config.part in ("validation", "test"):
        present = round(present * DEFAULT_SHARE)
    rows = min(present, config.max_rows or present)
    read, metrics = ROW_TOKENS * rows, config.metrics
    answered = read + TOKEN_COST * config.max_new_tokens * rows if config.generates else 0
    judged = JUDGED_TOKENS * rows * sum(choice.metric == "judge" for choice in metrics)
    suite = SUITE_TOKENS if config.probes else 0
    return (
        evaluated_model.LOADING_MESSAGE,
        Phase("Measuring the loss of the rows", read),
        Phase("Answering the prompts", answered),
        Phase("Classifying the rows", read),  # only by a model with a head, which skips the two above
        Phase("Scoring the choices", 2 * read if config.chooses else 0),
        Phase("Running the task ", 2 * ROW_TOKENS * (config.task_rows or TYPICAL_ROWS) * len(config.tasks)),
        Phase("Scoring: ", ROW_TOKENS * len(metrics) + judged),
        Phase("Computing intervals", ROW_TOKENS * (len(metrics) + len(config.tasks))),
        Phase(f"Probing: {paired_measurements.PROSE}", suite),
        Phase(f"Probing: {paired_measurements.CHOICES}", suite),
    )


def run(job: WorkerJob) -> EvaluationResult:
    """Evaluate according to `job.config`; return the document described in docs/results.md."""
    config = EvaluateConfig.parse(job.config)
    try:
        return EvaluationRun(job, config).run()
    except Exception as error:
        if isinstance(error, hardware.OutOfMemory) or hardware.is_out_of_memory(error):
            raise _describe_out_of_memory(config) from error
        raise


def _describe_out_of_memory(config: EvaluateConfig) -> hardware.OutOfMemory:
    size = config.per_device_eval_batch_size
    smaller = {"per_device_eval_batch_size": max(1, size // 4)}
    fix = f"Set per_device_eval_batch_size to {max(1, size // 4)}, or max_new_tokens or max_length lower."
    if size == 1:
        smaller, fix = {}, "Lower max_length or max_new_tokens, or use a smaller model."
    return hardware.OutOfMemory(
        "The device ran out of memory while the model was evaluated.",
        fix=fix,
        field="per_device_eval_batch_size" if smaller else "max_length",
        change=smaller or None,
    )


class EvaluationRun:
    """One evaluation: its rows → the model → `answers` → `score` → `probe`."""

    def __init__(self, job: WorkerJob, config: EvaluateConfig) -> None:
        self.job, self.config = job, config
        self.data: OrderDataset = job.spec["dataset"]
        self.notices: list[str] = []
        self.seconds: dict[str, float] = {}

    def run(self) -> EvaluationResult:
        job, config, fingerprint = self.job, self.config, self.data["fingerprint"]
        job.status("preparing")
        drawn = row_selection.select_rows(job, config)
        self.notices += drawn.notices
        row_ids = drawn.row_ids
        group_of = read_groups(job.home, fingerprint, config.group_by, row_ids)
        with self.timed("loading"):
            subject = evaluated_model.load_model(job, config)
        job.status("evaluating")
        take = evaluate_classifier if subject.labels is not None else evaluate_causal
        answered = take(job, config, subject, self.data, row_ids, self.timed)
        table = answered.table.append_column("group", pa.array(group_of or [None] * len(row_ids), pa.int64()))
        with write_atomically(job.dir.predictions) as unfinished:
            pq.write_table(table, unfinished)
        answers = Answers.of_table(table, group="group" if group_of else None)
        if answered.log_probabilities is not None:
            answers = replace(
                answers, log_probabilities=answered.log_probabilities, classes=subject.labels or ()
            )
        if not answered.asked:
            answers = replace(answers, predictions=None)
        tasks = self.ask(subject)
        figures = self.score(answers, tasks)
        probes = self.probe(subject, tasks)
        return EvaluationResult(
            n=len(row_ids),
            figures=figures,
            probes=probes,
            counts=EvaluationCounts(**answered.counts, empty=answers.empty, rows=len(row_ids)),
            reasons=dict(Counter(answered.reasons).most_common()),
            notices=[*self.notices, *answered.notices],
            seconds=self.seconds,
            peak_memory_gib=hardware.measure_peak_gib(torch.device(job.device)),
            device=job.device,
            device_name=get_device_name(torch.device(job.device)),
            dtype=get_dtype_name(next(subject.model.parameters()).dtype),
            versions=read_versions(),
        )

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Record the seconds of the block under this name."""
        began = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - began

    def ask(self, subject: evaluated_model.EvaluatedModel) -> harness.TaskOutcome:
        """Run the tasks of lm-evaluation-harness."""
        job, names = self.job, self.config.tasks
        if not names:
            return harness.TaskOutcome()
        asked = harness.HarnessModel(
            subject.model,
            subject.tokenizer,
            job.device,
            self.config.per_device_eval_batch_size,
            limit=self.config.task_rows,
            num_fewshot=self.config.num_fewshot,
        )
        with self.timed("tasks"):
            task_scores = harness.run_tasks(
                asked,
                names,
                job.home,
                check=job.check_cancelled,
                on_task=lambda done, name: job.progress(
                    done, len(names), "tasks", f"Running the task {name}"
                ),
            )
        self.notices += task_scores.notices
        return task_scores

    def score(self, answers: Answers, tasks: harness.TaskOutcome) -> list[Figure]:
        """Return the documents of metrics and tasks; write the scores of rows and items to
        `scores.parquet`.
        """
        job, config = self.job, self.config
        most = len(config.metrics)

        def on_metric(done: int, name: str) -> None:
            job.progress(done, most, "metrics", f"Scoring: {name.removeprefix('eval/')}")

        with self.timed("scoring"):
            scored_metrics = measure(
                config, answers, job.home, policy=job.policy, check=job.check_cancelled, on_metric=on_metric
            )
            scored_metrics += tasks.scored
            with write_atomically(job.dir.scores) as unfinished:
                pq.write_table(row_scores.build_scores_table(scored_metrics), unfinished)
            figures = []
            for done, scored in enumerate(scored_metrics):
                job.check_cancelled()
                job.progress(done, len(scored_metrics), "metrics", "Computing intervals")
                own = None if scored.name.startswith(harness.PREFIX) else answers.groups
                figures.append(aggregate_scores(scored, own, confidence=config.confidence))
        return figures

    def probe(
        self, subject: evaluated_model.EvaluatedModel, tasks: harness.TaskOutcome
    ) -> list[GeneralFigure]:
        """Measure general questions and prose if configured and if the model can be prompted; the items of
        tasks are stored with them.
        """
        if not self.config.probes:
            write_general_measurements(self.job, *tasks.choices)
            return []
        if subject.labels is not None:
            self.notices.append(
                "General questions were skipped: a model with a classification head can't answer them."
            )
            return []
        with self.timed("probes"):
            return measure_general(
                self.job,
                subject,
                batch_size=self.config.per_device_eval_batch_size,
                confidence=self.config.confidence,
                beside=tasks.choices,
            )
