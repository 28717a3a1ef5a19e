"""Estimate parameters, peak memory and time of a config on given rows, for the preview and the advice.

Nothing is loaded; past runs, passed in by the engine, correct the estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import psutil
import torch
from transformers import PreTrainedConfig

from engine.data import canaries, training_rows
from engine.evaluation import derived_prompts, weight_change
from engine.evaluation.probes import base_samples, suite_probes
from engine.evaluation.probes.base_samples import SAMPLE_TOKENS
from engine.evaluation.row_questions import PROMPT_TOKENS
from engine.evaluation.statistics import cost_prediction
from engine.evaluation.statistics.cost_prediction import (
    Correction,
    StepsTimed,
    UpcomingRun,
    predict_time_range,
)
from engine.evaluation.verdicts import launch_advice
from engine.evaluation.verdicts.question_part import count_rounds
from engine.models import hardware
from engine.models.batching import (
    Replay,
    build_epoch_steps,
    compute_batch_shape,
    compute_micro_batch_tokens,
    count_steps_per_epoch,
    count_total_steps,
)
from engine.models.forward import answer_likelihood, llama_layers
from engine.models.forward.operations import compute_mean_length
from engine.models.hardware import choose_dtype, get_device_name
from engine.models.losses import Objective, TokenObjective
from engine.models.tokenization.rendering import TokenRows
from engine.training.costs import estimate
from engine.training.costs.estimate import format_run_kind, list_memory_pairs, list_timed_runs
from engine.training.costs.footprint import Footprint, Rehearsal
from engine.training.optimizer_step import LossWithBaseKl
from engine.training.training_loop import choose_evaluation_steps
from engine.worker.job import WorkerJob
from store.core.documents import parse_document
from store.core.errors import TunebenchError
from store.core.row_schemas import PartRows
from store.core.training_schemas import MeasuredRun, MemoryEstimate, MemoryFix, TimeEstimate
from store.training.methods import FIRST_METHOD, LIGHT_METHOD, METHODS
from store.training.train_config import UNSET_RATE, TrainConfig, get_speed_settings

# Library pages that a run has touched by its end. A fork starts with hardly any of them.
LIBRARIES_GIB = 0.05
LABEL_COST = 0.9  # cost of a label's token relative to a row's, as measured: some are shared
GENERATION_BATCH = 16  # prompts answered in one batch
# Tokens of the suite's prose (21,000), of the base model's own texts (2,500) and of the suite's questions
# (17,000; each takes about half as long, as what options follow is read once), and those with logits.
SUITE_TOKENS = np.array([32_000, 26_000])
LIGHT_SUITE_TOKENS = (
    4_000  # tokens of the questions and prose that are measured between steps, counted in the same way
)
EXTRACTION_TOKENS = (
    12  # tokens generated until all of ANSWERED rows have diverged from their text, about, as measured
)
WIDE_BATCH_FACTOR = 2  # cost of a generation step for 32 or 56 prompts relative to one for ANSWERED, about


@dataclass(frozen=True)
class LabelPrompts:
    """Labels that models score after the run: their total tokens, and the number of models.

    They go through the model after each row's prompt, as a tree (`engine.models.forward.answer_likelihood`).
    """

    tokens: int
    models: int


def measure_process_gib(device: torch.device) -> float:
    """Return a worker's memory before it loads the model: that of this process, which jobs are forks of."""
    if device.type == "cuda":
        return hardware.CONTEXT_GIB
    own = psutil.Process().memory_info()
    return (own.rss - own.shared) / hardware.GIB + LIBRARIES_GIB


@dataclass(frozen=True)
class CostSampleRows:
    """The rows that a run's costs are counted on.

    rows: number of rows in each part of the whole data set; parts: counted rows, truncated to length; cut:
    truncates them to another length; general: rows that would be replayed.
    """

    rows: dict[str, int]
    parts: dict[str, training_rows.TokenisedPart]
    cut: Callable[[int], dict[str, training_rows.TokenisedPart]]
    objective: Objective
    labels: LabelPrompts | None = None
    general: TokenRows | None = None


