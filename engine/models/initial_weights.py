"""What a LoRA starts from, other than nothing: the base model's weights, what flows through them, or what was
lost when they were squeezed.

pissa (Meng et al. 2024) and olora (Büyükakyüz 2024) begin with the strongest part of each weight in the
adapter. Their authors take that part out of the base model; here a second adapter, frozen, takes it off
again, so that the base stays itself: it can be evaluated, and the result is one LoRA of twice the rank.
eva (Paischer et al. 2024) begins A at the directions in which the inputs vary, with the same rank everywhere.
loftq (Li et al. 2024) begins with what 4-bit weights lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open

from store.catalog.methods import TAKEN_APART
from store.config.training.train_config import TrainConfig

TWIN = "start"  # the frozen adapter that takes the beginning off again
OVERSAMPLING, ITERATIONS = 8, 4  # of the randomised decomposition (Halko et al. 2011)


class AdapterChanges(TypedDict, total=False):
    """Fields of peft's config of an adapter that differ in the file."""

    r: int
    lora_alpha: float
    rank_pattern: None


@dataclass(frozen=True)
class Sources:
    """What a start is made from. rows: token ids of training rows, for eva; folder: with the model's weights
    as safetensors, for loftq."""

    rows: Sequence[torch.Tensor] = ()
    folder: Path | None = None


def begin(model: PeftModel, config: TrainConfig, sources: Sources) -> None:
    """Set the adapter's first weights as `init_lora_weights` says; random numbers follow torch's seed."""
    if config.init_lora_weights in TAKEN_APART:
        _take_apart(model, config.init_lora_weights)
    elif config.init_lora_weights == "eva":
        _follow_inputs(model, sources.rows)
    elif config.init_lora_weights == "loftq" and sources.folder is not None:
        _make_up(model, sources.folder)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _set(layer: Any, adapter: str, a: torch.Tensor, b: torch.Tensor) -> None:
    with torch.no_grad():
        layer.lora_A[adapter].weight.copy_(a)
        layer.lora_B[adapter].weight.copy_(b)


def _lowrank(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B [out, r] and A [r, in] whose product is the best approximation of that rank, in equal shares."""
    u, s, v = torch.svd_lowrank(weight, q=min(r + OVERSAMPLING, *weight.shape), niter=ITERATIONS)
    root = s[:r].sqrt()
    return u[:, :r] * root, root[:, None] * v[:, :r].T


def _take_apart(model: PeftModel, start: str) -> None:
    alike: Any = copy(model.peft_config["default"])
    heads, alike.modules_to_save = alike.modules_to_save, None  # they belong to the trained adapter alone
    if heads:
        alike.exclude_modules = rf"(.*\.)?({'|'.join(map(re.escape, heads))})(\..*)?"
    PeftModel.add_adapter(model, TWIN, alike)
    for _, layer in _layers(model):
        r, scale = layer.r["default"], layer.scaling["default"]
        weight = layer.get_base_layer().weight.detach().float()
        if start == "pissa":
            b, a = _lowrank(weight / scale, r)
        else:
            q, upper = torch.linalg.qr(weight)
            b, a = q[:, :r], upper[:r]
        _set(layer, "default", a, b)
        layer.scaling[TWIN] = -scale
        for trained, twin in ((layer.lora_A, layer.lora_A[TWIN]), (layer.lora_B, layer.lora_B[TWIN])):
            del twin.weight  # a buffer in its place: peft would make parameters trainable again
            twin.register_buffer("weight", trained["default"].weight.detach().clone())
        layer.set_adapter(["default", TWIN])


def _follow_inputs(model: PeftModel, rows: Sequence[torch.Tensor]) -> None:
    """A begins at the leading eigenvectors of the inputs' products, summed over the rows; B at zero."""
    products: dict[str, torch.Tensor] = {}
    hooks = [layer.register_forward_pre_hook(_adding(products, name)) for name, layer in _layers(model)]
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
    for name, layer in _layers(model):
        _, vectors = torch.linalg.eigh(products[name].clone())
        a = vectors.flip(-1)[:, : layer.r["default"]].T
        _set(layer, "default", a, torch.zeros_like(layer.lora_B["default"].weight))


def _adding(products: dict[str, torch.Tensor], name: str) -> Any:
    def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].reshape(-1, inputs[0].shape[-1]).float()
        products[name] = products.get(name, 0) + x.T @ x

    return add


def _make_up(model: PeftModel, folder: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    weights = Weights(folder)
    for name, layer in _layers(model):
        held: Any = layer.get_base_layer().weight
        whole = weights.read(name.removeprefix("base_model.model.") + ".weight")
        lost = whole.float() - dequantize_4bit(held.data, held.quant_state).float().cpu()
        b, a = _lowrank(lost / layer.scaling["default"], layer.r["default"])
        _set(layer, "default", a, b)


class Weights:
    """Single tensors out of a folder of safetensors; `files` says where each is."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                self.files |= dict.fromkeys(file.keys(), path)

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, without reading it."""
        with safe_open(self.files[name], "pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def read(self, name: str) -> torch.Tensor:
        """That tensor alone."""
        with safe_open(self.files[name], "pt") as file:
            return file.get_tensor(name)


def joined(model: PeftModel) -> tuple[dict[str, torch.Tensor], AdapterChanges]:
    """The trained adapter with its frozen twin as one LoRA of twice the rank: its tensors by the names that
    peft gives them in a file, and the fields of its config that differ."""
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in _layers(model):
        a: Any = layer.lora_A
        b: Any = layer.lora_B
        wide = torch.cat([a["default"].weight, a[TWIN].weight])
        tall = torch.cat([b["default"].weight, -b[TWIN].weight], dim=1)
        tensors[f"{name}.lora_A.weight"] = wide.detach().contiguous()
        tensors[f"{name}.lora_B.weight"] = tall.detach().contiguous()
    config: Any = model.peft_config["default"]
    alpha = config.lora_alpha * (2**0.5 if config.use_rslora else 2)
    return tensors, {"r": 2 * config.r, "lora_alpha": alpha}
