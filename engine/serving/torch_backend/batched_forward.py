"""Batched forward of a Llama-like model: prompts in chunks, then one token per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.forward.llama_layers import Affine, ModelParts
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
        self, layers: int, slots: int, heads: int, width: int, *, dtype: torch.dtype, most: int
    ) -> None:
        self._most = -(-most // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE
        self._shape = (slots, heads, min(MIN_SLOT_TOKENS, self._most), width)
        # Zeros, as masked entries are multiplied by 0, and must not be NaN. Keys are in fp32: attention
        # scores are rounded no sooner than in torch's own kernels.
        self.keys = [torch.zeros(self._shape, dtype=torch.float32) for _ in range(layers)]
        self.values = [torch.zeros(self._shape, dtype=dtype) for _ in range(layers)]
        self.order: list[int] = []  # keys by slot
        self.lengths: dict[int, int] = {}

    def slot(self, key: int) -> int:
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
                2 * capacity, max(self._most, -(-tokens // ATTENTION_MULTIPLE) * ATTENTION_MULTIPLE)
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
        slot = self.slot(copy)
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
    - tokens, filler: numbers of its own tokens and of padding tokens
    - mask: additive mask of its tokens
    """

    slot: int
    before: int
    start: int
    tokens: int
    filler: int
    mask: Tensor

    @property
    def filled(self) -> int:
        """Number of tokens including padding."""
        return self.tokens + self.filler


