"""Memory and time before a launch: exact parameter counts, and a rehearsed step against a real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from engine.evaluation.statistics import cost_prediction
from engine.models import loading
from engine.models.batching import find_largest_micro_batch
from engine.models.classification import ClassObjective, Labels
from engine.models.forward import attention, llama_layers
from engine.models.losses import TokenObjective
from engine.models.tokenization.tokenized_rows import TokenPairs
from engine.models.training_state import MasterWeights
from engine.models.tuning_methods import count_parameters, list_trainable, make_trainable
from engine.training.costs import estimate, rehearsal
from engine.training.costs.footprint import Rehearsal
from engine.training.optimizer_step import LossWithBaseKl
from engine.training.preference import PreferenceObjective, ReferenceLogps
from store.core.errors import ConfigError
from store.core.training_schemas import MemoryEstimate
from store.training.methods import METHODS
from tests.engine.rehearsed import (
    BF16,
    CPU,
    FP32,
    LLAMA_70B,
    SMALL,
    SMOLLM2,
    UNTOLD,
    config,
    padded,
    rehearse,
    rows,
)
from tests.tiny import make_model


def test_parameters_of_a_known_model_are_exact() -> None:
    counts = Rehearsal(SMOLLM2, config(method="full"), BF16, "cpu").counts
    assert counts.total == counts.trainable == 134_515_008
    assert counts.linear == 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    # r 16 on all linear layers, as peft's own count of this model says
    assert Rehearsal(SMOLLM2, config(method="lora"), BF16, "cpu").counts.trainable == 4_884_480


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layers", [2, 7])
def test_counts_equal_those_of_the_loaded_model(method: str, layers: int) -> None:
    model, chosen = make_model(num_hidden_layers=layers), config(method=method, num_virtual_tokens=4)
    counts = Rehearsal(model.config, chosen, FP32, "cpu").counts
    made = make_trainable(model, chosen, FP32)
    assert (counts.trainable, counts.total + counts.added) == count_parameters(made)


def test_a_head_is_counted_with_its_classes() -> None:
    architecture = loading.name_labels(make_model().config, ["a", "b", "c"], 0)
    chosen = config(task="classification")
    counts = Rehearsal(architecture, chosen, FP32, "cpu").counts
    model = AutoModelForSequenceClassification.from_config(architecture)
    assert (counts.trainable, counts.total + counts.added) == count_parameters(
        make_trainable(model, chosen, FP32)
    )


def test_a_start_that_takes_weights_apart_keeps_a_second_adapter() -> None:
    plain, apart = (
        Rehearsal(SMALL, config(init_lora_weights=start), FP32, "cpu").counts
        for start in ("default", "pissa")
    )
    assert (apart.trainable, apart.added) == (plain.trainable, 2 * plain.added)


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="trainable_layers is 6, and the model has 5"):
        Rehearsal(SMALL, config(method="freeze", trainable_layers=6), FP32, "cpu")


def test_a_model_of_70_billion_parameters_is_estimated_from_its_config() -> None:
    tried, footprint = rehearse(LLAMA_70B, config(per_device_train_batch_size=1))
    assert tried.counts.total == 70_553_706_496
    step = estimate.CountedStep(tried.counts, footprint, config(method="qlora"), BF16, CPU, 80)
    memory = estimate.estimate_memory(step, process_gib=0.5, available_gib=1.0, correction=UNTOLD)
    assert 35 < memory.parts["weights"] < 40  # 4 bits of the matrices, 16 of the embeddings
    assert footprint.rehearsed


@pytest.mark.parametrize(
    ("method", "dtype", "fields", "length"),
    [
        ("lora", BF16, {}, 96),
        ("lora", BF16, {"lora_dropout": 0.1}, 96),
        ("lora", BF16, {"gradient_checkpointing": True}, 96),
        ("lora", BF16, {}, 420),  # beyond our own attention: torch's fused kernel
        ("lora", FP32, {}, 96),
        ("full", BF16, {}, 96),
        ("full", FP32, {"gradient_checkpointing": True}, 96),
        ("lora", BF16, {"use_dora": True}, 96),
        *[(method, BF16, {}, 96) for method in METHODS if method not in ("full", "lora", "qlora")],
    ],
)
def test_a_rehearsed_step_keeps_what_a_real_one_keeps(
    method: str, dtype: torch.dtype, fields: dict[str, Any], length: int
) -> None:
    """The same count on the CPU, with numbers, over all layers: phases and gradients within 3%."""
    chosen = config(method=method, r=8, per_device_train_batch_size=4, **fields)
    tried, footprint = rehearse(SMALL, chosen, dtype, length)
    model = LlamaForCausalLM(SMALL).to(dtype)
    attention.use_if_faster(model, CPU, dtype)
    model = make_trainable(model, chosen, dtype).train()
    masters = MasterWeights(list_trainable(model))
    objective = TokenObjective()
    token_rows = rows(32, length, 0.3)
    largest = find_largest_micro_batch(
        token_rows.lengths, chosen, packed=not llama_layers.explain_refusal(model, length)
    )
    batch = objective.collate(token_rows, largest, CPU)
    real = rehearsal.run_step(model, lambda: objective.loss_sum(model, batch), 5, "cpu")
    assert masters.weights
    assert footprint.rehearsed
    # a tied model's rotary tables and masks are cached by a first step, and constants weigh a few KiB
    # of AdaLoRA, whose regulariser reaches all adapters at once, one more copy of their gradients is counted
    off = 4 * tried.counts.trainable if method == "adalora" else 80_000
    assert footprint.phases == pytest.approx(real.phases, rel=0.03, abs=off)
    assert footprint.left == pytest.approx(real.left, rel=0.03, abs=40_000)
    assert footprint.saved == pytest.approx(real.saved, rel=0.03, abs=off)
    # what it does: the rehearsal sees one block where the step has many, and no operations on whole numbers
    *done, calls = footprint.piece.layers + footprint.piece.loss
    *really, real_calls = np.sum(real.done, axis=0)
    assert done == pytest.approx(really, rel=0.03 if method != "adalora" else 0.25)
    assert calls == pytest.approx(real_calls, abs=110)


@pytest.mark.parametrize("architecture", [SMALL, padded(SMALL)], ids=["packed", "padded"])
def test_a_step_beside_the_base_is_rehearsed_with_what_is_held_of_it(architecture: LlamaConfig) -> None:
    chosen = config(per_device_train_batch_size=4)
    tried, token_rows = Rehearsal(architecture, chosen, BF16, "cpu"), rows(32, 96)
    footprint, alone = (
        tried.run(chosen, token_rows, token_rows, objective)
        for objective in (LossWithBaseKl(), TokenObjective())
    )
    model = LlamaForCausalLM(architecture).to(BF16)
    attention.use_if_faster(model, CPU, BF16)
    model = make_trainable(model, chosen, BF16).train()
    masters = MasterWeights(list_trainable(model))
    largest = find_largest_micro_batch(
        token_rows.lengths, chosen, packed=not llama_layers.explain_refusal(model, 96)
    )
    batch = TokenObjective().collate(token_rows, largest, CPU)
    real = rehearsal.run_step(model, lambda: LossWithBaseKl().loss_sum(model, batch), 5, "cpu")
    assert masters.weights
    assert footprint.rehearsed
    assert footprint.phases == pytest.approx(real.phases, rel=0.03, abs=80_000)
    assert footprint.saved == pytest.approx(real.saved, rel=0.03, abs=80_000)
    held = footprint.phases[1] - alone.phases[1]
    width = 512 * 4 if architecture is not SMALL else 128 * 2  # logits in fp32, or hidden states in bf16
    assert held > 0.9 * len(batch.targets) * width


def test_a_head_and_pairs_are_rehearsed_with_their_own_losses() -> None:
    labels = Labels(["a", "b"], np.arange(32), np.arange(32) % 2, ["a", "b"] * 16, np.array([16, 16]))
    architecture = loading.name_labels(padded(SMALL), ["a", "b"], 0)
    chosen = config(task="classification")
    token_rows = rows(32, 128)
    head = Rehearsal(architecture, chosen, BF16, "cpu").run(
        chosen, token_rows, token_rows, ClassObjective(labels, 0)
    )
    answers = Rehearsal(padded(SMALL), config(), BF16, "cpu").run(config(), token_rows, token_rows)
    assert head.rehearsed
    assert head.saved < answers.saved  # no logits over a vocabulary
    pairs = TokenPairs(**vars(token_rows), splits=np.full(32, 64))
    chosen = config(task="dpo")
    objective = PreferenceObjective(chosen, ReferenceLogps.unknown([pairs]))
    both = Rehearsal(padded(SMALL), chosen, BF16, "cpu").run(chosen, pairs, pairs, objective)
    assert both.rehearsed
    assert both.saved == pytest.approx(answers.saved, rel=0.2)  # two sequences of half the length


def test_other_architectures_are_rehearsed_too() -> None:
    tried, footprint = rehearse(GPT2Config(n_layer=5), config(method="full"))
    assert footprint.rehearsed
    assert footprint.left == pytest.approx(4 * tried.counts.trainable, rel=0.02)


def test_where_nothing_can_be_rehearsed_the_formula_is_near() -> None:
    tried, footprint = rehearse(padded(SMOLLM2), config())
    by_formula = tried._by_formula(rows(32, 128, 0.3), np.arange(8), config(), several=True)
    assert not by_formula.rehearsed
    assert by_formula.phases[:2] == pytest.approx(footprint.phases[:2], rel=0.4)
    assert by_formula.piece.layers == pytest.approx(footprint.piece.layers, rel=0.4)
    assert by_formula.piece.loss[0] == pytest.approx(footprint.piece.loss[0], rel=0.1)


def _memory(
    dtype: torch.dtype = BF16, length: int = 128, of: LlamaConfig = SMOLLM2, **fields: Any
) -> MemoryEstimate:
    chosen = config(**fields)
    tried, footprint = rehearse(of, chosen, dtype, length)
    step = estimate.CountedStep(tried.counts, footprint, chosen, dtype, CPU, 30)
    return estimate.estimate_memory(step, process_gib=0.5, available_gib=1.0, correction=UNTOLD)


def test_parts_add_up_to_the_peak() -> None:
    memory = _memory(FP32, method="full")
    assert sum(memory.parts.values()) == pytest.approx(memory.peak_gib)
    n = 134_515_008 / estimate.GIB
    assert memory.parts["weights"] == pytest.approx(4 * n)
    assert memory.parts["optimizer"] == pytest.approx(8 * n)
    assert memory.low_gib < memory.peak_gib < memory.high_gib


def test_methods_and_switches_move_memory_the_right_way() -> None:
    lora = _memory()
    assert _memory(method="qlora").parts["weights"] < 0.5 * lora.parts["weights"]
    assert lora.peak_gib < _memory(method="full").peak_gib
    light = _memory(gradient_checkpointing=True).parts["activations"]
    assert light < lora.parts["activations"] / 5
    kinds = (SMOLLM2, padded(SMOLLM2))
    small, large = (
        [_memory(of=of, per_device_train_batch_size=n).parts["activations"] for of in kinds] for n in (8, 16)
    )
    assert large[0] == pytest.approx(small[0], rel=0.02)  # rows without padding are dealt by tokens
    assert large[1] == pytest.approx(2 * small[1], rel=0.02)
    assert small[0] < 0.7 * small[1]
    assert _memory(lora_dropout=0.1).peak_gib > lora.peak_gib
    assert _memory(length=256, of=kinds[1]).peak_gib > _memory(of=kinds[1]).peak_gib
    once, twice = (_memory(method="full", gradient_accumulation_steps=steps) for steps in (1, 4))
    assert twice.peak_gib > once.peak_gib  # the first batch's gradients wait for the second's


def test_runs_of_the_past_move_the_estimate_and_narrow_it() -> None:
    tried, footprint = rehearse(SMOLLM2, config())
    pairs = [cost_prediction.MeasuredPrediction(1.0, 1.2, "lora")] * 20
    corrected = cost_prediction.correct_prediction(pairs, "lora", cost_prediction.MEMORY)
    step = estimate.CountedStep(tried.counts, footprint, config(), BF16, CPU, 30)
    before, after = (
        estimate.estimate_memory(step, process_gib=0.5, available_gib=1.0, correction=correction)
        for correction in (UNTOLD, corrected)
    )
    assert after.counted_gib == before.counted_gib == before.peak_gib
    assert after.peak_gib - 0.5 == pytest.approx(1.19 * (before.peak_gib - 0.5), rel=0.01)
    widths = [m.high_gib / m.low_gib for m in (before, after)]
    assert widths[1] < widths[0]
