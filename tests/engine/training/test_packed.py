"""Rows behind each other, without padding: losses and gradients are those of each row by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.models import loading
from engine.models.batching import TokenBatch, collate
from engine.models.forward import llama_layers
from engine.models.losses import compute_loss_sum, compute_picked_logits
from engine.models.tuning_methods import make_trainable
from tests.engine.packed_rows import LONGEST, OTHERS, base, config, rows, stirred
from tests.tiny import write_model


def apart(model: Any, batch: TokenBatch) -> torch.Tensor:
    """The loss by the model's own forward, a row at a time."""
    total, first = torch.zeros(()), 0
    for inputs, picked, length in zip(batch.inputs, batch.picked, batch.lengths, strict=True):
        logits = model(input_ids=inputs[None, :length], use_cache=False).logits[0][picked[:length]]
        total = total + F.cross_entropy(logits, batch.targets[first : first + len(logits)], reduction="sum")
        first += len(logits)
    return total


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return grads


def assert_equal(model: Any) -> None:
    """The model's rows are packed, and loss and gradients are those of its own forward."""
    model.train()
    batch = collate(rows(), np.arange(6))
    assert llama_layers.explain_refusal(model, LONGEST) == ""
    mine, theirs = compute_loss_sum(model, batch), apart(model, batch)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)
    ours, own = gradients(model, mine), gradients(model, theirs)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(ours) == set(own) == trained
    for name, gradient in own.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=2e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("architecture", ["llama", *OTHERS])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_known_architecture(architecture: str, method: str) -> None:
    chosen = config(method=method)
    assert_equal(stirred(make_trainable(base(architecture), chosen, torch.float32)))


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "freeze", "trainable_layers": 1},
        {"method": "freeze", "trainable_layers": 1, "train_embeddings": True},
        {"method": "lora", "use_rslora": True},
        {"method": "lora", "target_modules": ["q_proj", "down_proj"]},
        {"method": "lora", "gradient_checkpointing": True},
        {"method": "full", "gradient_checkpointing": True},
    ],
)
def test_every_known_method(fields: dict[str, Any]) -> None:
    model = base(attention_bias=True, mlp_bias=True, tie_word_embeddings=False)
    assert_equal(stirred(make_trainable(model, config(**fields), torch.float32)))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_base_in_four_bits(tmp_path: Path, checkpointing: bool) -> None:
    write_model(tmp_path / "tiny", max_position_embeddings=512)
    chosen = config(method="qlora", model=str(tmp_path / "tiny"), gradient_checkpointing=checkpointing)
    model = make_trainable(
        loading.load_model(chosen, chosen.model, "cpu", torch.float32), chosen, torch.float32
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    assert_equal(model)


def test_bf16_is_as_near_to_fp32_as_the_models_own_forward() -> None:
    model = base()
    batch = collate(rows(), np.arange(6))
    exact = gradients(model, apart(model, batch))
    half = base().to(torch.bfloat16)
    ours, own = gradients(half, compute_loss_sum(half, batch)), gradients(half, apart(half, batch).float())
    for name, gradient in exact.items():
        mine, theirs = (float((grads[name] - gradient).norm() / gradient.norm()) for grads in (ours, own))
        assert mine < 1.3 * theirs + 2e-3, name


def test_a_changed_row_changes_no_other() -> None:
    model = base().eval()
    batch = collate(rows(), np.arange(6))
    row_of = batch.picked.nonzero()[:, 0]
    with torch.inference_mode():
        before = compute_picked_logits(model, batch)
        for changed in range(6):
            other = collate(rows(), np.arange(6))
            other.inputs[changed, : other.lengths[changed]] += 1
            after = compute_picked_logits(model, other)
            assert (before - after)[row_of == changed].abs().max() > 0.01
            torch.testing.assert_close(before[row_of != changed], after[row_of != changed], rtol=0, atol=1e-6)
