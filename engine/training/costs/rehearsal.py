"""Rehearse a training step on the meta device to measure its live memory at each phase.

A model of a few layers is built on the meta device, made trainable by the code that training uses, and run
through forward, loss and backward. Every storage is counted while it is alive, so whatever a method, an
attention function or a loss saves is included without a formula. Phases of the step grow linearly with the
number of layers; the caller extrapolates them to the full model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.models.forward import operations
from engine.models.forward.operations import KINDS

aten = torch.ops.aten
META = torch.device("meta")
PHASES = ("forward", "loss", "last layer", "first layer")
_ARANGE_OPS = {aten.arange.default, aten.arange.start, aten.arange.start_step}
_MASK_INDEX_OPS = {aten.index.Tensor, aten._unsafe_index.Tensor}
_SHAPE_CACHE: dict[Any, Any] = {}  # shape, stride and dtype of operation results, and their work
_INDEX_PUT_OPS = {aten._index_put_impl_.default, aten.index_put_.default, aten.index_put.default}


@dataclass(frozen=True)
class RehearsedStep:
    """Bytes beyond those allocated before the step.

    `saved`: when the backward pass starts; `phases`: peak in each of PHASES; `left`: after the step (the
    gradients). done: work in each of PHASES (operations.KINDS).
    """

    saved: float
    phases: tuple[float, ...]
    left: float
    done: list[list[float]]


class SkipInit(TorchFunctionMode):
    """Skip weight initialisation, which meta tensors don't need and which takes a tenth of the build time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class LiveMemoryTracker(TorchDispatchMode):
    """Track live bytes of storages on a device, their peak in each phase, and the work of operations.

    Integer tensors (tokens, positions, masks) stay on the CPU with their values, as code may branch on them;
    anything combined with them is on the meta device, and so is the result.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.alive: dict[int, Any] = {}
        self.bytes = 0
        self.phase = 0
        self.most = [0] * len(PHASES)
        self.done = [[0.0] * len(KINDS) for _ in PHASES]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = _collect_tensors(args)
        devices = {tensor.device.type for tensor in taken}
        if func.is_view and devices == {"meta"}:  # a third of all operations; nothing is allocated
            return func(*args, **kwargs)
        shaped_work = None
        if func in _ARANGE_OPS:
            out = func(*args, **{**kwargs, "device": "cpu"})
        elif func in _MASK_INDEX_OPS and (mask := _find_boolean_mask(args[1])) is not None:
            out = args[0].new_empty((int(mask.sum()), *args[0].shape[mask.dim() :]))
        elif func in _INDEX_PUT_OPS and _find_boolean_mask(args[1]) is not None:
            out = torch.empty_like(args[0]) if func is aten.index_put.default else args[0]
        elif "meta" in devices or _holds_meta(kwargs):
            args = args if devices == {"meta"} else _move_to_meta(args)
            out, shaped_work = self._shaped(func, args, kwargs and _move_to_meta(kwargs))
        else:
            out = func(*args, **kwargs)
        made = _collect_tensors(out)
        there = {tensor.untyped_storage()._cdata for tensor in taken}
        for tensor in made:
            # a view of a weight allocates nothing
            if tensor.device.type == self.device and tensor.untyped_storage()._cdata not in there:
                self.add(tensor)
        if made and made[0].device.type == self.device and not func.is_view:
            self.did(shaped_work or operations.count_work(func, taken, made))
        return out

    def _shaped(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, operations.OperationWork | None]:
        """Return the result and work of an operation.

        torch computes result shapes in Python and layers are alike, so they are cached.
        """
        if func._schema.is_mutable:
            in_place = func._opname.endswith("_") and torch.Tag.inplace_view not in func.tags
            return (args[0] if in_place else func(*args, **kwargs)), None
        key = func, _replace_tensors_by_shapes(args), _replace_tensors_by_shapes(kwargs)
        cached_outcome = _SHAPE_CACHE.get(key)
        if cached_outcome is None:
            out = func(*args, **kwargs)
            taken = _collect_tensors((args, *kwargs.values()))
            there = {tensor.untyped_storage()._cdata for tensor in taken}
            if isinstance(out, torch.Tensor) and out.untyped_storage()._cdata not in there:
                work = operations.count_work(func, _collect_tensors(args), [out])
                _SHAPE_CACHE[key] = out.shape, out.stride(), out.dtype, work
            return out, None
        shape, stride, dtype, work = cached_outcome
        return torch.empty_strided(shape, stride, dtype=dtype, device=META), work

    def did(self, work: operations.OperationWork) -> None:
        """Add an operation's work to the current phase."""
        done, times = self.done[self.phase], operations.get_repeat_count()
        done[0] += times * work[0]
        done[1] += times * work[1]
        done[2] += times * work[2]
        done[3] += times

    def add(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.alive:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            del self.alive[key]
            self.bytes -= size

        self.alive[key] = weakref.ref(storage, gone)
        self.bytes += size
        self.most[self.phase] = max(self.most[self.phase], self.bytes)

    def enter(self, phase: int) -> None:
        """Enter the next phase; phases never go back."""
        if phase > self.phase:
            self.phase = phase
            self.most[phase] = self.bytes


@contextmanager
def _patch_fused_attention() -> Iterator[None]:
    """Make attention save what torch's fused kernels save (output and one sum per row).

    The meta device would otherwise materialise all attention weights. Replaced by name, as a recomputing
    checkpoint does not see function modes.
    """
    functional: Any = torch.nn.functional
    own = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _compute_meta_attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = own


def _compute_meta_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,  # the kernels read shared keys in place
) -> torch.Tensor:
    if attn_mask is not None:
        attn_mask = attn_mask.to(META, query.dtype) if attn_mask.dtype == torch.bool else attn_mask
    attended: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return attended


