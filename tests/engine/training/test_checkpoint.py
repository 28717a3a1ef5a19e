"""A checkpoint is whole or absent, and gives back exactly what went in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.models import training_state
from engine.models.training_state import MasterWeights


def _save(folder: Path, step: int, best: int | None = None) -> None:
    training_state.save_checkpoint(
        folder, step, {"weights.a": torch.full((2,), float(step))}, {"step": step}, best
    )


def test_the_newest_whole_checkpoint_is_used(tmp_path: Path) -> None:
    assert training_state.load_newest_checkpoint(tmp_path) is None
    _save(tmp_path, 3)
    kept = (tmp_path / "step-00000003").rename(tmp_path / "kept")
    _save(tmp_path, 20)
    kept.rename(tmp_path / "step-00000003")
    file = tmp_path / "step-00000020" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:40])  # torn by a power cut
    tensors, document = training_state.load_newest_checkpoint(tmp_path) or ({}, {})
    assert document == {"step": 3}
    assert tensors["weights.a"].tolist() == [3, 3]


def test_one_checkpoint_and_its_best_weights_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        training_state.save_best(tmp_path, step, {"a": torch.ones(1)})
    _save(tmp_path, 3, best=2)
    _save(tmp_path, 4, best=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000002.safetensors", "step-00000004"]


def test_nothing_is_pickled(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def test_optimizer_state_comes_back_equal(tmp_path: Path) -> None:
    def steps(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()

    first = torch.nn.Parameter(torch.arange(4.0))
    optimizer = torch.optim.AdamW([first], lr=0.1)
    steps(optimizer, first, 3)
    tensors, numbers = training_state.collect_optimizer_state(optimizer)
    training_state.save_checkpoint(tmp_path, 3, tensors, {"optimizer": numbers}, None)
    second = torch.nn.Parameter(first.detach().clone())
    other = torch.optim.AdamW([second], lr=0.1)
    loaded, document = training_state.load_newest_checkpoint(tmp_path) or ({}, {})
    training_state.load_optimizer_state(other, loaded, document["optimizer"])
    steps(optimizer, first, 3)
    steps(other, second, 3)
    assert torch.equal(first, second)


def test_random_states_come_back() -> None:
    states = training_state.collect_random_states()
    drawn = torch.rand(3)
    training_state.load_random_states(states)
    assert torch.equal(torch.rand(3), drawn)


def test_masters_keep_updates_that_bf16_would_lose() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    masters = MasterWeights([("w", weight)])
    optimizer = torch.optim.SGD(masters.weights.values(), lr=1e-4)
    for _ in range(100):
        (weight.sum() * 0.5).backward()
        (weight.sum() * 0.5).backward()  # a second micro-batch
        assert weight.grad is None
        optimizer.step()
        optimizer.zero_grad()
        masters.publish()
    assert masters.weights["w"].tolist() == pytest.approx([0.99] * 3, abs=1e-5)
    assert weight.float().tolist() == pytest.approx([0.99] * 3, abs=4e-3)


def test_an_fp32_parameter_is_its_own_master() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    masters = MasterWeights([("w", weight)])
    assert masters.weights["w"] is weight
    masters.load({"w": torch.zeros(3)})
    assert weight.tolist() == [0, 0, 0]
