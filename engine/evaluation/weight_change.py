"""How far tuning moved each weight matrix, over how many directions, and whether it added new ones.

Per matrix: the norm of the change relative to that of the weight (Frobenius); its stable rank, the sum of
the squared singular values over the largest; its effective rank, exp of the entropy of their shares (Roy
and Vetterli 2007); and intruder dimensions (Shuttleworth et al. 2024): among the ten strongest left
singular vectors of the tuned matrix, those with no |cos| of .5 to any of the base's. A few matrices are
processed at a time, each on one thread, which is faster than all threads on each. Norms are cheap and
computed for all; spectra are computed in a fixed random order until the time is used up, and the document
says for how many.

The base model's weight W and the change are in float64. Full weights are read from two folders of
safetensors. An adapter's change is what merging would do: each layer in turn merges into a copy of its own
matrix, which leaves the model unchanged and works for every method that can be merged. A base model in 4
or 8 bits is never asked for its weights, which an evaluation on a CPU may have repacked: its matrix comes
from the base model's folder, or only the change is known.
"""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.adalora import SVDLinear
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.ia3 import IA3Layer
from peft.tuners.ia3 import Linear as IA3Linear
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from scipy import linalg
from threadpoolctl import threadpool_limits
from torch import nn

from engine.models.adapter_weights import SafetensorsFolder
from store.evaluation.forgetting_schemas import WeightChange

PREFIX = "base_model.model."
# Full-precision equivalents of the layers over 4 and 8-bit matrices; other methods have one layer for all.
FULLY_TRAINED = ((AdaLoraLayer, SVDLinear), (LoraLayer, LoraLinear), (IA3Layer, IA3Linear))


@dataclass(frozen=True)
class MatrixSource:
    """One matrix: `read` returns the base model's weight (None if unknown) and the change."""

    name: str
    read: Callable[[], tuple[torch.Tensor | None, torch.Tensor]]


def list_folder_matrices(base: Path, tuned: Path) -> list[MatrixSource]:
    """List every matrix that both folders have in the same shape."""
    before, after = SafetensorsFolder(base), SafetensorsFolder(tuned)

    def reading(name: str) -> Callable[[], tuple[torch.Tensor | None, torch.Tensor]]:
        def read() -> tuple[torch.Tensor | None, torch.Tensor]:
            weight = before.read(name).double()
            return weight, after.read(name).double() - weight

        return read

    shared = [name for name in after.files if name in before.files and name.endswith(".weight")]
    alike = [n for n in shared if len(before.shape(n)) == 2 and before.shape(n) == after.shape(n)]
    return [MatrixSource(name.removesuffix(".weight"), reading(name)) for name in alike]


def list_adapter_matrices(model: PeftModel, base: Path | None = None) -> list[MatrixSource]:
    """List every matrix that an adapter changes; empty for methods that don't change matrices. base: the
    folder of the base model's weights, for a model in 4 or 8 bits.
    """
    files = SafetensorsFolder(base) if base else None
    sources = []
    for name, module in model.named_modules():
        short = name.removeprefix(PREFIX)
        if isinstance(module, ModulesToSaveWrapper):
            sources += _list_replaced_matrices(short, module)
        elif isinstance(module, BaseTunerLayer) and _is_mergeable(module):
            sources.append(MatrixSource(short, _build_reader(module, short, files)))
    return sources


def _is_mergeable(layer: Any) -> bool:
    weight = getattr(layer.get_base_layer(), "weight", None)
    return weight is not None and hasattr(layer, "merge") and (weight.dim() == 2 or _is_quantised(weight))


def _is_quantised(weight: torch.Tensor) -> bool:
    """Return whether the weight is in 4 or 8 bits."""
    return hasattr(weight, "quant_state") or not weight.is_floating_point()


def _list_replaced_matrices(name: str, module: Any) -> list[MatrixSource]:
    """List the matrix of a head that is fully trained beside the adapter."""
    original, adapter = module.original_module, module.active_adapter
    trained = module.modules_to_save[adapter if isinstance(adapter, str) else adapter[0]]
    weight = getattr(original, "weight", None)
    if weight is None or weight.dim() != 2:
        return []

    def read() -> tuple[torch.Tensor | None, torch.Tensor]:
        before = original.weight.detach().double()
        return before, trained.weight.detach().double() - before

    return [MatrixSource(name, read)]


