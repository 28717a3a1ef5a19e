"""The operations of a step: what they do, counted from shapes alone, and the parts of a Llama-like layer as
autograd functions that keep little, as backward computes again what is cheap.

Each kind of work has a rate of its own on a device: products count floating-point operations, all else
bytes. All tensors of the parts are [tokens, width]; there is no padding among the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.models.forward import llama_layers
from engine.models.forward.llama_layers import Affine

# What the operations of a step do, counted from shapes alone: KINDS of work, each with a rate of its own on
# a device.
#
# Matrix products are counted in floating-point operations, all else by the bytes that it reads and writes,
# since those are what it waits for. A product with a narrow matrix, as adapters have them, waits for bytes
# too.

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
def repeat_operations(times: float) -> Iterator[None]:
    """Operations inside stand for `times` as many of them."""
    global _times
    before = _times
    _times = before * times
    try:
        yield
    finally:
        _times = before


def get_repeat_count() -> float:
    """How many operations each one stands for at the moment."""
    return _times


def count_work(func: Any, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> OperationWork:
    """What an operation does with the tensors that it takes and makes."""
    packet = func._overloadpacket
    if packet in _NOTHING or not made:
        return 0.0, 0.0, 0.0
    if packet in _MATRICES:
        left, out = taken[-2], made[0]
        flops = 2.0 * out.numel() * left.shape[-1]
        if min(*out.shape[-2:], left.shape[-1]) < NARROW:
            return 0.0, 0.0, _count_bytes(taken) + _count_bytes(made)
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
    return 0.0, 0.0, _count_moved_bytes(packet, taken, made)


def _count_moved_bytes(packet: Any, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> float:
    out = _count_bytes(made)
    if packet in _PICKING:
        return 2 * out
    if packet in _PLACING:
        return 2 * _count_bytes(taken[-1:])
    return out + _count_bytes(taken[1:] if packet in _WRITING else taken)


def _count_bytes(tensors: Sequence[torch.Tensor]) -> float:
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
        counted: np.ndarray = (
            self._times(tokens, length, pieces) * self.layers + self._trained(trained, pieces) * self.loss
        )
        return counted

    def evaluation(self, tokens: float, trained: float, length: float) -> np.ndarray:
        """A pass without gradients over so many tokens."""
        pieces = tokens / self.tokens
        counted: np.ndarray = (
            self._times(tokens, length, pieces) * self.forward + self._trained(trained, pieces) * self.judged
        )
        return counted

    def _times(self, tokens: float, length: float, pieces: float) -> np.ndarray:
        more = tokens / self.tokens
        return np.array([more, more * length / self.length, more, pieces])

    def _trained(self, trained: float, pieces: float) -> np.ndarray:
        return np.array([trained / max(1.0, self.trained)] * 3 + [pieces])


def compute_mean_length(lengths: np.ndarray) -> float:
    """The length of the row that a token is in, on average: what attention grows with."""
    return float((lengths.astype(float) ** 2).sum() / max(1, lengths.sum()))


# The parts of a Llama-like layer as autograd functions that keep little: backward computes again what is
# cheap.
#
# A layer keeps its two residual streams, queries, keys, values, the mixed values, gate and up; normed inputs
# and the product of gate and up are made again. Sums are rounded no more often than in the modules that these
# stand for. All tensors are [tokens, width]; there is no padding among the tokens.

BLOCK = 2**17  # numbers of a tensor that are worked on at a time: a few such blocks fit into a core's cache
LOSS_ROWS = 32  # whose fp32 logits are held at a time
HEAD_ROWS = 512  # whose logits are


def _normalise_rows(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed rows, and one over the root mean square of each, [rows, 1] in fp32."""
    normed = torch.empty_like(x)
    inverse = x.new_empty(len(x), 1, dtype=torch.float32)
    wide = weight.float()
    for rows in _iterate_rows(x):
        unit = _upcast(x[rows])
        factor = torch.linalg.vector_norm(unit, dim=-1, keepdim=True)
        inverse[rows] = factor.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed[rows] = unit.mul_(factor).mul_(wide)
    return normed, inverse


