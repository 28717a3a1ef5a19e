"""Llama-like models on a CPU over rows without padding: what of them is computed, and by which functions.

A model is read anew at each call, since adapters are switched on and off: only the classes named here, unchanged
(no hooks, no replaced forward), on a CPU. For any other model `hidden_states` answers None, and its own forward
is called on padded rows. In a known model, a linear layer that `affine` can't read (another adapter, dropout) is
called as the module that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor, nn
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral import modeling_mistral as mistral
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from engine.tuning import affine
from engine.tuning.affine import Affine
from engine.tuning.batches import Batch
from engine.tuning.fused import AddedLinear, AddedSwiglu, NormedLinears, RmsNorm
from engine.tuning.packed_attention import Layout, RotaryAttention, groups

# class of the whole model -> of the inner model, a layer, its attention, its MLP, norms, positions
KNOWN: dict[type, tuple[type, ...]] = {
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

MULTIPLE = 64  # of tokens


@dataclass(frozen=True)
class Layer:
    """A layer's module, and its linear layers: as numbers where they can be read, or as modules."""

    module: Any
    linears: dict[str, Affine | nn.Module]

    def all_of(self, *names: str) -> list[Any] | None:
        """The numbers of these linear layers, None where one of them has to be called."""
        found = [self.linears[name] for name in names]
        return found if all(isinstance(part, Affine) for part in found) else None


@dataclass(frozen=True)
class Known:
    """A model that was recognised: the causal model under its adapters, and its layers."""

    model: Any
    layers: list[Layer]


def recognise(model: Any) -> Known | None:
    """The model's parts, or None where this file does not cover it."""
    causal = model
    if isinstance(model, PeftModel):
        if not isinstance(model.base_model, BaseTuner) or not affine.untouched(model):
            return None
        causal = model.base_model.model
    classes = KNOWN.get(type(causal))
    if classes is None or causal.device.type != "cpu":
        return None
    inner_class, layer_class, attention, mlp, norm, rotary = classes
    config, inner = causal.config, causal.model
    expected = [(causal, type(causal)), (inner, inner_class), (inner.norm, norm), (inner.rotary_emb, rotary)]
    for layer in inner.layers:
        expected += [(layer, layer_class), (layer.self_attn, attention), (layer.mlp, mlp)]
        expected += [(layer.input_layernorm, norm), (layer.post_attention_layernorm, norm)]
    if not all(type(module) is wanted and affine.untouched(module) for module, wanted in expected):
        return None
    if config.hidden_act not in ("silu", "swish") or (model.training and config.attention_dropout):
        return None
    dtype = inner.norm.weight.dtype
    return Known(causal, [_read_layer(layer, dtype) for layer in inner.layers])


def _read_layer(layer: Any, dtype: torch.dtype) -> Layer:
    linears: dict[str, Affine | nn.Module] = {}
    for name in LINEARS:
        module = layer.get_submodule(name)
        linears[name.partition(".")[2]] = affine.read(module, dtype) or module
    return Layer(layer, linears)


def hidden_states(model: Any, batch: Batch) -> Tensor | None:
    """What the output layer gets at the picked positions [trained, width], in row-major order, and spare rows
    after them: sizes are rounded up, since each new size of a matrix product costs milliseconds once."""
    if batch.lengths is None:
        return None
    known = recognise(model)
    if known is None or not _sees_all(known.model.config, max(batch.lengths)):
        return None
    inner = known.model.model
    present = torch.arange(batch.inputs.shape[1]) < torch.tensor(batch.lengths)[:, None]
    spare = MULTIPLE - sum(batch.lengths) % MULTIPLE  # one at least
    tokens = F.pad(batch.inputs[present], (0, spare))
    positions = torch.cat([torch.arange(length) for length in [*batch.lengths, spare]])
    picked = batch.picked[present].nonzero()[:, 0]
    picked = F.pad(picked, (0, -len(picked) % MULTIPLE), value=len(tokens) - 1)
    x = inner.embed_tokens(tokens[None])[0]
    layout = _layout(known.model, batch.lengths, x, positions)
    for layer in known.layers[:-1]:
        x = _called(layer, x, layout, None)
    x = _called(known.layers[-1], x, layout, picked)
    return RmsNorm.apply(x, inner.norm.weight, inner.norm.variance_epsilon)


def _sees_all(config: Any, longest: int) -> bool:
    """Whether no sliding window hides a part of the longest row from its end."""
    window = getattr(config, "sliding_window", None)
    return not window or longest <= window


def _layout(causal: Any, lengths: Sequence[int], x: Tensor, positions: Tensor) -> Layout:
    attention = causal.model.layers[0].self_attn
    heads, kv = causal.config.num_attention_heads, causal.config.num_key_value_heads
    cos, sin = causal.model.rotary_emb(x[None], position_ids=positions[None])
    cos, sin, half = cos[0], sin[0], cos.shape[-1] // 2
    signed = torch.cat((-sin[:, :half], sin[:, half:]), -1)
    found = groups(lengths, heads, kv)
    return Layout(heads, kv, attention.head_dim, attention.scaling, found, cos, signed)


def _called(layer: Layer, x: Tensor, layout: Layout, picked: Tensor | None) -> Tensor:
    """The layer, under gradient checkpointing where that is switched on."""
    module = layer.module
    if module.gradient_checkpointing and module.training and torch.is_grad_enabled():
        return module._gradient_checkpointing_func(partial(_layer, layer, layout=layout, picked=picked), x)
    return _layer(layer, x, layout, picked)


def _layer(layer: Layer, x: Tensor, layout: Layout, picked: Tensor | None) -> Tensor:
    """One layer over x [tokens, width]; with `picked`, only those tokens' outputs, as the last layer may."""
    module = layer.module
    attention = module.self_attn
    x, query, key, value = _normed(layer, module.input_layernorm, x, "q_proj", "k_proj", "v_proj")
    if hasattr(attention, "q_norm"):
        query, key = (
            RmsNorm.apply(y.view(-1, layout.width), norm.weight, norm.variance_epsilon).view(len(y), -1)
            for y, norm in ((query, attention.q_norm), (key, attention.k_norm))
        )
    mixed = RotaryAttention.apply(layout, query, key, value)
    if picked is not None:
        mixed, x = mixed.index_select(0, picked), x.index_select(0, picked)
    out = layer.linears["o_proj"]
    if isinstance(out, Affine):
        x = AddedLinear.apply(out, mixed, x, *out.tensors)
    else:
        x = x + out(mixed[None])[0]
    x, gate, up = _normed(layer, module.post_attention_layernorm, x, "gate_proj", "up_proj")
    down = layer.linears["down_proj"]
    if isinstance(down, Affine):
        return AddedSwiglu.apply(down, gate, up, x, *down.tensors)
    return x + down((F.silu(gate) * up)[None])[0]


def _normed(layer: Layer, norm: Any, x: Tensor, *names: str) -> tuple[Tensor, ...]:
    """x, and the named linear layers of its normed rows."""
    parts = layer.all_of(*names)
    if parts is not None:
        tensors = [tensor for part in parts for tensor in part.tensors]
        return NormedLinears.apply(parts, norm.variance_epsilon, x, norm.weight, *tensors)
    normed = RmsNorm.apply(x, norm.weight, norm.variance_epsilon)[None]
    found = []
    for name in names:
        part = layer.linears[name]
        y = affine.forward(normed[0], [part])[0][0][None] if isinstance(part, Affine) else part(normed)
        found.append(y[0])
    return (x, *found)
