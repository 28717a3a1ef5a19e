"""Adapter weights: initialization, AdaLoRA's rank allocation, switching and interpolation.

The base model itself is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
from peft import AdaLoraConfig, PeftModel
from peft.tuners.adalora.layer import RankAllocator
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from store.training.methods import TAKEN_APART, Method
from store.training.train_config import TrainConfig

# LoRA initializations from the base model's weights, its activations, or its quantisation error.
#
# pissa (Meng et al. 2024) and olora (Büyükakyüz 2024) initialize the adapter with the dominant part of each
# weight. Their authors subtract that part from the base model; here a second, frozen adapter subtracts it, so
# that the base stays unchanged: it can still be evaluated, and the result is one LoRA of twice the rank. eva
# (Paischer et al. 2024) initializes A with the directions of largest variance of the inputs, with the same
# rank everywhere. loftq (Li et al. 2024) initializes the adapter with the error of 4-bit quantisation.

TWIN = "start"  # the frozen adapter that subtracts the initial weights
OVERSAMPLING, ITERATIONS = 8, 4  # for the randomised SVD (Halko et al. 2011)


class AdapterChanges(TypedDict, total=False):
    """Fields of the peft adapter config that differ in the saved file."""

    r: int
    lora_alpha: float
    rank_pattern: None


@dataclass(frozen=True)
class InitSources:
    """Inputs of an adapter initialization.

    - rows: token ids of training rows, for eva
    - folder: holds the model's weights as safetensors, for loftq
    """

    rows: Sequence[torch.Tensor] = ()
    folder: Path | None = None


def set_initial_weights(model: PeftModel, config: TrainConfig, sources: InitSources) -> None:
    """Set the adapter's initial weights by `init_lora_weights`; random numbers follow torch's seed."""
    if config.init_lora_weights in TAKEN_APART:
        _decompose_weights(model, config.init_lora_weights)
    elif config.init_lora_weights == "eva":
        _init_from_inputs(model, sources.rows)
    elif config.init_lora_weights == "loftq" and sources.folder is not None:
        _compensate_quantisation(model, sources.folder)


def _iterate_lora_layers(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _set(layer: Any, adapter: str, a: torch.Tensor, b: torch.Tensor) -> None:
    with torch.no_grad():
        layer.lora_A[adapter].weight.copy_(a)
        layer.lora_B[adapter].weight.copy_(b)


def _factor_low_rank(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best rank-r approximation as B [out, r] and A [r, in], singular values split evenly."""
    u, s, v = torch.svd_lowrank(weight, q=min(r + OVERSAMPLING, *weight.shape), niter=ITERATIONS)
    root = s[:r].sqrt()
    return u[:, :r] * root, root[:, None] * v[:, :r].T


def _decompose_weights(model: PeftModel, start: str) -> None:
    alike: Any = copy(model.peft_config["default"])
    heads, alike.modules_to_save = alike.modules_to_save, None  # they belong to the trained adapter only
    if heads:
        alike.exclude_modules = rf"(.*\.)?({'|'.join(map(re.escape, heads))})(\..*)?"
    PeftModel.add_adapter(model, TWIN, alike)
    for _, layer in _iterate_lora_layers(model):
        r, scale = layer.r["default"], layer.scaling["default"]
        weight = layer.get_base_layer().weight.detach().float()
        if start == "pissa":
            b, a = _factor_low_rank(weight / scale, r)
        else:
            q, upper = torch.linalg.qr(weight)
            b, a = q[:, :r], upper[:r]
        _set(layer, "default", a, b)
        layer.scaling[TWIN] = -scale
        for trained, twin in ((layer.lora_A, layer.lora_A[TWIN]), (layer.lora_B, layer.lora_B[TWIN])):
            del twin.weight  # replaced by a buffer: peft would make a parameter trainable again
            twin.register_buffer("weight", trained["default"].weight.detach().clone())
        layer.set_adapter(["default", TWIN])


