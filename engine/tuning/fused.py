"""The parts of a Llama-like layer as autograd functions that keep little: backward computes again what is cheap.

A layer keeps its two residual streams, queries, keys, values, the mixed values, gate and up; normed inputs and
the product of gate and up are made again. Sums are rounded no more often than in the modules that these stand for.
All tensors are [tokens, width]; there is no padding among the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.tuning import affine
from engine.tuning.affine import Affine

LOSS_ROWS = 32  # whose fp32 logits are held at a time
HEAD_ROWS = 512  # whose logits are


def _inverse_length(x: Tensor, eps: float) -> Tensor:
    """One over the root mean square of each row, [tokens, 1] in fp32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _normed(x: Tensor, weight: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The normed rows, and in fp32 what they are before the weight."""
    unit = x.float() * inverse
    return unit.to(x.dtype) * weight, unit


def _norm_backward(
    grad: Tensor, weight: Tensor, unit: Tensor, inverse: Tensor, to_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the input, in fp32, and of the weight."""
    grad = grad.float()
    of_weight = (grad * unit).sum(0).to(weight.dtype) if to_weight else None
    grad = grad * weight
    share = (grad * unit).sum(-1, keepdim=True).div_(-unit.shape[-1])
    return grad.addcmul_(unit, share).mul_(inverse), of_weight


class RmsNorm(torch.autograd.Function):
    """weight · x / rms(x), over the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse_length(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return _normed(x, weight, inverse)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, inverse = ctx.saved_tensors
        unit = x.float() * inverse
        shape = unit.shape
        flat = (-1, shape[-1])
        dx, of_weight = _norm_backward(
            grad.reshape(flat), weight, unit.view(flat), inverse.view(-1, 1), ctx.needs_input_grad[1]
        )
        return dx.to(x.dtype).view(shape), of_weight, None


class NormedLinears(torch.autograd.Function):
    """(x, and each part of the normed x): the first output is for the residual, so that gradients meet in fp32."""

    @staticmethod
    def forward(ctx: Any, parts: Sequence[Affine], eps: float, x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
        inverse = _inverse_length(x, eps)
        outputs, low = affine.forward(_normed(x, weight, inverse)[0], parts)
        ctx.parts = parts
        ctx.save_for_backward(x, weight, inverse, low)
        return (x.view_as(x), *outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, residual: Tensor, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, inverse, low = ctx.saved_tensors
        to_x, to_weight, *needs = ctx.needs_input_grad[2:]
        normed, unit = _normed(x, weight, inverse)
        dx, found = affine.backward(normed, ctx.parts, low, grads, needs, to_x or to_weight)
        of_weight = None
        if dx is not None:
            dx, of_weight = _norm_backward(dx, weight, unit, inverse, to_weight)
            dx = dx.add_(residual).to(x.dtype)
        return None, None, dx, of_weight, *found


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
        dx, found = affine.backward(x, [ctx.part], low, [grad], needs, to_x)
        return None, dx, grad, *found


class AddedSwiglu(torch.autograd.Function):
    """residual + the part of silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, part: Affine, gate: Tensor, up: Tensor, residual: Tensor, *_: Any) -> Tensor:
        (output,), low = affine.forward(F.silu(gate).mul_(up), [part], residual)
        ctx.part = part
        ctx.save_for_backward(gate, up, low)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gate, up, low = ctx.saved_tensors
        active = F.silu(gate)
        product = active * up
        dx, found = affine.backward(product, [ctx.part], low, [grad], ctx.needs_input_grad[4:], True)
        assert dx is not None
        of_up = active.mul_(dx)
        of_gate = torch.ops.aten.silu_backward(torch.mul(dx, up, out=product), gate)
        return None, of_gate, of_up, grad, *found


class SummedLoss(torch.autograd.Function):
    """The summed cross-entropy of targets [rows] under logits hidden · weightᵀ. The gradients are made at once,
    in place of the logits, so that no logits are kept and few are held in fp32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        to_hidden, to_weight = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden) if to_hidden else None
        of_weight = None
        for first in range(0, len(hidden), HEAD_ROWS):
            rows = slice(first, first + HEAD_ROWS)
            logits = hidden[rows] @ weight.t()
            for part, wanted in zip(logits.split(LOSS_ROWS), targets[rows].split(LOSS_ROWS), strict=True):
                log_share = F.log_softmax(part.float(), -1)
                total -= log_share.gather(1, wanted[:, None]).sum()
                if to_hidden or to_weight:
                    share = log_share.exp_()
                    share[torch.arange(len(wanted)), wanted] -= 1
                    part.copy_(share)
            if of_hidden is not None:
                torch.mm(logits, weight, out=of_hidden[rows])
            if to_weight:
                more = logits.t() @ hidden[rows]
                of_weight = more if of_weight is None else of_weight.add_(more)
        ctx.save_for_backward(of_hidden, of_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        scale = float(grad)
        return (
            None if of_hidden is None else of_hidden * scale,
            None if of_weight is None else of_weight * scale,
            None,
        )
