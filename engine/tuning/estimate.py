"""What a run will need, before anything is loaded: parameters, peak memory, time.

Parameters are counted on the meta device, which holds shapes and no numbers. Memory follows the bytes that
autograd saves for a token and layer; against published peaks the formula was within -8.5% and +0.5%. Time
is floating-point operations over a measured rate. Both are given with an interval, memory in its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from engine.evaluation import losses
from engine.tuning import attention
from engine.tuning.methods import count_parameters, make_trainable
from store.config import TrainConfig
from store.methods import METHODS, Held

GIB = 2**30
ALLOCATOR = 1.07  # what the allocator holds beyond live tensors; fitted on published peaks
MEMORY_LOW, MEMORY_HIGH = (
    0.80,
    1.25,
)  # a sweep of twelve runs on a CPU lay between 0.81 and 1.22 of the estimate
HELD_BYTES: dict[Held, float] = {"nf4": 0.516, "int8": 1.002}  # a weight with its (doubly quantised) scale
LOGIT = 14  # bytes a trained token and vocabulary entry: logits, their fp32 copy, log-softmax, gradient
PROCESS_GIB = {"cpu": 0.55, "cuda": 0.6}  # Python with torch and transformers; context and kernels
# Share of the matrix rate that a step reaches. On a CPU it is what single runs of a 135M model reached on two
# AVX-512 BF16 cores, on a GPU a published figure of model FLOPs utilisation; hence the wide interval of time.
SHARE = {("cpu", torch.bfloat16): 0.45, ("cpu", torch.float32): 0.65, ("cuda", torch.bfloat16): 0.35}
DEFAULT_SHARE = 0.3
TIME_LOW, TIME_HIGH = 0.65, 1.7
# Of weights of fewer bits: as measured for bitsandbytes on CPUs; published for GPUs.
SLOWER = {("cpu", "nf4"): 2.5, ("cuda", "nf4"): 1.3, ("cpu", "int8"): 1.4, ("cuda", "int8"): 1.3}


@dataclass(frozen=True)
class Shape:
    """The sizes of an architecture that memory and time depend on, and its parameters.

    `linear`: weights of the layers' matrices, which NF4 replaces; `embeddings`: input and output layers.
    """

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv: int
    vocabulary: int
    total: int
    linear: int
    trainable: int


def shape(architecture: PreTrainedConfig, config: TrainConfig) -> Shape:
    """Count a model of that architecture under the method of `config`. Raises ConfigError as it does."""
    auto: Any = AutoModelForCausalLM
    if config.task == "classification":  # with as many classes as the architecture has labels
        auto = AutoModelForSequenceClassification
    with torch.device("meta"):
        model: Any = auto.from_config(
            architecture, dtype=torch.bfloat16, trust_remote_code=config.trust_remote_code
        )
        ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
        linear = sum(
            m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and id(m) not in ends
        )
        base = sum(p.numel() for p in model.parameters())
        trainable, _ = count_parameters(make_trainable(model, config, torch.bfloat16))
    text = architecture.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        mlp=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads=heads,
        kv=width * (getattr(text, "num_key_value_heads", None) or heads),
        vocabulary=text.vocab_size,
        total=base,
        linear=linear,
        trainable=trainable,
    )


def saved_bytes(
    s: Shape, config: TrainConfig, dtype: torch.dtype, device: torch.device, longest: int
) -> float:
    """Bytes that autograd keeps for one token of a row of `longest` tokens, over all layers."""
    wide = 2 if dtype == torch.float32 else 1
    h, kv, f, a = s.hidden, s.kv, s.mlp, s.heads
    if METHODS[config.method].adapter:
        one = wide * (16 * h + 4 * kv + 8 * f + 14 * (config.r or 0)) + 4 * a + 8
        if config.lora_dropout > 0:
            one += wide * (24 * h + 4 * f)
    else:
        one = (32 * h + 8 * kv + 16 * f if wide == 2 else 20 * h + 4 * kv + 8 * f) + 4 * a + 8
    if device.type == "cpu" and dtype == torch.bfloat16 and longest <= attention.LONGEST:
        one += 2 * a * longest  # of attention as plain products: the weights to every token of the row
    return s.layers * 2 * wide * h + one if config.gradient_checkpointing else s.layers * one


def memory(
    s: Shape,
    config: TrainConfig,
    dtype: torch.dtype,
    device: torch.device,
    *,
    longest: int,
    trained_share: float,
    sequences: int = 1,
) -> dict[str, Any]:
    """Peak memory in GiB: {"peak_gib", "low_gib", "high_gib", "parts": {name: gib}}.

    longest: tokens of the longest sequence. trained_share: of its tokens, that have logits. sequences: that
    a row puts into the model.
    """
    size = 4 if dtype == torch.float32 else 2
    quantised = s.linear if config.held else 0
    tokens = config.per_device_train_batch_size * sequences * longest
    moments = 2 if config.optim == "paged_adamw_8bit" else 8
    masters = 0 if dtype == torch.float32 else 4
    parts = {
        "weights": quantised * HELD_BYTES.get(config.held, 0.0) + (s.total - quantised) * size,
        "adapter": s.trainable * size if METHODS[config.method].adapter else 0,
        "gradients": s.trainable * 4,
        "optimizer": s.trainable * (moments + masters),
        "activations": tokens * saved_bytes(s, config, dtype, device, longest),
        "logits": tokens * trained_share * s.vocabulary * LOGIT,
    }
    evaluated = config.per_device_eval_batch_size * sequences * longest * trained_share
    idle = parts["weights"] + parts["adapter"] + parts["optimizer"]
    forward = idle + parts["activations"] + parts["logits"]
    evaluation = idle + min(losses.LOGIT_BYTES, evaluated * s.vocabulary * losses.LOGIT)
    update = idle + parts["gradients"]
    process = PROCESS_GIB[device.type]
    peak = ALLOCATOR * max(forward, evaluation, update) / GIB + process
    return {
        "peak_gib": peak,
        "low_gib": peak * MEMORY_LOW,
        "high_gib": peak * MEMORY_HIGH,
        "parts": {name: value / GIB for name, value in parts.items()} | {"process": process},
    }


def forward_flops(s: Shape, tokens: float, trained: float, mean_length: float) -> float:
    """Operations of a forward pass: two a weight and token, attention, and logits where trained."""
    attention = 4 * mean_length * s.hidden * s.layers
    return tokens * (2 * s.linear + attention) + 2 * trained * s.hidden * s.vocabulary


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


def seconds(
    s: Shape, config: TrainConfig, dtype: torch.dtype, device: torch.device, work: Work, gflops: float
) -> dict[str, Any]:
    """Time of the run: {"seconds", "low_seconds", "high_seconds", "basis"}."""
    rate = gflops * 1e9 * SHARE.get((device.type, dtype), DEFAULT_SHARE)
    if config.held:
        rate /= SLOWER[device.type, config.held]
    # backward: gradients of activations always, those of weights where they are trained
    passes = 2 if METHODS[config.method].adapter else 3
    passes += config.gradient_checkpointing
    train = passes * forward_flops(s, work.train_tokens, work.train_trained, work.mean_length) / rate
    evaluation = forward_flops(s, work.eval_tokens, work.eval_trained, work.mean_length) / rate
    # reading the weights bounds a generated token, and on the CPU the update of all weights
    read = s.total * (4 if dtype == torch.float32 else 2) / (8e9 if device.type == "cpu" else 5e11)
    generation = work.generated_steps * max(2 * read, 0.03)
    update = work.steps * s.trainable * 40 / (8e9 if device.type == "cpu" else 5e11)
    total = train + evaluation + generation + update + 10
    return {
        "seconds": total,
        "low_seconds": total * TIME_LOW,
        "high_seconds": total * TIME_HIGH,
        "basis": f"{gflops:,.0f} GFLOP/s measured for matrix products on this device, of which a step reaches"
        f" {rate / gflops / 1e7:.0f}%",
    }