def _build_reader(
    layer: Any, name: str, files: SafetensorsFolder | None
) -> Callable[[], tuple[torch.Tensor | None, torch.Tensor]]:
    def read() -> tuple[torch.Tensor | None, torch.Tensor]:
        weight = layer.get_base_layer().weight
        if not _is_quantised(weight):
            before: torch.Tensor | None = weight.detach().double()
        elif files is not None and f"{name}.weight" in files.files:
            before = files.read(f"{name}.weight").double()
        else:
            before = None
        return before, compute_merge_delta(layer, before)

    return read


def compute_merge_delta(layer: Any, weight: torch.Tensor | None) -> torch.Tensor:
    """Return what merging the active adapters adds to `weight`, which may be None for additive methods.

    Raises UnknownWeightChange if the change depends on an unknown weight.
    """
    held = weight is None
    if weight is None:
        if not _is_additive(layer):
            raise UnknownWeightChange(
                "the change depends on the base model's weights, which are in 4 or 8 bits"
            )
        inputs, outputs = layer.in_features, layer.out_features
        weight = torch.zeros(outputs, inputs, dtype=torch.float64)
    with _dequantise_layer(layer, weight) as plain, torch.no_grad():
        layer.merge(safe_merge=False)
        merged: torch.Tensor = plain.weight.detach()
        return merged if held else merged - weight.to(merged.device)


class UnknownWeightChange(ValueError):
    """The change of a matrix can't be computed."""


def _is_additive(layer: Any) -> bool:
    return isinstance(layer, LoraLayer) and not getattr(layer, "lora_variant", None)


@contextmanager
def _dequantise_layer(layer: Any, weight: torch.Tensor) -> Iterator[Any]:
    """Context manager that puts the layer over a copy of its matrix, in float64, and restores it
    afterwards.
    """
    held = layer.get_base_layer()
    plain = _build_plain_module(held, weight)
    own = [p for p in layer.parameters() if all(p is not q for q in held.parameters())]
    kept = [p.data for p in own]
    kind, state = type(layer), dict(layer.__dict__)
    try:
        for parameter in own:
            parameter.data = parameter.data.to(plain.weight.device, torch.float64)
        layer.__dict__ |= {"merged_adapters": [], "_caches": {}, "quantization_backend": None}
        if _is_quantised(held.weight):
            layer.__class__ = next((full for base, full in FULLY_TRAINED if isinstance(layer, base)), kind)
            layer.__dict__.setdefault("fan_in_fan_out", False)  # missing in layers over 4 and 8 bits
        layer.base_layer = plain
        yield plain
    finally:
        layer.base_layer = held
        layer.__class__ = kind
        layer.__dict__.clear()
        layer.__dict__.update(state)
        for parameter, weights in zip(own, kept, strict=True):
            parameter.data = weights


def _build_plain_module(held: Any, weight: torch.Tensor) -> Any:
    """Build a module like the given one, with its own parameters."""
    if _is_quantised(held.weight):
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


TOP_DIRECTIONS = 10
SIMILAR_COSINE = 0.5  # |cos|
CANDIDATE_DIRECTIONS = 40  # base vectors that nearly always contain the match; otherwise all are searched
MAX_SECONDS = 25.0
LAYER_PATTERN = re.compile(r"(?:^|\.)(\d+)\.(.+)$")
NO_MATRICES = "This method does not change the base model's matrices, so there is no weight change to show."

MATRIX_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("layer", pa.int32()),
        ("module", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("weight_norm", pa.float64()),
        ("delta_norm", pa.float64()),
        ("relative", pa.float64()),
        ("stable_rank", pa.float64()),
        ("effective_rank", pa.float64()),
        ("intruders", pa.int32()),
        ("strongest", pa.int32()),
    ]
)
Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class MatrixMovement:
    """Row of `weights.parquet`; unknown values are null. strongest: number of directions examined."""

    name: str
    layer: int | None  # first number in the name
    module: str  # the part after it
    shape: list[int] | None
    weight_norm: float | None
    delta_norm: float | None
    relative: float | None
    stable_rank: float | None
    effective_rank: float | None
    intruders: int | None
    strongest: int | None


