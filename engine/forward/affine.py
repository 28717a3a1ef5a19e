"""Linear layers as their numbers: weight, bias and LoRA pair, forward and backward written out.

peft's modules are read, never changed: a layer that is anything but a plain linear layer, dense or 4-bit,
with at most one plain LoRA pair answers None. Layers that share an input are computed together, so that their
low-rank inputs are one matrix product and their gradients one sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

Tensors = list[Tensor | None]


@dataclass(frozen=True)
class Affine:
    """y = x weightᵀ + bias + scale (x aᵀ) bᵀ; `state`: how a 4-bit weight becomes dense."""

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 1.0
    state: Any = None

    @property
    def tensors(self) -> Tensors:
        """What may be trained of it. A 4-bit weight never is."""
        return [None if self.state is not None else self.weight, self.bias, self.a, self.b]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight as a matrix [out, in]."""
        if self.state is None:
            return self.weight
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self.weight, self.state).to(dtype)


def untouched(module: nn.Module, *, observed: bool = False) -> bool:
    """Whether calling the module is what its class says: no hooks, no forward of its own. observed: hooks
    that are told its output may be there."""
    hooks = [module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]
    hooks += [] if observed else [module._forward_hooks]
    return not any(hooks) and "forward" not in module.__dict__


def read(module: nn.Module, dtype: torch.dtype) -> Affine | None:
    """The layer as numbers, or None where calling its module is the only way to have what it does."""
    if not untouched(module):
        return None
    if not _is_lora(module):
        return _base(module, dtype)
    lora = cast(LoraLinear, module)
    base = _base(lora.base_layer, dtype)
    if base is None or lora.merged or lora.fan_in_fan_out:
        return None
    active = [] if lora.disable_adapters else [n for n in lora.active_adapters if n in lora.lora_A]
    if not active:
        return base
    name = active[0]
    a: Any = lora.lora_A[name]
    b: Any = lora.lora_B[name]
    dropout = lora.lora_dropout[name]
    drops = isinstance(dropout, nn.Dropout) and dropout.training and dropout.p > 0
    plain = all(type(m) is nn.Linear and untouched(m) and m.bias is None for m in (a, b))
    readable = isinstance(dropout, (nn.Identity, nn.Dropout)) and not drops
    if len(active) > 1 or not plain or not readable or lora.lora_variant or a.weight.dtype != dtype:
        return None
    return Affine(base.weight, base.bias, a.weight, b.weight, float(lora.scaling[name]), base.state)


def _is_lora(module: nn.Module) -> bool:
    return type(module) is LoraLinear or (
        type(module).__name__ == "Linear4bit" and type(module).__module__ == "peft.tuners.lora.bnb"
    )


def _base(module: nn.Module, dtype: torch.dtype) -> Affine | None:
    if not untouched(module):
        return None
    if type(module) is nn.Linear:
        return Affine(module.weight, module.bias) if module.weight.dtype == dtype else None
    if (type(module).__module__, type(module).__name__) != ("bitsandbytes.nn.modules", "Linear4bit"):
        return None
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is None or getattr(state, "packing_format_for_cpu", False):
        return None
    bias: Any = module.bias
    fits = (bias is None or bias.dtype == dtype) and tuple(state.shape) == (
        module.out_features,
        module.in_features,
    )
    return Affine(weight, bias, state=state) if fits and module.compute_dtype in (None, dtype) else None


def _wide(parts: Sequence[Affine]) -> tuple[Tensor | None, list[slice | None]]:
    """The `a` of all parts below each other, and which of its rows are each part's."""
    rows: list[slice | None] = []
    end = 0
    for part in parts:
        rows.append(None if part.a is None else slice(end, end + len(part.a)))
        end += 0 if part.a is None else len(part.a)
    pairs = [part.a for part in parts if part.a is not None]
    return (None if not pairs else pairs[0] if len(pairs) == 1 else torch.cat(pairs)), rows


def forward(
    x: Tensor, parts: Sequence[Affine], residual: Tensor | None = None
) -> tuple[list[Tensor], Tensor | None]:
    """Outputs of the parts on x [tokens, in], and their low-rank inputs side by side, as backward wants them.

    With a `residual`, which goes with a single part, its output is added to it.
    """
    wide, rows = _wide(parts)
    low = None if wide is None else x @ wide.t()
    outputs = []
    for part, mine in zip(parts, rows, strict=True):
        weight = part.dense(x.dtype)
        if residual is None:
            y = F.linear(x, weight, part.bias)
        else:
            y = torch.addmm(residual, x, weight.t())
            if part.bias is not None:
                y += part.bias
        if low is not None and mine is not None and part.b is not None:
            y.addmm_(low[:, mine], part.b.t(), alpha=part.scale)
        outputs.append(y)
    return outputs, low


def input_gradient(
    parts: Sequence[Affine], grads: Sequence[Tensor], to_x: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x, where it is wanted, and of the low-rank inputs, from those of the outputs."""
    wide, rows = _wide(parts)
    low = None if wide is None else grads[0].new_empty(len(grads[0]), len(wide))
    dx: Tensor | None = None
    for part, mine, grad in zip(parts, rows, grads, strict=True):
        if to_x:
            dense = part.dense(grad.dtype)
            dx = grad @ dense if dx is None else dx.addmm_(grad, dense)
        if low is not None and mine is not None and part.b is not None:
            torch.mul(grad @ part.b, part.scale, out=low[:, mine])
    if dx is not None and low is not None and wide is not None:
        dx.addmm_(low, wide)
    return dx, low


def weight_gradients(
    x: Tensor,
    parts: Sequence[Affine],
    low: Tensor | None,
    of_low: Tensor | None,
    grads: Sequence[Tensor],
    needs: Sequence[bool],
) -> Tensors:
    """Gradients of every part's `tensors`; `needs`: which of them are wanted, in that order."""
    _, rows = _wide(parts)
    of_wide = None if of_low is None or not any(needs[2::4]) else of_low.t() @ x
    gradients: Tensors = []
    for i, (part, mine, grad) in enumerate(zip(parts, rows, grads, strict=True)):
        weight, bias, a, b = needs[4 * i : 4 * i + 4]
        pair = mine is not None and low is not None
        gradients.append(grad.t() @ x if weight else None)
        gradients.append(grad.sum(0) if bias else None)
        gradients.append(of_wide[mine] if pair and a and of_wide is not None else None)
        gradients.append(
            (grad.t() @ low[:, mine]).mul_(part.scale) if pair and b and low is not None else None
        )
    return gradients
