"""Which models the packed forward may stand for, and their parts as it needs them.

That is decided here alone, from the classes of the modules as they are at the moment, since adapters are
switched on and off: those named here, unchanged (no hooks, no replaced forward), with linear layers that
`affine` can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral import modeling_mistral as mistral
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from engine.forward import affine
from engine.forward.affine import Affine

# class of the whole model -> of the inner model, a layer, its attention, its MLP, norms, positions
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
BY_LENGTH = ("dynamic", "longrope")  # positions that depend on the longest row of a batch

_devices: ContextVar[tuple[str, ...]] = ContextVar("devices", default=("cpu",))


@contextmanager
def rehearsing() -> Iterator[None]:
    """Inside, models on the meta device stand for models on a CPU."""
    token = _devices.set(("cpu", "meta"))
    try:
        yield
    finally:
        _devices.reset(token)


@dataclass(frozen=True)
class Layer:
    """A layer's module, and its linear layers as numbers."""

    module: Any
    linears: dict[str, Affine]

    def all_of(self, *names: str) -> list[Affine]:
        """The linear layers of these names."""
        return [self.linears[name] for name in names]


@dataclass(frozen=True)
class ModelParts:
    """A model that was recognised: the causal model under its adapter, and its layers."""

    causal: Any
    layers: list[Layer]


def is_packable(architecture: Any) -> bool:
    """Whether models of this config are packed as they come."""
    return type(architecture) in {kind.config_class for kind in PACKABLE}  # type: ignore[attr-defined]


def refusal(model: Any, longest: int) -> str:
    """Why rows of up to `longest` tokens must go through the model's own forward; empty where they are
    packed."""
    recognised = recognise(model, longest)
    return recognised if isinstance(recognised, str) else ""


def recognise(model: Any, longest: int) -> ModelParts | str:
    """The model's parts, or why they are not computed here."""
    causal = model
    if isinstance(model, PeftModel):
        if not isinstance(model.base_model, BaseTuner):
            return "its adapter puts tokens before each row"
        if not affine.untouched(model):
            return "the adapter's own forward is replaced"
        causal = model.base_model.model
    if type(causal) not in PACKABLE:
        return f"{type(causal).__name__} is none of {', '.join(kind.__name__ for kind in PACKABLE)}"
    if causal.device.type not in _devices.get():
        return f"it is on {causal.device.type}, where kernels of the device are faster"
    return _unlike(causal) or _by_config(causal, longest) or _read(causal)


def _unlike(causal: Any) -> str:
    """The first module that is not what its architecture says."""
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
        if not affine.untouched(layer, observed=True) or type(layer) is not layer_class:
            return f"{name} is changed"
        expected |= {f"{name}.self_attn": attention, f"{name}.mlp": mlp}
        expected |= {f"{name}.{n}": norm for n in ("input_layernorm", "post_attention_layernorm")}
    for name, wanted in expected.items():
        module = causal.get_submodule(name)
        if not affine.untouched(module) or type(module) is not wanted:
            return f"{name or 'the model'} is changed"
    return ""


def _by_config(causal: Any, longest: int) -> str:
    """What the config asks for and this forward has not."""
    config, window = causal.config, getattr(causal.config, "sliding_window", None)
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}"
    if causal.training and config.attention_dropout:
        return f"attention_dropout is {config.attention_dropout}"
    if window and longest > window:
        return f"rows of {longest} tokens are longer than its sliding window of {window}"
    if causal.model.rotary_emb.rope_type in BY_LENGTH:
        return f"its positions ({causal.model.rotary_emb.rope_type}) depend on the longest row of a batch"
    return ""


def _read(causal: Any) -> ModelParts | str:
    """The layers as numbers, or the first linear layer that can't be read."""
    inner = causal.model
    dtype = inner.embed_tokens.weight.dtype
    if inner.norm.weight.dtype != dtype or causal.get_output_embeddings().weight.dtype != dtype:
        return "its weights are of several precisions"
    layers = []
    for i, layer in enumerate(inner.layers):
        linears = {}
        for name in LINEARS:
            module = layer.get_submodule(name)
            linear = affine.read(module, dtype)
            if linear is None:
                kind = f"{type(module).__module__}.{type(module).__name__}"
                return f"{name} of layer {i} ({kind}) is no plain matrix with at most a plain LoRA pair"
            linears[name.partition(".")[2]] = linear
        layers.append(Layer(layer, linears))
    return ModelParts(causal, layers)