@dataclass(kw_only=True)
class MeasuredWeightChange(WeightChange):
    """Weight change with a row for each matrix."""

    rows: list[MatrixMovement]


def measure_adapter(
    model: PeftModel, base: Path | None = None, *, seconds: float = MAX_SECONDS
) -> MeasuredWeightChange:
    """Measure the weight change of an adapter, which is left unchanged. base: folder of the base model's
    weights, without which a model in 4 or 8 bits has no ratios.
    """
    return measure(list_adapter_matrices(model, base), seconds=seconds)


def measure_weights(base: Path, tuned: Path, *, seconds: float = MAX_SECONDS) -> MeasuredWeightChange:
    """Measure the weight change of a fully trained model, from both folders of safetensors."""
    return measure(list_folder_matrices(base, tuned), seconds=seconds)


def measure(sources: Sequence[MatrixSource], *, seconds: float = MAX_SECONDS) -> MeasuredWeightChange:
    """Compute the norms of every matrix, and spectra of as many as `seconds` allow; notes say why something
    is unknown.
    """
    begun = time.monotonic()
    order = np.random.default_rng(0).permutation(len(sources))
    rows: list[MatrixMovement | None] = [None] * len(sources)
    reasons: dict[str, int] = {}
    at_once = min(4, os.cpu_count() or 1)
    with threadpool_limits(1), ThreadPoolExecutor(at_once) as pool:
        for start in range(0, len(order), at_once):
            places = order[start : start + at_once]
            spectrum = time.monotonic() - begun < seconds
            read = [_read_matrices(sources[place], reasons) for place in places]
            done = pool.map(partial(_build_row, spectrum=spectrum), *zip(*read, strict=True))
            for place, row in zip(places, done, strict=True):
                rows[place] = row
    measured = [row for row in rows if row is not None]
    return _compute_totals(measured, time.monotonic() - begun, _list_notes(measured, reasons))


def _read_matrices(source: MatrixSource, reasons: dict[str, int]) -> tuple[str, Floats | None, Floats | None]:
    """Return name, weight and change; None for an unknown change, whose reason is counted."""
    try:
        weight, change = source.read()
        if change.isfinite().all():
            return source.name, None if weight is None else weight.cpu().numpy(), change.cpu().numpy()
        reason = "a weight is not a number"
    except UnknownWeightChange as error:
        reason = str(error)
    reasons[reason] = reasons.get(reason, 0) + 1
    return source.name, None, None


def _build_empty_row(name: str) -> MatrixMovement:
    """Build an empty row; the layer is the first number in the name, the module what follows it."""
    match = LAYER_PATTERN.search(name)
    layer, module = (int(match[1]), match[2]) if match else (None, name.rsplit(".", 1)[-1])
    return MatrixMovement(
        name=name,
        layer=layer,
        module=module,
        shape=None,
        weight_norm=None,
        delta_norm=None,
        relative=None,
        stable_rank=None,
        effective_rank=None,
        intruders=None,
        strongest=None,
    )


def _build_row(name: str, base: Floats | None, delta: Floats | None, *, spectrum: bool) -> MatrixMovement:
    row = _build_empty_row(name)
    if delta is None:
        return row
    norm = float(np.linalg.norm(delta))
    row.shape, row.delta_norm = list(delta.shape), norm
    if base is not None:
        weight = float(np.linalg.norm(base))
        row.weight_norm, row.relative = weight, norm / weight if weight else None
    if not spectrum:
        return row
    if norm:
        row.stable_rank, row.effective_rank = compute_ranks(singular_values(delta))
    if base is not None:
        row.strongest = min(TOP_DIRECTIONS, *delta.shape)
        row.intruders = count_intruders(base, delta) if norm else 0
    return row


