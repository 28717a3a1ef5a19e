"""Work of a step's operations, counted from shapes, and parts of a Llama-like layer as autograd functions."""

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

# Work of a step's operations, counted from shapes alone by KINDS, each with its own rate on a device.
#
# Matrix products are counted in floating-point operations, all other operations in bytes read and written,
# since memory bandwidth limits them. It also limits products with a narrow matrix, such as those of adapters.

aten = torch.ops.aten
# products: matrix products; attention: batched small ones; moved: bytes; calls: number of operations
KINDS = ("products", "attention", "moved", "calls")
NARROW = 64  # rows, columns or inner size below which a product is limited by memory bandwidth

OperationWork = tuple[float, float, float]  # all KINDS except calls

_MATRICES = {aten.mm, aten.addmm, aten.addmm_, aten.bmm, aten.baddbmm, aten.baddbmm_}
_NOTHING = {
    aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided,
    aten._unsafe_view, aten.lift_fresh,
}  # fmt: skip
_PICKING = {aten.embedding, aten.index_select, aten.index, aten._unsafe_index, aten.gather}
_WRITING = {aten.copy_, aten.fill_, aten.zero_}  # the first tensor is not read
_PLACING = {aten.index_put_, aten._index_put_impl_, aten.index_add_, aten.scatter_, aten.index_copy_}
# Fused attention: position of the queries among its tensors (keys follow), and number of matrix products
_FUSED = {
    aten._scaled_dot_product_flash_attention_for_cpu: (0, 2),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (1, 5),
}

_times = 1.0


@contextmanager
def repeat_operations(times: float) -> Iterator[None]:
    """Count each operation within the context `times` times."""
    global _times
    before = _times
    _times = before * times
    try:
        yield
    finally:
        _times = before


def get_repeat_count() -> float:
    """Return how many times each operation counts at the moment."""
    return _times


def count_work(func: Any, taken: Sequence[torch.Tensor], made: Sequence[torch.Tensor]) -> OperationWork:
    """Count an operation's work from its input and output tensors."""
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
        gradients = min(2, len(made))  # of the input and of the kernel; the bias's isn't a product
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
    """Work of one micro-batch, by KINDS.

    - tokens, trained: its tokens, and the trained ones among them
    - length: mean row length
    - layers, loss: forward and backward of the layers, and of the output layer with the loss
    - forward, judged: the same two for a pass without gradients
    """

    tokens: float
    trained: float
    length: float
    layers: np.ndarray
    loss: np.ndarray
    forward: np.ndarray
    judged: np.ndarray

    def step(self, tokens: float, trained: float, length: float, pieces: float) -> np.ndarray:
        """Return the work of training on `tokens` tokens in `pieces` micro-batches.

        All kinds but calls scale with the tokens; attention also scales with the row length.
        """
        counted: np.ndarray = (
            self._times(tokens, length, pieces) * self.layers + self._trained(trained, pieces) * self.loss
        )
        return counted

    def evaluation(self, tokens: float, trained: float, length: float) -> np.ndarray:
        """Return the work of a pass without gradients over `tokens` tokens."""
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
    """Return the mean row length weighted by tokens, to which the work of attention is proportional."""
    return float((lengths.astype(float) ** 2).sum() / max(1, lengths.sum()))


# The parts of a Llama-like layer as autograd functions that store little: backward recomputes what is cheap.
#
# A layer stores its two residual streams, queries, keys, values, the attention output, gate and up;
# normalised inputs and the product of gate and up are recomputed. Sums are rounded no more often than in the
# modules that these replace. All tensors are [tokens, width], without padding among the tokens.

BLOCK = 2**17  # values of a tensor processed at a time: a few such blocks fit into a core's cache
LOSS_ROWS = 32  # rows whose fp32 logits are held at a time
HEAD_ROWS = 512  # rows whose logits are held at a time


def _normalise_rows(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the normalised rows, and the inverse root mean square of each, [rows, 1] in fp32."""
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
    """Recompute the normalised rows, and return the gradients of input and weight.

    The input's gradient is None without `grad`. `residual`: further gradient that is added to the input's.
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
    """Return a copy in fp32."""
    return x.to(torch.float32, copy=True)


def _iterate_rows(x: Tensor) -> Iterator[slice]:
    """Yield the rows of x in slices small enough for intermediate results to stay in the cache."""
    return _iterate_blocks(x, max(1, BLOCK // x.shape[-1]))


def _iterate_blocks(x: Tensor, count: int) -> Iterator[slice]:
    """Yield the rows of x, `count` at a time.

    On the meta device only the first block is processed and counted for all, since each takes the same work.
    """
    if not x.is_meta:
        for first in range(0, len(x), count):
            yield slice(first, first + count)
        return
    with repeat_operations(max(1.0, len(x) / count)):
        yield slice(0, count)


class RmsNorm(torch.autograd.Function):
    """RMS norm of the rows of x: weight · x / rms(x)."""

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
    """Return x and the output of each part on the normalised x.

    The first output is for the residual stream, so that its gradients are summed in fp32.
    """

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
    """Return residual + part(x)."""

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
    """Return residual + part(silu(gate) · up)."""

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
            dx[rows] *= active  # now the gradient of `up`
        needs = ctx.needs_input_grad[4:]
        return (
            None,
            of_gate,
            dx,
            grad,
            *llama_layers.compute_weight_gradients(product, [ctx.part], low, of_low, [grad], needs),
        )


class SummedLoss(torch.autograd.Function):
    """Summed cross-entropy of `targets` under the logits hidden · weightᵀ.

    Surplus rows of `hidden` are ignored. Gradients are computed in forward, in place of the logits, so
    that no logits are stored and few are in fp32.
    """

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
