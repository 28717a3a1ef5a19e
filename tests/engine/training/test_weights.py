"""Weight change of known constructions, and of every method's adapter against what it does to a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.evaluation import weight_change as weights
from engine.evaluation.weight_change import (
    MatrixSource,
    compute_ranks,
    count_intruders,
    list_adapter_matrices,
    measure,
    measure_adapter,
    measure_weights,
    singular_values,
)
from engine.models.loading import load_model
from engine.models.tuning_methods import make_trainable
from store.core.documents import as_json
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tests.tiny import make_model

RANDOM = np.random.default_rng(0)
WITHOUT = ("prompt_tuning", "prefix_tuning", "p_tuning", "llama_adapter", "bottleneck")
VARIANTS: dict[str, dict[str, Any]] = {
    **{m: {"method": m} for m in METHODS if METHODS[m].adapter and m not in (*WITHOUT, "qlora")},
    "DoRA": {"method": "lora", "use_dora": True},
    "rsLoRA": {"method": "lora", "use_rslora": True},
}


def adapted(fields: dict[str, Any], model: Any = None, **more: Any) -> Any:
    given = {"model": "tiny", "dataset": "rows", "dtype": "float32"}
    config = TrainConfig(**(given | fields | more)).resolved(100, 10_000)
    return make_trainable(model or make_model(), config, torch.float32)


def shaken(model: Any) -> Any:
    """Every trained parameter moved by noise."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def test_singular_values_and_ranks_as_numpy_has_them() -> None:
    for shape in ((30, 50), (50, 30)):
        matrix = RANDOM.normal(size=shape)
        theirs = np.linalg.svd(matrix, compute_uv=False)
        assert singular_values(matrix) == pytest.approx(theirs)
        stable, effective = compute_ranks(singular_values(matrix))
        assert stable == pytest.approx(np.linalg.norm(matrix) ** 2 / np.linalg.norm(matrix, 2) ** 2)
        assert effective < 30
    assert compute_ranks(np.array([3.0, 3, 3, 0])) == pytest.approx((3, 3))
    assert compute_ranks(np.array([2.0, 1.0]))[0] == 1.25
    assert compute_ranks(np.array([2.0, 1.0]))[1] == pytest.approx(3 / 2 ** (2 / 3))


@pytest.mark.parametrize("shape", [(120, 80), (80, 120)])
def test_planted_intruders(shape: tuple[int, int]) -> None:
    base = RANDOM.normal(size=shape) * 0.1
    left, values, right = np.linalg.svd(base, full_matrices=False)
    assert count_intruders(base, np.zeros(shape)) == 0
    stronger = 5 * values[0] * np.outer(left[:, 70], right[70])  # a direction of the base, made strong
    assert count_intruders(base, stronger) == 0
    new = RANDOM.normal(size=(2, shape[0]))
    planted = sum(50 * values[0] * np.outer(u / np.linalg.norm(u), RANDOM.normal(size=shape[1])) for u in new)
    count = count_intruders(base, planted)
    tuned = np.linalg.svd(base + planted, full_matrices=False)[0][:, :10]
    assert count == int((np.abs(left.T @ tuned).max(axis=0) < 0.5).sum())
    assert 2 <= count <= 10


