"""A model anywhere on the straight line between the base's weights and the tuned ones, without training.

Of an adapter one factor of each change is scaled, on which the change depends linearly: B of LoRA, the
singular values of AdaLoRA, the scales behind VeRA's random matrices; IA3's factors go from 1. Of whole
weights every one that tuning changed is interpolated, one matrix at a time: both ends stay on the disk, and
memory holds one model and two matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.models.initial_weights import Weights
from store.catalog.methods import Method


class LineEnd(Protocol):
    """One end of the line, a tensor at a time."""

    def read(self, name: str) -> Tensor:
        """That parameter there."""


class HeldEnd(dict[str, Tensor]):
    """An end in memory."""

    def read(self, name: str) -> Tensor:
        return self[name]


@dataclass(frozen=True)
class WeightLine:
    """Parameters of one model by name, and what they are at both ends."""

    parameters: Mapping[str, Tensor]
    base: LineEnd
    tuned: LineEnd

    def go(self, alpha: float) -> None:
        """Put the model at `alpha`: 0 is exactly the base, 1 exactly the tuned model."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if alpha in (0.0, 1.0):
                    parameter.copy_((self.tuned if alpha else self.base).read(name))
                else:
                    ends = [
                        end.read(name).to(parameter.device, torch.float32) for end in (self.base, self.tuned)
                    ]
                    parameter.copy_(torch.lerp(ends[0], ends[1], alpha))


def of_adapter(model: Any, method: Method, adapter: str = "") -> WeightLine:
    """From a tuned model with its adapter, or with that one among several."""
    own = f".{adapter}." if adapter else ""
    factors = {
        name: p.data for name, p in model.named_parameters() if method.factor in name and own in f"{name}."
    }
    base = HeldEnd({name: torch.full_like(factor, method.factor_start) for name, factor in factors.items()})
    return WeightLine(factors, base, HeldEnd({name: factor.clone() for name, factor in factors.items()}))


def of_weights(
    model: Any, ends: tuple[Path, Path], load: Callable[[Path], Any], temporary: Path
) -> WeightLine:
    """From the folders of the base and of the tuned model; the line is in `model`, which has the weights of
    the second. load: makes a model of a folder; temporary: where to put what a folder names otherwise."""
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    base, tuned = (
        _end(folder, parameters, load, temporary / side)
        for side, folder in zip(("base", "tuned"), ends, strict=True)
    )
    moved = {
        name: parameter
        for name, parameter in parameters.items()
        if not torch.equal(parameter.cpu(), base.read(name).to(parameter.dtype))
    }
    return WeightLine(moved, base, tuned)


def _end(
    folder: Path, parameters: Mapping[str, Tensor], load: Callable[[Path], Any], temporary: Path
) -> Weights:
    """The files of `folder` where they have every parameter as it is in the model; else files made of it."""
    files = Weights(folder)
    if all(name in files.files and files.shape(name) == tuple(p.shape) for name, p in parameters.items()):
        return files
    temporary.mkdir(parents=True, exist_ok=True)
    whole = {name: p.data.contiguous() for name, p in load(folder).named_parameters()}
    save_file(whole, temporary / "model.safetensors")
    return Weights(temporary)