def singular_values(matrix: Floats) -> Floats:
    """Return the singular values, largest first, from the smaller of the Gram matrices."""
    squares = linalg.eigvalsh(_gram(matrix))[::-1]
    norms: Floats = np.sqrt(np.maximum(squares, 0))
    return norms


def _gram(matrix: Floats) -> Floats:
    return matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix


def compute_ranks(values: Floats) -> tuple[float, float]:
    """Return the stable and effective rank for these singular values, not all 0."""
    shares = values / values.sum()
    shares = shares[shares > 0]
    stable = float(np.square(values).sum() / values.max() ** 2)
    return stable, float(np.exp(-(shares * np.log(shares)).sum()))


def count_intruders(base: Floats, change: Floats, strongest: int = TOP_DIRECTIONS) -> int:
    """Count the strongest left singular vectors of base + change that are dissimilar to all of the base's."""
    count = min(strongest, *base.shape)
    tuned = _compute_left_vectors(base + change, count)
    near = _compute_max_cosines(_compute_left_vectors(base, min(CANDIDATE_DIRECTIONS, *base.shape)), tuned)
    strange = near < SIMILAR_COSINE
    if strange.any() and min(base.shape) > CANDIDATE_DIRECTIONS:
        strange[strange] = (
            _compute_max_cosines(_compute_left_vectors(base, min(base.shape)), tuned[:, strange])
            < SIMILAR_COSINE
        )
    return int(strange.sum())


def _compute_max_cosines(vectors: Floats, others: Floats) -> Floats:
    cosines: Floats = np.abs(vectors.T @ others).max(axis=0, initial=0.0)
    return cosines


def _compute_left_vectors(matrix: Floats, count: int) -> Floats:
    """Return the strongest left singular vectors [rows, count], without those with a singular value of 0."""
    side = min(matrix.shape)
    chosen = None if count >= side else [side - count, side - 1]
    squares, vectors = linalg.eigh(_gram(matrix), subset_by_index=chosen, driver="evr" if chosen else "evd")
    kept = squares > 1e-12 * max(squares.max(), 1e-300)
    if matrix.shape[0] <= matrix.shape[1]:
        return np.asarray(vectors[:, kept])
    return np.asarray(matrix @ vectors[:, kept] / np.sqrt(squares[kept]))


def _compute_totals(rows: list[MatrixMovement], seconds: float, notes: list[str]) -> MeasuredWeightChange:
    norms = [(row.delta_norm, row.weight_norm) for row in rows if row.delta_norm is not None]
    both = [(delta, weight) for delta, weight in norms if weight is not None]
    delta, weight = (math.sqrt(sum(pair[place] ** 2 for pair in both)) for place in (0, 1))
    looked = [row.intruders for row in rows if row.intruders is not None]
    strongest = [row.strongest or 0 for row in rows if row.intruders is not None]
    return MeasuredWeightChange(
        rows=rows,
        relative=delta / weight if weight else None,
        delta_norm=math.sqrt(sum(change**2 for change, _ in norms)) if norms else None,
        intruders=sum(looked) if looked else None,
        strongest=sum(strongest) if looked else None,
        matrices=len(rows),
        spectra=len(looked) or sum(row.stable_rank is not None for row in rows),
        seconds=seconds,
        notes=notes,
    )


def _list_notes(rows: Sequence[MatrixMovement], reasons: dict[str, int]) -> list[str]:
    if not rows:
        return [NO_MATRICES]
    notes = [
        f"{count:,} of {len(rows):,} matrices could not be analyzed: {why}." for why, count in reasons.items()
    ]
    alone = sum(row.delta_norm is not None and row.weight_norm is None for row in rows)
    if alone:
        notes.append(
            f"For {alone:,} matrices only the size of the change is known: the base model is in 4 or 8 bits,"
            " and its full weights were not available."
        )
    left = sum(row.delta_norm is not None and row.delta_norm > 0 and row.stable_rank is None for row in rows)
    if left:
        notes.append(
            f"Ranks and intruder dimensions were computed for {len(rows) - left:,} of {len(rows):,}"
            " matrices, to limit time."
        )
    return notes
