"""Linear layers of a batched forward: base weights in their fastest form, and stacked adapters.

The LoRA pairs of several adapters for one layer are stacked in one matrix. Rows of a batch that belong to
different adapters go through the whole stack once, and the parts of other adapters are multiplied by zero:
each row gets the same numbers as alone, at the cost of two products per layer for any number of adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.forward.llama_layers import Affine

NO_ADAPTER = -1  # adapter number of rows without an adapter


class LinearProduct(Protocol):
    """A linear layer: x weightᵀ + bias."""

    def __call__(self, x: Tensor) -> Tensor: ...


BLOCK_ROWS = 32  # rows per block of a bf16 product on a processor with AMX


@cache
def has_amx() -> bool:
    """Return whether the processor has AMX tiles for bf16.

    oneDNN then sums in another order for some numbers of rows, so that a row's last bits depend on its
    batch; products of a fixed size don't have that problem.
    """
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def multiply_in_blocks(multiply: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the product for x [rows, inputs].

    bf16 with AMX is multiplied in blocks of a fixed size, the last one padded.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or not has_amx():
        return multiply(x)
    filled = F.pad(x, (0, 0, 0, -len(x) % BLOCK_ROWS))
    return torch.cat([multiply(block) for block in filled.split(BLOCK_ROWS)])[: len(x)]


@dataclass(frozen=True)
class DenseProduct:
    """Product with the weight in its usual layout."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return multiply_in_blocks(lambda block: F.linear(block, self.weight, self.bias), x)


@dataclass(frozen=True)
class PackedProduct:
    """Product with a weight in the layout of oneDNN's kernels.

    A plain weight is reordered at each product, which for a few rows costs two to four times as much as
    the product itself.
    """

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return multiply_in_blocks(self._multiply, x)

    def _multiply(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return out


@dataclass(frozen=True)
class FourBitProduct:
    """Product with a 4-bit weight, dequantised each time."""

    affine: Affine

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.affine.dense(x.dtype)
        return multiply_in_blocks(lambda block: F.linear(block, weight, self.affine.bias), x)


@dataclass(frozen=True)
class JoinedProducts:
    """Several products of one input, with concatenated outputs."""

    parts: Sequence[LinearProduct]

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], -1)


def can_pack(weight: Tensor) -> bool:
    """Return whether products with this weight gain from packing."""
    return (
        weight.dtype in (torch.bfloat16, torch.float32)
        and weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def build_product(parts: Sequence[Affine]) -> LinearProduct:
    """Combine layers that share an input into one product."""
    if any(part.state is not None for part in parts):
        products = [
            FourBitProduct(part) if part.state is not None else build_dense_product(part.weight, part.bias)
            for part in parts
        ]
        return products[0] if len(products) == 1 else JoinedProducts(products)
    weight = parts[0].weight if len(parts) == 1 else torch.cat([part.weight for part in parts])
    bias = None
    if any(part.bias is not None for part in parts):
        bias = torch.cat(
            [part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts]
        ).detach()
    return build_dense_product(weight, bias)


def build_dense_product(weight: Tensor, bias: Tensor | None) -> LinearProduct:
    """Build the product with a dense weight."""
    weight = weight.detach()
    if can_pack(weight):
        return PackedProduct(torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()), bias)
    return DenseProduct(weight, bias)


class RowAdapters:
    """Adapter of each row of a batch (NO_ADAPTER: none)."""

    def __init__(self, adapters: Sequence[int]) -> None:
        self._adapters = torch.tensor(adapters)
        self.present = sorted({adapter for adapter in adapters if adapter != NO_ADAPTER})
        self.is_uniform = len(self.present) == 1 and NO_ADAPTER not in adapters
        self._masks: dict[tuple[int, ...], Tensor] = {}

    def list_spans(self) -> Sequence[tuple[slice, RowAdapters]]:
        """Return runs of rows that go through adapters together, with their adapters."""
        return [(slice(None), self)] if self.present else []

    def get_mask(self, ranks: tuple[int, ...], scales: Tensor) -> Tensor:
        """Return [rows, all ranks]: the scale of a row's own adapter, and zero elsewhere."""
        key = (*ranks, id(scales))
        if key not in self._masks:
            owner = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
            matches = self._adapters[:, None] == owner
            self._masks[key] = matches.to(scales.device, scales.dtype) * scales
        return self._masks[key]


