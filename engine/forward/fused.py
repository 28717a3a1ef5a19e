"""The parts of a Llama-like layer as autograd functions that keep little: backward computes again what is
cheap.

A layer keeps its two residual streams, queries, keys, values, the mixed values, gate and up; normed inputs
and the product of gate and up are made again. Sums are rounded no more often than in the modules that these
stand for. All tensors are [tokens, width]; there is no padding among the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.forward import affine
from engine.forward.affine import Affine
from engine.forward.operations import repeated

BLOCK = 2**17  # numbers of a tensor that are worked on at a time: a few such blocks fit into a core's cache
LOSS_ROWS = 32  # whose fp32 logits are held at a time
HEAD_ROWS = 512  # whose logits are


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed rows, and one over the root mean square of each, [rows, 1] in fp32."""
    normed = torch.empty_like(x)
    inverse = x.new_empty(len(x), 1, dtype=torch.float32)
    wide = weight.float()
    for rows in _rows(x):
        unit = _wide(x[rows])
        factor = torch.linalg.vector_norm(unit, dim=-1, keepdim=True)
        inverse[rows] = factor.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed[rows] = unit.mul_(factor).mul_(wide)
    return normed, inverse


def _norm_backward(
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
    for rows in _rows(x):
        unit = _wide(x[rows]).mul_(inverse[rows])
        if grad is not None and dx is not None:
            wanted = _wide(grad[rows])
            if of_weight is not None:
                of_weight += (wanted * unit).sum(0)
            wanted.mul_(wide)
            share = (wanted * unit).sum(-1, keepdim=True).div_(-x.shape[-1])
            wanted.addcmul_(unit, share).mul_(inverse[rows])
            dx[rows] = wanted if residual is None else wanted.add_(residual[rows])
        normed[rows] = unit.mul_(wide)
    return normed, dx, None if of_weight is None else of_weight.to(weight.dtype)


def _wide(x: Tensor) -> Tensor:
    """A copy in fp32."""
    return x.to(torch.float32, copy=True)


def _rows(x: Tensor) -> Iterator[slice]:
    """The rows of x, a few at a time, so that what is made between two steps stays in the cache."""
    return _blocks(x, max(1, BLOCK // x.shape[-1]))


def _blocks(x: Tensor, count: int) -> Iterator[slice]:
    """The rows of x, `count` at a time; without numbers the first stand for all, as the others take no
    more."""
    if not x.is_meta:
        for first in range(0, len(x), count):
            yield slice(first, first + count)
        return
    with repeated(max(1.0, len(x) / count)):
        yield slice(0, count)


class RmsNorm(torch.autograd.Function):
    """weight · x / rms(x), over the rows of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normed, inverse = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, inverse = ctx.saved_tensors
        return *_norm_backward(grad, x, weight, inverse, ctx.needs_input_grad[1])[1:], None


class NormedLinears(torch.autograd.Function):
    """(x, and each part of the normed x): the first output is for the residual, so that gradients meet in
    fp32."""

    @staticmethod
    def forward(
        ctx: Any, parts: Sequence[Affine], eps: float, x: Tensor, weight: Tensor, *_: Any
    ) -> tuple[Tensor, ...]:
        normed, inverse = _normed(x, weight, eps)
        outputs, low = affine.forward(normed, parts)
        ctx.parts = parts
        ctx.save_for_backward(x, weight, inverse, low)
        return (x.view_as(x), *outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, residual: Tensor, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, inverse, low = ctx.saved_tensors
        to_x, to_weight, *needs = ctx.needs_input_grad[2:]
        dx, of_low = affine.input_gradient(ctx.parts, grads, to_x or to_weight)
        normed, dx, of_weight = _norm_backward(dx, x, weight, inverse, to_weight, residual)
        of_tensors = affine.weight_gradients(normed, ctx.parts, low, of_low, grads, needs)
        return None, None, dx, of_weight, *of_tensors


class AddedLinear(torch.autograd.Function):
    """residual + the part of x."""

    @staticmethod
    def forward(ctx: Any, part: Affine, x: Tensor, residual: Tensor, *_: Any) -> Tensor:
        (output,), low = affine.forward(x, [part], residual)
        ctx.part = part
        ctx.save_for_backward(x, low)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, low = ctx.saved_tensors
        to_x, _, *needs = ctx.needs_input_grad[1:]
        dx, of_low = affine.input_gradient([ctx.part], [grad], to_x)
        return None, dx, grad, *affine.weight_gradients(x, [ctx.part], low, of_low, [grad], needs)


class AddedSwiglu(torch.autograd.Function):
    """residual + the part of silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, part: Affine, gate: Tensor, up: Tensor, residual: Tensor, *_: Any) -> Tensor:
        product = torch.empty_like(gate)
        for rows in _rows(gate):
            torch.mul(F.silu(gate[rows]), up[rows], out=product[rows])
        (output,), low = affine.forward(product, [part], residual)
        ctx.part = part
        ctx.save_for_backward(gate, up, low)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gate, up, low = ctx.saved_tensors
        dx, of_low = affine.input_gradient([ctx.part], [grad], True)
        assert dx is not None
        product, of_gate = torch.empty_like(gate), torch.empty_like(gate)
        for rows in _rows(gate):
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
            *affine.weight_gradients(product, [ctx.part], low, of_low, [grad], needs),
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
        for rows in _blocks(hidden, HEAD_ROWS):
            logits = hidden[rows] @ weight.t()
            wanted_here = targets[rows]
            logits[len(wanted_here) :] = 0
            for few in _blocks(logits, LOSS_ROWS):
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
