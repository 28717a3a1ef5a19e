"""Probes of a run's models beside its own held-out rows, and general rows replayed in training.

Probes are measured during and after training; replay reduces forgetting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from engine.data import training_rows
from engine.evaluation.classifier_evaluation import find_answer_labels
from engine.evaluation.live_answers import ROWS, LiveAnswers
from engine.evaluation.probes import base_samples, configured_probes, replay_rows, suite_probes
from engine.evaluation.probes.configured_probes import TaskProbes
from engine.evaluation.probes.probe_sets import CachedProbe, Probe
from engine.evaluation.probes.suite_probes import RequestProbe
from engine.evaluation.row_questions import choose_prompts
from engine.evaluation.training_curve.run_curve import MetricKind
from engine.models import loading
from engine.models.batching import Replay
from engine.models.generation import has_prompt_tokens
from engine.models.losses import Objective
from engine.models.saved_models import starts_at_base
from engine.models.tokenization.rendering import TokenRows
from engine.models.tuning_methods import use_base_model
from engine.training.validation import TaskMetric, TrainedRowsProbe, TrainingProbes
from engine.worker.job import WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core import metrics_config
from store.training.methods import METHODS
from store.training.train_config import TrainConfig


class ReferenceProbes:
    """Probes and replayed rows of one run.

    speaks: whether its models generate text; with a classification head they can't be asked. positions: the
    model's maximum number of tokens.
    """

    def __init__(
        self,
        job: WorkerJob,
        config: TrainConfig,
        tokenizer: Any,
        source: str,
        positions: int | None,
        *,
        speaks: bool = True,
    ) -> None:
        self.job, self.config, self.tokenizer = job, config, tokenizer
        self.source, self.positions, self.speaks = source, positions, speaks
        self.light: list[Probe] = []  # the part of `general` that is measured during training
        self.own: list[Probe] | None = None
        self.asked: list[Probe] = []  # the user's data sets
        self.task: list[Probe] | None = None
        self.judged: TokenRows | None = None  # the held-out rows that judge the run
        self.labelled: bool | None = None  # whether its responses are labels; None until first determined

    @cached_property
    def general(self) -> list[Probe]:
        """Return the probes of general knowledge, which measure forgetting."""
        if not self.config.probes or not self.speaks:
            return []
        self.job.facts(suite=suite_probes.compute_suite_fingerprint())
        return [
            make(self.tokenizer, self.positions)
            for make in (suite_probes.build_prose_probe, suite_probes.build_choice_probe)
        ]

    def probing(self, train: TokenRows, validation: TokenRows, objective: Objective) -> TrainingProbes:
        """Return the probes during training: as many training rows as validation rows, and part of
        `general`.
        """
        self.seen = TrainedRowsProbe(train, objective, len(validation))
        self.light = [probe.part(suite_probes.LIGHT_COUNTS[probe.name]) for probe in self.general]
        answers = self.live_answers(validation)
        if not self.config.probes:
            return TrainingProbes(self.job, self.config, [], answers)
        self.asked = self._data_sets(train)
        of_data = [configured_probes.subsample_probe(probe) for probe in self.asked]
        return TrainingProbes(
            self.job, self.config, [[self.seen], self.light, of_data], answers, self.of_base
        )

    @property
    def load(self) -> Callable[[np.ndarray], list[Any]]:
        """Return a function that loads the content of rows by row id."""
        dataset = self.job.spec["dataset"]
        return training_rows.make_loader(self.job.home, dataset["fingerprint"], dataset["kind"])

    def live_answers(self, validation: TokenRows) -> LiveAnswers | None:
        """Return the live answers to some validation rows, if they tell more than the loss; otherwise None.

        They do for instruction data whose responses aren't labels, or where a metric is configured.
        """
        config, name = self.config, self.config.live_metric
        instructed = config.task == "sft" and self.job.spec["dataset"]["kind"] == "chat"
        if not name and instructed and config.completion_only_loss and not self.answers_labels(validation):
            name = metrics_config.LIVE_DEFAULT
        if name in (metrics_config.LIVE_AUTOMATIC, metrics_config.LIVE_NONE) or not (
            config.probes and self.speaks
        ):
            return None
        seed = int(self.job.spec["split"]["split_seed"])
        asked = choose_prompts(self.tokenizer, validation, self.load, ROWS, seed)
        return LiveAnswers(self.job, config, self.tokenizer, asked, name) if asked else None

    def answers_labels(self, rows: TokenRows) -> bool:
        """Whether the responses of these rows are the labels of the data set."""
        if self.labelled is None:
            job, dataset = self.job, self.job.spec["dataset"]
            dealt = training_rows.read_previous_split(job)
            answered = find_answer_labels(
                job.home, dataset["fingerprint"], dataset["kind"], dealt, rows.row_ids
            )
            self.labelled = answered is not None
        return self.labelled

    def metric(self, validation: TokenRows, probing: TrainingProbes) -> TaskMetric:
        """Return the task metric that is tracked beside the loss during training."""
        of_tasks: dict[str, MetricKind] = {"classification": "accuracy", "dpo": "pairs"}
        kind = of_tasks.get(self.config.task, "tokens")
        if kind == "tokens" and self.config.completion_only_loss and self.answers_labels(validation):
            kind = "label"
        answers = probing.answers
        self.job.facts(
            task_metric=kind,
            live_metric=answers and {"key": answers.key, "words": answers.words, "n": len(answers.asked)},
        )
        return TaskMetric(kind, answers)

    def _data_sets(self, train: TokenRows) -> list[Probe]:
        """Return the probes of the configured data sets, on which the run should not change."""
        sources = self.job.spec.get("probes") or []
        if not self.config.probe_datasets or not self.speaks:
            return []
        gone = len(self.config.probe_datasets) - len(sources)
        if gone:
            self.job.alert(f"{gone} of the probe data sets no longer exist.")
        trained = self.job.spec["dataset"]["fingerprint"], train.row_ids
        named = configured_probes.load_dataset_probes(
            self.job, self.config, self.tokenizer, self.positions, sources, trained=trained
        )
        configured_probes.report_dataset_probes(self.job, named)
        return [data_set.probe for data_set in named if data_set.probe]

    def probes(self, model: Any) -> list[Probe]:
        """Return the probes of base and tuned model; `model` is the tuned one."""
        if not self.config.probes:
            return []
        if self.own is None:
            with use_base_model(model) as untuned:
                self.hear(untuned)
        if self.task is None and starts_at_base(self.config):
            with use_base_model(model) as untuned:
                self.hear_task(untuned)
        requests = [RequestProbe.of(self.tokenizer)] if self.general else []
        heard = [*(self.own or ()), *(self.task or ())]
        return [*self.general, *self.asked, *heard, *requests, self.seen]

    @property
    def tasks(self) -> TaskProbes | None:
        """Return the probes by lm-evaluation-harness tasks; None without any."""
        if not self.config.probes or not self.config.probe_tasks or not self.speaks:
            return None
        return TaskProbes(self.job, self.config, self.tokenizer)

    def of_base(self, probes: Sequence[Probe]) -> list[Probe]:
        """Return the probes as measured on the base model: general ones are cached across runs."""
        folder = loading.find_weights_folder(self.source)
        wholes: dict[int, Probe | None] = {id(probe): None for probe in (*self.general, *(self.own or ()))}
        wholes |= {id(part): whole for part, whole in zip(self.light, self.general, strict=False)}
        return [
            CachedProbe(probe, self.job.home, self.tokenizer, folder, wholes[id(probe)])
            if id(probe) in wholes
            else probe
            for probe in probes
        ]

    def hear_task(self, untuned: Any) -> None:
        """Generate free responses of the reference model to some of the held-out prompts, as a probe.

        The tuned model's distance to it is measured on these responses. Skipped where an adapter puts prompt
        tokens before each row, as the samples would then be another model's.
        """
        self.task = []
        if not self.general or self.judged is None or has_prompt_tokens(untuned):
            return
        report = RowProgressReporter(self.job, 0, "tokens", "Base model generates answer the task's prompts")

        def on_token(done: int, most: int) -> None:
            report(done, most)

        seed = int(self.job.spec["split"]["split_seed"])
        asked = choose_prompts(self.tokenizer, self.judged, self.load, base_samples.TASK_COUNT, seed)
        answered = base_samples.generate_task_samples(
            untuned, self.tokenizer, asked, self.positions, on_token
        )
        self.task = [answered] if answered else []

    def hear(self, untuned: Any) -> None:
        """Generate the base model's own texts, once for every base model; they are a probe too."""
        self.own = []
        if self.general:
            folder = loading.find_weights_folder(self.source)
            self.own = [suite_probes.load_or_generate_texts(self.job, untuned, self.tokenizer, folder)]

    def replayed(self, model: Any, held: tuple[str, np.ndarray], train_rows: int) -> Replay | None:
        """Return the general rows to replay in training; the base model may have to generate them.

        held: fingerprint and held-out rows, none of which is trained on.
        """
        if not self.config.replay_share:
            return None
        adapter = METHODS[self.config.method].adapter
        with use_base_model(model) if adapter else nullcontext(model) as untuned:
            base = replay_rows.ReplayBase(untuned, self.tokenizer, self.source, self.positions)
            return replay_rows.load_replay(self.job, self.config, base, held, train_rows)