class CostBasis:
    """The rows of one request, its device, and the measured needs of past runs on that device."""

    def __init__(
        self, job: WorkerJob, architecture: PreTrainedConfig, costed: CostSampleRows, process: float
    ) -> None:
        self.job, self.architecture, self.process = job, architecture, process
        self.rows, self.parts, self.cut = costed.rows, costed.parts, costed.cut
        self.objective, self.labels, self.general = costed.objective, costed.labels, costed.general
        self.probed = np.zeros(2)  # tokens of data sets used as probes, and those with logits
        self.device = torch.device(job.device)
        self.rates = cache(partial(hardware.measure_device_rates, job.home, self.device))
        self.device_name = get_device_name(self.device)
        self.all_past = parse_document(list[MeasuredRun], job.config.get("past", []))
        self.past = [run for run in self.all_past if run.device_name == self.device_name]

    def epoch(self, name: str) -> tuple[float, float]:
        """Return tokens and trained tokens of one pass over a part, scaled up from the counted rows."""
        part = self.parts[name]
        scale = self.rows[name] / max(1, len(part.whole))
        return len(part.rows.ids) * scale, int(part.rows.trained.sum()) * scale

    @property
    def part_rows(self) -> PartRows:
        """Return the number of rows of each part."""
        return {"train": self.rows["train"], "validation": self.rows["validation"], "test": self.rows["test"]}

    @property
    def train_rows(self) -> int:
        """Return the number of rows with a trained token."""
        train = self.parts["train"]
        return max(1, round(self.rows["train"] * len(train.rows) / max(1, len(train.whole))))

    def memory_correction(self, config: TrainConfig) -> Correction:
        """Return the memory correction from past runs."""
        kind = format_run_kind(config.method, config.task)
        return cost_prediction.correct_prediction(list_memory_pairs(self.past), kind, cost_prediction.MEMORY)

    def time_correction(self, config: TrainConfig, steps_timed: StepsTimed) -> Correction:
        """Return the time correction from past runs, using those with timed steps if this run has them."""
        kind, settings = format_run_kind(config.method, config.task), get_speed_settings(config.model_dump())
        past = list_timed_runs(self.past, steps_timed=steps_timed != "none")
        return predict_time_range(past, UpcomingRun(kind, settings, steps_timed))

    def shorter(self, limit: int) -> CostBasis:
        """Return the same basis with rows truncated to `limit` tokens."""
        shorter = copy(self)
        shorter.parts = self.cut(limit)
        return shorter

    def available_gib(self) -> float:
        """Return the memory available to a run, in GiB: free memory plus what this worker gives back."""
        free, _ = hardware.measure_available_gib(self.device)
        return free

    def fitting(self, cost: ConfigCost, limit: int) -> list[MemoryFix]:
        """Return the nearest settings that fit into free memory."""
        config = cost.config
        settings = launch_advice.MemorySettings(
            config.per_device_train_batch_size,
            config.gradient_accumulation_steps,
            config.gradient_checkpointing,
            limit,
        )
        made: dict[tuple[str, str, bool], Rehearsal] = {}

        def need(change: launch_advice.Change) -> tuple[float, float] | None:
            try:
                changed = TrainConfig.parse(cost.config.model_dump() | change)
                key = changed.method, changed.held, changed.gradient_checkpointing
                cut = changed.max_length if "max_length" in change else None
                costs = self.shorter(cut) if cut else self
                changed_cost = ConfigCost(costs, changed, made.get(key))
                made[key] = changed_cost.rehearsal
                needed = changed_cost.memory()
            except TunebenchError:
                return None
            return needed.peak_gib, needed.high_gib

        return launch_advice.find_fitting_changes(
            settings, need, self.available_gib(), _list_lighter_methods(cost.config)
        )


