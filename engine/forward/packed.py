"""The forward of Llama-like models on a CPU over rows that lie behind each other, without padding.

It computes what the model's own forward does, by functions that keep little for backward. Which models that
is for says `packable`; under any other the rows are padded and its own forward is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.forward.batches import TokenBatch
from engine.forward.fused import AddedLinear, AddedSwiglu, NormedLinears, RmsNorm
from engine.forward.packable import Layer, ModelParts, recognise
from engine.forward.packed_attention import HeadCounts, Layout, RotaryAttention, RowGroup, groups

MULTIPLE = 64  # of tokens: each new size of a matrix product costs milliseconds once


def hidden_states(model: Any, batch: TokenBatch) -> Tensor | None:
    """What the output layer gets at the picked positions [trained, width], in row-major order, and spare rows
    after them up to a multiple; None where `refusal` has a reason."""
    model_parts = recognise(model, max(batch.lengths))
    if isinstance(model_parts, str):
        return None
    config = model_parts.causal.config
    row_groups = groups(batch.lengths, HeadCounts(config.num_attention_heads, config.num_key_value_heads))
    return passed(model_parts, *_packed(batch), row_groups)


def passed(
    model_parts: ModelParts, tokens: Tensor, positions: Tensor, picked: Tensor, grouped: Sequence[RowGroup]
) -> Tensor:
    """What the output layer gets at the places `picked` among `tokens`, whose rows are `grouped`."""
    inner = model_parts.causal.model
    x = inner.embed_tokens(tokens[None])[0]
    layout = _layout(model_parts.causal, grouped, x, positions)
    for layer in model_parts.layers[:-1]:
        x = _called(layer, x, layout, None)
    x = _called(model_parts.layers[-1], x, layout, picked)
    return RmsNorm.apply(x, inner.norm.weight, inner.norm.variance_epsilon)


def _packed(batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens behind each other with a spare one at least after them, their positions, and which are picked.

    Without masks as indices, as what those give has no size on the meta device.
    """
    lengths = torch.tensor(batch.lengths)
    begin = lengths.cumsum(0) - lengths
    count, width = sum(batch.lengths), batch.inputs.shape[1]
    spare = MULTIPLE - count % MULTIPLE
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    column = torch.arange(count) - begin[row]
    filler = torch.zeros(spare, dtype=torch.int64)
    tokens = torch.cat((batch.inputs.flatten().index_select(0, row * width + column), filler))
    at = batch.picked.nonzero()
    picked = begin[at[:, 0]] + at[:, 1]
    picked = torch.cat((picked, torch.full((-len(picked) % MULTIPLE,), count)))
    return tokens, torch.cat((column, filler)), picked


def _layout(causal: Any, grouped: Sequence[RowGroup], x: Tensor, positions: Tensor) -> Layout:
    attention = causal.model.layers[0].self_attn
    heads, kv = causal.config.num_attention_heads, causal.config.num_key_value_heads
    cos, sin = causal.model.rotary_emb(x[None], position_ids=positions[None])
    cos, sin, half = cos[0], sin[0], cos.shape[-1] // 2
    signed = torch.cat((-sin[:, :half], sin[:, half:]), -1)
    return Layout(heads, kv, attention.head_dim, attention.scaling, grouped, cos, signed)


def _called(layer: Layer, x: Tensor, layout: Layout, picked: Tensor | None) -> Tensor:
    """The layer, under gradient checkpointing where that is switched on; who watches it is told its
    output."""
    module = layer.module
    if module.gradient_checkpointing and module.training and torch.is_grad_enabled():
        y = module._gradient_checkpointing_func(partial(_layer, layer, layout=layout, picked=picked), x)
    else:
        y = _layer(layer, x, layout, picked)
    for watch in module._forward_hooks.values():
        watch(module, (x,), y)
    return y


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
    out, down = layer.all_of("o_proj", "down_proj")
    x = AddedLinear.apply(out, mixed, x, *out.tensors)
    x, gate, up = _normed(layer, module.post_attention_layernorm, x, "gate_proj", "up_proj")
    return AddedSwiglu.apply(down, gate, up, x, *down.tensors)


def _normed(layer: Layer, norm: Any, x: Tensor, *names: str) -> tuple[Tensor, ...]:
    """x, and the named linear layers of its normed rows."""
    parts = layer.all_of(*names)
    tensors = [tensor for part in parts for tensor in part.tensors]
    return NormedLinears.apply(parts, norm.variance_epsilon, x, norm.weight, *tensors)
