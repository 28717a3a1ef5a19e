"""Which weights learn at which rate and decay, and how the rate rises and falls over a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.models.training_state import MasterWeights, count_warmup_steps, make_optimizer, make_schedule
from store.training.train_config import TrainConfig


class Layer(torch.nn.Module):
    """Names as an adapter's: two halves, a norm and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(3, 2, bias=False)})
        self.lora_B = torch.nn.ModuleDict({"default": torch.nn.Linear(2, 3, bias=True)})
        self.norm = torch.nn.LayerNorm(3)


class Model(torch.nn.Module):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = Layer()


def options(read: Callable[[dict[str, Any]], float], **config: Any) -> dict[str, float]:
    """Name of each trained weight -> what `read` finds in its group."""
    model = Model()
    masters = MasterWeights(model.named_parameters())
    optimizer = make_optimizer(model, masters, TrainConfig(dataset="d", **config))
    of_weight = {id(p): read(group) for group in optimizer.param_groups for p in group["params"]}
    return {name.removeprefix("q_proj."): of_weight[id(p)] for name, p in masters.weights.items()}


def test_with_lora_plus_what_leaves_the_adapter_learns_faster() -> None:
    rates = options(lambda group: group["lr"], learning_rate=1e-4, loraplus_lr_ratio=16.0)
    assert rates.pop("lora_B.default.weight") == pytest.approx(16e-4)
    assert rates.pop("lora_B.default.bias") == pytest.approx(16e-4)
    assert set(rates.values()) == {1e-4}
    assert set(options(lambda group: group["lr"], learning_rate=1e-4).values()) == {1e-4}


def test_biases_and_norms_do_not_decay() -> None:
    settings = {"weight_decay": 0.1, "learning_rate": 1e-4, "loraplus_lr_ratio": 16.0}
    decay = options(lambda group: group["weight_decay"], **settings)
    assert {name for name, value in decay.items() if value == 0.1} == {
        "lora_A.default.weight",
        "lora_B.default.weight",
    }
    assert set(decay.values()) == {0.1, 0.0}


@pytest.mark.parametrize(
    ("asked", "of_twenty"), [(0, 0), (0.05, 1), (0.06, 2), (0.5, 10), (1, 1), (7, 7), (20, 20)]
)
def test_warm_up_is_a_share_below_one_and_a_number_from_one(asked: float, of_twenty: int) -> None:
    assert count_warmup_steps(TrainConfig(dataset="d", warmup_steps=asked), 20) == of_twenty


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing() -> None:
    config = TrainConfig(dataset="d", learning_rate=1.0, lr_scheduler_type="linear", warmup_steps=4)
    model = Model()
    optimizer = make_optimizer(model, MasterWeights(model.named_parameters()), config)
    schedule = make_schedule(optimizer, config, 12)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, *(1 - n / 8 for n in range(8))])
    assert optimizer.param_groups[0]["lr"] == 0