class BatchedForward:
    """One base model with its adapters, numbered from 0 (NO_ADAPTER: none)."""

    def __init__(
        self, base: ModelParts, adapters: Sequence[ModelParts], *, rows: int, most_tokens: int
    ) -> None:
        """Take the model's weights over: it can't be called by itself afterwards."""
        causal_model = base.causal
        inner, config = causal_model.model, causal_model.config
        attention = inner.layers[0].self_attn
        self._heads, self._kv = config.num_attention_heads, config.num_key_value_heads
        self._width, self._scaling = attention.head_dim, attention.scaling
        self._eps = inner.norm.variance_epsilon
        self._rotary, self._embedding = inner.rotary_emb, inner.embed_tokens.weight.detach()
        self._last_norm = inner.norm.weight.detach()
        self._dtype = self._embedding.dtype
        self._head: LinearProduct = build_dense_product(causal_model.get_output_embeddings().weight, None)
        self._layers = [_build_layer(base, adapters, number) for number in range(len(base.layers))]
        # Only packed weights give a row the same bits for any number of rows.
        products = [linears.base for layer in self._layers for linears in layer.linears]
        self.joins = all(isinstance(each, PackedProduct) for each in (self._head, *products))
        self._slots = KeyValueSlots(
            len(self._layers), rows, self._kv, self._width, dtype=self._dtype, most=most_tokens
        )
        self._adapter_of: dict[int, int] = {}
        self._membership = RowAdapters([])
        self._members: tuple[int, ...] = ()

    def extend(self, pieces: Sequence[PromptChunk]) -> list[Tensor]:
        """Process further prompt tokens of these rows.

        Returns each row's logits after its last token, [vocabulary] in fp32.
        """
        # Linear layers process the concatenated chunks, attention each chunk separately.
        slots, opened, start = self._slots, [], 0
        for piece in pieces:
            slot, filler = slots.slot(piece.key), self._filler(len(piece.tokens))
            self._adapter_of[piece.key] = piece.adapter
            before = slots.lengths[piece.key]
            mask = build_causal_mask(before, len(piece.tokens) + filler)
            slots.reserve(mask.shape[-1])
            opened.append(_ChunkState(slot, before, start, len(piece.tokens), filler, mask))
            start += len(piece.tokens) + filler
        given = [
            token
            for piece, own in zip(pieces, opened, strict=True)
            for token in [*piece.tokens, *[piece.tokens[-1]] * own.filler]
        ]
        positions = [position for own in opened for position in range(own.before, own.before + own.filled)]
        members = PieceAdapters([piece.adapter for piece in pieces], [own.filled for own in opened])
        with torch.inference_mode():
            x, cos, sin = self._opened(given, positions)
            for number, layer in enumerate(self._layers):
                query, key_states, value = self._projected(layer, x, cos, sin, members)
                keys, values = slots.keys[number], slots.values[number]
                mixed = [self._mixed(own, query, key_states, value, keys, values) for own in opened]
                x = self._rest(layer, x, mixed[0] if len(mixed) == 1 else torch.cat(mixed), members)
            scores = self._scores(x[torch.tensor([own.start + own.tokens - 1 for own in opened])])
            for piece, own in zip(pieces, opened, strict=True):
                slots.lengths[piece.key] = own.before + own.tokens
            return list(scores)

    def _mixed(
        self,
        own: _ChunkState,
        query: Tensor,
        key_states: Tensor,
        value: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """Write a chunk's keys and values to its slot, and attend to everything in the slot."""
        there, places = slice(own.start, own.start + own.tokens), slice(own.before, own.before + own.tokens)
        seen = own.mask.shape[-1]
        keys[own.slot, :, places] = key_states[there].transpose(0, 1)
        values[own.slot, :, places] = value[there].transpose(0, 1)
        asking = query[own.start : own.start + own.filled]
        return self._attended(asking, keys[own.slot, :, :seen], values[own.slot, :, :seen], own.mask)

    def step(self, keys: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Process one more token of each of these rows; return the next logits [rows, vocabulary] in fp32.

        All other rows are unchanged.
        """
        slots = self._slots
        order = slots.order
        of_key = dict(zip(keys, tokens, strict=True))
        lengths = [slots.lengths[key] + 1 for key in order]
        slots.reserve(max(lengths))
        mask = build_padding_mask(lengths)
        slots.reserve(mask.shape[-1])
        filler = self._filler(len(order))
        given = [*(of_key.get(key, 0) for key in order), *[0] * filler]
        positions = [*(length - 1 for length in lengths), *[0] * filler]
        members = self._members_of([*(self._adapter_of[key] for key in order), *[NO_ADAPTER] * filler])
        places, at = torch.arange(len(order)), torch.tensor(positions[: len(order)])
        with torch.inference_mode():
            x, cos, sin = self._opened(given, positions)
            for number, layer in enumerate(self._layers):
                query, key_states, value = self._projected(layer, x, cos, sin, members)
                slots.keys[number][places, :, at] = key_states[: len(order)].float()
                slots.values[number][places, :, at] = value[: len(order)]
                mixed = self._looked_up(query, number, len(order), mask)
                x = self._rest(layer, x, mixed, members)
            for key in keys:
                slots.lengths[key] += 1
            rows = torch.tensor([order.index(key) for key in keys])
            return self._scores(x[rows])

    def release(self, key: int) -> None:
        """Remove a row."""
        self._slots.release(key)
        self._adapter_of.pop(key, None)

    def fork(self, key: int, copy: int) -> None:
        """Add a copy of a row."""
        self._slots.fork(key, copy)
        self._adapter_of[copy] = self._adapter_of[key]

    def _filler(self, rows: int) -> int:
        return 0 if self._dtype == torch.bfloat16 else -rows % ROW_MULTIPLE

    def _members_of(self, adapters: list[int]) -> RowAdapters:
        if self._members != tuple(adapters):
            self._members, self._membership = tuple(adapters), RowAdapters(adapters)
        return self._membership

    def _opened(self, tokens: list[int], positions: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        x = F.embedding(torch.tensor(tokens), self._embedding)
        cos, sin = self._rotary(x[None], position_ids=torch.tensor(positions)[None])
        return x, cos[0][:, None], sin[0][:, None]

    def _projected(
        self, layer: BatchedLayer, x: Tensor, cos: Tensor, sin: Tensor, members: RowAdapters | PieceAdapters
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [tokens, heads, width], the first two with rotary positions."""
        joined = layer.qkv(_rms_norm(x, layer.before_attention, self._eps), members)
        heads = joined.view(len(x), self._heads + 2 * self._kv, self._width)
        query, key, value = heads.split([self._heads, self._kv, self._kv], 1)
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = (
                _rms_norm(query, layer.query_norm, self._eps),
                _rms_norm(key, layer.key_norm, self._eps),
            )
            turned = _apply_rotary(torch.cat((query, key), 1), cos, sin)
        else:
            turned = _apply_rotary(heads[:, : self._heads + self._kv], cos, sin)
        return turned[:, : self._heads], turned[:, self._heads :], value

    def _attended(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attend from one row's tokens [tokens, heads, width] to its keys [key heads, keys, width]."""
        tokens, shared = len(query), self._heads // self._kv
        stacked = (query.float() * self._scaling).view(tokens, self._kv, shared, self._width)
        stacked = stacked.permute(1, 2, 0, 3).reshape(self._kv, shared * tokens, self._width)
        scores = torch.bmm(stacked, keys.transpose(1, 2)).view(self._kv, shared, tokens, -1)
        weights = scores.add_(mask).softmax(-1).view(self._kv, shared * tokens, -1).to(values.dtype)
        mixed = torch.bmm(weights, values).view(self._kv, shared, tokens, self._width)
        return mixed.permute(2, 0, 1, 3).reshape(tokens, -1)

    def _looked_up(self, query: Tensor, number: int, rows: int, mask: Tensor) -> Tensor:
        """Attend from one token per row to the keys of its own slot; padding rows get zeros."""
        longest, shared = mask.shape[-1], self._heads // self._kv
        keys, values = (slots[number][:rows] for slots in (self._slots.keys, self._slots.values))
        stacked = query[:rows].reshape(rows, self._kv, shared, self._width)
        if self._dtype == torch.float32:
            mixed = F.scaled_dot_product_attention(
                stacked, keys[:, :, :longest], values[:, :, :longest], mask, scale=self._scaling
            )
        else:  # torch's kernel would round in other places
            stacked = (stacked.float() * self._scaling).flatten(0, 1)
            scores = torch.bmm(stacked, keys.flatten(0, 1)[:, :longest].transpose(1, 2))
            weights = scores.view(rows, self._kv, shared, longest).add_(mask).softmax(-1).to(values.dtype)
            mixed = torch.bmm(weights.flatten(0, 1), values.flatten(0, 1)[:, :longest])
        mixed = mixed.reshape(rows, -1)
        return F.pad(mixed, (0, 0, 0, len(query) - rows)) if rows < len(query) else mixed

    def _rest(
        self, layer: BatchedLayer, x: Tensor, mixed: Tensor, members: RowAdapters | PieceAdapters
    ) -> Tensor:
        x = x + layer.out(mixed, members)
        gate, up = layer.gate_up(_rms_norm(x, layer.before_mlp, self._eps), members).split(
            list(layer.gate_up.widths), -1
        )
        return x + layer.down(F.silu(gate).mul_(up), members)

    def _scores(self, x: Tensor) -> Tensor:
        filler = self._filler(len(x))
        normed = _rms_norm(
            F.pad(x, (0, 0, 0, filler)) if filler else x.contiguous(), self._last_norm, self._eps
        )
        return self._head(normed)[: len(x)].float()


def _build_layer(base: ModelParts, adapters: Sequence[ModelParts], number: int) -> BatchedLayer:
    layer = base.layers[number]
    module = layer.module
    groups = [
        StackedLinears(
            build_product(layer.all_of(*names)),
            [LoraStack.of([parts.layers[number].linears[name] for parts in adapters]) for name in names],
            [_get_width(layer.linears[name]) for name in names],
        )
        for names in PROJECTION_GROUPS
    ]
    attention = module.self_attn
    norms = [
        getattr(attention, name).weight.detach() if hasattr(attention, name) else None
        for name in ("q_norm", "k_norm")
    ]
    for parts in (base, *adapters):  # the products hold the weights now
        parts.layers[number].linears.clear()
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


def _get_width(linear: Affine) -> int:
    return int(linear.state.shape[0]) if linear.state is not None else len(linear.weight)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def _apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin
