"""Rows behind each other, without padding: losses and gradients are those of each row by itself, and where
that can't be had it is said why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from engine.data.render import Rows, render
from engine.tuning import batches, models, packable, packed_attention, rehearsal
from engine.tuning.batches import Batch, collate
from engine.tuning.loss import loss_sum, picked_logits
from engine.tuning.methods import make_trainable
from engine.tuning.objectives import TrainedTokens
from engine.tuning.packed import hidden_states
from engine.tuning.step import Stepper
from engine.tuning.train import Training
from store.config import TrainConfig
from store.home import Home
from tests.tiny import conversations, make_job, make_model, make_tokenizer, write_model

LONGEST = 400  # beyond a block of queries
SHAPE = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
OTHERS = {
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True}),
}


def config(**fields: Any) -> TrainConfig:
    return TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"} | fields).resolved(100)


def base(architecture: str = "llama", **changes: Any) -> Any:
    """A model of random weights, its norms and biases too."""
    if architecture == "llama":
        model = make_model(max_position_embeddings=512, **changes)
    else:
        kind, settings, given = OTHERS[architecture]
        torch.manual_seed(0)
        model = kind(settings(**SHAPE | given | changes))
    return stirred(model)


def stirred(model: Any) -> Any:
    """No parameter is at a start that hides its gradient."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def rows() -> Rows:
    """Rows of different lengths, short and long."""
    chats = conversations(6)
    chats[1][1]["content"] = "x y " * 35
    chats[4][0]["content"] = "long " * 70
    found = render(make_tokenizer(), range(6), chats)
    assert found.lengths.max() <= LONGEST
    return found


def apart(model: Any, batch: Batch) -> torch.Tensor:
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
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_equal(model: Any) -> None:
    """The model's rows are packed, and loss and gradients are those of its own forward."""
    model.train()
    batch = collate(rows(), np.arange(6))
    assert packable.refusal(model, LONGEST) == ""
    mine, theirs = loss_sum(model, batch), apart(model, batch)
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
        models.load_model(chosen, chosen.model, "cpu", torch.float32), chosen, torch.float32
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.2)
    assert_equal(model)


def test_a_base_in_eight_bits_goes_through_its_own_forward(tmp_path: Path) -> None:
    """Which columns count as outliers hangs on all rows of a batch there."""
    write_model(tmp_path / "tiny", max_position_embeddings=512)
    chosen = config(method="lora", load_in_8bit=True, model=str(tmp_path / "tiny"))
    base_model = models.load_model(chosen, chosen.model, "cpu", torch.float32)
    model = make_trainable(base_model, chosen, torch.float32)
    assert "Linear8bitLt" in packable.refusal(model, LONGEST)


def test_bf16_is_as_near_to_fp32_as_the_models_own_forward() -> None:
    model = base()
    batch = collate(rows(), np.arange(6))
    exact = gradients(model, apart(model, batch))
    half = base().to(torch.bfloat16)
    ours, own = gradients(half, loss_sum(half, batch)), gradients(half, apart(half, batch).float())
    for name, gradient in exact.items():
        mine, theirs = (float((found[name] - gradient).norm() / gradient.norm()) for found in (ours, own))
        assert mine < 1.3 * theirs + 2e-3, name


def test_a_changed_row_changes_no_other() -> None:
    model = base().eval()
    batch = collate(rows(), np.arange(6))
    row_of = batch.picked.nonzero()[:, 0]
    with torch.inference_mode():
        before = picked_logits(model, batch)
        for changed in range(6):
            other = collate(rows(), np.arange(6))
            other.inputs[changed, : other.lengths[changed]] += 1
            after = picked_logits(model, other)
            assert (before - after)[row_of == changed].abs().max() > 0.01
            torch.testing.assert_close(before[row_of != changed], after[row_of != changed], rtol=0, atol=1e-6)


REFUSED = [
    ({"method": "lora", "use_dora": True}, "q_proj of layer 0"),
    ({"method": "lora", "lora_dropout": 0.1}, "q_proj of layer 0"),
    ({"method": "ia3"}, "k_proj of layer 0"),
    ({"method": "vera"}, "q_proj of layer 0"),
    ({"method": "oft"}, "q_proj of layer 0"),
    ({"method": "adalora"}, "q_proj of layer 0"),
    ({"method": "bottleneck"}, "self_attn is changed"),
    ({"method": "llama_adapter"}, "before each row"),
    ({"method": "prompt_tuning"}, "before each row"),
    ({"method": "prefix_tuning"}, "before each row"),
    ({"method": "p_tuning"}, "before each row"),
]


