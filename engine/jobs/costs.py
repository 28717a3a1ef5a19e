"""What a config would cost on given rows: parameters, peak memory, time. The preview and the advice ask here.

Nothing is loaded; runs of the past, which the engine hands over with the question, correct the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import psutil
import torch
from transformers import PreTrainedConfig

from engine.data.render import Rows
from engine.diagnostics import correction, fitting
from engine.diagnostics.correction import Correction, Pair
from engine.diagnostics.launch_time import NextRun, TimedRun, time_range
from engine.evaluation import branches
from engine.job import Job
from engine.jobs.work import work_of
from engine.tuning import calibrate, estimate, memory, packable, prepare
from engine.tuning.batches import batch_shape, steps_per_epoch, total_steps
from engine.tuning.divergence import BesideBase
from engine.tuning.footprint import Footprint, Rehearsal
from engine.tuning.objectives import Objective, TrainedTokens
from engine.tuning.precision import choose_dtype, device_name
from engine.tuning.replay import Replay
from store.config import TrainConfig
from store.errors import TunebenchError
from store.methods import METHODS
from store.run_speed import may_stop, speed_settings

# Pages of libraries that a run has touched by its end. A fork begins with hardly any of them.
LIBRARIES_GIB = 0.05


@dataclass(frozen=True)
class LabelsAsText:
    """Labels for which models are asked after the run: their tokens together, and how many models. They go
    through the model behind each row's prompt, as a tree (`engine.evaluation.branches`)."""

    tokens: int
    models: int


def process_gib(device: torch.device) -> float:
    """What a worker takes before its model: as this one does now, as jobs are forks of one process."""
    if device.type == "cuda":
        return memory.CONTEXT_GIB
    own = psutil.Process().memory_info()
    return (own.rss - own.shared) / memory.GIB + LIBRARIES_GIB


class Costs:
    """The rows of one question, its device and what runs on that device needed."""

    def __init__(
        self,
        job: Job,
        architecture: PreTrainedConfig,
        rows: dict[str, int],
        parts: dict[str, prepare.Part],
        cut: Callable[[int], dict[str, prepare.Part]],
        process: float,
        objective: Objective,
        labels: LabelsAsText | None = None,
        general: Rows | None = None,
    ) -> None:
        self.job, self.architecture, self.rows, self.parts = job, architecture, rows, parts
        self.general = general
        self.probed = np.zeros(2)  # tokens of data sets that are probes, and those with logits
        self.cut, self.process, self.objective, self.labels = cut, process, objective, labels
        self.device = torch.device(job.device)
        self.rates = cache(partial(calibrate.rates, job.home, self.device))
        self.device_name = device_name(self.device)
        self.past = [run for run in job.config.get("past", ()) if run["device_name"] == self.device_name]

    def epoch(self, name: str) -> tuple[float, float]:
        """Tokens and trained tokens of one pass over a part, scaled up from the rows that were counted."""
        part = self.parts[name]
        scale = self.rows[name] / max(1, len(part.whole))
        return len(part.rows.ids) * scale, int(part.rows.trained.sum()) * scale

    @property
    def train_rows(self) -> int:
        """Rows with a trained token."""
        train = self.parts["train"]
        return max(1, round(self.rows["train"] * len(train.rows) / max(1, len(train.whole))))

    def memory_correction(self, config: TrainConfig) -> Correction:
        """From the past."""
        kind = _kind(config.method, config.task)
        return correction.correct(memory_pairs(self.past), kind, correction.MEMORY)

    def time_correction(self, config: TrainConfig, training: float) -> Correction:
        """From the past; training: share of the time that goes with the steps."""
        coming = NextRun(
            _kind(config.method, config.task),
            speed_settings(config.model_dump()),
            training,
            may_stop(config.model_dump()),
        )
        return time_range(timed_runs(self.past), coming)

    def shorter(self, limit: int) -> Costs:
        """The same with rows cut at `limit` tokens."""
        shorter = copy(self)
        shorter.parts = self.cut(limit)
        return shorter

    def available_gib(self) -> float:
        """Memory that a run could take now: what is free, and what this worker gives back."""
        free, _ = memory.available_gib(self.device)
        return free

    def fitting(self, cost: Cost, limit: int) -> list[dict[str, Any]]:
        """The nearest settings that fit into what is free."""
        config = cost.config.model_dump() | {"max_length": limit}
        made: dict[tuple[str, str, bool], Rehearsal] = {}

        def need(change: dict[str, Any]) -> tuple[float, float] | None:
            try:
                changed = TrainConfig.parse(cost.config.model_dump() | change)
                key = changed.method, changed.held, changed.gradient_checkpointing
                costs = self.shorter(change["max_length"]) if "max_length" in change else self
                found = Cost(costs, changed, made.get(key))
                made[key] = found.rehearsal
                needed = found.memory()
            except TunebenchError:
                return None
            return needed["peak_gib"], needed["high_gib"]

        return fitting.nearest(config, need, self.available_gib(), _lighter(cost.config))


