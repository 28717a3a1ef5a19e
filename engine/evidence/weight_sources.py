"""What tuning did to each weight matrix, one at a time: W of the base model and the change, in float64.

Whole weights are read from two folders of safetensors. An adapter's change is what merging would do: each
layer in turn merges into a copy of its own matrix, which keeps the model as it is and works for every method
that can be merged. A base model in 4 or 8 bits is never asked for its weights, which an evaluation on a CPU
may have packed anew: its matrix comes from the base model's folder, or only the change is known.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.adalora import SVDLinear
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.ia3 import IA3Layer
from peft.tuners.ia3 import Linear as IA3Linear
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from engine.models.initial_weights import Weights

PREFIX = "base_model.model."
# What the layers over 4 and 8-bit matrices do in full precision; other methods have one layer for all.
IN_FULL = ((AdaLoraLayer, SVDLinear), (LoraLayer, LoraLinear), (IA3Layer, IA3Linear))


@dataclass(frozen=True)
class Source:
    """One matrix: `read` gives the base model's weight (None where it can't be known) and the change."""

    name: str
    read: Callable[[], tuple[torch.Tensor | None, torch.Tensor]]


def from_folders(base: Path, tuned: Path) -> list[Source]:
    """Every matrix that both folders hold in one shape."""
    before, after = Weights(base), Weights(tuned)

    def reading(name: str) -> Callable[[], tuple[torch.Tensor | None, torch.Tensor]]:
        def read() -> tuple[torch.Tensor | None, torch.Tensor]:
            weight = before.read(name).double()
            return weight, after.read(name).double() - weight

        return read

    shared = [name for name in after.files if name in before.files and name.endswith(".weight")]
    alike = [n for n in shared if len(before.shape(n)) == 2 and before.shape(n) == after.shape(n)]
    return [Source(name.removesuffix(".weight"), reading(name)) for name in alike]


def from_adapter(model: PeftModel, base: Path | None = None) -> list[Source]:
    """Every matrix that an adapter changes; base: the folder of the base model's weights, for one that is
    held in 4 or 8 bits. Empty for methods that leave the matrices alone."""
    files = Weights(base) if base else None
    found = []
    for name, module in model.named_modules():
        short = name.removeprefix(PREFIX)
        if isinstance(module, ModulesToSaveWrapper):
            found += _replaced(short, module)
        elif isinstance(module, BaseTunerLayer) and _mergeable(module):
            found.append(Source(short, _merging(module, short, files)))
    return found


def _mergeable(layer: Any) -> bool:
    weight = getattr(layer.get_base_layer(), "weight", None)
    return weight is not None and hasattr(layer, "merge") and (weight.dim() == 2 or _held(weight))


def _held(weight: torch.Tensor) -> bool:
    """In 4 or 8 bits."""
    return hasattr(weight, "quant_state") or not weight.is_floating_point()


def _replaced(name: str, module: Any) -> list[Source]:
    """A head that is trained whole beside the adapter."""
    original, adapter = module.original_module, module.active_adapter
    trained = module.modules_to_save[adapter if isinstance(adapter, str) else adapter[0]]
    weight = getattr(original, "weight", None)
    if weight is None or weight.dim() != 2:
        return []

    def read() -> tuple[torch.Tensor | None, torch.Tensor]:
        before = original.weight.detach().double()
        return before, trained.weight.detach().double() - before

    return [Source(name, read)]


def _merging(
    layer: Any, name: str, files: Weights | None
) -> Callable[[], tuple[torch.Tensor | None, torch.Tensor]]:
    def read() -> tuple[torch.Tensor | None, torch.Tensor]:
        weight = layer.get_base_layer().weight
        if not _held(weight):
            before: torch.Tensor | None = weight.detach().double()
        elif files is not None and f"{name}.weight" in files.files:
            before = files.read(f"{name}.weight").double()
        else:
            before = None
        return before, change_of(layer, before)

    return read


def change_of(layer: Any, weight: torch.Tensor | None) -> torch.Tensor:
    """What merging the active adapters adds to `weight`; where that is None, for methods that only add.

    Raises NotKnown where the change depends on a weight that is not known.
    """
    held = weight is None
    if weight is None:
        if not _adds(layer):
            raise NotKnown("the change depends on the base model's weights, which are held in 4 or 8 bits")
        inputs, outputs = layer.in_features, layer.out_features
        weight = torch.zeros(outputs, inputs, dtype=torch.float64)
    with _in_full(layer, weight) as plain, torch.no_grad():
        layer.merge(safe_merge=False)
        merged: torch.Tensor = plain.weight.detach()
        return merged if held else merged - weight.to(merged.device)


class NotKnown(ValueError):
    """The change of a matrix can't be worked out."""


def _adds(layer: Any) -> bool:
    return isinstance(layer, LoraLayer) and not getattr(layer, "lora_variant", None)


@contextmanager
def _in_full(layer: Any, weight: torch.Tensor) -> Iterator[Any]:
    """The layer over a copy of its matrix, everything in float64; afterwards it is as it was."""
    held = layer.get_base_layer()
    plain = _plain(held, weight)
    own = [p for p in layer.parameters() if all(p is not q for q in held.parameters())]
    kept = [p.data for p in own]
    kind, state = type(layer), dict(layer.__dict__)
    try:
        for parameter in own:
            parameter.data = parameter.data.to(plain.weight.device, torch.float64)
        layer.__dict__ |= {"merged_adapters": [], "_caches": {}, "quantization_backend": None}
        if _held(held.weight):
            layer.__class__ = next((full for base, full in IN_FULL if isinstance(layer, base)), kind)
            layer.__dict__.setdefault("fan_in_fan_out", False)  # layers over 4 and 8 bits don't ask
        layer.base_layer = plain
        yield plain
    finally:
        layer.base_layer = held
        layer.__class__ = kind
        layer.__dict__.clear()
        layer.__dict__.update(state)
        for parameter, data in zip(own, kept, strict=True):
            parameter.data = data


def _plain(held: Any, weight: torch.Tensor) -> Any:
    """A module like the one that is held, with parameters of its own."""
    if _held(held.weight):
        plain: Any = nn.Linear(
            weight.shape[1], weight.shape[0], bias=held.bias is not None, dtype=torch.float64
        )
        plain.weight.data = weight.clone()
        return plain.requires_grad_(False)
    plain = copy.copy(held)
    plain.__dict__["_parameters"] = {
        name: None if p is None else nn.Parameter(p.detach().double().clone(), requires_grad=False)
        for name, p in held._parameters.items()
    }
    return plain
