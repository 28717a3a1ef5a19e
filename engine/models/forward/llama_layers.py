"""The parts of a Llama-like model that the packed forward uses, and which models it supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral import modeling_mistral as mistral
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

# Linear layers as plain tensors (weight, bias and LoRA pair), with explicit forward and backward.
#
# peft's modules are read, never changed: `read_linear` returns None for anything but a plain linear layer,
# dense or 4-bit, with at most one plain LoRA pair. Layers that share an input are computed together, so that
# their low-rank activations take one matrix product and their gradients one sum.

Tensors = list[Tensor | None]


@dataclass(frozen=True)
class Affine:
    """Linear layer y = x weightᵀ + bias + scale (x aᵀ) bᵀ; `state`: quantisation state of a 4-bit weight."""

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0
    state: Any = None

    @property
    def tensors(self) -> Tensors:
        """Tensors that may be trained; a 4-bit weight never is."""
        return [None if self.state is not None else self.weight, self.bias, self.a, self.b]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """Return the weight as a matrix [out, in]."""
        if self.state is None:
            return self.weight
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self.weight, self.state).to(dtype)


def is_untouched(module: nn.Module, *, observed: bool = False) -> bool:
    """Return whether the module's call is unmodified: no hooks and no replaced forward.

    `observed`: forward hooks, which only read the output, are allowed.
    """
    hooks = [module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]
    hooks += [] if observed else [module._forward_hooks]
    return not any(hooks) and "forward" not in module.__dict__


def read_linear(module: nn.Module, dtype: torch.dtype) -> Affine | None:
    """Read the layer's tensors; None if only calling the module gives its result."""
    if not is_untouched(module):
        return None
    is_lora = type(module) is LoraLinear or (
        type(module).__name__ == "Linear4bit" and type(module).__module__ == "peft.tuners.lora.bnb"
    )
    if not is_lora:
        return _read_base(module, dtype)
    lora = cast(LoraLinear, module)
    base = _read_base(lora.base_layer, dtype)
    if base is None or lora.merged or lora.fan_in_fan_out:
        return None
    active = [] if lora.disable_adapters else [n for n in lora.active_adapters if n in lora.lora_A]
    if not active:
        return base
    name = active[0]
    a: Any = lora.lora_A[name]
    b: Any = lora.lora_B[name]
    dropout = lora.lora_dropout[name]
    drops = isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0
    plain = all(type(m) is nn.Linear and is_untouched(m) and m.bias is None for m in (a, b))
    readable = isinstance(dropout, (nn.Identity, nn.Dropout)) and not drops
    if len(active) > 1 or not plain or not readable or lora.lora_variant or a.weight.dtype != dtype:
        return None
    return Affine(base.weight, base.bias, a.weight, b.weight, float(lora.scaling[name]), base.state)


def _read_base(module: nn.Module, dtype: torch.dtype) -> Affine | None:
    if not is_untouched(module):
        return None
    if type(module) is nn.Linear:
        return Affine(module.weight, module.bias) if module.weight.dtype == dtype else None
    if (type(module).__module__, type(module).__name__) != ("bitsandbytes.nn.modules", "Linear4bit"):
        return None
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is None or getattr(state, "packing_format_for_cpu", False):
        return None
    bias: Any = module.bias
    fits = (bias is None or bias.dtype == dtype) and tuple(state.shape) == (
        module.out_features,
        module.in_features,
    )
    return Affine(weight, bias, state=state) if fits and module.compute_dtype in (None, dtype) else None


def _stack_lora_a(parts: Sequence[Affine]) -> tuple[Tensor | None, list[slice | None]]:
    """Stack the `a` of all parts, and return which rows belong to each part."""
    rows: list[slice | None] = []
    end = 0
    for part in parts:
        rows.append(None if part.a is None else slice(end, end + len(part.a)))
        end += 0 if part.a is None else len(part.a)
    pairs = [part.a for part in parts if part.a is not None]
    return (None if not pairs else pairs[0] if len(pairs) == 1 else torch.cat(pairs)), rows


