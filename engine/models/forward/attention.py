"""Causal attention on a CPU: matrix products for short padded bf16 rows, and attention over packed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# Attention for short bf16 rows on a CPU, as plain batched matrix products.
#
# torch's fused kernel for CPUs works in blocks sized for long rows: at 58 tokens its forward and backward
# take five times as long as the products themselves, at 256 twice, and it only wins beyond about 400. Query
# heads that share a key head are stacked into one product, so that keys are never repeated. Anything not
# covered here (a mask, a cache, dropout, long rows) goes to transformers' own function.

NAME = "tunebench_short_rows"
MAX_TOKENS = 384  # tokens


def use_if_faster(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Switch the model to `attend` where torch's own kernel would be slower."""
    if device.type == "cpu" and dtype == torch.bfloat16 and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention; query [batch, heads, tokens, width], key and value with fewer heads.

    Returns [batch, tokens, heads, width], as transformers expects it.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    batch, heads, tokens, width = query.shape
    plain = attention_mask is None and causal and not dropout and 1 < tokens <= MAX_TOKENS
    special = others.get("softcap") is not None or others.get("position_bias") is not None
    if not plain or special or key.shape[2] != tokens or key.shape != value.shape:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    groups = batch * key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    stacked = (query * scale).reshape(groups, -1, width)
    scores = torch.bmm(stacked, key.reshape(groups, tokens, width).transpose(1, 2))
    scores = scores.view(-1, tokens, tokens) + _make_causal_mask(tokens, query.dtype)
    weights = scores.softmax(-1).view(groups, -1, tokens)  # torch sums in fp32
    mixed = torch.bmm(weights, value.reshape(groups, tokens, width))
    return mixed.view(batch, heads, tokens, width).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=MAX_TOKENS)