def _init_from_inputs(model: PeftModel, rows: Sequence[torch.Tensor]) -> None:
    """Set A to the leading eigenvectors of the inputs' summed outer products, and B to zero."""
    products: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(_make_accumulator(products, name))
        for name, layer in _iterate_lora_layers(model)
    ]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), model.disable_adapter():
            for ids in rows:
                model(input_ids=ids[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    for name, layer in _iterate_lora_layers(model):
        _, vectors = torch.linalg.eigh(products[name].clone())
        a = vectors.flip(-1)[:, : layer.r["default"]].T
        _set(layer, "default", a, torch.zeros_like(layer.lora_B["default"].weight))


def _make_accumulator(products: dict[str, torch.Tensor], name: str) -> Any:
    def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
        products[name] = products.get(name, 0) + x.T @ x

    return add


def _compensate_quantisation(model: PeftModel, folder: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    weights = SafetensorsFolder(folder)
    for name, layer in _iterate_lora_layers(model):
        held: Any = layer.get_base_layer().weight
        whole = weights.read(name.removeprefix("base_model.model.") + ".weight")
        lost = whole.float() - dequantize_4bit(held.data, held.quant_state).float().cpu()
        b, a = _factor_low_rank(lost / layer.scaling["default"], layer.r["default"])
        _set(layer, "default", a, b)


class SafetensorsFolder:
    """Reader of single tensors from a folder of safetensors; `files` maps each tensor name to its file."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the tensor's shape without reading its data."""
        with safe_open(self.files[name], "pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        """Read this tensor only."""
        with safe_open(self.files[name], "pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor


def join_adapter(model: PeftModel) -> tuple[dict[str, torch.Tensor], AdapterChanges]:
    """Merge the trained adapter and its frozen twin into one LoRA of twice the rank.

    Returns its tensors under the names that peft uses in a file, and the config fields that differ.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in _iterate_lora_layers(model):
        a: Any = layer.lora_A
        b: Any = layer.lora_B
        wide = torch.cat([a["default"].weight, a[TWIN].weight])
        tall = torch.cat([b["default"].weight, -b[TWIN].weight], dim=1)
        tensors[f"{name}.lora_A.weight"] = wide.detach().contiguous()
        tensors[f"{name}.lora_B.weight"] = tall.detach().contiguous()
    config: Any = model.peft_config["default"]
    alpha = config.lora_alpha * (2**0.5 if config.use_rslora else 2)
    return tensors, {"r": 2 * config.r, "lora_alpha": alpha}


# AdaLoRA's rank allocation between steps (Zhang et al. 2023), on the fp32 masters.
#
# peft's own allocator reads weights and gradients from a model; here it reads the masters, which have both.
# Its state is part of a checkpoint, so that a resumed run allocates the same ranks.

FIRST_SHARE, FINAL_SHARE = 0.1, 0.3  # shares of the steps, at the start and the end, without pruning
AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
PENALTY = 0.5  # weight of the orthogonality penalty on the singular vectors, as in the paper

Tensors = dict[str, torch.Tensor]


class RankAllocation:
    """AdaLoRA's allocation of rank among the matrices. `weights`: the fp32 masters by name."""

    def __init__(self, config: AdaLoraConfig, weights: dict[str, torch.nn.Parameter]) -> None:
        self.config = config
        self.weights = weights
        self.pattern: dict[str, list[bool]] = {}  # which ranks of each matrix remain
        self.allocator = RankAllocator(self, config, "default")

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield the masters through the interface that peft's allocator expects."""
        yield from self.weights.items()

    def regularise(self) -> None:
        """Add the gradient of the penalty, once per step: the mean of |A Aᵀ - I| and |Bᵀ B - I|."""
        parts = []
        for name, weight in self.weights.items():
            if "lora_A" in name or "lora_B" in name:
                product = weight @ weight.T if "lora_A" in name else weight.T @ weight
                identity = torch.eye(len(product), device=weight.device)
                parts.append(torch.linalg.norm(product - identity))
        (PENALTY * torch.stack(parts).mean()).backward()

    def after_step(self, step: int) -> None:
        """Update the allocation after optimiser step `step` (from 1), before the gradients are cleared."""
        last = (self.config.total_step or 0) - self.config.tfinal
        if step <= last:
            _, pattern = self.allocator.update_and_allocate(self, step, force_mask=step == last)
            self.pattern = pattern or self.pattern
        if step == last:
            self.allocator.reset_ipt()
        elif step > last and self.pattern:
            self.allocator.mask_using_rank_pattern(self, self.pattern)

    def tensors(self) -> Tensors:
        """Return the state that a checkpoint must hold."""
        tensors = {
            f"allocation.{kind}.{name}": value
            for kind in AVERAGES
            for name, value in getattr(self.allocator, kind).items()
        }
        tensors |= {f"allocation.pattern.{name}": torch.tensor(keep) for name, keep in self.pattern.items()}
        return tensors

    def load(self, tensors: Tensors) -> None:
        """Restore the state returned by `tensors`."""
        for kind in AVERAGES:
            prefix = f"allocation.{kind}."
            setattr(self.allocator, kind, _strip_prefix(tensors, prefix))
        self.allocator.ipt = dict(self.allocator.exp_avg_ipt)  # only the names count; values are recomputed
        self.pattern = {
            name: keep.tolist() for name, keep in _strip_prefix(tensors, "allocation.pattern.").items()
        }


def _strip_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


# Several adapters on one base, one active at a time, switched in a fraction of a millisecond.
#
# peft's own switching visits every parameter of every layer (27 ms for SmolLM2-135M), and a layer whose
# adapters are disabled still adds the overhead of its wrapper. Here each layer only gets the adapter's name.
# With no adapter the wrapper is replaced by the base's own layer, so that the base is as fast as without
# adapters.


class AdapterSwitch:
    """Switch between the adapters of one model, with one active at a time."""

    def __init__(self, model: Any) -> None:
        self._places = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, BaseTunerLayer)
        ]

    def to(self, adapter: str) -> None:
        """Activate this adapter and deactivate all others; "" selects the base model alone."""
        for parent, name, layer in self._places:
            if adapter:
                layer._active_adapter = [adapter]
            parent._modules[name] = layer if adapter else layer.get_base_layer()

    def open(self) -> None:
        """Put all adapter layers back in place, so that peft can add another adapter."""
        for parent, name, layer in self._places:
            parent._modules[name] = layer


# Linear interpolation between the base's weights and the tuned ones, without training.
#
# For an adapter, only the factor on which the change depends linearly is scaled: B of LoRA, the singular
# values of AdaLoRA, the scales after VeRA's random matrices; IA3's factors start from 1. For full weights,
# every matrix that tuning changed is interpolated, one at a time: both ends stay on disk, and memory holds
# one model and two matrices.


class InterpolationEnd(Protocol):
    """One end of the interpolation, read one tensor at a time."""

    def read(self, name: str) -> Tensor:
        """Return this parameter's value at this end."""


class InMemoryEnd(dict[str, Tensor]):
    """An interpolation end held in memory."""

    def read(self, name: str) -> Tensor:
        return self[name]


@dataclass(frozen=True)
class WeightInterpolation:
    """Interpolation of a model's parameters, by name, between their base and their tuned values."""

    parameters: Mapping[str, Tensor]
    base: InterpolationEnd
    tuned: InterpolationEnd

    def go(self, alpha: float) -> None:
        """Set the model to `alpha`: 0 is exactly the base, 1 exactly the tuned model."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if alpha in (0.0, 1.0):
                    parameter.copy_((self.tuned if alpha else self.base).read(name))
                else:
                    ends = [
                        end.read(name).to(parameter.device, torch.float32) for end in (self.base, self.tuned)
                    ]
                    parameter.copy_(torch.lerp(ends[0], ends[1], alpha))


def interpolate_adapter(model: Any, method: Method, adapter: str = "") -> WeightInterpolation:
    """Build the interpolation for a tuned model with its adapter, or with the named one of several."""
    own = f".{adapter}." if adapter else ""
    factors = {
        name: p.data for name, p in model.named_parameters() if method.factor in name and own in f"{name}."
    }
    base = InMemoryEnd(
        {name: torch.full_like(factor, method.factor_start) for name, factor in factors.items()}
    )
    return WeightInterpolation(
        factors, base, InMemoryEnd({name: factor.clone() for name, factor in factors.items()})
    )


def interpolate_weights(
    model: Any, ends: tuple[Path, Path], load: Callable[[Path], Any], temporary: Path
) -> WeightInterpolation:
    """Build the interpolation from the folders of the base and of the tuned model.

    - model: holds the tuned weights, and is the one that is interpolated
    - load: builds a model from a folder
    - temporary: where weights are rewritten if a folder stores them under other names or shapes
    """
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    base, tuned = (
        _open_end(folder, parameters, load, temporary / side)
        for side, folder in zip(("base", "tuned"), ends, strict=True)
    )
    moved = {
        name: parameter
        for name, parameter in parameters.items()
        if not torch.equal(parameter.cpu(), base.read(name).to(parameter.dtype))
    }
    return WeightInterpolation(moved, base, tuned)


def _open_end(
    folder: Path, parameters: Mapping[str, Tensor], load: Callable[[Path], Any], temporary: Path
) -> SafetensorsFolder:
    """Open `folder` if it has every parameter in the model's shape; otherwise rewrite it to `temporary`."""
    files = SafetensorsFolder(folder)
    if all(name in files.files and files.shape(name) == tuple(p.shape) for name, p in parameters.items()):
        return files
    temporary.mkdir(parents=True, exist_ok=True)
    whole = {name: p.data.contiguous() for name, p in load(folder).named_parameters()}
    save_file(whole, temporary / "model.safetensors")
    return SafetensorsFolder(temporary)