@pytest.mark.parametrize(("fields", "why"), REFUSED)
def test_other_methods_go_through_their_own_forward(fields: dict[str, Any], why: str) -> None:
    model = make_trainable(base(), config(**fields | {"r": 8}), torch.float32).train()
    batch = collate(rows(), np.arange(6))
    assert why in packable.refusal(model, LONGEST)
    assert hidden_states(model, batch) is None
    loss_sum(model, batch).backward()
    assert any(p.grad is not None for p in model.parameters())


def test_what_else_is_refused() -> None:
    model = base()
    assert "sliding window of 100" in packable.refusal(base("mistral", sliding_window=100), 101)
    assert packable.refusal(base("mistral", sliding_window=100), 100) == ""
    assert "LlamaForSequenceClassification" in packable.refusal(
        LlamaForSequenceClassification(model.config), 9
    )
    positions = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    assert "dynamic" in packable.refusal(base(rope_parameters=positions), 9)
    assert "activation is gelu" in packable.refusal(base(hidden_act="gelu"), 9)
    assert "attention_dropout is 0.1" in packable.refusal(base(attention_dropout=0.1), 9)
    assert "precisions" in packable.refusal(_with_wide_norm(base().to(torch.bfloat16)), 9)
    model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert packable.refusal(model, 9) == "model.layers.1.mlp is changed"
    assert "on meta" in packable.refusal(base().to("meta"), 9)


def _with_wide_norm(model: Any) -> Any:
    model.model.norm.float()
    return model


def stepper(folder: Path, **fields: Any) -> Stepper:
    home = Home(folder).create()
    given = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3}
    job = make_job(home, f"run{len(list(home.jobs.iterdir()))}", **given | fields)
    chosen = TrainConfig.parse(job.config)
    model = stirred(make_trainable(base(), chosen, torch.float32))
    return Stepper(job, chosen, model, rows(), TrainedTokens(), 1)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_step_is_the_same_however_it_is_dealt(tmp_path: Path, monkeypatch: Any, method: str) -> None:
    step = [np.array([0, 4, 2]), np.array([1, 5, 3])]
    found = []
    for tokens in (1, 100, 500, 10_000, None):
        mine = stepper(tmp_path / "home", method=method, r=4)
        if tokens is None:
            mine.unpacked = "the test says so"
            assert mine.dealt(step) is step
        else:
            monkeypatch.setattr(batches, "CPU_TOKENS", {"adapter": tokens, "full": tokens})
            parts = mine.dealt(step)
            assert np.concatenate(parts).tolist() == np.concatenate(step).tolist()
            assert all(len(part) == 1 or rows().lengths[part].sum() <= tokens for part in parts)
            assert len(parts) == {1: 6, 10_000: 1}.get(tokens, len(parts))
        taken = mine.gradients(step)
        found.append((taken, torch.cat([w.grad.flatten() for w in mine.masters.weights.values()])))
    for taken, gradient in found[1:]:
        assert taken.loss == pytest.approx(found[0][0].loss, rel=1e-6)
        assert taken.norm == pytest.approx(found[0][0].norm, rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "forward"),
    [({"method": "lora"}, "packed"), ({"method": "ia3"}, "padded: self_attn.k_proj of layer 0")],
)
def test_a_run_says_once_how_its_rows_go(tmp_path: Path, capsys: Any, fields: Any, forward: str) -> None:
    home = Home(tmp_path / "home").create()
    job = make_job(home, "run", max_steps=2, evaluations=1, **fields)
    chosen = TrainConfig.parse(job.config)
    Training(job, chosen, make_trainable(base(), chosen, torch.float32), rows(), rows()).run()
    events = map(json.loads, job.dir.events.read_text().splitlines())
    told = [e["facts"]["forward"] for e in events if "forward" in e.get("facts", {})]
    assert len(told) == 1
    assert told[0].startswith(forward)
    assert capsys.readouterr().out.count("Rows are ") == 1


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_can_be_rehearsed_without_numbers(method: str) -> None:
    """What a step keeps is the same without numbers, and less than the model's own keeps."""
    batch = collate(rows(), np.arange(6))

    def keeps(device: str) -> tuple[rehearsal.Step, bool]:
        packed_attention.future.cache_clear()  # masks stay for the next step
        model = base().to(device)
        model.tie_weights()  # moving to the meta device unties them
        model = make_trainable(model, config(method=method), torch.float32).train().to(device)
        packed = packable.refusal(model, LONGEST) == ""
        return rehearsal.run_step(model, lambda: loss_sum(model, batch), 2, device), packed

    own, packed = keeps("meta")
    assert not packed
    with packable.rehearsing():
        rehearsed, packed = keeps("meta")
        assert packed
    real, packed = keeps("cpu")
    assert packed
    assert rehearsed.left == real.left
    assert rehearsed.saved == pytest.approx(real.saved, rel=0.1)
    assert max(rehearsed.phases) == pytest.approx(max(real.phases), rel=0.1)
    assert rehearsed.saved < 0.8 * own.saved