class ConfigCost:
    """Costs of one config of a request."""

    def __init__(self, costs: CostBasis, config: TrainConfig, rehearsal: Rehearsal | None = None) -> None:
        self.costs, self.config = costs, config
        self.dtype = choose_dtype(config.dtype, costs.device)
        self.rehearsal = rehearsal or Rehearsal(costs.architecture, config, self.dtype, costs.device.type)
        self.counts = self.rehearsal.counts
        self.timed: estimate.TimedSteps | None = None  # timed steps of the run
        self.steps = count_total_steps(config, costs.train_rows)
        self.per_epoch = count_steps_per_epoch(costs.train_rows, *compute_batch_shape(config))

    def disk_bytes(self) -> float:
        """Return the bytes stored for the run: the adapter, or all weights, in their in-memory format."""
        size = 4 if self.dtype == torch.float32 else 2
        adapter = METHODS[self.config.method].adapter
        return size * (self.counts.trainable if adapter else self.counts.total)

    @property
    def packed(self) -> bool:
        """Whether micro-batches are formed by token count."""
        return self.rehearsal.packed(int(self.train.sequence_lengths.max()))

    @cached_property
    def footprint(self) -> Footprint:
        """Rehearse the largest micro-batch."""
        held_out = self.costs.parts["validation"].rows
        rows = self.train
        footprint = self.rehearsal.run(
            self.config, rows, held_out if len(held_out) else rows, self.costs.objective
        )
        if replay := self.replay:
            objective = LossWithBaseKl() if self.config.kl_beta else TokenObjective()
            footprint = footprint.at_least(
                self.rehearsal.run(replay.beside, replay.rows, replay.rows, objective)
            )
        return replace(footprint, labels=self._labels_bytes())

    @property
    def replay(self) -> Replay | None:
        """Return what is replayed, as far as it is known."""
        if self.costs.general is None or not self.config.replay_share:
            return None
        return Replay(self.costs.general, self.config, self.costs.train_rows)

    @property
    def train(self) -> TokenRows:
        """Return the rows that a step is rehearsed on."""
        train = self.costs.parts["train"].rows
        if len(train):
            return train
        length = self.config.max_length or 8  # of the only row, trained on as a whole
        starts = np.asarray([0, length], np.int64)
        ids, trained = np.zeros(length, np.int32), np.ones(length, bool)
        return TokenRows(np.zeros(1, np.int64), starts, ids, trained, np.zeros(1, np.uint8))

    @property
    def counted_step(self) -> estimate.CountedStep:
        """Return the input of the estimates."""
        layers = self.rehearsal.shapes.whole.layers
        return estimate.CountedStep(
            self.counts, self.footprint, self.config, self.dtype, self.costs.device, layers
        )

    def memory(self) -> MemoryEstimate:
        """Return the memory estimate, compared with free memory."""
        return estimate.estimate_memory(
            self.counted_step,
            process_gib=self.costs.process,
            available_gib=self.costs.available_gib(),
            correction=self.costs.memory_correction(self.config),
        )

    def time(self) -> TimeEstimate:
        """Return the time estimate for the whole run, including evaluations and generated answers."""
        work = compute_work(self)
        steps: StepsTimed = "none" if not self.timed else "alike" if self.timed.alike else "own"
        correction = self.costs.time_correction(self.config, steps)
        return estimate.estimate_seconds(self.counted_step, work, self.rates(work), correction, self.timed)

    def rates(self, work: estimate.RunWork) -> hardware.DeviceRates:
        """Return the device's rates for such work."""
        text = self.costs.architecture.get_text_config()
        inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        shape = hardware.round_to_power(work.train_tokens / work.pieces), text.hidden_size, inner
        return self.costs.rates(self.dtype, shape, hardware.round_to_power(work.length))

    def _labels_bytes(self) -> float:
        """Return the bytes needed to score the text of labels."""
        costs, labels = self.costs, self.costs.labels
        lengths = [int(part.rows.sequence_lengths.max(initial=0)) for part in costs.parts.values()]
        if not labels:
            return 0.0
        longest = max(1, *lengths)
        if self.config.task == "classification":  # the untuned model is scored, not the one with a head
            packed = costs.device.type == "cpu" and llama_layers.is_packable(costs.architecture)
        else:
            packed = self.rehearsal.packed(longest, training=False)
        text = costs.architecture.get_text_config()
        return answer_likelihood.estimate_max_bytes(
            text, longest, labels.tokens, self.dtype, costs.device.type, packed=packed
        )