def _make_causal_mask(tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask with -inf where the column comes after the row."""
    with torch.inference_mode(False):
        return torch.full((tokens, tokens), float("-inf"), dtype=dtype).triu(1)


# Causal attention over packed rows, with rotary positions.
#
# Rows of similar length are laid out together, padded to a multiple at which softmax is fast; the padding
# follows the row's tokens, where causality hides it. Long rows are processed in blocks of queries, each
# against the keys up to its end.

MULTIPLE = 32  # number of keys: torch's bf16 softmax takes three times as long at other lengths
MAX_PADDING_RATIO = 1.4  # limit of padded tokens to tokens for rows to share a group
BLOCK = 256  # queries
MAX_KEPT_TOKENS = 128  # longer rows recompute their attention weights in backward


@dataclass(frozen=True)
class RowGroup:
    """Rows that are computed together.

    - tokens: their slice of the token dimension
    - queries, keys: flat index of the (token, head) at each place of [rows, heads, length]; the spare token's
      at padding
    - from_queries, from_keys: the inverse mapping
    - mask: [rows, length, keys], only in passes without gradients: added to the scores in place of the causal
      mask; the last `length` keys are the rows' own, and no token sees one after itself
    """

    tokens: slice
    rows: int
    length: int
    queries: Tensor
    keys: Tensor
    from_queries: Tensor
    from_keys: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """Layout of packed rows for attention.

    - heads, kv: numbers of query heads and of key-value heads
    - width: width of a head
    - scale: scale of the scores
    - groups: row groups
    - cos, sin: rotary factors [tokens, width]; `sin` is negated in the first half
    """

    heads: int
    kv: int
    width: int
    scale: float
    groups: Sequence[RowGroup]
    cos: Tensor
    sin: Tensor


class HeadCounts(NamedTuple):
    """Numbers of query heads and of key-value heads."""

    queries: int
    keys: int


def group_rows(lengths: Sequence[int], heads: HeadCounts, spare: int | None = None) -> list[RowGroup]:
    """Group neighbouring rows of these lengths while that adds little padding.

    `spare` is a token that belongs to none of the rows; by default the one after the last row.
    """
    spare = sum(lengths) if spare is None else spare
    row_groups: list[RowGroup] = []
    taken: list[int] = []
    start = 0
    for length in [*lengths, None]:
        together = [*taken, length] if length is not None else taken
        padded = -(-max(together) // MULTIPLE) * MULTIPLE * len(together)
        if taken and (length is None or padded > MAX_PADDING_RATIO * (sum(together) + MULTIPLE)):
            row_groups.append(_build_group(start, taken, heads, spare))
            start += sum(taken)
            taken = []
        if length is not None:
            taken.append(length)
    return row_groups


def _build_group(start: int, lengths: Sequence[int], heads: HeadCounts, spare: int) -> RowGroup:
    longest = -(-max(lengths) // MULTIPLE) * MULTIPLE
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    column = torch.cat([torch.arange(length) for length in lengths])
    tokens = torch.arange(start, start + len(rows))

    def ways(count: int) -> tuple[Tensor, Tensor]:
        head = torch.arange(count)
        back = ((rows[:, None] * count + head) * longest + column[:, None]).flatten()
        there = (spare * count + head).repeat(len(lengths))[:, None].repeat(1, longest).flatten()
        there[back] = (tokens[:, None] * count + head).flatten()
        return there, back

    (queries, from_queries), (keys, from_keys) = ways(heads.queries), ways(heads.keys)
    part = slice(start, start + len(rows))
    return RowGroup(part, len(lengths), longest, queries, keys, from_queries, from_keys)


def group_suffix(
    start: int,
    lengths: Sequence[int],
    ahead: Sequence[Tensor],
    heads: HeadCounts,
    spare: int,
    mask: Tensor,
) -> RowGroup:
    """Group the rows from token `start` on, prepending to each the keys of the tokens in `ahead`.

    The prepended keys are left-padded to the width of `mask`.
    """
    own, kv = _build_group(start, lengths, heads, spare), heads.keys
    front = torch.full((len(lengths), 1, mask.shape[2] - own.length), spare)
    for places, tokens in zip(front, ahead, strict=True):
        places[0, places.shape[1] - len(tokens) :] = tokens
    head = torch.arange(kv)
    keys = torch.cat((front * kv + head[:, None], own.keys.view(len(lengths), kv, own.length)), 2)
    return replace(own, keys=keys.flatten(), mask=mask)


@lru_cache(maxsize=64)
def make_causal_mask(first: int, last: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a mask for rows `first` to `last` with -inf where the column comes after the row."""
    with torch.inference_mode(False):
        return torch.full((last - first, last), float("-inf"), dtype=dtype, device=device).triu(first + 1)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x [tokens, heads, width]; with -sin, the inverse rotation."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), -1)
    return (x * cos[:, None]).addcmul_(swapped, sin[:, None])


class RotaryAttention(torch.autograd.Function):
    """Rotary attention over packed rows, from [tokens, their heads · width] to [tokens, heads · width].

    At least one spare token must follow the last row: spare tokens get zeros, and their values have no
    effect.
    """

    @staticmethod
    def forward(ctx: Any, layout: Layout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads, kv, width = layout.heads, layout.kv, layout.width
        query = _rotate(query.view(-1, heads, width), layout.cos * layout.scale, layout.sin * layout.scale)
        key = _rotate(key.view(-1, kv, width), layout.cos, layout.sin)
        value = value.view(-1, kv, width)
        output = torch.zeros_like(query)
        saved = []
        keep = any(ctx.needs_input_grad)
        for group in layout.groups:
            q, k, v = _lay_out(group, layout, query, key, value)
            mixed, weights = _attend(q, k, v, group.mask)
            mixed = mixed.view(-1, width).index_select(0, group.from_queries)
            output[group.tokens] = mixed.view(-1, heads, width)
            if keep:
                saved += [q, k, v, weights if group.length <= MAX_KEPT_TOKENS else None]
        ctx.layout = layout
        ctx.save_for_backward(*saved)
        return output.view(-1, heads * width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        layout: Layout = ctx.layout
        saved = ctx.saved_tensors
        heads, kv, width = layout.heads, layout.kv, layout.width
        grad = grad.reshape(-1, width)
        gradients = [grad.new_zeros(len(grad) // heads, count, width) for count in (heads, kv, kv)]
        for i, group in enumerate(layout.groups):
            q, k, v, weights = saved[4 * i : 4 * i + 4]
            back = _attend_backward(grad.index_select(0, group.queries).view(q.shape), q, k, v, weights)
            ways = (group.from_queries, group.from_keys, group.from_keys)
            for whole, part, places in zip(gradients, back, ways, strict=True):
                part = part.view(-1, width).index_select(0, places)
                whole[group.tokens] = part.view(-1, whole.shape[1], width)
        query, key, value = gradients
        sin = -layout.sin
        query = _rotate(query, layout.cos * layout.scale, sin * layout.scale)
        key = _rotate(key, layout.cos, sin)
        return None, query.flatten(1), key.flatten(1), value.flatten(1)


def _lay_out(group: RowGroup, layout: Layout, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Gather queries, keys and values by group.

    Queries are [rows · kv, heads per key head, length, width], keys and values [rows · kv, keys, width].
    """
    count, width = group.rows * layout.kv, layout.width
    q = query.view(-1, width).index_select(0, group.queries).view(count, -1, group.length, width)
    k, v = (x.reshape(-1, width).index_select(0, group.keys).view(count, -1, width) for x in (key, value))
    return [q, k, v]


def _compute_weights(
    q: Tensor, k: Tensor, first: int, last: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a block's stacked queries, and their attention weights over the keys up to the block's end."""
    block = q[:, :, first:last].reshape(len(q), -1, q.shape[-1])
    end = k.shape[1] - q.shape[2] + last
    scores = torch.bmm(block, k[:, :end].transpose(1, 2)).view(-1, last - first, end)
    if mask is None:
        scores += make_causal_mask(first, last, q.dtype, q.device)
    else:
        scores.view(len(mask), -1, last - first, end).add_(mask[:, None, first:last, :end])
    return block, scores.softmax(-1).view(len(q), -1, end)  # torch sums in fp32


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the attention output, shaped like q, and the weights of the last block."""
    length = q.shape[2]
    parts = []
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        _, weights = _compute_weights(q, k, first, last, mask)
        parts.append(torch.bmm(weights, v[:, : weights.shape[2]]).view(*q.shape[:2], last - first, -1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2), weights


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v; `kept`: the weights of the only block, if they were stored."""
    length = q.shape[2]
    of_k, of_v = torch.zeros_like(k), torch.zeros_like(v)
    of_q = []
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        if kept is None:
            block, weights = _compute_weights(q, k, first, last)
        else:
            block, weights = q.view(len(q), -1, q.shape[-1]), kept
        mine = grad[:, :, first:last].reshape(len(q), -1, q.shape[-1])
        of_v[:, :last] += torch.bmm(weights.transpose(1, 2), mine)
        of_weights = torch.bmm(mine, v[:, :last].transpose(1, 2))
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, q.dtype)
        of_q.append(torch.bmm(of_scores, k[:, :last]).view(*q.shape[:2], last - first, -1))
        of_k[:, :last] += torch.bmm(of_scores.transpose(1, 2), block)
    return of_q[0] if len(of_q) == 1 else torch.cat(of_q, 2), of_k, of_v
