"""What the operations of a step do, counted from shapes alone: KINDS of work, each with a rate of its own on
a device.

Matrix products are counted in floating-point operations, all else by the bytes that it reads and writes,
since those are what it waits for. A product with a narrow matrix, as adapters have them, waits for bytes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

aten = torch.ops.aten
# products: of two matrices; attention: of many small ones; moved: bytes; calls: how many operations
KINDS = ("products", "attention", "moved", "calls")
NARROW = 64  # rows, columns or inner size below which a product waits for bytes

OperationWork = tuple[float, float, float]  # all KINDS but calls

_MATRICES = {aten.mm, aten.addmm, aten.addmm_, aten.bmm, aten.baddbmm, aten.baddbmm_}
_NOTHING = {
    aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided,
    aten._unsafe_view, aten.lift_fresh,
}  # fmt: skip
_PICKING = {aten.embedding, aten.index_select, aten.index, aten._unsafe_index, aten.gather}
_WRITING = {aten.copy_, aten.fill_, aten.zero_}  # the first tensor is not read
_PLACING = {aten.index_put_, aten._index_put_impl_, aten.index_add_, aten.scatter_, aten.index_copy_}
# Fused attention, by where among its tensors queries stand, and keys behind them: matrix products inside
_FUSED = {
    aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
}

_times = 1.0


@contextmanager
def repeated(times: float) -> Iterator[None]:
    """Operations inside stand for `times` as many of them."""
    global _times
    before = _times
    _times = before * times
    try:
        yield
    finally:
        _times = before


def times() -> float:
    """How many operations each one stands for at the moment."""
    return _times


def work(func: Any, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> OperationWork:
    """What an operation does with the tensors that it takes and makes."""
    packet = func._overloadpacket
    if packet in _NOTHING or not made:
        return 0.0, 0.0, 0.0
    if packet in _MATRICES:
        left, out = taken[-2], made[0]
        flops = 2.0 * out.numel() * left.shape[-1]
        if min(*out.shape[-2:], left.shape[-1]) < NARROW:
            return 0.0, 0.0, _bytes(taken) + _bytes(made)
        return (0.0, flops, 0.0) if out.dim() == 3 else (flops, 0.0, 0.0)
    if packet in _FUSED:
        at, products = _FUSED[packet]
        query, key = taken[at : at + 2]
        return 0.0, 2.0 * products * query.numel() * key.shape[-2], 0.0
    if packet is aten.convolution:
        return 2.0 * made[0].numel() * taken[1][0].numel(), 0.0, 0.0
    if packet is aten.convolution_backward:
        gradients = min(2, len(made))  # of the input, of the kernel; one of the bias is no product
        return 2.0 * gradients * taken[0].numel() * taken[2][0].numel(), 0.0, 0.0
    return 0.0, 0.0, _moved(packet, taken, made)


def _moved(packet: Any, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> float:
    out = _bytes(made)
    if packet in _PICKING:
        return 2 * out
    if packet in _PLACING:
        return 2 * _bytes(taken[-1:])
    return out + _bytes(taken[1:] if packet in _WRITING else taken)


def _bytes(tensors: Sequence[torch.Tensor]) -> float:
    return float(sum(t.numel() * t.element_size() for t in tensors))


@dataclass(frozen=True)
class MicroBatchWork:
    """What a micro-batch takes, by KINDS: in the `layers` forward and backward, in the `loss` behind them;
    `forward` and `judged`: the same of a pass without gradients. It has so many tokens, `trained` ones among
    them, in rows of about `length`."""

    tokens: float
    trained: float
    length: float
    layers: np.ndarray
    loss: np.ndarray
    forward: np.ndarray
    judged: np.ndarray

    def step(self, tokens: float, trained: float, length: float, pieces: float) -> np.ndarray:
        """Training on so many tokens in so many micro-batches: all but calls is in proportion to tokens,
        attention to the length of their rows too."""
        return self._times(tokens, length, pieces) * self.layers + self._trained(trained, pieces) * self.loss

    def evaluation(self, tokens: float, trained: float, length: float) -> np.ndarray:
        """A pass without gradients over so many tokens."""
        pieces = tokens / self.tokens
        return (
            self._times(tokens, length, pieces) * self.forward + self._trained(trained, pieces) * self.judged
        )

    def _times(self, tokens: float, length: float, pieces: float) -> np.ndarray:
        more = tokens / self.tokens
        return np.array([more, more * length / self.length, more, pieces])

    def _trained(self, trained: float, pieces: float) -> np.ndarray:
        return np.array([trained / max(1.0, self.trained)] * 3 + [pieces])


def length_of(lengths: np.ndarray) -> float:
    """The length of the row that a token is in, on average: what attention grows with."""
    return float((lengths.astype(float) ** 2).sum() / max(1, lengths.sum()))
