"""Memory and time before a launch: exact parameter counts, and the formula term by term."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from engine.tuning import attention, estimate
from engine.tuning.methods import count_parameters, make_trainable
from store.config import TrainConfig
from tests.tiny import make_model

CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
SMOLLM2 = LlamaConfig(
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)


def config(**fields: Any) -> TrainConfig:
    return TrainConfig(dataset="d", **fields).resolved(1000)


def test_parameters_of_a_known_model_are_exact() -> None:
    shape = estimate.shape(SMOLLM2, config(method="full"))
    assert shape.total == shape.trainable == 134_515_008
    # r 16 on all linear layers, as peft's own count of this model says
    assert estimate.shape(SMOLLM2, config(method="lora")).trainable == 4_884_480
    assert shape.linear == 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_counts_equal_those_of_the_loaded_model(method: str) -> None:
    model = make_model()
    shape = estimate.shape(model.config, config(method=method, r=4))
    loaded = make_trainable(model, config(method=method, r=4), FP32)
    assert shape.trainable == count_parameters(loaded)[0]


@cache
def _shape(method: str) -> estimate.Shape:
    """Of that method; no other field of these tests changes it."""
    return estimate.shape(SMOLLM2, config(method=method))


def _parts(dtype: torch.dtype = BF16, longest: int = 128, **fields: Any) -> dict[str, float]:
    chosen = config(**fields)
    shape = _shape(chosen.method)
    found = estimate.memory(shape, chosen, dtype, CPU, longest=longest, trained_share=0.3)
    return {name: gib * estimate.GIB for name, gib in found["parts"].items()} | {"peak": found["peak_gib"]}


def test_every_part_of_full_fine_tuning_in_fp32() -> None:
    parts = _parts(FP32, method="full", per_device_train_batch_size=8)
    n = 134_515_008
    assert parts["weights"] == pytest.approx(4 * n)
    assert parts["gradients"] == pytest.approx(4 * n)
    assert parts["optimizer"] == pytest.approx(8 * n)
    a_token = 30 * (32 * 576 + 8 * 192 + 16 * 1536 + 4 * 9 + 8)
    assert parts["activations"] == pytest.approx(8 * 128 * a_token)


def test_methods_and_switches_move_memory_the_right_way() -> None:
    lora = _parts(method="lora")["peak"]
    assert _parts(method="qlora")["weights"] < 0.6 * _parts(method="lora")["weights"]
    assert lora < _parts(method="full")["peak"]
    assert _parts(method="lora", gradient_checkpointing=True)["activations"] < _parts()["activations"] / 5
    assert _parts(per_device_train_batch_size=16)["activations"] == 2 * _parts()["activations"]
    assert _parts(lora_dropout=0.1)["activations"] > _parts()["activations"]
    assert _parts(longest=256)["peak"] > lora


def test_activations_equal_what_autograd_saves() -> None:
    """The bytes that saved-tensor hooks count on a LoRA step, within 15% (masks and inputs are left out)."""
    small = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    from transformers import LlamaForCausalLM

    chosen = config(method="lora", r=8, per_device_train_batch_size=4)
    shape = estimate.shape(small, chosen)
    model = make_trainable(LlamaForCausalLM(small).to(BF16), chosen, BF16).train()
    attention.use_where_faster(model, torch.device("cpu"), BF16)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    body = model.get_base_model().model
    ids = torch.randint(0, 512, (4, 96))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        body(input_ids=ids, use_cache=False)
    expected = 4 * 96 * estimate.saved_bytes(shape, chosen, BF16, torch.device("cpu"), 96)
    assert sum(saved.values()) == pytest.approx(expected, rel=0.15)


def test_time_grows_with_work_and_says_what_it_rests_on() -> None:
    chosen = config()
    shape = estimate.shape(SMOLLM2, chosen)

    def seconds(tokens: float) -> dict[str, Any]:
        work = estimate.Work(tokens, tokens / 4, 10_000, 2_500, 128, 60, 100)
        return estimate.seconds(shape, chosen, BF16, CPU, work, 400.0)

    short, long = seconds(30_000), seconds(300_000)
    assert short["low_seconds"] < short["seconds"] < short["high_seconds"]
    assert 4 < long["seconds"] / short["seconds"] < 10
    assert "400 GFLOP/s" in short["basis"]
    assert "45%" in short["basis"]