class PieceAdapters:
    """Adapters of concatenated prompt chunks.

    Each chunk goes through its adapter separately, as the rounding of an adapter's narrow products depends
    on the number of rows.
    """

    def __init__(self, adapters: Sequence[int], lengths: Sequence[int]) -> None:
        ends = list(accumulate(lengths, initial=0))
        self._spans = [
            (slice(start, end), RowAdapters([adapter] * (end - start)))
            for adapter, start, end in zip(adapters, ends, ends[1:], strict=False)
            if adapter != NO_ADAPTER
        ]

    def list_spans(self) -> Sequence[tuple[slice, RowAdapters]]:
        """Return the rows of each chunk with an adapter, as `RowAdapters.spans` does."""
        return self._spans


@dataclass(frozen=True)
class LoraStack:
    """LoRA pairs of all adapters for one layer.

    `a` is [all ranks, in] and `b` [all ranks, out]. An adapter that doesn't change the layer has rank 0.
    """

    a: Tensor
    b: Tensor
    ranks: tuple[int, ...]
    scales: Tensor  # [all ranks]

    @classmethod
    def of(cls, parts: Sequence[Affine]) -> LoraStack | None:
        """Stack one layer's pairs, given the layer with each adapter; None if no adapter changes it."""
        pairs = [(part.a, part.b, part.scale) for part in parts if part.a is not None and part.b is not None]
        if not pairs:
            return None
        ranks = tuple(0 if part.a is None else len(part.a) for part in parts)
        scales = [torch.full((len(a),), scale, dtype=a.dtype, device=a.device) for a, _, scale in pairs]
        return cls(
            torch.cat([a.detach() for a, _, _ in pairs]),
            torch.cat([b.detach().t() for _, b, _ in pairs]),
            ranks,
            _intern_scales(torch.cat(scales)),
        )

    @cached_property
    def _ends(self) -> list[int]:
        ends = [0]
        for rank in self.ranks:
            ends.append(ends[-1] + rank)
        return ends

    def add_to(self, out: Tensor, x: Tensor, rows: RowAdapters) -> None:
        """Add the contribution of each row's adapter to `out`, the base's product of x."""
        if rows.is_uniform:
            adapter = rows.present[0]
            rank_range = slice(self._ends[adapter], self._ends[adapter + 1])
            if rank_range.start == rank_range.stop:
                return
            projected = torch.mm(x, self.a[rank_range].t()).mul_(self.scales[rank_range])
            out += torch.mm(projected, self.b[rank_range])
        elif rows.present:
            projected = torch.mm(x, self.a.t()).mul_(rows.get_mask(self.ranks, self.scales))
            out += torch.mm(projected, self.b)


_interned_scales: dict[tuple[float, ...], Tensor] = {}


def _intern_scales(scales: Tensor) -> Tensor:
    """Return one tensor for all layers with equal scales, so that they share their masks."""
    return _interned_scales.setdefault((*scales.tolist(), hash((scales.dtype, scales.device))), scales)


@dataclass(frozen=True)
class StackedLinears:
    """Layers that share an input, as one product, with each one's LoRA stack; `widths`: of their outputs."""

    base: LinearProduct
    stacks: Sequence[LoraStack | None]
    widths: Sequence[int]

    def __call__(self, x: Tensor, rows: RowAdapters | PieceAdapters) -> Tensor:
        """Return the concatenated outputs, [rows, sum of widths]."""
        out = self.base(x)
        for span, adapters in rows.list_spans():
            for part, stack in zip(out[span].split(list(self.widths), -1), self.stacks, strict=True):
                if stack is not None:
                    stack.add_to(part, x[span], adapters)
        return out
