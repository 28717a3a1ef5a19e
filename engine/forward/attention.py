"""Attention for short rows in bf16 on a CPU, as plain batched matrix products.

torch's fused kernel for CPUs works in blocks made for long rows: at 58 tokens its forward and backward take
five times as long as the products themselves, at 256 twice, and beyond about 400 it wins. Query heads that
share a key head are stacked into one product, so that keys are never repeated. Anything this does not cover
(a mask, a cache, dropout, long rows) goes to transformers' own function.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tunebench_short_rows"
LONGEST = 384  # tokens


def use_where_faster(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Switch a model that would use torch's kernel over, where that kernel is slow."""
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
    """Causal attention; query [batch, heads, tokens, width], key and value with fewer heads.

    Answers [batch, tokens, heads, width], as transformers expects it.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    batch, heads, tokens, width = query.shape
    plain = attention_mask is None and causal and not dropout and 1 < tokens <= LONGEST
    special = others.get("softcap") is not None or others.get("position_bias") is not None
    if not plain or special or key.shape[2] != tokens or key.shape != value.shape:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    groups = batch * key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    stacked = (query * scale).reshape(groups, -1, width)
    scores = torch.bmm(stacked, key.reshape(groups, tokens, width).transpose(1, 2))
    scores = scores.view(-1, tokens, tokens) + _future(tokens, query.dtype)
    weights = scores.softmax(-1).view(groups, -1, tokens)  # torch sums in fp32
    mixed = torch.bmm(weights, value.reshape(groups, tokens, width))
    return mixed.view(batch, heads, tokens, width).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=LONGEST)
def _future(tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """-inf where a column lies after its row."""
    with torch.inference_mode(False):
        return torch.full((tokens, tokens), float("-inf"), dtype=dtype).triu(1)
