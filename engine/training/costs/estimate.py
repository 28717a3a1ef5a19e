"""Estimate peak memory and time of a run before anything is loaded.

Memory is the counted size of model and optimiser plus the rehearsed peak of a step; time is the work of that
step at rates measured on the device. Both come with an error margin: initially from benchmarks, later from
past runs on this device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.evaluation.statistics.cost_prediction import Correction, MeasuredPrediction, TimedRun
from engine.models.hardware import UTILISATION, DeviceRates
from engine.training.costs.footprint import Footprint, ParameterCounts
from engine.worker.machine_load import BUSY_SHARE
from store.core.model_schemas import STOPPED_EARLY
from store.core.training_schemas import MeasuredRun, MemoryEstimate, TimeEstimate
from store.training.methods import Quantisation
from store.training.train_config import TrainConfig, can_stop_early

# Peak memory and time of a run, estimated before anything is loaded.
#
# Memory is the counted size of model and optimiser plus the rehearsed peak of a step (`footprint.py`).
# Time is the work of that step, counted in the same rehearsal, at rates measured on the device
# (`hardware.py`). Both have an error margin: from benchmarks, and from what runs on
# this device needed once there are some (`engine.evaluation.statistics.cost_prediction`).

GIB = 2**30
# Allocator overhead beyond live tensors: on a CPU as measured (bench/costs/memory.py), on a GPU fitted to
# published peaks.
ALLOCATOR_OVERHEAD = {"cpu": 1.06, "cuda": 1.07}
KERNELS_GIB = {"cpu": 0.07, "cuda": 0.0}  # kernels compiled for the shapes seen, and their scratch memory
MANY_SHAPES_GIB = 0.3  # higher on a CPU where row lengths vary, as measured
# Bytes per weight in 4 bits with a doubly quantised scale, and in 8 bits with one scale per row.
QUANTISED_BYTES: dict[Quantisation, float] = {"nf4": 0.516, "int8": 1.01}
EIGHT_BIT_UPDATE = 4  # bytes per weight that bitsandbytes' AdamW takes during an update, as measured on a CPU
FORMULA_ERROR = 1.4  # error margin of the formula for an architecture whose step can't be rehearsed
FORMULA_NOTE = " A step of this architecture can't be rehearsed without numbers: activations are by formula."
# Cost of dequantising a matrix, as bytes of other work per weight, as measured on a CPU.
# Repeated in every pass of every micro-batch, in code that the rehearsal doesn't see.
DEQUANTISE_BYTES: dict[Quantisation, float] = {"nf4": 8.0, "int8": 9.0}
# Ratio of step time to the sum of its operations on a CPU, as measured with five methods (1.15 to 1.34):
# new sizes of products, memory touched for the first time, and products with narrow matrices, which are
# slower.
STEP_OVERHEAD = {"cpu": 1.25, "cuda": 1.0}
BANDWIDTH = {"cpu": 8e9, "cuda": 5e11}  # bandwidth in bytes per second for data far larger than the cache
UPDATE_BYTES = 16  # bytes per trained weight, at that bandwidth, of an update: as measured
STEP_PARTS = ("training", "update", "probes")  # parts of the time
LAYER_SECONDS = 0.001  # minimum per generated token for dispatching the operations of a layer
STARTUP_SECONDS = 4.0  # seconds of a run that are not counted elsewhere, as measured on a CPU


@dataclass(frozen=True)
class CountedStep:
    """Input of both estimates: the model with some number of layers under its config, and its
    largest step.
    """

    counts: ParameterCounts
    footprint: Footprint
    config: TrainConfig
    dtype: torch.dtype
    device: torch.device
    layers: int


def estimate_memory(
    step: CountedStep, *, process_gib: float, available_gib: float, correction: Correction
) -> MemoryEstimate:
    """Estimate peak memory.

    process_gib: memory of the worker before it loads the model; on a GPU, its context.
    """
    counts, footprint, config = step.counts, step.footprint, step.config
    dtype, device = step.dtype, step.device
    size = 4 if dtype == torch.float32 else 2
    replaced = counts.linear if config.held else 0.0
    moments = 2 if config.optim == "paged_adamw_8bit" else 8
    masters = 0 if dtype == torch.float32 else 4
    parts = {
        "weights": replaced * QUANTISED_BYTES.get(config.held, 0) + (counts.total - replaced) * size,
        "adapter": counts.added * size,
        "optimizer": counts.trainable * (moments + masters),
    }
    update = counts.trainable * EIGHT_BIT_UPDATE if config.optim == "paged_adamw_8bit" else 0.0
    parts |= _compute_working_bytes(footprint, device, update)
    if replaced:
        parts["dequantised"] = counts.largest * size * 2  # a matrix and its unpacking buffer
    live = sum(parts.values())
    parts["allocator"] = (ALLOCATOR_OVERHEAD[device.type] - 1) * live
    many = MANY_SHAPES_GIB if footprint.varied and device.type == "cpu" else 0.0
    parts["kernels"] = (KERNELS_GIB[device.type] + many) * GIB
    counted = (live + parts["allocator"] + parts["kernels"]) / GIB
    low, peak, high = (process_gib + counted * factor for factor in correction.factors)
    if not footprint.rehearsed:
        low, high = low / FORMULA_ERROR, high * FORMULA_ERROR
    return MemoryEstimate(
        peak_gib=peak,
        low_gib=low,
        high_gib=high,
        counted_gib=counted + process_gib,
        process_gib=process_gib,
        parts={name: value / GIB for name, value in parts.items()} | {"process": process_gib},
        basis=correction.sentence("memory") + ("" if footprint.rehearsed else FORMULA_NOTE),
        runs=correction.n,
        available_gib=available_gib,
        fits=high <= available_gib,
    )


def _compute_working_bytes(f: Footprint, device: torch.device, update: float) -> dict[str, float]:
    """Return bytes of activations, logits and gradients at the peak of training or evaluation."""
    kept = f.left if f.several else 0.0  # gradients of earlier micro-batches
    forward, loss, last, first = f.phases
    heap = forward if device.type == "cpu" else 0.0  # a CPU's allocator keeps small pieces for the next step
    moments = {
        "loss": kept + loss,
        "last layer": kept + last,
        "first layer": first,
        "evaluation": heap + f.evaluation,
        "labels": heap + f.labels,
        "update": f.left + update,
    }
    worst = max(moments, key=lambda name: moments[name])
    if worst == "first layer":
        return {"gradients": f.left, "activations": max(0.0, first - f.left)}
    if worst == "update":
        return {"gradients": f.left, "update": update}
    if worst in ("evaluation", "labels"):
        return {"activations": heap, worst: moments[worst] - heap}
    activations = min(forward, moments[worst] - kept)
    return {"activations": activations, "logits": moments[worst] - kept - activations, "gradients": kept}


@dataclass(frozen=True)
class RunWork:
    """Tokens that a run passes through the model.

    Trained tokens (in `pieces` micro-batches), evaluated tokens (with repeats) and generated tokens, in rows
    of about `length`. beside: seconds of work outside the model. between: tokens that would be evaluated
    between steps, limited to `share` of the training time.
    """

    train_tokens: float
    train_trained: float
    pieces: float
    eval_tokens: float
    eval_trained: float
    generated_steps: int
    length: float
    steps: int
    beside: float = 0.0
    between: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class TimedSteps:
    """Ratios of measured to counted time, from a few real steps of the run.

    Ratios of the gradients (`training`), an `update`, an `evaluation`, and the `generation` of a token (None
    where nothing was generated). others: share of the processors used by other work meanwhile. at: time of
    measurement in seconds since the epoch. rates: device rates that the count used. alike: the steps come
    from another run of the same model, with a different method, settings or rows.
    """

    training: float
    update: float
    evaluation: float
    generation: float | None
    others: float
    at: float
    rates: DeviceRates
    alike: bool = False

    @property
    def busy(self) -> bool:
        """Whether other work took so much that the ratios only apply to a busy machine."""
        return self.others >= BUSY_SHARE

    def times(self, parts: dict[str, float]) -> dict[str, float]:
        """Scale the counted seconds of parts of a run by the measured ratios."""
        ratios = {name: value for name, value in vars(self).items() if name in parts and value}
        return {name: seconds * ratios.get(name, 1.0) for name, seconds in parts.items()}


def estimate_seconds(
    step: CountedStep,
    work: RunWork,
    rates: DeviceRates,
    correction: Correction,
    timed: TimedSteps | None = None,
) -> TimeEstimate:
    """Estimate the time of the whole run.

    timed: real steps of the run. They are combined with the rates of their own time: rates measured again may
    be better, without any step getting faster.
    """
    parts = compute_time_parts(step, work, timed.rates if timed and not timed.alike else rates, timed)
    total = sum(parts.values())
    course = sum(parts[name] for name in STEP_PARTS)
    low, value, high = (total * factor for factor in correction.factors)
    if not step.footprint.rehearsed and timed is None:
        low, high = low / FORMULA_ERROR, high * FORMULA_ERROR
    return TimeEstimate(
        seconds=value,
        low_seconds=low,
        high_seconds=high,
        counted_seconds=total,
        course_seconds=course,
        parts=parts,
        basis=(
            f"{_describe_timed_steps(timed) or _describe_basis(rates, step.device)}"
            f" {correction.sentence('time')}"
        ),
        runs=correction.n,
        steps_timed=timed is not None,
        timing="timed" if timed else "wanted",
        busy=False,
        others=0.0,
        alone_seconds=None,
        may_stop=can_stop_early(step.config.model_dump()),
    )


def compute_time_parts(
    step: CountedStep, work: RunWork, rates: DeviceRates, timed: TimedSteps | None = None
) -> dict[str, float]:
    """Compute the seconds of each part of the run from counts, scaled by timed steps where given."""
    counts, config, device = step.counts, step.config, step.device
    piece = step.footprint.piece
    train = piece.step(work.train_tokens, work.train_trained, work.length, work.pieces)
    evaluation = piece.evaluation(work.eval_tokens, work.eval_trained, work.length)
    dense = counts.linear * DEQUANTISE_BYTES[config.held] / rates.moved if config.held else 0.0
    passes = work.pieces * (2 + config.gradient_checkpointing)
    # a generated token is bound by reading the weights, as is the update of all weights on the CPU
    bandwidth = BANDWIDTH[device.type]
    read = counts.total * (4 if step.dtype == torch.float32 else 2) / bandwidth
    parts = {
        "training": STEP_OVERHEAD[device.type] * rates.seconds(train) + passes * dense,
        "update": work.steps * counts.trainable * UPDATE_BYTES / bandwidth,
        "evaluation": STEP_OVERHEAD[device.type] * rates.seconds(evaluation)
        + work.eval_tokens / piece.tokens * dense,
        "generation": work.generated_steps * max(2 * read, LAYER_SECONDS * step.layers),
        "start": STARTUP_SECONDS,
        "beside": work.beside,
    }
    parts = timed.times(parts) if timed else parts
    a_token = parts["evaluation"] / max(1.0, work.eval_tokens)
    parts["probes"] = min(work.share * (parts["training"] + parts["update"]), work.between * a_token)
    return parts


def _describe_timed_steps(timed: TimedSteps | None) -> str:
    """Describe what was timed and how far off the count was."""
    if timed is None:
        return ""
    beside = f", while other work took {timed.others:.0%} of the processors" if timed.busy else ""
    return (
        f"{'Like steps' if timed.alike else 'A few steps'} were timed on this device{beside}: a step takes"
        f" {timed.training:.2f} times as long as computed, an evaluation {timed.evaluation:.2f} times."
    )


def _describe_basis(rates: DeviceRates, device: torch.device) -> str:
    if device.type == "cuda":
        return (
            f"Matrix products at {UTILISATION:.0%} of the rate measured on this device:"
            f" {rates.products / 1e9:,.0f} GFLOP/s."
        )
    return (
        f"Measured on this device: {rates.products / 1e9:,.0f} GFLOP/s in matrix products of this model's"
        f" sizes, {rates.moved / 1e9:,.0f} GB/s in all other operations, {rates.call * 1e6:.0f} µs to start"
        " one."
    )


def format_run_kind(method: str, task: str) -> str:
    """Return the kind of a run; estimates of runs of one kind have similar errors."""
    return f"{task} {method}"


def list_memory_pairs(past: Sequence[MeasuredRun]) -> list[MeasuredPrediction]:
    """Return predicted and measured memory beyond that of the process itself."""
    return [
        MeasuredPrediction(
            run.counted_memory_gib - run.process_memory_gib,
            run.peak_memory_gib - run.process_memory_gib,
            format_run_kind(run.method, run.task),
        )
        for run in past
        if run.counted_memory_gib and run.peak_memory_gib and run.process_memory_gib is not None
    ]


def list_timed_runs(past: Sequence[MeasuredRun], *, steps_timed: bool = False) -> list[TimedRun]:
    """Return predicted and measured time of completed runs, or of those whose share of the course is known.

    Interrupted runs are excluded, and so are runs that shared the machine with other work, as they don't
    predict the next one. steps_timed: select runs whose steps were timed beforehand, otherwise runs
    without timed steps.
    """
    return [
        TimedRun(
            run.counted_seconds,
            run.run_seconds,
            format_run_kind(run.method, run.task),
            run.settings,
            run.course or 1.0,
            (run.course_seconds or 0.0) / run.counted_seconds,
        )
        for run in past
        if run.counted_seconds
        and run.run_seconds
        and (run.course or run.stopped not in STOPPED_EARLY)
        and run.steps_timed == steps_timed
        and (run.other_work or 0.0) < BUSY_SHARE
    ]