def test_a_change_of_known_rank() -> None:
    base = torch.tensor(RANDOM.normal(size=(60, 40)))
    q, _ = np.linalg.qr(RANDOM.normal(size=(60, 4)))
    r, _ = np.linalg.qr(RANDOM.normal(size=(40, 4)))
    change = torch.tensor(0.01 * q @ r.T)
    weight_change = measure([MatrixSource("model.layers.3.mlp.up_proj", lambda: (base, change))])
    row = weight_change.rows[0]
    assert (row.layer, row.module, row.shape) == (3, "mlp.up_proj", [60, 40])
    assert row.stable_rank == pytest.approx(4)
    assert row.effective_rank == pytest.approx(4, rel=1e-4)
    assert row.relative == pytest.approx(0.02 / float(base.norm()))
    assert (weight_change.relative, weight_change.intruders, weight_change.strongest) == (
        row.relative,
        0,
        10,
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_an_untrained_adapter_changes_nothing(name: str) -> None:
    weight_change = measure_adapter(adapted(VARIANTS[name]))
    assert weight_change.matrices == len(weight_change.rows) >= 4
    assert weight_change.relative < (1e-6 if name in ("DoRA", "adalora") else 1e-12)
    assert weight_change.intruders == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_the_change_is_what_merging_does(name: str) -> None:
    model = shaken(adapted(VARIANTS[name]))
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    ids = torch.arange(20)[None] + 5
    with torch.no_grad():
        before = model(ids).logits
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    changes = {source.name: source.read() for source in list_adapter_matrices(model)}
    weight_change = measure_adapter(model)
    assert weight_change.relative > 1e-4
    assert [n for n, p in model.named_parameters() if p.requires_grad] == names
    assert all(torch.equal(p, kept[n]) for n, p in model.named_parameters())
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    merged = dict(model.merge_and_unload().named_parameters())
    untouched = dict(make_model().named_parameters())
    for matrix, (weight, change) in changes.items():
        assert weight is not None
        assert torch.equal(weight.float(), untouched[f"{matrix}.weight"])
        assert torch.allclose(merged[f"{matrix}.weight"], (weight + change).float(), atol=1e-6)
    json.dumps(weight_change, allow_nan=False, default=as_json)


@pytest.mark.parametrize("method", WITHOUT)
def test_methods_that_leave_the_matrices_alone_say_so(method: str) -> None:
    weight_change = measure_adapter(adapted({"method": method}))
    assert (weight_change.rows, weight_change.notes, weight_change.relative) == (
        [],
        [weights.NO_MATRICES],
        None,
    )


def test_rank_of_a_lora() -> None:
    weight_change = measure_adapter(shaken(adapted({"method": "lora", "r": 2})))
    assert all(1 <= row.stable_rank <= row.effective_rank <= 2 + 1e-3 for row in weight_change.rows)
    half = measure_adapter(shaken(adapted({"method": "lora", "r": 2}, make_model().bfloat16()).bfloat16()))
    assert all(row.effective_rank <= 2 + 1e-3 for row in half.rows)


def test_whole_weights_from_folders(tmp_path: Path) -> None:
    base, tuned = make_model(), make_model()
    with torch.no_grad():
        tuned.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    base.save_pretrained(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "tuned")
    weight_change = measure_weights(tmp_path / "base", tmp_path / "tuned")
    moved = {row.name: row for row in weight_change.rows if row.delta_norm}
    assert list(moved) == ["model.layers.1.mlp.up_proj"]
    assert moved["model.layers.1.mlp.up_proj"].relative == pytest.approx(0.01, rel=1e-4)
    assert weight_change.matrices == 15  # seven a layer, and the embeddings
    assert 0 < weight_change.relative < 0.01


def test_without_time_norms_are_still_known() -> None:
    weight_change = measure_adapter(shaken(adapted({"method": "lora"})), seconds=0)
    assert all(row.relative > 0 and row.stable_rank is None for row in weight_change.rows)
    assert (weight_change.spectra, weight_change.intruders) == (0, None)
    assert "for 0 of 14 matrices, to limit time" in weight_change.notes[0]


HELD: dict[str, dict[str, Any]] = {
    "LoRA": {"method": "lora"},
    "DoRA": {"method": "lora", "use_dora": True},
    "AdaLoRA": {"method": "adalora"},
    "IA3": {"method": "ia3"},
    "OFT": {"method": "oft"},
    "VeRA": {"method": "vera"},
}


@pytest.mark.parametrize("name", HELD)
def test_a_base_in_4_bits_is_read_from_its_folder(name: str, tmp_path: Path) -> None:
    """An evaluation has packed the base's weights; the change is that over its own weights all the same."""
    make_model().save_pretrained(tmp_path)
    config = TrainConfig(model="tiny", dataset="rows", dtype="float32", load_in_4bit=True, **HELD[name])
    config = config.resolved(100, 10_000)
    model = shaken(
        make_trainable(load_model(config, str(tmp_path), "cpu", torch.float32), config, torch.float32)
    )
    plain = shaken(adapted(HELD[name]))
    trained = {n: p for n, p in plain.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n in trained:
                p.copy_(trained[n])
        before = model(torch.arange(20)[None] + 5).logits
        weight_change = measure_adapter(model, tmp_path)
        assert torch.equal(model(torch.arange(20)[None] + 5).logits, before)
    dense = measure_adapter(plain)
    assert [row.name for row in weight_change.rows] == [row.name for row in dense.rows]
    for held, full in zip(weight_change.rows, dense.rows, strict=True):
        assert held.relative == pytest.approx(full.relative, rel=1e-5)
        assert held.shape == full.shape
    alone = measure_adapter(model)
    if name in ("LoRA", "AdaLoRA"):
        assert alone.rows[0].delta_norm == pytest.approx(dense.rows[0].delta_norm, rel=1e-5)
        assert alone.relative is None
        assert "only the size of the change is known" in alone.notes[0]
    else:
        assert all(row.delta_norm is None for row in alone.rows)
        assert "depends on the base model's weights" in alone.notes[0]
    json.dumps([weight_change, alone], allow_nan=False, default=as_json)


def test_a_weight_that_is_not_a_number_is_said() -> None:
    model = shaken(adapted({"method": "lora"}))
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n).fill_(torch.nan)
    weight_change = measure_adapter(model)
    assert weight_change.notes == ["1 of 14 matrices could not be analyzed: a weight is not a number."]
    assert weight_change.relative > 0
    json.dumps(weight_change, allow_nan=False, default=as_json)