def forward_linears(
    x: Tensor, parts: Sequence[Affine], residual: Tensor | None = None
) -> tuple[list[Tensor], Tensor | None]:
    """Return the parts' outputs for x [tokens, in], and their concatenated low-rank activations for backward.

    A `residual`, allowed with a single part only, is added to the output.
    """
    wide, rows = _stack_lora_a(parts)
    low = None if wide is None else x @ wide.t()
    outputs = []
    for part, mine in zip(parts, rows, strict=True):
        weight = part.dense(x.dtype)
        if residual is None:
            y = F.linear(x, weight, part.bias)
        else:
            y = torch.addmm(residual, x, weight.t())
            if part.bias is not None:
                y += part.bias
        if low is not None and mine is not None and part.b is not None:
            y.addmm_(low[:, mine], part.b.t(), alpha=part.scale)
        outputs.append(y)
    return outputs, low


def compute_input_gradient(
    parts: Sequence[Affine], grads: Sequence[Tensor], to_x: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of x, if wanted, and of the low-rank activations, from those of the outputs."""
    wide, rows = _stack_lora_a(parts)
    low = None if wide is None else grads[0].new_empty(len(grads[0]), len(wide))
    dx: Tensor | None = None
    for part, mine, grad in zip(parts, rows, grads, strict=True):
        if to_x:
            dense = part.dense(grad.dtype)
            dx = grad @ dense if dx is None else dx.addmm_(grad, dense)
        if low is not None and mine is not None and part.b is not None:
            torch.mul(grad @ part.b, part.scale, out=low[:, mine])
    if dx is not None and low is not None and wide is not None:
        dx.addmm_(low, wide)
    return dx, low


def compute_weight_gradients(
    x: Tensor,
    parts: Sequence[Affine],
    low: Tensor | None,
    of_low: Tensor | None,
    grads: Sequence[Tensor],
    needs: Sequence[bool],
) -> Tensors:
    """Return the gradients of every part's `tensors`; `needs`: which of them are wanted, in that order."""
    _, rows = _stack_lora_a(parts)
    of_wide = None if of_low is None or not any(needs[2::4]) else of_low.t() @ x
    gradients: Tensors = []
    for i, (part, mine, grad) in enumerate(zip(parts, rows, grads, strict=True)):
        weight, bias, a, b = needs[4 * i : 4 * i + 4]
        pair = mine is not None and low is not None
        gradients.append(grad.t() @ x if weight else None)
        gradients.append(grad.sum(0) if bias else None)
        gradients.append(of_wide[mine] if pair and a and of_wide is not None else None)
        gradients.append(
            (grad.t() @ low[:, mine]).mul_(part.scale) if pair and b and low is not None else None
        )
    return gradients


# Models that the packed forward supports, and their parts.
#
# Support is determined only here, from the current classes of the modules, since adapters are switched on and
# off: the classes below, unmodified (no hooks, no replaced forward), with linear layers that `read_linear`
# can read.

# model class -> classes of the inner model, a layer, its attention, its MLP, norms, rotary embedding
PACKABLE: dict[type, tuple[type, ...]] = {
    llama.LlamaForCausalLM: (
        llama.LlamaModel, llama.LlamaDecoderLayer, llama.LlamaAttention, llama.LlamaMLP,
        llama.LlamaRMSNorm, llama.LlamaRotaryEmbedding,
    ),
    mistral.MistralForCausalLM: (
        mistral.MistralModel, mistral.MistralDecoderLayer, mistral.MistralAttention, mistral.MistralMLP,
        mistral.MistralRMSNorm, mistral.MistralRotaryEmbedding,
    ),
    qwen2.Qwen2ForCausalLM: (
        qwen2.Qwen2Model, qwen2.Qwen2DecoderLayer, qwen2.Qwen2Attention, qwen2.Qwen2MLP,
        qwen2.Qwen2RMSNorm, qwen2.Qwen2RotaryEmbedding,
    ),
    qwen3.Qwen3ForCausalLM: (
        qwen3.Qwen3Model, qwen3.Qwen3DecoderLayer, qwen3.Qwen3Attention, qwen3.Qwen3MLP,
        qwen3.Qwen3RMSNorm, qwen3.Qwen3RotaryEmbedding,
    ),
}  # fmt: skip
LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
LENGTH_DEPENDENT = ("dynamic", "longrope")  # rotary embeddings that depend on the longest row of a batch

_devices: ContextVar[tuple[str, ...]] = ContextVar("devices", default=("cpu",))


@contextmanager
def simulate_cpu() -> Iterator[None]:
    """Treat models on the meta device as models on a CPU within the context."""
    token = _devices.set(("cpu", "meta"))
    try:
        yield
    finally:
        _devices.reset(token)


@dataclass(frozen=True)
class Layer:
    """A decoder layer: its module and its linear layers."""

    module: Any
    linears: dict[str, Affine]

    def all_of(self, *names: str) -> list[Affine]:
        """Return the linear layers of these names."""
        return [self.linears[name] for name in names]


@dataclass(frozen=True)
class ModelParts:
    """A supported model: the causal model without its adapter's wrapper, and its layers."""

    causal: Any
    layers: list[Layer]


def is_packable(architecture: Any) -> bool:
    """Return whether models of this config are supported in their original form."""
    return type(architecture) in {kind.config_class for kind in PACKABLE}  # type: ignore[attr-defined]


def explain_refusal(model: Any, longest: int) -> str:
    """Return why rows of up to `longest` tokens need the model's own forward; empty if they can be packed."""
    recognised = recognise_model(model, longest)
    return recognised if isinstance(recognised, str) else ""


def recognise_model(model: Any, longest: int) -> ModelParts | str:
    """Return the model's parts, or why the packed forward doesn't support it."""
    causal = model
    if isinstance(model, PeftModel):
        if not isinstance(model.base_model, BaseTuner):
            return "its adapter puts tokens before each row"
        if not is_untouched(model):
            return "the adapter's own forward is replaced"
        causal = model.base_model.model
    if type(causal) not in PACKABLE:
        return f"{type(causal).__name__} is none of {', '.join(kind.__name__ for kind in PACKABLE)}"
    if causal.device.type not in _devices.get():
        return f"it is on {causal.device.type}, where kernels of the device are faster"
    return _find_unlike_module(causal) or _explain_config_refusal(causal, longest) or _read_layers(causal)


def _find_unlike_module(causal: Any) -> str:
    """Report the first module that differs from its architecture; empty if none does."""
    inner_class, layer_class, attention, mlp, norm, rotary = PACKABLE[type(causal)]
    inner = causal.model
    expected: dict[str, type] = {
        "": type(causal),
        "model": inner_class,
        "model.norm": norm,
        "model.rotary_emb": rotary,
    }
    for i, layer in enumerate(inner.layers):
        name = f"model.layers.{i}"
        if not is_untouched(layer, observed=True) or type(layer) is not layer_class:
            return f"{name} is changed"
        expected |= {f"{name}.self_attn": attention, f"{name}.mlp": mlp}
        expected |= {f"{name}.{n}": norm for n in ("input_layernorm", "post_attention_layernorm")}
    for name, wanted in expected.items():
        module = causal.get_submodule(name)
        if not is_untouched(module) or type(module) is not wanted:
            return f"{name or 'the model'} is changed"
    return ""


def _explain_config_refusal(causal: Any, longest: int) -> str:
    """Report a config setting that this forward doesn't support; empty if there is none."""
    config, window = causal.config, getattr(causal.config, "sliding_window", None)
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}"
    if causal.training and config.attention_dropout:
        return f"attention_dropout is {config.attention_dropout}"
    if window and longest > window:
        return f"rows of {longest} tokens are longer than its sliding window of {window}"
    if causal.model.rotary_emb.rope_type in LENGTH_DEPENDENT:
        return f"its positions ({causal.model.rotary_emb.rope_type}) depend on the longest row of a batch"
    return ""


def _read_layers(causal: Any) -> ModelParts | str:
    """Return the layers' tensors, or a message about the first linear layer that can't be read."""
    inner = causal.model
    dtype = inner.embed_tokens.weight.dtype
    if inner.norm.weight.dtype != dtype or causal.get_output_embeddings().weight.dtype != dtype:
        return "its weights are of several precisions"
    layers = []
    for i, layer in enumerate(inner.layers):
        linears = {}
        for name in LINEARS:
            module = layer.get_submodule(name)
            linear = read_linear(module, dtype)
            if linear is None:
                kind = f"{type(module).__module__}.{type(module).__name__}"
                return f"{name} of layer {i} ({kind}) is not a plain matrix with at most a plain LoRA pair"
            linears[name.partition(".")[2]] = linear
        layers.append(Layer(layer, linears))
    return ModelParts(causal, layers)
