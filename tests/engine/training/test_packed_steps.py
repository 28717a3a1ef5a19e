"""Steps and runs on packed rows: however they are dealt, told once, and rehearsed without numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models import batching
from engine.models.batching import collate
from engine.models.forward import attention, llama_layers
from engine.models.losses import TokenObjective, compute_loss_sum
from engine.models.tuning_methods import make_trainable
from engine.training.costs import rehearsal
from engine.training.optimizer_step import OptimizerStepper, TrainingRows
from engine.training.training_loop import TrainingLoop
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.engine.packed_rows import LONGEST, base, config, rows, stirred
from tests.tiny import make_job


def stepper(folder: Path, **fields: Any) -> OptimizerStepper:
    home = Home(folder).create()
    given = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3}
    job = make_job(home, f"run{len(list(home.jobs.iterdir()))}", **given | fields)
    chosen = TrainConfig.parse(job.config)
    model = stirred(make_trainable(base(), chosen, torch.float32))
    return OptimizerStepper(job, chosen, model, TrainingRows(rows()), TokenObjective(), 1)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_is_the_same_however_it_is_dealt(tmp_path: Path, monkeypatch: Any, method: str) -> None:
    step = [np.array([0, 4, 2]), np.array([1, 5, 3])]
    results = []
    for tokens in (1, 100, 500, 10_000, None):
        mine = stepper(tmp_path / "home", method=method, r=4)
        if tokens is None:
            mine.unpacked = "the test says so"
            assert mine.dealt(step) is step
        else:
            monkeypatch.setattr(batching, "CPU_TOKENS", {"adapter": tokens, "full": tokens})
            parts = mine.dealt(step)
            assert np.concatenate(parts).tolist() == np.concatenate(step).tolist()
            assert all(len(part) == 1 or rows().lengths[part].sum() <= tokens for part in parts)
            assert len(parts) == {1: 6, 10_000: 1}.get(tokens, len(parts))
        taken = mine.gradients(step)
        results.append((taken, torch.cat([w.grad.flatten() for w in mine.masters.weights.values()])))
    for taken, gradient in results[1:]:
        assert taken.loss == pytest.approx(results[0][0].loss, rel=1e-6)
        assert taken.norm == pytest.approx(results[0][0].norm, rel=1e-5)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "forward"),
    [({"method": "lora"}, "packed"), ({"method": "ia3"}, "padded: self_attn.k_proj of layer 0")],
)
def test_a_run_says_once_how_its_rows_go(tmp_path: Path, capsys: Any, fields: Any, forward: str) -> None:
    home = Home(tmp_path / "home").create()
    job = make_job(home, "run", max_steps=2, evaluations=1, **fields)
    chosen = TrainConfig.parse(job.config)
    TrainingLoop(job, chosen, make_trainable(base(), chosen, torch.float32), rows(), rows()).run()
    events = map(json.loads, job.dir.events.read_text().splitlines())
    forwards = [e["facts"]["forward"] for e in events if "forward" in e.get("facts", {})]
    assert len(forwards) == 1
    assert forwards[0].startswith(forward)
    assert capsys.readouterr().out.count("Rows are ") == 1


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_can_be_rehearsed_without_numbers(method: str) -> None:
    """What a step keeps is the same without numbers, and less than the model's own keeps."""
    batch = collate(rows(), np.arange(6))

    def keeps(device: str) -> tuple[rehearsal.RehearsedStep, bool]:
        attention.make_causal_mask.cache_clear()  # masks stay for the next step
        model = base().to(device)
        model.tie_weights()  # moving to the meta device unties them
        model = make_trainable(model, config(method=method), torch.float32).train().to(device)
        packed = llama_layers.explain_refusal(model, LONGEST) == ""
        return rehearsal.run_step(model, lambda: compute_loss_sum(model, batch), 2, device), packed

    own, packed = keeps("meta")
    assert not packed
    with llama_layers.simulate_cpu():
        rehearsed, packed = keeps("meta")
        assert packed
    real, packed = keeps("cpu")
    assert packed
    assert rehearsed.left == real.left
    assert rehearsed.saved == pytest.approx(real.saved, rel=0.1)
    assert max(rehearsed.phases) == pytest.approx(max(real.phases), rel=0.1)
    assert rehearsed.saved < 0.8 * own.saved