def _backpropagate_norm(
    grad: Tensor | None,
    x: Tensor,
    weight: Tensor,
    inverse: Tensor,
    to_weight: bool,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The normed rows again, and the gradients of the input, where `grad` is there, and of the weight.

    `residual`: what the input's gradient gets from elsewhere.
    """
    normed = torch.empty_like(x)
    dx = None if grad is None else torch.empty_like(x)
    wide = weight.float()
    of_weight = torch.zeros_like(wide) if to_weight else None
    for rows in _iterate_rows(x):
        unit = _upcast(x[rows]).mul_(inverse[rows])
        if grad is not None and dx is not None:
            wanted = _upcast(grad[rows])
            if of_weight is not None:
                of_weight += (wanted * unit).sum(0)
            wanted.mul_(wide)
            share = (wanted * unit).sum(-1, keepdim=True).div_(-x.shape[-1])
            wanted.addcmul_(unit, share).mul_(inverse[rows])
            dx[rows] = wanted if residual is None else wanted.add_(residual[rows])
        normed[rows] = unit.mul_(wide)
    return normed, dx, None if of_weight is None else of_weight.to(weight.dtype)


def _upcast(x: Tensor) -> Tensor:
    """A copy in fp32."""
    return x.to(torch.float32, copy=True)


def _iterate_rows(x: Tensor) -> Iterator[slice]:
    """The rows of x, a few at a time, so that what is made between two steps stays in the cache."""
    return _iterate_blocks(x, max(1, BLOCK // x.shape[-1]))


def _iterate_blocks(x: Tensor, count: int) -> Iterator[slice]:
    """The rows of x, `count` at a time; without numbers the first stand for all, as the others take no
    more."""
    if not x.is_meta:
        for first in range(0, len(x), count):
            yield slice(first, first + count)
        return
    with repeat_operations(max(1.0, len(x) / count)):
        yield slice(0, count)


class RmsNorm(torch.autograd.Function):
    """weight · x / rms(x), over the rows of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _normalise_rows(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, inverse = ctx.saved_tensors
        return *_backpropagate_norm(grad, x, weight, inverse, ctx.needs_input_grad[1])[1:], None


class NormedLinears(torch.autograd.Function):
    """(x, and each part of the normed x): the first output is for the residual, so that gradients meet in
    fp32."""

    @staticmethod
    def forward(
        ctx: Any, parts: Sequence[Affine], eps: float, x: Tensor, weight: Tensor, *_: Any
    ) -> tuple[Tensor, ...]:
        normed, inverse = _normalise_rows(x, weight, eps)
        outputs, low = llama_layers.forward_linears(normed, parts)
        ctx.parts = parts
        ctx.save_for_backward(x, weight, inverse, low)
        return (x.view_as(x), *outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, residual: Tensor, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, inverse, low = ctx.saved_tensors
        to_x, to_weight, *needs = ctx.needs_input_grad[2:]
        dx, of_low = llama_layers.compute_input_gradient(ctx.parts, grads, to_x or to_weight)
        normed, dx, of_weight = _backpropagate_norm(dx, x, weight, inverse, to_weight, residual)
        of_tensors = llama_layers.compute_weight_gradients(normed, ctx.parts, low, of_low, grads, needs)
        return None, None, dx, of_weight, *of_tensors


class ResidualLinear(torch.autograd.Function):
    """residual + the part of x."""

    @staticmethod
    def forward(ctx: Any, part: Affine, x: Tensor, residual: Tensor, *_: Any) -> Tensor:
        (output,), low = llama_layers.forward_linears(x, [part], residual)
        ctx.part = part
        ctx.save_for_backward(x, low)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, low = ctx.saved_tensors
        to_x, _, *needs = ctx.needs_input_grad[1:]
        dx, of_low = llama_layers.compute_input_gradient([ctx.part], [grad], to_x)
        return (
            None,
            dx,
            grad,
            *llama_layers.compute_weight_gradients(x, [ctx.part], low, of_low, [grad], needs),
        )


class ResidualSwiglu(torch.autograd.Function):
    """residual + the part of silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, part: Affine, gate: Tensor, up: Tensor, residual: Tensor, *_: Any) -> Tensor:
        product = torch.empty_like(gate)
        for rows in _iterate_rows(gate):
            torch.mul(F.silu(gate[rows]), up[rows], out=product[rows])
        (output,), low = llama_layers.forward_linears(product, [part], residual)
        ctx.part = part
        ctx.save_for_backward(gate, up, low)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gate, up, low = ctx.saved_tensors
        dx, of_low = llama_layers.compute_input_gradient([ctx.part], [grad], True)
        assert dx is not None
        product, of_gate = torch.empty_like(gate), torch.empty_like(gate)
        for rows in _iterate_rows(gate):
            active = F.silu(gate[rows])
            torch.mul(active, up[rows], out=product[rows])
            of_gate[rows] = torch.ops.aten.silu_backward(dx[rows] * up[rows], gate[rows])
            dx[rows] *= active  # what comes back to `up`
        needs = ctx.needs_input_grad[4:]
        return (
            None,
            of_gate,
            dx,
            grad,
            *llama_layers.compute_weight_gradients(product, [ctx.part], low, of_low, [grad], needs),
        )


class SummedLoss(torch.autograd.Function):
    """The summed cross-entropy of `targets` under logits hidden · weightᵀ, of as many rows; rows beyond are
    spare. The gradients are made at once, in place of the logits, so that no logits are kept and few are in
    fp32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden) if to_hidden else None
        of_weight = None
        for rows in _iterate_blocks(hidden, HEAD_ROWS):
            logits = hidden[rows] @ weight.t()
            wanted_here = targets[rows]
            logits[len(wanted_here) :] = 0
            for few in _iterate_blocks(logits, LOSS_ROWS):
                wanted = wanted_here[few]
                part = logits[few][: len(wanted)]
                log_share = F.log_softmax(part.float(), -1)
                total -= log_share.gather(1, wanted[:, None]).sum()
                if to_hidden or to_weight:
                    share = log_share.exp_()
                    share[torch.arange(len(wanted)), wanted] -= 1
                    part.copy_(share)
            if of_hidden is not None:
                torch.mm(logits, weight, out=of_hidden[rows])
            if to_weight:
                if of_weight is None:
                    of_weight = logits.t() @ hidden[rows]
                else:
                    of_weight.addmm_(logits.t(), hidden[rows])
        ctx.save_for_backward(of_hidden, of_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        return (
            None if of_hidden is None else of_hidden * grad,
            None if of_weight is None else of_weight * grad,
            None,
        )
