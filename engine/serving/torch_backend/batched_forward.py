"""Batched forward of a Llama-like model: prompts in chunks, then one token per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.forward.llama_layers import ModelParts
from engine.serving.torch_backend.linear_layers import (
    NO_ADAPTER,
    LinearProduct,
    LoraStack,
    PackedProduct,
    PieceAdapters,
    RowAdapters,
    StackedLinears,
    build_dense_product,
    build_product,
)

# Key-value cache of a batch: one slot per row, of which those in use are always the first ones.
#
# So attention reads a plain slice, without gathering. A row that leaves gives its slot to the last one; slots
# grow together, by doubling, when a row outgrows them.

MIN_SLOT_TOKENS = 256  # tokens per slot
ATTENTION_MULTIPLE = 64  # number of keys is rounded up to it, so that rounding doesn't depend on other rows


class KeyValueSlots:
    """Key-value cache of one model. A key identifies a row while it is in the cache."""

    def __init__(
        self, layers: int, slots: int, heads: int, width: int, *, dtype: torch.dtype, max_tokens: int
    ) -> None:
        self._max_tokens = -(-max_tokens // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE
        self._shape = (slots, heads, min(MIN_SLOT_TOKENS, self._max_tokens), width)
        # Zeros, as masked entries are multiplied by 0, and must not be NaN. Keys are in fp32: attention
        # scores are rounded no sooner than in torch's own kernels.
        self.keys = [torch.zeros(self._shape, dtype=torch.float32) for _ in range(layers)]
        self.values = [torch.zeros(self._shape, dtype=dtype) for _ in range(layers)]
        self.order: list[int] = []  # keys by slot
        self.lengths: dict[int, int] = {}

    def get_slot(self, key: int) -> int:
        """Return the row's slot; a new row is appended after the others."""
        if key not in self.lengths:
            self.order.append(key)
            self.lengths[key] = 0
        return self.order.index(key)

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens."""
        capacity = self.keys[0].shape[2]
        if tokens <= capacity:
            return
        while capacity < tokens:
            capacity = min(
                2 * capacity, max(self._max_tokens, -(-tokens // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE)
            )
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                wider = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
                wider[: len(self.order), :, : old.shape[2]] = old[: len(self.order)]
                tensors[layer] = wider

    def release(self, key: int) -> None:
        """Remove the row."""
        if key not in self.lengths:
            return
        slot, last = self.order.index(key), len(self.order) - 1
        if slot != last:
            self._copy(last, slot, self.lengths[self.order[last]])
            self.order[slot] = self.order[last]
        self.order.pop()
        del self.lengths[key]

    def fork(self, key: int, copy: int) -> None:
        """Add a copy of the row."""
        slot = self.get_slot(copy)
        self._copy(self.order.index(key), slot, self.lengths[key])
        self.lengths[copy] = self.lengths[key]

    def _copy(self, source: int, target: int, length: int) -> None:
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :length] = tensor[source, :, :length]


def build_padding_mask(lengths: list[int]) -> Tensor:
    """Return the additive mask for one more token per row, [rows, 1, 1, keys].

    It is -inf after each row's tokens.
    """
    longest = -(-max(lengths) // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE
    hidden = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]


def build_causal_mask(before: int, tokens: int) -> Tensor:
    """Return the additive mask for `tokens` tokens of one row after `before` others, [tokens, keys]."""
    longest = -(-(before + tokens) // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE
    hidden = torch.arange(longest)[None] > before + torch.arange(tokens)[:, None]
    return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


# Batched forward of a Llama-like model: prompts in chunks, then one token of every row at a time.
#
# It computes what the model's own forward computes, rounded in the same places except for attention. A row's
# numbers don't depend on anything else in the batch: bf16 products give each row the same bits whatever rows
# are beside it, and fp32 batches are padded to sizes for which that holds. Prompts that arrive together go
# through packed weights together, which takes half as long for short ones.

ROW_MULTIPLE = 4  # fp32 batches are padded to a multiple of it
PROJECTION_GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@dataclass(frozen=True)
class BatchedLayer:
    """Weights of a layer: its norms, and its linear layers grouped by shared input."""

    before_attention: Tensor
    before_mlp: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None
    qkv: StackedLinears
    out: StackedLinears
    gate_up: StackedLinears
    down: StackedLinears

    @property
    def linears(self) -> tuple[StackedLinears, ...]:
        """All linear layers."""
        return self.qkv, self.out, self.gate_up, self.down


class PromptChunk(NamedTuple):
    """Prompt tokens of the row `key`, and the number of its adapter."""

    key: int
    adapter: int
    tokens: Sequence[int]


class _ChunkState(NamedTuple):
    """A chunk being processed.

    - slot: the row's slot
    - before: tokens before it in the slot
    - start: its start among all chunks
    - tokens, padding: numbers of its own tokens and of padding tokens
    - mask: additive mask of its tokens
    """

    slot: int
    before: int
    start: int
    tokens: int
    padding: int
    mask: Tensor

    @property
    def padded_length(self) -> int:
        """Number of tokens including padding."""
        return self.tokens + self.padding


class BatchedForward:
    """One base model with its adapters, numbered from 0 (NO_ADAPTER: none)."""

    def __init__(
        self, base: ModelParts, adapters: Sequence[ModelParts], *, rows: int, max_tokens: int
    ) -> None:
        """Take the model's weights over: it can't be called by itself afterwards."""
        causal_model = base.causal
        inner, config = causal_model.model, causal_model.config
        attention = inner.layers[0].self_attn
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width, self._scaling = attention.head_dim, attention.scaling
        self._eps = inner.norm.variance_epsilon
        self._rotary, self._embedding = inner.rotary_emb, inner.embed_tokens.weight.detach()
        self._last_norm = inner.norm.weight.detach()
        self._dtype = self._embedding.dtype
        self._head: LinearProduct = build_dense_product(causal_model.get_output_embeddings().weight, None)
        self._layers = [_build_layer(base, adapters, layer_index) for layer_index in range(len(base.layers))]
        # Only packed weights give a row the same bits for any number of rows.
        products = [linears.base for layer in self._layers for linears in layer.linears]
        self.batches_prompts = all(isinstance(product, PackedProduct) for product in (self._head, *products))
        self._slots = KeyValueSlots(
            len(self._layers), rows, self._kv_heads, self._width, dtype=self._dtype, max_tokens=max_tokens
        )
        self._adapter_of: dict[int, int] = {}
        self._row_adapters = RowAdapters([])
        self._adapter_ids: tuple[int, ...] = ()

    def extend(self, chunks: Sequence[PromptChunk]) -> list[Tensor]:
        """Process further prompt tokens of these rows.

        Returns each row's logits after its last token, [vocabulary] in fp32.
        """
        # Linear layers process the concatenated chunks, attention each chunk separately.
        slots, states, start = self._slots, [], 0
        for chunk in chunks:
            slot, padding = slots.get_slot(chunk.key), self._count_padding(len(chunk.tokens))
            self._adapter_of[chunk.key] = chunk.adapter
            before = slots.lengths[chunk.key]
            mask = build_causal_mask(before, len(chunk.tokens) + padding)
            slots.reserve(mask.shape[-1])
            states.append(_ChunkState(slot, before, start, len(chunk.tokens), padding, mask))
            start += len(chunk.tokens) + padding
        input_tokens = [
            token
            for chunk, state in zip(chunks, states, strict=True)
            for token in [*chunk.tokens, *[chunk.tokens[-1]] * state.padding]
        ]
        positions = [
            position
            for state in states
            for position in range(state.before, state.before + state.padded_length)
        ]
        adapters = PieceAdapters(
            [chunk.adapter for chunk in chunks], [state.padded_length for state in states]
        )
        with torch.inference_mode():
            x, cos, sin = self._embed(input_tokens, positions)
            for layer_index, layer in enumerate(self._layers):
                query, key_states, value = self._project(layer, x, cos, sin, adapters)
                keys, values = slots.keys[layer_index], slots.values[layer_index]
                attended = [
                    self._attend_chunk(state, query, key_states, value, keys, values) for state in states
                ]
                x = self._finish_layer(
                    layer, x, attended[0] if len(attended) == 1 else torch.cat(attended), adapters
                )
            scores = self._compute_logits(
                x[torch.tensor([state.start + state.tokens - 1 for state in states])]
            )
            for chunk, state in zip(chunks, states, strict=True):
                slots.lengths[chunk.key] = state.before + state.tokens
            return list(scores)

    def _attend_chunk(
        self,
        state: _ChunkState,
        query: Tensor,
        key_states: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """Write a chunk's keys and values to its slot, and attend to everything in the slot."""
        chunk_range, slot_range = (
            slice(state.start, state.start + state.tokens),
            slice(state.before, state.before + state.tokens),
        )
        key_count = state.mask.shape[-1]
        keys[state.slot, :, slot_range] = key_states[chunk_range].transpose(0, 1)
        values[state.slot, :, slot_range] = value[chunk_range].transpose(0, 1)
        chunk_query = query[state.start : state.start + state.padded_length]
        return self._attend(
            chunk_query, keys[state.slot, :, :key_count], values[state.slot, :, :key_count], state.mask
        )

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Process one more token of each of these rows; return the next logits [rows, vocabulary] in fp32.

        All other rows are unchanged.
        """
        slots = self._slots
        order = slots.order
        token_by_key = dict(zip(keys, tokens, strict=True))
        lengths = [slots.lengths[key] + 1 for key in order]
        slots.reserve(max(lengths))
        mask = build_padding_mask(lengths)
        slots.reserve(mask.shape[-1])
        padding = self._count_padding(len(order))
        input_tokens = [*(token_by_key.get(key, 0) for key in order), *[0] * padding]
        positions = [*(length - 1 for length in lengths), *[0] * padding]
        adapters = self._get_adapters([*(self._adapter_of[key] for key in order), *[NO_ADAPTER] * padding])
        slot_indices, slot_positions = torch.arange(len(order)), torch.tensor(positions[: len(order)])
        with torch.inference_mode():
            x, cos, sin = self._embed(input_tokens, positions)
            for layer_index, layer in enumerate(self._layers):
                query, key_states, value = self._project(layer, x, cos, sin, adapters)
                slots.keys[layer_index][slot_indices, :, slot_positions] = key_states[: len(order)].float()
                slots.values[layer_index][slot_indices, :, slot_positions] = value[: len(order)]
                attended = self._attend_cached(query, layer_index, len(order), mask)
                x = self._finish_layer(layer, x, attended, adapters)
            for key in keys:
                slots.lengths[key] += 1
            rows = torch.tensor([order.index(key) for key in keys])
            return self._compute_logits(x[rows])

    def release(self, key: int) -> None:
        """Remove a row."""
        self._slots.release(key)
        self._adapter_of.pop(key, None)

    def fork(self, key: int, copy: int) -> None:
        """Add a copy of a row."""
        self._slots.fork(key, copy)
        self._adapter_of[copy] = self._adapter_of[key]

    def _count_padding(self, rows: int) -> int:
        return 0 if self._dtype == torch.bfloat16 else -rows % ROW_MULTIPLE

    def _get_adapters(self, adapters: list[int]) -> RowAdapters:
        if self._adapter_ids != tuple(adapters):
            self._adapter_ids, self._row_adapters = tuple(adapters), RowAdapters(adapters)
        return self._row_adapters

    def _embed(self, tokens: list[int], positions: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        x = F.embedding(torch.tensor(tokens), self._embedding)
        cos, sin = self._rotary(x[None], position_ids=torch.tensor(positions)[None])
        return x, cos[0][:, None], sin[0][:, None]

    def _project(
        self, layer: BatchedLayer, x: Tensor, cos: Tensor, sin: Tensor, adapters: RowAdapters | PieceAdapters
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [tokens, heads, width], the first two with rotary positions."""
        projected = layer.qkv(_rms_norm(x, layer.before_attention, self._eps), adapters)
        heads = projected.view(len(x), self._heads + 2 * self._kv_heads, self._width)
        query, key, value = heads.split([self._heads, self._kv_heads, self._kv_heads], 1)
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = (
                _rms_norm(query, layer.query_norm, self._eps),
                _rms_norm(key, layer.key_norm, self._eps),
            )
            rotated = _apply_rotary(torch.cat((query, key), 1), cos, sin)
        else:
            rotated = _apply_rotary(heads[:, : self._heads + self._kv_heads], cos, sin)
        return rotated[:, : self._heads], rotated[:, self._heads :], value

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attend from one row's tokens [tokens, heads, width] to its keys [key heads, keys, width]."""
        tokens, group_size = len(query), self._heads // self._kv_heads
        stacked = (query.float() * self._scaling).view(tokens, self._kv_heads, group_size, self._width)
        stacked = stacked.permute(1, 2, 0, 3).reshape(self._kv_heads, group_size * tokens, self._width)
        scores = torch.bmm(stacked, keys.transpose(1, 2)).view(self._kv_heads, group_size, tokens, -1)
        weights = scores.add_(mask).softmax(-1).view(self._kv_heads, group_size * tokens, -1).to(values.dtype)
        attended = torch.bmm(weights, values).view(self._kv_heads, group_size, tokens, self._width)
        return attended.permute(2, 0, 1, 3).reshape(tokens, -1)

    def _attend_cached(self, query: Tensor, layer_index: int, rows: int, mask: Tensor) -> Tensor:
        """Attend from one token per row to the keys of its own slot; padding rows get zeros."""
        longest, group_size = mask.shape[-1], self._heads // self._kv_heads
        keys, values = (slots[layer_index][:rows] for slots in (self._slots.keys, self._slots.values))
        stacked = query[:rows].reshape(rows, self._kv_heads, group_size, self._width)
        if self._dtype == torch.float32:
            attended = F.scaled_dot_product_attention(
                stacked, keys[:, :, :longest], values[:, :, :longest], mask, scale=self._scaling
            )
        else:  # torch's kernel would round in other places
            stacked = (stacked.float() * self._scaling).flatten(0, 1)
            scores = torch.bmm(stacked, keys.flatten(0, 1)[:, :longest].transpose(1, 2))
            weights = (
                scores.view(rows, self._kv_heads, group_size, longest).add_(mask).softmax(-1).to(values.dtype)
            )
            attended = torch.bmm(weights.flatten(0, 1), values.flatten(0, 1)[:, :longest])
        attended = attended.reshape(rows, -1)
        return F.pad(attended, (0, 0, 0, len(query) - rows)) if rows < len(query) else attended

    def _finish_layer(
        self, layer: BatchedLayer, x: Tensor, attended: Tensor, adapters: RowAdapters | PieceAdapters
    ) -> Tensor:
        x = x + layer.out(attended, adapters)
        gate, up = layer.gate_up(_rms_norm(x, layer.before_mlp, self._eps), adapters).split(
            list(layer.gate_up.widths), -1
        )
        return x + layer.down(F.silu(gate).mul_(up), adapters)

    def _compute_logits(self, x: Tensor) -> Tensor:
        padding = self._count_padding(len(x))
        normed = _rms_norm(
            F.pad(x, (0, 0, 0, padding)) if padding else x.contiguous(), self._last_norm, self._eps
        )
        return self._head(normed)[: len(x)].float()


def _build_layer(base: ModelParts, adapters: Sequence[ModelParts], layer_index: int) -> BatchedLayer:
    layer = base.layers[layer_index]
    module = layer.module
    groups = [
        StackedLinears(
            build_product(layer.all_of(*names)),
            [LoraStack.of([parts.layers[layer_index].linears[name] for parts in adapters]) for name in names],
            [
                len(linear.weight) if linear.state is None else int(linear.state.shape[0])
                for linear in (layer.linears[name] for name in names)
            ],
        )
        for names in PROJECTION_GROUPS
    ]
    attention = module.self_attn
    norms = [
        getattr(attention, name).weight.detach() if hasattr(attention, name) else None
        for name in ("q_norm", "k_norm")
    ]
    for parts in (base, *adapters):  # the products hold the weights now
        parts.layers[layer_index].linears.clear()
    for linear in module.modules():
        if type(linear) is torch.nn.Linear:
            linear.weight = torch.nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
    return BatchedLayer(
        module.input_layernorm.weight.detach(),
        module.post_attention_layernorm.weight.detach(),
        norms[0],
        norms[1],
        *groups,
    )


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def _apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin
