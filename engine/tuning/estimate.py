"""What a run will need, before anything is loaded: peak memory and time.

Memory is the model and its optimiser, counted, and the worst moment of a step, rehearsed (`footprint.py`).
Time is floating-point operations over a measured rate. Both say how far off they may be: at first by what
benchmarks found, and by what runs on this device needed once there are some
(`engine.diagnostics.correction`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from engine.diagnostics.correction import Correction
from engine.tuning.footprint import Counts, Footprint
from store.config import TrainConfig
from store.method_sizes import adapted_layers
from store.methods import Held

GIB = 2**30
# What the allocator holds beyond what lives: on a CPU as measured (bench/memory.py), on a GPU fitted on
# published peaks.
ALLOCATOR = {"cpu": 1.06, "cuda": 1.07}
KERNELS_GIB = {"cpu": 0.07, "cuda": 0.0}  # compiled for the shapes that were met, and their scratch
MANY_SHAPES_GIB = 0.3  # more of it on a CPU where rows are of many lengths, as measured
# Bytes of a weight in 4 bits with its doubly quantised scale, and in 8 bits with a scale a row.
HELD_BYTES: dict[Held, float] = {"nf4": 0.516, "int8": 1.01}
EIGHT_BIT_UPDATE = 4  # bytes a weight that bitsandbytes' AdamW takes during an update, as measured on a CPU
FORMULA_OFF = 1.4  # how far off a formula may be for an architecture whose step can't be rehearsed
FORMULA_SAID = " A step of this architecture can't be rehearsed without numbers: activations are by formula."
# Share of the matrix rate that a step reaches. On a CPU in bf16 a 135M model reached 45% with AVX-512 and 10%
# with AMX, whose rate small matrices don't reach: between them, until runs have told. On a GPU it is a
# published figure of model FLOPs utilisation.
SHARE = {("cpu", torch.bfloat16): 0.2, ("cpu", torch.float32): 0.65, ("cuda", torch.bfloat16): 0.35}
DEFAULT_SHARE = 0.3
# Of weights of fewer bits: whole runs on CPUs, as measured; published for GPUs.
SLOWER = {("cpu", "nf4"): 1.5, ("cuda", "nf4"): 1.3, ("cpu", "int8"): 1.4, ("cuda", "int8"): 1.3}


def memory(
    counts: Counts,
    footprint: Footprint,
    config: TrainConfig,
    dtype: torch.dtype,
    device: torch.device,
    *,
    process_gib: float,
    correction: Correction,
) -> dict[str, Any]:
    """Peak memory in GiB: {"peak_gib", "low_gib", "high_gib", "parts": {name: gib}, "basis", "runs",
    "counted_gib"}: the last before the correction by runs of the past.

    process_gib: of the worker before it loads the model; on a GPU its context.
    """
    size = 4 if dtype == torch.float32 else 2
    replaced = counts.linear if config.held else 0.0
    moments = 2 if config.optim == "paged_adamw_8bit" else 8
    masters = 0 if dtype == torch.float32 else 4
    parts = {
        "weights": replaced * HELD_BYTES.get(config.held, 0) + (counts.total - replaced) * size,
        "adapter": counts.added * size,
        "optimizer": counts.trainable * (moments + masters),
    }
    update = counts.trainable * EIGHT_BIT_UPDATE if config.optim == "paged_adamw_8bit" else 0.0
    parts |= _working(footprint, device, update)
    if replaced:
        parts["dequantised"] = counts.largest * size * 2  # a matrix and what it is unpacked through
    live = sum(parts.values())
    parts["allocator"] = (ALLOCATOR[device.type] - 1) * live
    many = MANY_SHAPES_GIB if footprint.varied and device.type == "cpu" else 0.0
    parts["kernels"] = (KERNELS_GIB[device.type] + many) * GIB
    counted = (live + parts["allocator"] + parts["kernels"]) / GIB
    low, peak, high = (process_gib + counted * factor for factor in correction.factors)
    if not footprint.rehearsed:
        low, high = low / FORMULA_OFF, high * FORMULA_OFF
    return {
        "peak_gib": peak,
        "low_gib": low,
        "high_gib": high,
        "counted_gib": counted + process_gib,
        "process_gib": process_gib,
        "parts": {name: value / GIB for name, value in parts.items()} | {"process": process_gib},
        "basis": correction.sentence("memory") + ("" if footprint.rehearsed else FORMULA_SAID),
        "runs": correction.n,
    }


def _working(f: Footprint, device: torch.device, update: float) -> dict[str, float]:
    """Bytes of activations, logits and gradients at the worst moment of training or evaluation."""
    kept = f.left if f.several else 0.0  # gradients of the micro-batches before
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
class Work:
    """Tokens that a run passes through the model: trained on, evaluated (with repeats), generated."""

    train_tokens: float
    train_trained: float
    eval_tokens: float
    eval_trained: float
    generated_steps: int
    mean_length: float
    steps: int


def forward_flops(
    architecture: PreTrainedConfig, counts: Counts, tokens: float, trained: float, mean_length: float
) -> float:
    """Operations of a forward pass: two a weight and token, attention, and logits where trained."""
    text = architecture.get_text_config()
    attention = 4 * mean_length * text.hidden_size * text.num_hidden_layers
    return tokens * (2 * counts.linear + attention) + 2 * trained * text.hidden_size * text.vocab_size


def _backward_share(config: TrainConfig, architecture: PreTrainedConfig) -> float:
    """Of the layers, that gradients flow through."""
    layers = architecture.get_text_config().num_hidden_layers
    if config.method == "freeze" and not config.train_embeddings:
        return min(config.trainable_layers, layers) / layers
    if config.method == "llama_adapter":
        return min(adapted_layers(layers, config.adapter_layers), layers) / layers
    return 1.0


def seconds(
    architecture: PreTrainedConfig,
    counts: Counts,
    config: TrainConfig,
    dtype: torch.dtype,
    device: torch.device,
    work: Work,
    gflops: float,
    correction: Correction,
) -> dict[str, Any]:
    """Time of the run: {"seconds", "low_seconds", "high_seconds", "basis", "runs", "counted_seconds"}."""
    rate = gflops * 1e9 * SHARE.get((device.type, dtype), DEFAULT_SHARE)
    if config.held:
        rate /= SLOWER[device.type, config.held]
    # backward: gradients of activations down to the lowest trained layer, those of weights where trained
    passes = 1 + _backward_share(config, architecture) + config.gradient_checkpointing
    passes += counts.trainable / max(1.0, counts.total + counts.added)

    def flops(tokens: float, trained: float) -> float:
        return forward_flops(architecture, counts, tokens, trained, work.mean_length)

    train = passes * flops(work.train_tokens, work.train_trained) / rate
    evaluation = flops(work.eval_tokens, work.eval_trained) / rate
    # reading the weights bounds a generated token, and on the CPU the update of all weights
    bandwidth = 8e9 if device.type == "cpu" else 5e11
    read = counts.total * (4 if dtype == torch.float32 else 2) / bandwidth
    generation = work.generated_steps * max(2 * read, 0.03)
    update = work.steps * counts.trainable * 40 / bandwidth
    total = train + evaluation + generation + update + 10
    low, value, high = (total * factor for factor in correction.factors)
    return {
        "seconds": value,
        "low_seconds": low,
        "high_seconds": high,
        "counted_seconds": total,
        "basis": f"{gflops:,.0f} GFLOP/s measured for matrix products on this device, of which a step reaches"
        f" {rate / gflops / 1e7:.0f}%. {correction.sentence('time')}",
        "runs": correction.n,
    }