class Cost:
    """One config of a question."""

    def __init__(self, costs: Costs, config: TrainConfig, rehearsal: Rehearsal | None = None) -> None:
        self.costs, self.config = costs, config
        self.dtype = choose_dtype(config.dtype, costs.device)
        self.rehearsal = rehearsal or Rehearsal(costs.architecture, config, self.dtype, costs.device.type)
        self.counts = self.rehearsal.counts
        self.steps = total_steps(config, costs.train_rows)
        self.per_epoch = steps_per_epoch(costs.train_rows, *batch_shape(config))

    def disk_bytes(self) -> float:
        """What is kept of the run: the adapter, or all weights, as they lie in memory."""
        size = 4 if self.dtype == torch.float32 else 2
        adapter = METHODS[self.config.method].adapter
        return size * (self.counts.trainable if adapter else self.counts.total)

    @property
    def packed(self) -> bool:
        """Whether micro-batches are dealt by tokens."""
        return self.rehearsal.packed(int(self.train.sequence_lengths.max()))

    @cached_property
    def footprint(self) -> Footprint:
        """The largest micro-batch, rehearsed."""
        held_out = self.costs.parts["validation"].rows
        rows = self.train
        found = self.rehearsal.run(
            self.config, rows, held_out if len(held_out) else rows, self.costs.objective
        )
        if replay := self.replay:
            objective = BesideBase() if self.config.kl_beta else TrainedTokens()
            found = found.at_least(self.rehearsal.run(replay.beside, replay.rows, replay.rows, objective))
        return replace(found, labels=self._labels_bytes())

    @property
    def replay(self) -> Replay | None:
        """What is replayed, as far as it is known."""
        if self.costs.general is None or not self.config.replay_share:
            return None
        return Replay(self.costs.general, self.config, self.costs.train_rows)

    @property
    def train(self) -> Rows:
        """The rows that a step is rehearsed on."""
        train = self.costs.parts["train"].rows
        return train if len(train) else _blank(self.config.max_length or 8)

    def memory(self) -> dict[str, Any]:
        """The estimate against what is free."""
        costs = self.costs
        found = estimate.memory(
            self.counts,
            self.footprint,
            self.config,
            self.dtype,
            costs.device,
            process_gib=costs.process,
            correction=costs.memory_correction(self.config),
        )
        free = costs.available_gib()
        return found | {"available_gib": free, "fits": found["high_gib"] <= free}

    def time(self) -> dict[str, Any]:
        """The estimate for the whole run, evaluations and answers included."""
        config, costs = self.config, self.costs
        work, text = work_of(self), costs.architecture.get_text_config()
        inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        shape = (
            calibrate.rounded(work.train_tokens / work.pieces),
            text.hidden_size,
            inner,
        )
        return estimate.seconds(
            self.counts,
            self.footprint,
            config,
            self.dtype,
            costs.device,
            work,
            costs.rates(self.dtype, shape, calibrate.rounded(work.length)),
            partial(costs.time_correction, config),
        )

    def _labels_bytes(self) -> float:
        """What asking a model for the text of labels takes."""
        costs, labels = self.costs, self.costs.labels
        lengths = [int(part.rows.sequence_lengths.max(initial=0)) for part in costs.parts.values()]
        if not labels:
            return 0.0
        longest = max(1, *lengths)
        if self.config.task == "classification":  # the untuned model is asked, not the one with a head
            packed = costs.device.type == "cpu" and packable.known(costs.architecture)
        else:
            packed = self.rehearsal.packed(longest, training=False)
        text = costs.architecture.get_text_config()
        return branches.most_bytes(text, longest, labels.tokens, self.dtype, costs.device.type, packed=packed)


def _lighter(config: TrainConfig) -> list[dict[str, Any]]:
    """Changes to a method that takes less, nearest first."""
    method = METHODS[config.method]
    own = {"learning_rate": None}  # each method has its own
    if not method.adapter:
        return [own | {"method": "lora"}, own | {"method": "qlora"}]
    if config.held:
        return []
    if "load_in_4bit" in method.fields:
        return [{"load_in_4bit": True}]
    return []


def _kind(method: str, task: str) -> str:
    """Runs of one kind err alike."""
    return f"{task} {method}"


def memory_pairs(past: Sequence[dict[str, Any]]) -> list[Pair]:
    """What was counted and measured beyond the process itself."""
    return [
        Pair(
            run["counted_memory_gib"] - run["process_memory_gib"],
            run["peak_memory_gib"] - run["process_memory_gib"],
            _kind(run["method"], run["task"]),
        )
        for run in past
        if run["counted_memory_gib"] and run["peak_memory_gib"] and run["process_memory_gib"] is not None
    ]


def timed_runs(past: Sequence[dict[str, Any]]) -> list[TimedRun]:
    """What was counted and measured of runs that went to their end, or of whose course it is known how much
    they took, in one go."""
    return [
        TimedRun(
            run["counted_seconds"],
            run["run_seconds"],
            _kind(run["method"], run["task"]),
            run.get("settings") or "",
            run.get("course") or 1.0,
            (run.get("course_seconds") or 0.0) / run["counted_seconds"],
            bool(run.get("stoppable")),
        )
        for run in past
        if run["counted_seconds"] and run["run_seconds"] and (run.get("course") or not _stopped_early(run))
    ]


def _stopped_early(run: dict[str, Any]) -> bool:
    return run["stopped"] in ("early_stopping", "forgetting")


def _blank(length: int) -> Rows:
    """One row of that many trained tokens, for a data set whose own rows have none."""
    starts = np.asarray([0, length], np.int64)
    ids, trained = np.zeros(length, np.int32), np.ones(length, bool)
    return Rows(np.zeros(1, np.int64), starts, ids, trained, np.zeros(1, np.uint8))