def _collect_tensors(value: Any) -> list[torch.Tensor]:
    """Collect tensors among arguments or results, including those in lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    tensors: list[torch.Tensor] = []
    if isinstance(value, (list, tuple)):
        for part in value:
            if isinstance(part, torch.Tensor):
                tensors.append(part)
            elif isinstance(part, (list, tuple)):
                tensors += _collect_tensors(part)
    return tensors


def _replace_tensors_by_shapes(value: Any) -> Any:
    """Replace tensors among an operation's arguments by everything the result's shape can depend on."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(map(_replace_tensors_by_shapes, value))
    if isinstance(value, dict):
        return tuple((name, _replace_tensors_by_shapes(v)) for name, v in value.items())
    return type(value), value  # 1 and 1.0 compare equal but produce different dtypes


def _find_boolean_mask(indices: Any) -> torch.Tensor | None:
    """Return the boolean mask among the indices of an operation."""
    return next((i for i in indices if isinstance(i, torch.Tensor) and i.dtype == torch.bool), None)


def _holds_meta(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.device.type == "meta"
    if isinstance(value, dict):
        return any(_holds_meta(v) for v in value.values())
    return isinstance(value, (list, tuple)) and any(_holds_meta(v) for v in value)


def _move_to_meta(value: Any) -> Any:
    """Move all arguments of an operation to the meta device."""
    if isinstance(value, torch.Tensor):
        return value if value.device.type == "meta" else torch.empty_like(value, device=META)
    if isinstance(value, (list, tuple)):
        return type(value)(_move_to_meta(v) for v in value)
    if isinstance(value, dict):
        return {k: _move_to_meta(v) for k, v in value.items()}
    return torch.device("meta") if isinstance(value, torch.device) else value


def run_step(
    model: Any, loss: Callable[[], torch.Tensor], layers: int, device: str = "meta"
) -> RehearsedStep:
    """Run forward, loss and backward of a model on the meta device; `loss`: of one micro-batch."""
    living = LiveMemoryTracker(device)
    attention = _patch_fused_attention() if device == "meta" else nullcontext()
    with _mark_phases(model, layers, living), attention, living:
        total = loss()
        living.enter(1)
        saved = living.bytes
        total.backward()
        del total
        left = living.bytes
    return RehearsedStep(saved, tuple(living.most), left, living.done)


def run_forward(model: Any, forward: Callable[[], Any], layers: int) -> tuple[int, list[list[float]]]:
    """Run a pass without gradients; return its peak bytes and its work in and after the layers (PHASES)."""
    living = LiveMemoryTracker()
    with _mark_phases(model, layers, living), torch.no_grad(), _patch_fused_attention(), living:
        forward()
    return max(living.most), living.done


@contextmanager
def _mark_phases(model: Any, layers: int, living: LiveMemoryTracker) -> Iterator[None]:
    """Tell `living` when the loss begins and when the backward pass reaches the last and the first layer."""
    stack = find_decoder_layers(model, layers)
    hooks = []

    def on_gradient(output: Any, phase: int) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if tensor.requires_grad:
            tensor.register_hook(lambda _: living.enter(phase))

    def first(_: Any, __: Any, output: Any) -> None:
        if not living.phase:
            on_gradient(output, 3)

    def last(_: Any, __: Any, output: Any) -> None:
        if not living.phase:
            on_gradient(output, 2)
            living.enter(1)

    hooks.append(stack[0].register_forward_hook(first))
    hooks.append(stack[-1].register_forward_hook(last))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def find_decoder_layers(model: Any, layers: int) -> Any:
    """Return the stack of the model's layers: its first module list of that length.

    Raises: NotImplementedError if there is none.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == layers:
            return module
    raise NotImplementedError("The model has no list of its layers.")