def _list_lighter_methods(config: TrainConfig) -> list[dict[str, Any]]:
    """Return config changes to a method that needs less memory, nearest first."""
    method = METHODS[config.method]
    if not method.adapter:
        return [{**UNSET_RATE, "method": lighter} for lighter in (FIRST_METHOD, LIGHT_METHOD)]
    if config.held:
        return []
    if "load_in_4bit" in method.fields:
        return [{"load_in_4bit": True}]
    return []


def compute_work(cost: ConfigCost) -> estimate.RunWork:
    """Compute the work that passes through the model over the whole run."""
    config, costs = cost.config, cost.costs
    validations = 1 + len(choose_evaluation_steps(cost.steps, config.evaluations))  # the base model's first
    train, validation, test = (np.array(costs.epoch(part)) for part in training_rows.PARTS)
    held_out = test if costs.rows["test"] else validation
    evaluated = validation * validations + 2 * held_out
    mean_length = train[0] / costs.train_rows
    if config.task == "dpo":  # every pair passes once through the base model
        evaluated = evaluated + train + validation + test
        mean_length /= 2
    if costs.labels:
        evaluated = evaluated + _count_label_tokens(cost, costs.labels, mean_length)
    asked = config.probes and config.task != "classification"
    between = 0.0
    if config.probes:
        between = validations * (validation[0] + (LIGHT_SUITE_TOKENS if asked else 0))
    if asked:  # of base and tuned model, with as many rows that were trained on as validation has
        evaluated = evaluated + 2 * (
            SUITE_TOKENS + validation + _count_task_sample_tokens(cost, held_out) + cost.costs.probed
        )
    if config.task != "classification":
        evaluated = evaluated + 2 * _count_swapped_tokens(cost, held_out)
    if config.canaries:
        evaluated = evaluated + _count_canary_tokens(cost)  # of the tuned model alone
    prompts = 0 if config.task == "classification" else config.sample_prompts
    written = _count_generation_steps(cost, asked)
    trained, pieces = _count_training_tokens(cost, train)
    if replay := cost.replay:
        evaluated = evaluated + np.array(replay.tokens) * (config.kl_beta > 0)  # passes through the base too
    return estimate.RunWork(
        train_tokens=trained[0],
        train_trained=trained[1],
        pieces=pieces,
        eval_tokens=evaluated[0],
        eval_trained=evaluated[1],
        generated_steps=round(2 * config.max_new_tokens * -(-prompts // GENERATION_BATCH) + written),
        length=compute_mean_length(cost.train.lengths),
        steps=cost.steps,
        beside=weight_change.MAX_SECONDS if asked else 0.0,
        between=between,
        share=config.probe_share,
    )


def _count_training_tokens(cost: ConfigCost, train: np.ndarray) -> tuple[np.ndarray, float]:
    """Count tokens and trained tokens of training, including replay, and the number of micro-batches.

    train: counts of one epoch.
    """
    config = cost.config
    pieces: float = cost.steps * compute_batch_shape(config)[1]
    padded = _estimate_padding(cost)
    if cost.footprint.packed:
        padded, pieces = (
            1.0,
            cost.steps * max(1.0, train[0] / cost.per_epoch / compute_micro_batch_tokens(config)),
        )
    epochs = cost.steps / cost.per_epoch
    trained = train * (padded, 1.0) * epochs
    if replay := cost.replay:
        more = np.array(replay.tokens)
        trained, pieces = (
            trained + more,
            pieces + max(cost.steps, more[0] / compute_micro_batch_tokens(config)),
        )
    return trained, pieces


def _count_generation_steps(cost: ConfigCost, probed: bool) -> float:
    """Count generation steps other than answers to sample prompts.

    They are for the probes, if the run is `probed` by generation, and for the general rows to replay.
    """
    config = cost.config
    written = 0.0
    if probed:
        written = WIDE_BATCH_FACTOR * (base_samples.TASK_LENGTH + 2 * suite_probes.REQUEST_LENGTH)
        if config.task == "sft":
            written += 2 * EXTRACTION_TOKENS * -(-_count_extraction_rows(cost) // GENERATION_BATCH)
    if (replay := cost.replay) and not config.replay_dataset:
        written += SAMPLE_TOKENS * -(-len(replay.rows) // GENERATION_BATCH)
    return written


def _estimate_padding(cost: ConfigCost) -> float:
    """Estimate the ratio of tokens passed through the model, with padding, to tokens of the rows."""
    lengths = cost.train.lengths
    grouped = lengths if cost.costs.objective.grouped else np.ones(len(lengths), np.int64)
    size, accumulation = compute_batch_shape(cost.config)
    dealt = build_epoch_steps(
        grouped, seed=cost.config.seed, epoch=0, batch_size=size, accumulation=accumulation
    )
    whole = sum(len(part) * int(lengths[part].max()) for step in dealt for part in step)
    return whole / max(1, int(lengths.sum()))


def _count_swapped_tokens(cost: ConfigCost, held_out: np.ndarray) -> np.ndarray:
    """Count tokens, and those with logits, of the held-out answers after prompts of other rows.

    Zero where whole rows are trained, that is, all tokens but the first of each row.
    """
    _, rows = _find_held_out(cost)
    whole = held_out[0] - held_out[1] <= rows
    return (0.0 if whole else count_rounds(rows)) * held_out


def _count_task_sample_tokens(cost: ConfigCost, held_out: np.ndarray) -> np.ndarray:
    """Count tokens, and those with logits, of answers to prompts of held-out rows, each after its prompt.

    The prompt is the beginning of a row where whole rows are trained.
    """
    _, rows = _find_held_out(cost)
    sequences = max(1, rows) * (2 if cost.config.task == "dpo" else 1)
    prompt = max(PROMPT_TOKENS, (held_out[0] - held_out[1]) / sequences)
    return min(base_samples.TASK_COUNT, rows) * np.array(
        [prompt + base_samples.TASK_LENGTH, base_samples.TASK_LENGTH]
    )


def _count_label_tokens(cost: ConfigCost, labels: LabelPrompts, mean_length: float) -> np.ndarray:
    """Count tokens, and those with logits, of scoring the labels of held-out rows."""
    _, rows = _find_held_out(cost)
    device, seed = cost.costs.device.type, cost.config.seed
    asked = labels.models * len(
        answer_likelihood.select_affordable_rows(np.arange(rows), labels.tokens, device, seed)
    )
    return np.array([asked * (mean_length + LABEL_COST * labels.tokens), asked * labels.tokens])


def _count_extraction_rows(cost: ConfigCost) -> int:
    """Estimate the number of rows tested for extraction: those with a long enough answer, up to a limit."""
    rows, parts = cost.costs.rows, cost.costs.parts
    own = rows["train"] - canaries.count_canaries(cost.config)
    asked = {"train": ("train", min(own, rows["validation"])), "held_out": _find_held_out(cost)}
    written_rows = {}
    for name, (part, count) in asked.items():
        counted = parts[part].rows
        long = derived_prompts.find_long_enough(
            counted.trained_counts[counted.row_ids >= 0]
        )  # without canaries
        written_rows[name] = (
            min(derived_prompts.MAX_PROMPTS[name], round(count * float(long.mean()))) if len(long) else 0
        )
    return sum(written_rows.values()) if written_rows["train"] else 0


def _find_held_out(cost: ConfigCost) -> tuple[str, int]:
    """Return the part that the run is judged on, and its number of rows."""
    part = "test" if cost.costs.rows["test"] else "validation"
    return part, cost.costs.rows[part]


def _count_canary_tokens(cost: ConfigCost) -> np.ndarray:
    """Count tokens, and those with logits, of measuring every canary once.

    Planted and control canaries are alike.
    """
    train = cost.costs.parts["train"].rows
    own = train.take(np.flatnonzero(train.row_ids < 0))
    each = np.array([len(own.ids), own.trained.sum()]) / max(1, len(own))
    return len(canaries.list_repeats(cost.config)) * each
